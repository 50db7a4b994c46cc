//! Authorization of requests to the API.

use std::sync::atomic::{AtomicU64, Ordering};

use actix_web::HttpRequest;
use actix_web::http::Method;
use actix_web::http::header::AUTHORIZATION;
use actix_web::web::Payload;
use stentor::RequestBody;

use super::super::error_code::ErrorCode;
use super::super::replies::ErrorBody;
use super::super::throttle::Throttle;
use super::Api;
use super::body::check_json;

/// Counter of requests without the right key. For each reason, at most one warning per second is
/// logged.
#[derive(Default)]
pub(super) struct RefusedKeys {
    missing: Throttle,
    scheme: Throttle,
    /// A wrong key has its own throttle, so that other refused requests do not hide attempts to
    /// guess the key.
    wrong: Throttle,
    count: AtomicU64,
}

impl RefusedKeys {
    /// Text of the metric in the Prometheus format.
    pub(super) fn metric(&self) -> String {
        let count = self.count.load(Ordering::Relaxed);
        format!(
            "# HELP stentor_api_keys_refused Requests to the HTTP API with a wrong key, or without one.\n\
             # TYPE stentor_api_keys_refused counter\n\
             stentor_api_keys_refused_total {count}\n"
        )
    }
}

impl Api {
    /// Accepts the request if it has the right key.
    pub(super) fn admit(&self, request: &HttpRequest) -> Result<(), ErrorBody> {
        let Some(key) = &self.key else {
            let message = "the HTTP API is off: set a key of 16 characters or more with STENTOR_API_KEY, with api_key in \
                           the configuration file, or with --api-key";
            return Err(ErrorBody::new(ErrorCode::NoApiKey, message));
        };
        let given = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.split_once(' '));
        let refused = &*self.refused_keys;
        let (reason, throttle) = match given {
            Some((scheme, guess)) if scheme.eq_ignore_ascii_case("bearer") && key.matches(guess.trim()) => {
                return Ok(());
            }
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("bearer") => ("the API key is wrong", &refused.wrong),
            Some(_) => ("the scheme of the Authorization header is not Bearer", &refused.scheme),
            None => ("the API key is missing", &refused.missing),
        };
        refused.count.fetch_add(1, Ordering::Relaxed);
        self.log_refused_key(request, reason, throttle);
        let expected =
            "expected the header \"Authorization: Bearer <API key>\" with the key that the server was started with";
        Err(ErrorBody::new(
            ErrorCode::Unauthorized,
            format!("{reason}, {expected} (STENTOR_API_KEY, api_key or --api-key)"),
        ))
    }

    fn log_refused_key(&self, request: &HttpRequest, reason: &str, throttle: &Throttle) {
        let Some(skipped) = throttle.is_due() else { return };
        let address =
            self.io.client_address(request).map_or_else(|| "unknown".to_owned(), |address| address.to_string());
        log::warn!(
            "API request refused reason=\"{reason}\" address={address} path={:?} skipped={skipped}",
            request.path().chars().take(100).collect::<String>()
        );
    }

    /// Accepts a GET or HEAD request with the right key.
    pub(super) fn admit_get(&self, request: &HttpRequest) -> Result<(), ErrorBody> {
        self.admit_methods(request, "GET")
    }

    /// Accepts a request with the right key and one of these methods, which are separated by `, `.
    /// HEAD is accepted where GET is.
    pub(super) fn admit_methods(&self, request: &HttpRequest, methods: &str) -> Result<(), ErrorBody> {
        self.admit(request)?;
        let method = if *request.method() == Method::HEAD { "GET" } else { request.method().as_str() };
        if methods.split(", ").any(|known| known == method) {
            return Ok(());
        }
        let message = format!("expected {methods}, got {}", request.method());
        Err(ErrorBody::new(ErrorCode::MethodNotAllowed, message))
    }

    /// Accepts a POST request with the right key and a JSON body, and returns the body.
    pub(super) async fn admit_post(&self, request: &HttpRequest, payload: Payload) -> Result<RequestBody, ErrorBody> {
        self.admit_methods(request, "POST")?;
        check_json(request)?;
        self.read_body(request, payload).await
    }
}
