//! Who may use the API, and how a request's body gets in.

use std::time::Instant;

use actix_web::http::Method;
use actix_web::http::header::{AUTHORIZATION, CONTENT_LENGTH};
use actix_web::web::Payload;
use actix_web::{HttpMessage, HttpRequest};
use bytestring::ByteString;

use super::super::error_code::ErrorCode;
use super::super::replies::ErrorBody;
use super::Api;
use crate::limits::Limits;
use crate::state::budget::Charge;
use crate::transport::body::{BodyError, read_body};
use crate::worker::log_throttle::{LogThrottles, Throttle};

/// A request's body, charged to the budget of what clients send until it is dropped.
pub(super) struct Body {
    pub(super) text: ByteString,
    _charge: Charge,
}

impl Api {
    /// Whether the request bears the key.
    pub(super) fn admit(&self, request: &HttpRequest) -> Result<(), ErrorBody> {
        let Some(key) = &self.key else {
            let message = "the HTTP API is off: set a key of 16 characters or more with STENTOR_API_KEY, with api_key in \
                           the configuration file, or with --api-key";
            return Err(ErrorBody::new(ErrorCode::NoApiKey, message));
        };
        let given = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.split_once(' '));
        let (reason, complaint): (_, fn(&LogThrottles) -> &Throttle) = match given {
            Some((scheme, guess)) if scheme.eq_ignore_ascii_case("bearer") && key.matches(guess.trim()) => {
                return Ok(());
            }
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("bearer") => {
                ("the API key is wrong", |of| &of.api_key_wrong)
            }
            Some(_) => ("the Authorization header is of another scheme than Bearer", |of| &of.api_key_scheme),
            None => ("the API key is missing", |of| &of.api_key_missing),
        };
        self.note_refused_key(request, reason, complaint);
        let expected =
            "expected the header \"Authorization: Bearer <API key>\" with the key that the server was started with";
        Err(ErrorBody::new(
            ErrorCode::Unauthorized,
            format!("{reason}, {expected} (STENTOR_API_KEY, api_key or --api-key)"),
        ))
    }

    /// Counts and, rationed for each reason, logs a request without the right key.
    fn note_refused_key(&self, request: &HttpRequest, reason: &str, complaint: fn(&LogThrottles) -> &Throttle) {
        let endpoint = &self.io.endpoint;
        let worker = endpoint.workers.current();
        worker.metrics().api_keys_refused.add(1);
        let Some(skipped) = complaint(worker.log_throttles()).is_due(Instant::now()) else { return };
        let client = request.peer_addr().map(|peer| endpoint.policy.proxies.client(peer.ip(), request.headers()));
        let address = client.map_or_else(|| "unknown".to_owned(), |client| client.address.to_string());
        log::warn!(
            "API request refused reason=\"{reason}\" address={address} path={:?} skipped={skipped}",
            request.path().chars().take(100).collect::<String>()
        );
    }

    /// Whether it bears the key and is a GET, or a HEAD.
    pub(super) fn admit_get(&self, request: &HttpRequest) -> Result<(), ErrorBody> {
        self.admit(request)?;
        match *request.method() {
            Method::GET | Method::HEAD => Ok(()),
            ref other => Err(ErrorBody::new(ErrorCode::MethodNotAllowed, format!("expected GET, got {other}"))),
        }
    }

    /// Whether it bears the key and is a POST of JSON; then its text.
    pub(super) async fn admit_post(&self, request: &HttpRequest, payload: Payload) -> Result<Body, ErrorBody> {
        self.admit(request)?;
        if request.method() != Method::POST {
            return Err(ErrorBody::new(
                ErrorCode::MethodNotAllowed,
                format!("expected POST, got {}", request.method()),
            ));
        }
        if !request.content_type().eq_ignore_ascii_case("application/json") {
            let message = format!("expected Content-Type: application/json, got {:?}", request.content_type());
            return Err(ErrorBody::new(ErrorCode::UnsupportedMediaType, message));
        }
        self.read(request, payload).await
    }

    async fn read(&self, request: &HttpRequest, mut payload: Payload) -> Result<Body, ErrorBody> {
        let Limits { api_body_bytes_max: bytes_max, body_timeout: timeout, .. } = *self.limits();
        let too_large = || ErrorBody::new(ErrorCode::TooLarge, format!("body exceeds limit of {bytes_max} bytes"));
        let announced =
            request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if announced.is_some_and(|bytes| bytes > bytes_max) {
            return Err(too_large());
        }
        let worker = self.io.endpoint.workers.current();
        let mut charge = Charge::new(worker.budgets().incoming.clone());
        let body = read_body(&mut payload, bytes_max, timeout, &mut charge).await.map_err(|error| match error {
            BodyError::TooLarge => too_large(),
            BodyError::Late => ErrorBody::new(ErrorCode::TooSlow, format!("body did not come within {timeout:?}")),
            BodyError::Broken(error) => ErrorBody::new(ErrorCode::BadRequest, format!("body cannot be read: {error}")),
            BodyError::Spent(spent) => {
                worker.metrics().incoming_refused.add(1);
                ErrorBody::new(ErrorCode::Overloaded, format!("no memory for the body: {spent}"))
            }
        })?;
        let text =
            ByteString::try_from(body).map_err(|_| ErrorBody::new(ErrorCode::BadRequest, "body is not UTF-8"))?;
        Ok(Body { text, _charge: charge })
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.io.endpoint.services.core.limits
    }
}
