//! What a client said when it connected, kept small: one buffer, no map.

use std::net::SocketAddr;

/// The request that opened a session: its query, its headers, its address.
///
/// Kept in one packed buffer of at most `handshake_bytes_max`; headers past that bound are not kept.
#[derive(Debug)]
pub struct Handshake {
    /// First line the query, then `name:value` lines. A header value cannot hold a line feed.
    packed: Box<str>,
    address: Option<SocketAddr>,
}

impl Handshake {
    /// Packs what a transport read.
    pub(crate) fn new<'a>(
        query: &str,
        headers: impl Iterator<Item = (&'a str, &'a str)>,
        address: Option<SocketAddr>,
        bytes_max: usize,
    ) -> Self {
        let mut packed = String::with_capacity(bytes_max);
        let end = query.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end < bytes_max).last();
        packed.push_str(&query[..end.unwrap_or(0)]);
        packed.push('\n');
        for (name, value) in headers {
            if packed.len() + name.len() + value.len() + 2 <= bytes_max {
                packed.extend([name, ":", value, "\n"]);
            }
        }
        // A copy of just that size: shrinking in place would keep the larger block.
        Self { packed: Box::from(packed.as_str()), address }
    }

    /// The raw query string of the first request.
    pub fn query(&self) -> &str {
        self.packed.lines().next().unwrap_or("")
    }

    /// The headers kept, names in lower case.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.packed.lines().skip(1).filter_map(|line| line.split_once(':'))
    }

    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().find(|(kept, _)| kept.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The address of the connection's other end.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_and_headers_are_found_again() {
        let headers = [("host", "a:1"), ("cookie", "x=1; y=2")];
        let handshake = Handshake::new("EIO=4&t=1", headers.into_iter(), None, 1024);
        assert_eq!(handshake.query(), "EIO=4&t=1");
        assert_eq!(handshake.header("Host"), Some("a:1"));
        assert_eq!(handshake.header("cookie"), Some("x=1; y=2"));
        assert_eq!(handshake.header("accept"), None);
    }

    #[test]
    fn what_is_over_the_bound_is_not_kept() {
        let handshake = Handshake::new(&"ü".repeat(900), [("a", "b")].into_iter(), None, 1024);
        assert!(handshake.packed.len() <= 1024, "{}", handshake.packed.len());
        let handshake = Handshake::new("", [("big", "x".repeat(2000).as_str()), ("a", "b")].into_iter(), None, 1024);
        assert_eq!(handshake.headers().collect::<Vec<_>>(), [("a", "b")]);
    }
}
