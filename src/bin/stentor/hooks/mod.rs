//! Hooks: questions to the application's back end about connects, joins, publishes and other events
//! of clients. Each is one signed HTTP request, whose answer decides.
//!
//! `client` sends a request, `request` and `answer` are its bodies, `line` keeps the order of one
//! socket's events, `breaker` and the counts here bound what waits, and `vocabulary::hooks` applies
//! the answers.

mod answer;
mod breaker;
mod client;
mod line;
mod metrics;
mod request;
mod signature;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use reqwest::Url;
use serde::Serialize;
use stentor::Socket;

use self::breaker::{Breaker, Change, Origin};
use self::metrics::{HookMetrics, Outcome};
use super::secret::Secret;
use super::throttle::Throttle;

pub(crate) use self::answer::{
    Actions, Answer, Body, ConnectBody, EventBody, JoinBody, PublishBody, Refusal, read as read_answer,
};
pub(crate) use self::client::{Failure, HookClient};
pub(crate) use self::line::{Line, in_turn};
pub(crate) use self::request::{
    ArgsFields, Client, ConnectFields, EventFields, JoinFields, PublishFields, Request, next_id,
};

/// Maximum number of bytes of the events of all sockets that wait for hooks. Without hooks, events
/// are handled as fast as they are read; a back end that hangs must not fill the memory with them.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// Maximum number of bytes of the events of one socket that wait, so that no socket uses up the
/// bound of all. A single event may be larger.
const SOCKET_WAITING_BYTES_MAX: usize = 4 << 20;

/// A question to the back end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Hook {
    Connect,
    Join,
    Publish,
    /// An event that is none of `stentor serve`.
    Event,
}

impl Hook {
    pub(crate) const ALL: [Self; 4] = [Self::Connect, Self::Join, Self::Publish, Self::Event];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Join => "join",
            Self::Publish => "publish",
            Self::Event => "event",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hook| hook.as_str() == name)
    }

    /// The hook of which an event of a client is asked. A new token is asked about as a connect.
    pub(crate) fn of_event(name: &str) -> Option<Self> {
        if name == "token" { Some(Self::Connect) } else { Self::named(name) }
    }
}

/// Settings of hooks. No hook is asked without `url`.
#[derive(Debug, Clone)]
pub(crate) struct HookSettings {
    pub(crate) url: Option<String>,
    pub(crate) key: Option<Secret>,
    /// Names of the hooks that are asked.
    pub(crate) names: Vec<String>,
    /// Names of the headers of a client that the connect hook receives.
    pub(crate) headers: Vec<String>,
    pub(crate) timeout: Duration,
    pub(crate) pending_max: usize,
    pub(crate) connect_always: bool,
}

impl Default for HookSettings {
    fn default() -> Self {
        Self {
            url: None,
            key: None,
            names: Hook::ALL.map(|hook| hook.as_str().to_owned()).into(),
            headers: Vec::new(),
            timeout: Duration::from_secs(2),
            pending_max: 1_024,
            connect_always: false,
        }
    }
}

impl HookSettings {
    /// True if the back end is asked who may connect.
    pub(crate) fn asks_connect(&self) -> bool {
        self.url.is_some() && self.names.iter().any(|name| name == Hook::Connect.as_str())
    }

    /// Returns the hooks of these settings, or `None` if no hook is asked.
    pub(crate) fn build(&self) -> Result<Option<Hooks>, String> {
        let (Some(url), Some(key)) = (&self.url, &self.key) else { return Ok(None) };
        let url = read_url(url).ok_or_else(|| format!("hooks_url {url:?} is no URL"))?;
        let client =
            HookClient::new(self, url, key.clone()).map_err(|error| format!("hooks cannot be asked: {error}"))?;
        Ok(Some(Hooks(Arc::new(Inner {
            client,
            asked: Hook::ALL.map(|hook| self.names.iter().any(|name| name == hook.as_str())),
            headers: self.headers.iter().map(|name| name.to_ascii_lowercase()).collect(),
            connect_always: self.connect_always,
            pending_max: self.pending_max,
            pending: AtomicUsize::new(0),
            waiting_bytes: AtomicUsize::new(0),
            breakers: Hook::ALL.map(|_| Mutex::new(Breaker::new(self.timeout))),
            metrics: HookMetrics::default(),
            failed: Throttle::default(),
            refused: Throttle::default(),
        }))))
    }
}

/// Reads a URL to which the name of a hook can be appended.
pub(crate) fn read_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let is_plain = url.query().is_none() && url.fragment().is_none();
    let has_no_user = url.username().is_empty() && url.password().is_none();
    (matches!(url.scheme(), "http" | "https") && url.has_host() && is_plain && has_no_user).then_some(url)
}

/// The hooks of this process, for its metrics.
static SERVED: OnceLock<Hooks> = OnceLock::new();

/// Text of the metrics in the Prometheus format. Empty if no hooks are asked.
pub(crate) fn metrics() -> String {
    let text = |Hooks(inner): &Hooks| inner.metrics.text(inner.pending.load(Ordering::Relaxed));
    SERVED.get().map_or_else(String::new, text)
}

/// Cheap to clone and usable from any thread.
#[derive(Clone)]
pub(crate) struct Hooks(Arc<Inner>);

struct Inner {
    client: HookClient,
    /// The hooks that are asked, by [`Hook`].
    asked: [bool; Hook::ALL.len()],
    headers: Vec<String>,
    connect_always: bool,
    pending_max: usize,
    /// Requests that are under way.
    pending: AtomicUsize,
    /// Bytes of the events that wait for their turn or for an answer.
    waiting_bytes: AtomicUsize,
    /// By [`Hook`], so that events of clients do not stop connects. Locked for a few comparisons,
    /// by any thread.
    breakers: [Mutex<Breaker>; Hook::ALL.len()],
    metrics: HookMetrics,
    failed: Throttle,
    refused: Throttle,
}

/// Reason why an event is not to be handled as the client wishes.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The back end refuses it.
    Refused(Refusal),
    /// The back end wants the socket to be disconnected.
    Disconnect,
    /// There is no usable answer. The reason was logged.
    Unavailable,
}

/// A number that counts until this is dropped.
struct Held<'a>(&'a AtomicUsize, usize);

impl<'a> Held<'a> {
    /// Adds to the count. Returns `None` if it would exceed its maximum.
    fn add(count: &'a AtomicUsize, amount: usize, max: usize) -> Option<Self> {
        if count.fetch_add(amount, Ordering::Relaxed).saturating_add(amount) > max {
            count.fetch_sub(amount, Ordering::Relaxed);
            return None;
        }
        Some(Self(count, amount))
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

impl Hooks {
    pub(crate) fn asks(&self, hook: Hook) -> bool {
        self.0.asked[hook as usize]
    }

    /// True if the back end is asked about events. Events of one socket then wait in order.
    pub(crate) fn asks_events(&self) -> bool {
        [Hook::Join, Hook::Publish, Hook::Event].into_iter().any(|hook| self.asks(hook))
    }

    /// True if the connect hook is asked also for clients with a token.
    pub(crate) fn asks_always(&self) -> bool {
        self.0.connect_always
    }

    /// True if this hook is asked of an event of a connected client. The connect hook is, of new
    /// tokens, if it is asked for clients with a token.
    pub(crate) fn asks_in_turn(&self, hook: Hook) -> bool {
        self.asks(hook) && (hook != Hook::Connect || self.asks_always())
    }

    /// Names in lower case of the headers that the connect hook receives.
    pub(crate) fn headers(&self) -> &[String] {
        &self.0.headers
    }

    /// Adds the metrics of these hooks to those of the process.
    pub(crate) fn show_metrics(&self) {
        let _ = SERVED.set(self.clone());
    }

    /// Asks the back end. The body of an accepting answer is returned.
    pub(crate) async fn ask<T: Body>(
        &self,
        hook: Hook,
        client: &Client<'_>,
        fields: impl Serialize,
    ) -> Result<T, Verdict> {
        let namespace = client.socket.namespace();
        let request = Request::new(hook, client, namespace.path(), fields);
        let answered = match serde_json::to_vec(&request) {
            Ok(body) => self.exchange(hook, body, client).await,
            Err(error) => Err(Failure::Wrong(format!("the request has no JSON form: {error}"))),
        };
        let answer = answered.and_then(|text| read_answer::<T>(&text).map_err(Failure::Wrong));
        let (outcome, result) = match answer {
            Ok(Answer::Accepted(body)) => (Outcome::Accepted, Ok(body)),
            Ok(Answer::Refused(refusal)) => (Outcome::Refused, Err(Verdict::Refused(refusal))),
            Ok(Answer::Disconnect) => (Outcome::Disconnect, Err(Verdict::Disconnect)),
            Err(failure) => return Err(self.unavailable(hook, &failure)),
        };
        self.0.metrics.record(hook, outcome);
        result
    }

    /// Counts and logs a failure.
    fn unavailable(&self, hook: Hook, failure: &Failure) -> Verdict {
        self.0.metrics.record(hook, failure.result());
        if let Some(skipped) = self.0.failed.is_due() {
            log::warn!("hook not answered hook={} skipped={skipped} reason=\"{failure}\"", hook.as_str());
        }
        Verdict::Unavailable
    }

    /// Reports an answer that cannot be applied, although its form is right.
    pub(crate) fn wrong_answer(&self, hook: Hook, error: impl Into<String>) -> Verdict {
        self.unavailable(hook, &Failure::Wrong(error.into()))
    }

    /// Logs that the back end refused a connect.
    pub(crate) fn log_refused_connect(&self, socket: &Socket, code: &str) {
        if let Some(skipped) = self.0.refused.is_due() {
            let address = socket.handshake().address().map_or_else(|| "unknown".to_owned(), |ip| ip.to_string());
            log::warn!("connect refused by the hook address={address} code={code:?} skipped={skipped}");
        }
    }

    async fn exchange(&self, hook: Hook, body: Vec<u8>, client: &Client<'_>) -> Result<Vec<u8>, Failure> {
        let inner = &*self.0;
        let Some(_pending) = Held::add(&inner.pending, 1, inner.pending_max) else {
            return Err(Failure::Overloaded(inner.pending_max));
        };
        let sent = Instant::now();
        if !self.breaker(hook).admit(sent) {
            return Err(Failure::CircuitOpen);
        }
        let handshake = client.socket.handshake();
        let answer = inner.client.exchange(hook, body, handshake.header("traceparent")).await;
        let now = Instant::now();
        inner.metrics.record_time(hook, now.saturating_duration_since(sent));
        let origin = || match client.identity.user() {
            Some(user) => Origin::User(user.to_owned()),
            None => Origin::Address(handshake.address()),
        };
        let is_failure = answer.as_ref().map_or_else(Failure::is_of_back_end, |_| Some(false));
        let change = match is_failure {
            Some(true) => self.breaker(hook).on_failure(now, origin()),
            Some(false) => self.breaker(hook).on_success(),
            None => None,
        };
        let name = hook.as_str();
        match change {
            Some(Change::Opened) => {
                log::warn!("hook paused after failures, one request a second tests the back end hook={name}");
            }
            Some(Change::Closed) => log::info!("hook is asked again, the back end has answered hook={name}"),
            None => {}
        }
        answer
    }

    fn breaker(&self, hook: Hook) -> MutexGuard<'_, Breaker> {
        self.0.breakers[hook as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_bounded_and_returns_to_zero() {
        let count = AtomicUsize::new(0);
        let held = Held::add(&count, 2, 3);
        assert!(held.is_some() && Held::add(&count, 2, 3).is_none());
        assert!(Held::add(&count, 1, 3).is_some());
        drop(held);
        assert_eq!(count.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn urls_are_http_and_take_the_name_of_a_hook() {
        for url in ["http://127.0.0.1:8000", "https://a.example/hooks/", "http://[::1]:1/a"] {
            assert!(read_url(url).is_some(), "{url}");
        }
        for url in [
            "",
            "127.0.0.1:8000",
            "ftp://a.example",
            "http://a.example/?b",
            "http://a.example/#b",
            "http://u:p@a.example",
        ] {
            assert!(read_url(url).is_none(), "{url}");
        }
    }
}
