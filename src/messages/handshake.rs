//! The request that opened a session, stored in little memory: as text instead of a map, with
//! headers shared by similar clients.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

/// The request that opened a session: its query, its headers, peer address and arrival time.
///
/// All headers are stored except `sec-websocket-key`, which has no use once the websocket is open.
/// A request whose head exceeds
/// [`limits.http.handshake_bytes_max`](crate::limits::HttpLimits::handshake_bytes_max) is refused
/// with 431. Clients with the same browser and page have many equal headers. Sessions of one worker
/// share the memory of these headers.
///
/// Text is decoded as in Node. Each byte of a header value is one character (ISO 8859-1);
/// [`Handshake::header_bytes`] returns the bytes. If several headers have the same name, their
/// values are joined by `, ` (cookies by `; `), or only the first value is kept if the header
/// allows only one.
#[derive(Debug)]
pub struct Handshake {
    /// A line with path and query, then `name:value` lines. A header value contains no line feed.
    own: Box<str>,
    /// Lines of the headers in [`ALIKE`], shared by all clients of this thread with the same
    /// values.
    alike: Arc<str>,
    arrival: Arrival,
}

/// Names of headers that depend on the browser and the page, not on the client. Two thirds of a
/// browser's request are such headers. Sorted.
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

/// Names of headers of which Node keeps only the first value.
const SINGLE: &[&str] = &[
    "age",
    "authorization",
    "content-length",
    "content-type",
    "from",
    "host",
    "if-modified-since",
    "if-unmodified-since",
    "max-forwards",
    "proxy-authorization",
    "referer",
    "user-agent",
];

/// Minimum number of handshakes between two searches for unused texts.
const SHARED_MIN: usize = 64;

thread_local! {
    static SHARED: RefCell<Shared> = RefCell::default();
}

/// Header texts that sessions share. Each search removes unused texts. The number of handshakes
/// until the next search is the number of remaining texts, but at least [`SHARED_MIN`].
#[derive(Default)]
struct Shared {
    texts: HashSet<Arc<str>>,
    /// Number of handshakes until the next search for unused texts.
    until_sweep: usize,
}

impl Shared {
    fn get(&mut self, text: &str) -> Arc<str> {
        if self.until_sweep == 0 {
            self.texts.retain(|text| Arc::strong_count(text) > 1);
            self.texts.shrink_to(SHARED_MIN);
            self.until_sweep = self.texts.len().max(SHARED_MIN);
        }
        self.until_sweep -= 1;
        if let Some(known) = self.texts.get(text) {
            return known.clone();
        }
        let shared = Arc::<str>::from(text);
        self.texts.insert(shared.clone());
        shared
    }
}

/// Peer address and arrival time of the request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    pub(crate) at: SystemTime,
    /// Address of the client, or the address that trusted proxies report.
    pub(crate) address: Option<IpAddr>,
    /// True if the client's connection is encrypted.
    pub(crate) secure: bool,
}

impl Handshake {
    /// Stores a request. Several values of one header name must be in the order of arrival.
    pub(crate) fn new<'a>(url: &str, headers: impl Iterator<Item = (&'a str, &'a [u8])>, arrival: Arrival) -> Self {
        let mut headers: Vec<_> = headers.filter(|(name, _)| *name != "sec-websocket-key").collect();
        // Headers are sorted, because the order of actix-http's iterator differs between requests
        // and equal headers must result in equal texts.
        headers.sort_by_key(|(name, _)| (ALIKE.binary_search(name).is_ok(), *name));
        let (mut own, mut alike) = (String::from(url), String::new());
        own.push('\n');
        for values in headers.chunk_by(|(one, _), (other, _)| one == other) {
            let name = values[0].0;
            let lines = if ALIKE.binary_search(&name).is_ok() { &mut alike } else { &mut own };
            lines.push_str(name);
            lines.push(':');
            for (nth, (_, value)) in values.iter().enumerate() {
                match name {
                    _ if nth == 0 => {}
                    "cookie" => lines.push_str("; "),
                    _ if SINGLE.contains(&name) => break,
                    _ => lines.push_str(", "),
                }
                lines.extend(value.iter().map(|byte| char::from(*byte)));
            }
            lines.push('\n');
        }
        let alike = SHARED.with_borrow_mut(|shared| shared.get(&alike));
        // The text is copied to an allocation of the exact size, because shrinking in place would
        // keep the larger allocation.
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

    /// Names and values of the query in order, decoded as in Node: `+` is a space, a `%` without a
    /// valid escape is literal, bytes that are not UTF-8 become U+FFFD. A name may occur several
    /// times.
    pub fn query_pairs(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        form_urlencoded::parse(self.query().as_bytes())
    }

    /// The last value of this name in the query, decoded, as in `socket.handshake.query` of Node.
    pub fn query_value(&self, name: &str) -> Option<Cow<'_, str>> {
        self.query_pairs().filter(|(known, _)| known == name).last().map(|(_, value)| value)
    }

    /// Names and values of the headers. Names are in lower case and unique.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.own.lines().skip(1).chain(self.alike.lines()).filter_map(|line| line.split_once(':'))
    }

    /// The value of this header, whose name may be in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().find(|(kept, _)| kept.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The value of this header as bytes, for values in UTF-8 or any other encoding. The name may
    /// be in any case.
    pub fn header_bytes(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let text = self.header(name)?;
        if text.is_ascii() {
            return Some(Cow::Borrowed(text.as_bytes()));
        }
        // Each character stands for one byte.
        Some(text.chars().map(|char| u8::try_from(char).unwrap_or(b'?')).collect())
    }

    /// The client's address: the peer of the connection, or the address that
    /// [trusted proxies](crate::Builder::trusted_proxies) report. An IPv4-mapped IPv6 address is
    /// returned as IPv4.
    pub fn address(&self) -> Option<IpAddr> {
        self.arrival.address
    }

    /// Returns true if the client's connection is encrypted, by this server or as reported by a
    /// trusted proxy.
    pub fn is_secure(&self) -> bool {
        self.arrival.secure
    }

    /// Arrival time of the request.
    pub fn received_at(&self) -> SystemTime {
        self.arrival.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARRIVAL: Arrival = Arrival { at: SystemTime::UNIX_EPOCH, address: None, secure: false };

    fn packed(url: &str, headers: &[(&'static str, &[u8])]) -> Handshake {
        Handshake::new(url, headers.iter().copied(), ARRIVAL)
    }

    #[test]
    fn query_and_headers_are_returned() {
        let handshake = packed("/hub/?EIO=4&t=1", &[("host", b"a:1"), ("cookie", b"x=1; y=2")]);
        assert_eq!(handshake.url(), "/hub/?EIO=4&t=1");
        assert_eq!(handshake.query(), "EIO=4&t=1");
        assert_eq!(handshake.header("Host"), Some("a:1"));
        assert_eq!(handshake.header("cookie"), Some("x=1; y=2"));
        assert_eq!(handshake.header("accept"), None);
    }

    #[test]
    fn the_query_is_read_as_node_reads_it() {
        let url = "/?EIO=4&room=caf%C3%A9+%26+bar&room=second&empty=&flag&&=none&broken=%zz%&bytes=%ff%41&EIO=3";
        let handshake = packed(url, &[]);
        let pairs: Vec<_> = handshake.query_pairs().map(|(name, value)| format!("{name}={value}")).collect();
        // The result of `querystring.parse` in Node 22, in this order.
        let expected = [
            "EIO=4",
            "room=café & bar",
            "room=second",
            "empty=",
            "flag=",
            "=none",
            "broken=%zz%",
            "bytes=\u{fffd}A",
            "EIO=3",
        ];
        assert_eq!(pairs, expected);
        assert_eq!(handshake.query_value("room").as_deref(), Some("second"));
        assert_eq!(handshake.query_value("absent"), None);
        assert_eq!(packed("/", &[]).query_value("EIO"), None);
    }

    #[test]
    fn headers_are_stored_whole_in_any_order_of_arrival() {
        let (cookie, token) = ("c=".to_owned() + &"x".repeat(8_000), "Bearer ".to_owned() + &"y".repeat(4_000));
        let mut headers = [
            ("accept", &b"*/*"[..]),
            ("authorization", token.as_bytes()),
            ("cookie", cookie.as_bytes()),
            ("origin", b"https://a.example"),
            ("user-agent", b"fox"),
            ("x-forwarded-for", b"10.0.0.1"),
        ];
        let first: Vec<_> = packed("/", &headers).headers().map(|(name, value)| format!("{name}:{value}")).collect();
        assert_eq!(first.len(), headers.len());
        for _ in 0..headers.len() {
            headers.rotate_left(1);
            let handshake = packed("/", &headers);
            assert_eq!(
                (handshake.header("cookie"), handshake.header("authorization")),
                (Some(&*cookie), Some(&*token))
            );
            let again: Vec<_> = handshake.headers().map(|(name, value)| format!("{name}:{value}")).collect();
            assert_eq!(again, first);
        }
    }

    #[test]
    fn bytes_beyond_ascii_are_preserved_and_text_is_latin_1() {
        let handshake = packed("/", &[("cookie", "name=José; session=good".as_bytes()), ("x-raw", b"\x80\xff")]);
        assert_eq!(handshake.header("cookie"), Some("name=Jos\u{c3}\u{a9}; session=good"));
        assert_eq!(handshake.header_bytes("Cookie").as_deref(), Some("name=José; session=good".as_bytes()));
        assert_eq!(handshake.header("x-raw"), Some("\u{80}\u{ff}"));
        assert_eq!(handshake.header_bytes("x-raw").as_deref(), Some(&b"\x80\xff"[..]));
        assert_eq!(handshake.header_bytes("absent"), None);
    }

    #[test]
    fn headers_of_one_name_are_joined_as_node_joins_them() {
        let headers: [(&str, &[u8]); 6] = [
            ("cookie", b"a=1"),
            ("cookie", b"b=2"),
            ("x-forwarded-for", b"10.0.0.1"),
            ("x-forwarded-for", b"10.0.0.2"),
            ("authorization", b"first"),
            ("authorization", b"second"),
        ];
        let handshake = packed("/", &headers);
        assert_eq!(handshake.header("cookie"), Some("a=1; b=2"));
        assert_eq!(handshake.header("x-forwarded-for"), Some("10.0.0.1, 10.0.0.2"));
        assert_eq!(handshake.header("authorization"), Some("first"));
        assert!(ALIKE.is_sorted());
    }

    fn of(agent: &str, cookie: &str) -> Handshake {
        let headers = [("user-agent", agent), ("sec-websocket-key", "a nonce"), ("cookie", cookie)];
        Handshake::new("/", headers.into_iter().map(|(name, value)| (name, value.as_bytes())), ARRIVAL)
    }

    #[test]
    fn similar_clients_share_their_common_headers() {
        let (first, second, other) = (of("fox", "x=1"), of("fox", "x=2"), of("lynx", "x=1"));
        assert!(Arc::ptr_eq(&first.alike, &second.alike) && !Arc::ptr_eq(&first.alike, &other.alike));
        assert_eq!(second.headers().collect::<Vec<_>>(), [("cookie", "x=2"), ("user-agent", "fox")]);
        assert_eq!(other.header("user-agent"), Some("lynx"));
        let mut headers = [("accept", &b"*/*"[..]), ("user-agent", b"fox"), ("origin", b"http://a")];
        let there = packed("/", &headers);
        headers.reverse();
        let back = packed("/", &headers);
        assert!(Arc::ptr_eq(&there.alike, &back.alike), "{} {}", there.alike, back.alike);
    }

    #[test]
    fn unused_shared_texts_are_removed() {
        let kept = of("kept", "");
        for agent in 0..10 * SHARED_MIN {
            of(&agent.to_string(), "");
        }
        let shared = || SHARED.with_borrow(|shared| shared.texts.len());
        assert!(shared() <= 2 * SHARED_MIN, "{}", shared());
        for _ in 0..4 * SHARED_MIN {
            of("kept", "");
        }
        assert_eq!(shared(), 1, "all new handshakes are alike");
        assert!(Arc::ptr_eq(&kept.alike, &of("kept", "").alike));
    }
}
