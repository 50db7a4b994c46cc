//! What a client said when it connected, kept small: one buffer, no map.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::SystemTime;

/// The request that opened a session: its query, its headers, whence and when it came.
///
/// Kept in one packed buffer of at most [`Limits::handshake_bytes_max`](crate::Limits::handshake_bytes_max); headers that
/// do not fit are not kept.
#[derive(Debug)]
pub struct Handshake {
    /// First line path and query, then `name:value` lines. A header value cannot hold a line feed.
    packed: Box<str>,
    arrival: Arrival,
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
        let mut packed = String::new();
        packed.push_str(&url[..url.floor_char_boundary(bytes_max.saturating_sub(1))]);
        packed.push('\n');
        for (name, value) in headers {
            if packed.len() + name.len() + value.len() + 2 <= bytes_max {
                packed.extend([name, ":", value, "\n"]);
            }
        }
        // A copy of just that size: shrinking in place would keep the larger block.
        Self { packed: Box::from(packed.as_str()), arrival }
    }

    /// Path and raw query of the first request.
    pub fn url(&self) -> &str {
        self.packed.lines().next().unwrap_or("")
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
        self.packed.lines().skip(1).filter_map(|line| line.split_once(':'))
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
            assert!(handshake.packed.len() <= bytes_max.max(1), "{} of {bytes_max}", handshake.packed.len());
        }
        let handshake = Handshake::new("", [("big", "x".repeat(2000).as_str()), ("a", "b")].into_iter(), ARRIVAL, 1024);
        assert_eq!(handshake.headers().collect::<Vec<_>>(), [("a", "b")]);
    }
}
