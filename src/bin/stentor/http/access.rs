//! Authorization of requests to the API, and counters of all requests.

use std::sync::atomic::{AtomicU64, Ordering};

use actix_web::HttpRequest;
use actix_web::http::header::AUTHORIZATION;
use actix_web::http::{Method, StatusCode};

use super::super::error_code::ErrorCode;
use super::super::replies::ErrorBody;
use super::super::throttle::Throttle;
use super::Api;
use super::keys::{Scope, Scopes, scopes_of};

/// Reason why a request was refused because of its key.
#[derive(Clone, Copy)]
enum Reason {
    Missing,
    Scheme,
    /// A wrong key has its own throttle, as the other reasons have, so that other refused requests
    /// do not hide attempts to guess a key.
    Wrong,
    Scope,
}

impl Reason {
    const ALL: [Self; 4] = [Self::Missing, Self::Scheme, Self::Wrong, Self::Scope];

    const fn label(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Scheme => "scheme",
            Self::Wrong => "wrong",
            Self::Scope => "scope",
        }
    }
}

/// Counters of the API.
#[derive(Default)]
pub(super) struct ApiCounters {
    /// Requests that were refused because of their keys, by reason. For each reason, at most one
    /// warning per second is logged.
    refused: [(AtomicU64, Throttle); 4],
    /// Responses with status 2xx, 4xx and 5xx.
    responses: [AtomicU64; 3],
}

impl ApiCounters {
    /// Counts a response to a request.
    pub(super) fn count(&self, status: StatusCode) {
        let class = if status.is_success() { 0 } else { 1 + usize::from(status.is_server_error()) };
        self.responses[class].fetch_add(1, Ordering::Relaxed);
    }

    /// Text of the metrics in the Prometheus format.
    pub(super) fn metrics(&self) -> String {
        let mut text = String::from(
            "# HELP stentor_api_keys_refused Requests to the HTTP API that were refused because of their keys.\n\
             # TYPE stentor_api_keys_refused counter\n",
        );
        for (reason, (count, _)) in Reason::ALL.into_iter().zip(&self.refused) {
            let (reason, count) = (reason.label(), count.load(Ordering::Relaxed));
            text += &format!("stentor_api_keys_refused_total{{reason=\"{reason}\"}} {count}\n");
        }
        text += "# HELP stentor_api_requests Requests to the HTTP API, by the class of the response's status.\n\
                 # TYPE stentor_api_requests counter\n";
        for (class, count) in ["2xx", "4xx", "5xx"].into_iter().zip(&self.responses) {
            let count = count.load(Ordering::Relaxed);
            text += &format!("stentor_api_requests_total{{status=\"{class}\"}} {count}\n");
        }
        text
    }
}

impl Api {
    /// Accepts a request whose key has the scope of its method. HEAD is accepted where GET is.
    pub(super) fn admit(&self, request: &HttpRequest, methods: &[(Method, Scope)]) -> Result<(), ErrorBody> {
        let scopes = self.admit_key(request)?;
        let method = if *request.method() == Method::HEAD { &Method::GET } else { request.method() };
        let Some((_, scope)) = methods.iter().find(|(known, _)| known == method) else {
            let expected: Vec<_> = methods.iter().map(|(known, _)| known.as_str()).collect();
            let message = format!("expected {}, got {}", expected.join(", "), request.method());
            return Err(ErrorBody::new(ErrorCode::MethodNotAllowed, message));
        };
        if scopes.contains(*scope) {
            return Ok(());
        }
        let scope = scope.name();
        self.on_refused_key(request, Reason::Scope, &format!("the API key has no scope {scope}"));
        let message = format!("the API key has no scope {scope}, it has {scopes}");
        Err(ErrorBody::new(ErrorCode::Forbidden, message))
    }

    /// Accepts a request with one of the keys, and returns its scopes.
    pub(super) fn admit_key(&self, request: &HttpRequest) -> Result<Scopes, ErrorBody> {
        let settings = self.settings.get();
        if settings.keys.is_empty() {
            let message = "the HTTP API is off: set a key of 16 characters or more with STENTOR_API_KEY, with api_key in \
                           the configuration file, or with --api-key; or several keys with api_keys";
            return Err(ErrorBody::new(ErrorCode::NoApiKey, message));
        }
        let given = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.split_once(' '));
        let (reason, sentence) = match given {
            Some((scheme, guess)) if scheme.eq_ignore_ascii_case("bearer") => {
                if let Some(scopes) = scopes_of(&settings.keys, guess.trim()) {
                    return Ok(scopes);
                }
                (Reason::Wrong, "the API key is wrong")
            }
            Some(_) => (Reason::Scheme, "the scheme of the Authorization header is not Bearer"),
            None => (Reason::Missing, "the API key is missing"),
        };
        self.on_refused_key(request, reason, sentence);
        let expected =
            "expected the header \"Authorization: Bearer <API key>\" with a key that the server was started with";
        Err(ErrorBody::new(
            ErrorCode::Unauthorized,
            format!("{sentence}, {expected} (STENTOR_API_KEY, api_key, api_keys or --api-key)"),
        ))
    }

    /// Counts and logs a refused request.
    fn on_refused_key(&self, request: &HttpRequest, reason: Reason, sentence: &str) {
        let (count, throttle) = &self.counters.refused[reason as usize];
        count.fetch_add(1, Ordering::Relaxed);
        let Some(skipped) = throttle.is_due() else { return };
        let address =
            self.io.client_address(request).map_or_else(|| "unknown".to_owned(), |address| address.to_string());
        log::warn!(
            "API request refused reason=\"{sentence}\" address={address} path={:?} skipped={skipped}",
            request.path().chars().take(100).collect::<String>()
        );
    }
}
