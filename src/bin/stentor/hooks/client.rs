//! The HTTP exchange with the back end: one signed request, one bounded answer.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode, Url};
use thiserror::Error;

use super::super::secret::Secret;
use super::{Hook, HookSettings, signature};

/// Maximum number of bytes of an answer. The largest are arguments and data, which are smaller.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Time for which an unused connection is kept. Servers close theirs after 2 s (gunicorn) or 5 s
/// (Node), and a request on a connection that closes at this moment would fail.
const IDLE_TIMEOUT: Duration = Duration::from_millis(1_500);

/// Maximum number of unused connections that are kept.
const IDLE_MAX: usize = 64;

/// Reason why a hook has no usable answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Failure {
    #[error("more than hooks_pending_max={0} requests are under way")]
    Overloaded(usize),
    #[error("events of {0} bytes wait for hooks, which is the limit")]
    TooMuchWaits(usize),
    #[error("events of {0} bytes of the socket wait for hooks, which is the limit")]
    TooMuchOfSocketWaits(usize),
    #[error("the circuit is open after failures, no request is sent for a second")]
    CircuitOpen,
    #[error("an earlier hook of the socket was not answered in time")]
    Stale,
    #[error("no answer within hooks_timeout={0:?}")]
    Timeout(Duration),
    #[error("request failed: {0}")]
    Unreachable(String),
    /// The connection ended within the exchange.
    #[error("request failed: {0}")]
    Broken(String),
    #[error("status {0}, expected 200")]
    Status(u16),
    #[error("answer exceeds limit of {ANSWER_BYTES_MAX} bytes")]
    TooLarge,
    #[error("content type {0:?}, expected application/json")]
    ContentType(String),
    #[error("answer is wrong: {0}")]
    Wrong(String),
}

impl Failure {
    /// Label of the metric.
    pub(super) fn result(&self) -> super::metrics::Outcome {
        use super::metrics::Outcome;
        match self {
            Self::Overloaded(_) | Self::TooMuchWaits(_) | Self::TooMuchOfSocketWaits(_) | Self::Stale => {
                Outcome::Overloaded
            }
            Self::CircuitOpen => Outcome::CircuitOpen,
            Self::Timeout(_) => Outcome::Timeout,
            Self::Unreachable(_) | Self::Broken(_) => Outcome::Unreachable,
            Self::Status(_) => Outcome::Status,
            Self::TooLarge | Self::ContentType(_) | Self::Wrong(_) => Outcome::Invalid,
        }
    }

    /// True if the back end as a whole seems not to work, false if it does. `None` if this does not
    /// tell: servers close the connection of a request that is too large for them.
    ///
    /// Other failures may be caused by one event, and a client that sends such events must not stop
    /// the hooks of all others.
    pub(super) fn is_of_back_end(&self) -> Option<bool> {
        match self {
            Self::Timeout(_) | Self::Unreachable(_) => Some(true),
            Self::Broken(_) => None,
            Self::Status(status) => Some(matches!(status, 502..=504)),
            _ => Some(false),
        }
    }
}

/// Client of the back end.
pub(crate) struct HookClient {
    client: Client,
    url: Url,
    key: Secret,
    timeout: Duration,
}

impl HookClient {
    pub(crate) fn new(settings: &HookSettings, url: Url, key: Secret) -> Result<Self, String> {
        let mut builder = Client::builder()
            // A proxy of the environment is for requests to the outside.
            .no_proxy()
            .redirect(Policy::none())
            .timeout(settings.timeout)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_MAX)
            .user_agent(concat!("stentor/", env!("CARGO_PKG_VERSION")));
        if url.scheme() == "http" {
            // The certificates of the system are not needed, and may be missing.
            builder = builder.tls_certs_only([]);
        }
        let client = builder.build().map_err(|error| cause(&error))?;
        Ok(Self { client, url, key, timeout: settings.timeout })
    }

    /// Sends a request, and returns the body of the answer.
    pub(crate) async fn exchange(
        &self,
        hook: Hook,
        body: Vec<u8>,
        traceparent: Option<&str>,
    ) -> Result<Vec<u8>, Failure> {
        let mut url = self.url.clone();
        url.set_path(&format!("{}/{}", url.path().trim_end_matches('/'), hook.as_str()));
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Ok(signature) = HeaderValue::from_str(&signature::sign(&self.key, seconds, &body)) {
            headers.insert(signature::HEADER, signature);
        }
        if let Some(traceparent) = traceparent.and_then(|value| HeaderValue::from_str(value).ok()) {
            headers.insert("traceparent", traceparent);
        }
        let sent = self.client.post(url).headers(headers).body(body).send().await;
        self.read(sent.map_err(|error| self.failure(&error))?).await
    }

    async fn read(&self, mut response: Response) -> Result<Vec<u8>, Failure> {
        if response.status() != StatusCode::OK {
            return Err(Failure::Status(response.status().as_u16()));
        }
        let content_type = response.headers().get(CONTENT_TYPE).map_or("", |value| value.to_str().unwrap_or(""));
        let media_type = content_type.split(';').next().unwrap_or("").trim();
        if !media_type.eq_ignore_ascii_case("application/json") {
            return Err(Failure::ContentType(content_type.chars().take(100).collect()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.failure(&error))? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(Failure::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn failure(&self, error: &reqwest::Error) -> Failure {
        if error.is_timeout() {
            return Failure::Timeout(self.timeout);
        }
        let cause = cause(error);
        if error.is_connect() { Failure::Unreachable(cause) } else { Failure::Broken(cause) }
    }
}

/// The innermost error, which is the one that says something, such as "Connection refused".
fn cause(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string().chars().take(200).collect()
}
