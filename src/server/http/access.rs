//! Who may use the API, and how a request's body gets in.

use std::time::Duration;

use actix_web::http::Method;
use actix_web::http::header::{AUTHORIZATION, CONTENT_LENGTH};
use actix_web::web::Payload;
use actix_web::{HttpMessage, HttpRequest};

use super::super::replies::Failure;
use super::Api;
use crate::limits::Limits;

impl Api {
    /// Whether the request bears the key.
    pub(super) fn admit(&self, request: &HttpRequest) -> Result<(), Failure> {
        let Some(key) = &self.key else {
            let message = "the HTTP API is off: set a key of 16 characters or more with STENTOR_API_KEY, with api_key in \
                           the configuration file, or with --api-key";
            return Err(Failure::new("no_api_key", message));
        };
        let given = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.split_once(' '));
        match given {
            Some((scheme, guess)) if scheme.eq_ignore_ascii_case("bearer") && key.matches(guess.trim()) => Ok(()),
            Some(_) => Err(Failure::new("unauthorized", "the API key is wrong")),
            None => Err(Failure::new("unauthorized", "expected the header \"Authorization: Bearer <API key>\"")),
        }
    }

    /// Whether it bears the key and is a GET, or a HEAD.
    pub(super) fn admit_get(&self, request: &HttpRequest) -> Result<(), Failure> {
        self.admit(request)?;
        match *request.method() {
            Method::GET | Method::HEAD => Ok(()),
            ref other => Err(Failure::new("method_not_allowed", format!("expected GET, got {other}"))),
        }
    }

    /// Whether it bears the key and is a POST of JSON; then its text.
    pub(super) async fn admit_post(&self, request: &HttpRequest, payload: Payload) -> Result<String, Failure> {
        self.admit(request)?;
        if request.method() != Method::POST {
            return Err(Failure::new("method_not_allowed", format!("expected POST, got {}", request.method())));
        }
        if !request.content_type().eq_ignore_ascii_case("application/json") {
            let message = format!("expected Content-Type: application/json, got {:?}", request.content_type());
            return Err(Failure::new("unsupported_media_type", message));
        }
        let Limits { api_body_bytes_max, body_timeout, .. } = *self.limits();
        read(request, payload, api_body_bytes_max, body_timeout).await
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.io.endpoint.services.core.limits
    }
}

async fn read(request: &HttpRequest, payload: Payload, bytes_max: usize, timeout: Duration) -> Result<String, Failure> {
    let too_large = || Failure::new("too_large", format!("body exceeds limit of {bytes_max} bytes"));
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|bytes| bytes > bytes_max) {
        return Err(too_large());
    }
    let body = match tokio::time::timeout(timeout, payload.to_bytes_limited(bytes_max)).await {
        Ok(Ok(Ok(body))) => body,
        Ok(Ok(Err(error))) => return Err(Failure::new("bad_request", format!("body cannot be read: {error}"))),
        Ok(Err(_)) => return Err(too_large()),
        Err(_) => return Err(Failure::new("too_slow", format!("body did not come within {timeout:?}"))),
    };
    String::from_utf8(body.to_vec()).map_err(|_| Failure::new("bad_request", "body is not UTF-8"))
}
