//! Who may use the API, and how a request's body gets in.

use std::time::{Duration, Instant};

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
        let reason = match given {
            Some((scheme, guess)) if scheme.eq_ignore_ascii_case("bearer") && key.matches(guess.trim()) => {
                return Ok(());
            }
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("bearer") => "the API key is wrong",
            Some(_) => "the Authorization header is of another scheme than Bearer",
            None => "the API key is missing",
        };
        self.note_refused_key(request, reason);
        let expected =
            "expected the header \"Authorization: Bearer <API key>\" with the key that the server was started with";
        Err(Failure::new("unauthorized", format!("{reason}, {expected} (STENTOR_API_KEY, api_key or --api-key)")))
    }

    /// Counts and, rationed, logs a request without the right key.
    fn note_refused_key(&self, request: &HttpRequest, reason: &str) {
        let endpoint = &self.io.endpoint;
        let worker = endpoint.workers.here();
        worker.metrics().api_keys_refused.add(1);
        let Some(skipped) = worker.complaints().api_key_refused.is_due(Instant::now()) else { return };
        let client = request.peer_addr().map(|peer| endpoint.door.proxies.client(peer.ip(), request.headers()));
        let address = client.map_or_else(|| "unknown".to_owned(), |client| client.address.to_string());
        log::warn!(
            "API request refused reason=\"{reason}\" address={address} path={:?} skipped={skipped}",
            request.path().chars().take(100).collect::<String>()
        );
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
