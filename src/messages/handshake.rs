//! What a client said when it connected, kept small: no map, and once what many clients say alike.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

/// The request that opened a session: its query, its headers, whence and when it came.
///
/// Of url and headers at most [`Limits::handshake_bytes_max`](crate::Limits::handshake_bytes_max) are kept; headers that do not
/// fit are not, nor is `sec-websocket-key`, which means nothing once the websocket is open. Sessions of one worker whose clients
/// are alike (same browser, same page) share what their browsers all send.
#[derive(Debug)]
pub struct Handshake {
    /// First line path and query, then `name:value` lines. A header value cannot hold a line feed.
    own: Box<str>,
    /// Lines of [`ALIKE`], one copy for all clients of this thread that say the same.
    alike: Arc<str>,
    arrival: Arrival,
}

/// Headers that depend on the browser and the page, and not on the client: two thirds of what a browser sends.
const ALIKE: &[&str] = &[
    "accept",
    "accept-encoding",
    "accept-language",
    "cache-control",
    "connection",
    "dnt",
    "host",
    "origin",
    "pragma",
    "sec-ch-ua",
    "sec-ch-ua-mobile",
    "sec-ch-ua-platform",
    "sec-fetch-dest",
    "sec-fetch-mode",
    "sec-fetch-site",
    "sec-websocket-extensions",
    "sec-websocket-protocol",
    "sec-websocket-version",
    "upgrade",
    "user-agent",
];

/// At least so many handshakes lie between two looks for texts that are no longer in use.
const SHARED_MIN: usize = 64;

thread_local! {
    static SHARED: RefCell<Shared> = RefCell::default();
}

/// Texts that sessions share. One that is no longer in use goes after as many further handshakes as there are texts, or a few more.
#[derive(Default)]
struct Shared {
    texts: HashSet<Arc<str>>,
    /// Handshakes before it looks again.
    until_look: usize,
}

impl Shared {
    fn get(&mut self, text: &str) -> Arc<str> {
        if self.until_look == 0 {
            self.texts.retain(|text| Arc::strong_count(text) > 1);
            self.texts.shrink_to(SHARED_MIN);
            self.until_look = self.texts.len().max(SHARED_MIN);
        }
        self.until_look -= 1;
        if let Some(known) = self.texts.get(text) {
            return known.clone();
        }
        let shared = Arc::<str>::from(text);
        self.texts.insert(shared.clone());
        shared
    }
}

/// Whence and when a request came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    /// When.
    pub(crate) at: SystemTime,
    /// The client's address, as far as the proxies between can be trusted.
    pub(crate) address: Option<IpAddr>,
    /// Whether the client encrypts.
    pub(crate) secure: bool,
}

impl Handshake {
    /// Packs what a transport read.
    pub(crate) fn new<'a>(
        url: &str,
        headers: impl Iterator<Item = (&'a str, &'a str)>,
        arrival: Arrival,
        bytes_max: usize,
    ) -> Self {
        let mut own = String::new();
        let mut alike = Vec::new();
        own.push_str(&url[..url.floor_char_boundary(bytes_max.saturating_sub(1))]);
        own.push('\n');
        let mut bytes = own.len();
        for (name, value) in headers.filter(|(name, _)| *name != "sec-websocket-key") {
            let line = [name, ":", value, "\n"];
            if bytes + line.map(str::len).iter().sum::<usize>() > bytes_max {
                continue;
            }
            bytes += line.map(str::len).iter().sum::<usize>();
            match ALIKE.iter().position(|known| *known == name) {
                Some(at) => alike.push((at, line)),
                None => own.extend(line),
            }
        }
        // In one order, whatever order they came in: actix-http's differs from request to request.
        alike.sort_by_key(|(at, _)| *at);
        let alike: String = alike.into_iter().flat_map(|(_, line)| line).collect();
        let alike = SHARED.with_borrow_mut(|shared| shared.get(&alike));
        // A copy of just that size: shrinking in place would keep the larger block.
        Self { own: Box::from(own.as_str()), alike, arrival }
    }

    /// Path and raw query of the first request.
    pub fn url(&self) -> &str {
        self.own.lines().next().unwrap_or("")
    }

    /// The raw query string of the first request.
    pub fn query(&self) -> &str {
        self.url().split_once('?').map_or("", |(_, query)| query)
    }

    /// The first value of this name in the query, decoded.
    pub fn query_value(&self, name: &str) -> Option<Cow<'_, str>> {
        form_urlencoded::parse(self.query().as_bytes()).find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// The headers kept, names in lower case.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.own.lines().skip(1).chain(self.alike.lines()).filter_map(|line| line.split_once(':'))
    }

    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().find(|(kept, _)| kept.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The client's address: the other end of the connection or, behind
    /// [trusted proxies](crate::Builder::trusted_proxies), what they say of it. IPv4 is never written as IPv6.
    pub fn address(&self) -> Option<IpAddr> {
        self.arrival.address
    }

    /// Whether the client's connection is encrypted: by this server, or by a trusted proxy that says so.
    pub fn is_secure(&self) -> bool {
        self.arrival.secure
    }

    /// When the request came.
    pub fn issued(&self) -> SystemTime {
        self.arrival.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARRIVAL: Arrival = Arrival { at: SystemTime::UNIX_EPOCH, address: None, secure: false };

    #[test]
    fn query_and_headers_are_found_again() {
        let headers = [("host", "a:1"), ("cookie", "x=1; y=2")];
        let handshake = Handshake::new("/hub/?EIO=4&t=1", headers.into_iter(), ARRIVAL, 1024);
        assert_eq!(handshake.url(), "/hub/?EIO=4&t=1");
        assert_eq!(handshake.query(), "EIO=4&t=1");
        assert_eq!(handshake.header("Host"), Some("a:1"));
        assert_eq!(handshake.header("cookie"), Some("x=1; y=2"));
        assert_eq!(handshake.header("accept"), None);
    }

    #[test]
    fn values_of_the_query_are_decoded() {
        let url = "/?EIO=4&room=caf%C3%A9+%26+bar&room=second&empty=&flag&broken=%zz%";
        let handshake = Handshake::new(url, std::iter::empty(), ARRIVAL, 1024);
        for (name, value) in [("EIO", "4"), ("room", "café & bar"), ("empty", ""), ("flag", ""), ("broken", "%zz%")] {
            assert_eq!(handshake.query_value(name).as_deref(), Some(value), "{name}");
        }
        assert_eq!(handshake.query_value("absent"), None);
        assert_eq!(Handshake::new("/", std::iter::empty(), ARRIVAL, 1024).query_value("EIO"), None);
    }

    #[test]
    fn what_is_over_the_bound_is_not_kept() {
        for bytes_max in [0, 1, 2, 1023, 1024] {
            let handshake = Handshake::new(&"ü".repeat(900), [("a", "b")].into_iter(), ARRIVAL, bytes_max);
            let kept = handshake.own.len() + handshake.alike.len();
            assert!(kept <= bytes_max.max(1), "{kept} of {bytes_max}");
        }
        let handshake = Handshake::new("", [("big", "x".repeat(2000).as_str()), ("a", "b")].into_iter(), ARRIVAL, 1024);
        assert_eq!(handshake.headers().collect::<Vec<_>>(), [("a", "b")]);
    }

    fn of(agent: &str, cookie: &str) -> Handshake {
        let headers = [("user-agent", agent), ("sec-websocket-key", "a nonce"), ("cookie", cookie)];
        Handshake::new("/", headers.into_iter(), ARRIVAL, 1024)
    }

    #[test]
    fn clients_that_are_alike_share_what_they_say_alike() {
        let (first, second, other) = (of("fox", "x=1"), of("fox", "x=2"), of("lynx", "x=1"));
        assert!(Arc::ptr_eq(&first.alike, &second.alike) && !Arc::ptr_eq(&first.alike, &other.alike));
        assert_eq!(second.headers().collect::<Vec<_>>(), [("cookie", "x=2"), ("user-agent", "fox")]);
        assert_eq!(other.header("user-agent"), Some("lynx"));
        let headers = [("accept", "*/*"), ("user-agent", "fox"), ("origin", "http://a")];
        let there = Handshake::new("/", headers.into_iter(), ARRIVAL, 1024);
        let back = Handshake::new("/", headers.into_iter().rev(), ARRIVAL, 1024);
        assert!(Arc::ptr_eq(&there.alike, &back.alike), "{} {}", there.alike, back.alike);
    }

    #[test]
    fn what_nobody_says_any_more_is_not_kept_for_ever() {
        let kept = of("kept", "");
        for agent in 0..10 * SHARED_MIN {
            of(&agent.to_string(), "");
        }
        let shared = || SHARED.with_borrow(|shared| shared.texts.len());
        assert!(shared() <= 2 * SHARED_MIN, "{}", shared());
        for _ in 0..4 * SHARED_MIN {
            of("kept", "");
        }
        assert_eq!(shared(), 1, "those that come are all alike");
        assert!(Arc::ptr_eq(&kept.alike, &of("kept", "").alike));
    }
}
