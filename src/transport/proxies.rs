//! Resolves the client address behind trusted proxies.
//!
//! A header is read from right to left, since each proxy appends its entry on the right. Only
//! entries that trusted proxies have written are used. A client can forge all entries further left.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use actix_web::http::header::{self, HeaderMap, HeaderName};

use super::networks::Networks;

/// The trusted proxies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Proxies {
    networks: Networks,
    /// True if peers of unix sockets, which have no address, are trusted.
    unix: bool,
}

/// Name of the peers of unix sockets in a list of proxies.
const UNIX: &str = "unix";

/// Client of a request, as seen through trusted proxies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Client {
    /// Unknown for a peer of a unix socket, unless the peer is trusted and names its client.
    pub(crate) address: Option<IpAddr>,
    /// True if a trusted proxy reports that the client's connection is encrypted.
    pub(crate) secure: bool,
}

impl Proxies {
    /// Parses networks such as `10.0.0.0/8`, and `unix`. Returns the first invalid text as error.
    pub(crate) fn parse<T: AsRef<str>>(proxies: impl IntoIterator<Item = T>) -> Result<Self, String> {
        let proxies: Vec<T> = proxies.into_iter().collect();
        let unix = proxies.iter().any(|text| text.as_ref() == UNIX);
        let networks = Networks::parse(proxies.into_iter().filter(|text| text.as_ref() != UNIX))?;
        Ok(Self { networks, unix })
    }

    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        self.networks.contain(address)
    }

    /// Returns whether the peer of a connection is trusted. Peers of unix sockets have no address.
    pub(crate) fn trusts_peer(&self, peer: Option<SocketAddr>) -> bool {
        peer.map_or(self.unix, |peer| self.trusts(peer.ip().to_canonical()))
    }

    /// Resolves the client of a request on a connection from `peer`. Peers of unix sockets have no
    /// address.
    ///
    /// A proxy usually writes either `X-Forwarded-For` or `Forwarded`, and forwards the other
    /// header as the client sent it. If both headers are present and contain different clients,
    /// neither is used.
    pub(crate) fn client(&self, peer: Option<SocketAddr>, headers: &HeaderMap) -> Client {
        let is_trusted = self.trusts_peer(peer);
        let peer = peer.map(|peer| peer.ip().to_canonical());
        let unknown = Client { address: peer, secure: false };
        if !is_trusted {
            return unknown;
        }
        match (self.by_forwarded_for(peer, headers), self.by_forwarded(peer, headers)) {
            (Some(one), Some(other)) if one.address == other.address => {
                Client { address: one.address, secure: one.secure && other.secure }
            }
            (Some(_), Some(_)) => unknown,
            (Some(client), None) | (None, Some(client)) => client,
            (None, None) => Client { address: peer, secure: forwarded_proto(headers, 1) },
        }
    }

    /// Resolves the client by `X-Forwarded-For` and `X-Forwarded-Proto`.
    fn by_forwarded_for(&self, peer: Option<IpAddr>, headers: &HeaderMap) -> Option<Client> {
        const NAME: HeaderName = header::X_FORWARDED_FOR;
        if !headers.contains_key(NAME) {
            return None;
        }
        let entries = list(headers, NAME);
        let (address, hops) = self.walk(peer, entries.rsplit(',').map(|entry| address_of(entry.trim())));
        Some(Client { address, secure: forwarded_proto(headers, hops) })
    }

    /// Resolves the client by `Forwarded` (RFC 7239). If the header is malformed, its entries are
    /// ignored, and the peer counts as the client.
    fn by_forwarded(&self, peer: Option<IpAddr>, headers: &HeaderMap) -> Option<Client> {
        if !headers.contains_key(header::FORWARDED) {
            return None;
        }
        let entries = list(headers, header::FORWARDED);
        let hops = forwarded(&entries).unwrap_or_default();
        let (address, count) = self.walk(peer, hops.iter().rev().map(|hop| address_of(&hop.client)));
        let secure = count.checked_sub(1).and_then(|at| hops.iter().rev().nth(at)).is_some_and(|hop| hop.secure);
        Some(Client { address, secure })
    }

    /// Walks from the nearest proxy towards the client while the proxies are trusted. Returns the
    /// first untrusted address or, if there is none, the last known address. Also returns the
    /// number of entries used.
    fn walk(&self, peer: Option<IpAddr>, entries: impl Iterator<Item = Option<IpAddr>>) -> (Option<IpAddr>, usize) {
        let (mut address, mut hops) = (peer, 0);
        for next in entries {
            // The entry is `unknown` or an obfuscated identifier, so the addresses further left
            // cannot be trusted.
            let Some(next) = next else { break };
            address = Some(next);
            hops += 1;
            if !self.trusts(next) {
                break;
            }
        }
        (address, hops)
    }
}

/// Returns whether entry `hops` of `X-Forwarded-Proto`, counted from the right, is `https`. If
/// there are fewer entries, the leftmost entry is used.
fn forwarded_proto(headers: &HeaderMap, hops: usize) -> bool {
    let entries = list(headers, header::X_FORWARDED_PROTO);
    entries.rsplit(',').take(hops.max(1)).last().is_some_and(|proto| proto.trim().eq_ignore_ascii_case("https"))
}

/// All values of a header as one list. A value that is not text counts as an empty entry.
fn list(headers: &HeaderMap, name: HeaderName) -> String {
    headers.get_all(name).map(|value| value.to_str().unwrap_or("")).collect::<Vec<_>>().join(",")
}

/// Parses an address as proxies write it: with or without a port, an IPv6 address with or without
/// brackets.
fn address_of(text: &str) -> Option<IpAddr> {
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let address = match bracketed {
        Some((address, _port)) => address.parse::<Ipv6Addr>().ok()?.into(),
        None => {
            text.parse().ok().or_else(|| text.rsplit_once(':')?.0.parse::<std::net::Ipv4Addr>().ok().map(IpAddr::V4))?
        }
    };
    Some(address.to_canonical())
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Hop {
    client: String,
    secure: bool,
}

/// Parses a complete `Forwarded` header. An unterminated quote makes the entries ambiguous, so the
/// whole header is ignored.
fn forwarded(text: &str) -> Option<Vec<Hop>> {
    let mut hops = vec![Hop::default()];
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        if name.is_empty() || !name.bytes().all(is_token) {
            return None;
        }
        let (value, after) = value(after)?;
        let hop = hops.last_mut()?;
        match name {
            name if name.eq_ignore_ascii_case("for") => hop.client = value,
            name if name.eq_ignore_ascii_case("proto") => hop.secure = value.eq_ignore_ascii_case("https"),
            _ => {}
        }
        let after = after.trim_start();
        rest = match after.bytes().next() {
            None => after,
            Some(b';') => after[1..].trim_start(),
            Some(b',') => {
                hops.push(Hop::default());
                after[1..].trim_start()
            }
            Some(_) => return None,
        };
    }
    Some(hops)
}

/// Parses a token or a quoted string. Returns the value and the remaining text.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.bytes().position(|byte| !is_token(byte)).unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut chars = quoted.chars();
    loop {
        match chars.next()? {
            '"' => return Some((value, chars.as_str())),
            '\\' => value.push(chars.next()?),
            other => value.push(other),
        }
    }
}

/// Returns whether the byte may be in a token. Also accepts the characters that proxies are known
/// to leave unquoted (`for=1.2.3.4:5678`).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:[]".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;

    fn headers(given: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    /// Resolves the client behind the proxy `10.0.0.1`. `10.0.0.0/8` and `fd00::/8` are trusted.
    fn seen(given: &[(&'static str, &'static str)]) -> (String, bool) {
        let proxies = Proxies::parse(["10.0.0.0/8", "fd00::/8"]).unwrap();
        let client = proxies.client(peer("10.0.0.1"), &headers(given));
        (client.address.unwrap().to_string(), client.secure)
    }

    fn peer(address: &str) -> Option<SocketAddr> {
        Some(SocketAddr::new(address.parse().unwrap(), 1))
    }

    #[test]
    fn networks_are_parsed_and_contain_their_addresses() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("10.1.2.3/8", "10.0.0.1", "9.0.0.1"),
            ("127.0.0.1", "127.0.0.1", "127.0.0.2"),
            ("127.0.0.1", "::ffff:127.0.0.1", "::1"),
            ("fd00::/8", "fdff::1", "fe00::"),
            ("::1", "::1", "::2"),
            ("0.0.0.0/0", "8.8.8.8", "2001:db8::1"),
            ("::ffff:10.0.0.0/104", "10.1.1.1", "11.1.1.1"),
        ] {
            let proxies = Proxies::parse([network]).unwrap();
            assert!(proxies.trusts(inside.parse().unwrap()), "{network} {inside}");
            assert!(!proxies.trusts(outside.parse().unwrap()), "{network} {outside}");
        }
        assert!(Proxies::parse(["::/0"]).unwrap().trusts("1.2.3.4".parse().unwrap()));
        for wrong in ["", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/-1", "10/8", "proxy", "1.2.3.4:80"] {
            assert_eq!(Proxies::parse([wrong]), Err(wrong.to_owned()));
        }
    }

    #[test]
    fn headers_of_untrusted_peers_are_ignored() {
        let proxies = Proxies::parse(["10.0.0.0/8"]).unwrap();
        let lies = headers(&[
            ("x-forwarded-for", "1.1.1.1"),
            ("forwarded", "for=1.1.1.1;proto=https"),
            ("x-forwarded-proto", "https"),
        ]);
        for proxies in [proxies, Proxies::default()] {
            let client = proxies.client(peer("203.0.113.9"), &lies);
            assert_eq!(client, Client { address: "203.0.113.9".parse().ok(), secure: false });
            assert_eq!(proxies.client(None, &lies), Client { address: None, secure: false }, "a unix socket");
        }
    }

    #[test]
    fn peers_of_unix_sockets_are_trusted_by_name() {
        let proxies = Proxies::parse(["unix", "10.0.0.0/8"]).unwrap();
        let given = headers(&[("x-forwarded-for", "203.0.113.9, 10.0.0.7"), ("x-forwarded-proto", "https")]);
        assert_eq!(proxies.client(None, &given), Client { address: "203.0.113.9".parse().ok(), secure: true });
        assert_eq!(proxies.client(None, &headers(&[])), Client { address: None, secure: false });
        assert!(proxies.trusts_peer(None) && !proxies.trusts_peer(peer("127.0.0.1")));
        assert!(!Proxies::parse(["0.0.0.0/0", "::/0"]).unwrap().trusts_peer(None), "a network has no unix socket");
    }

    #[test]
    fn forwarded_for_is_walked_from_the_right_through_trusted_hops() {
        for (entries, address) in [
            ("203.0.113.9", "203.0.113.9"),
            ("1.1.1.1, 203.0.113.9", "203.0.113.9"),
            ("1.1.1.1, 203.0.113.9, 10.0.0.7,10.0.0.8", "203.0.113.9"),
            ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
            ("203.0.113.9:4711", "203.0.113.9"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]:4711, fd00::2", "2001:db8::1"),
            ("::ffff:203.0.113.9", "203.0.113.9"),
            ("1.1.1.1, ::ffff:10.0.0.9", "1.1.1.1"),
            // An entry without an address ends the walk at the proxy that wrote the entry.
            ("1.1.1.1, unknown", "10.0.0.1"),
            ("1.1.1.1, , 10.0.0.2", "10.0.0.2"),
            ("", "10.0.0.1"),
        ] {
            let mut given = HeaderMap::new();
            given.append(header::X_FORWARDED_FOR, HeaderValue::from_str(entries).unwrap());
            let proxies = Proxies::parse(["10.0.0.0/8", "fd00::/8"]).unwrap();
            let client = proxies.client(peer("::ffff:10.0.0.1"), &given);
            assert_eq!(client.address.unwrap().to_string(), address, "{entries}");
        }
        let lines =
            [("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "203.0.113.9"), ("x-forwarded-for", "10.0.0.2")];
        assert_eq!(seen(&lines).0, "203.0.113.9");
    }

    #[test]
    fn the_scheme_is_that_of_the_last_hop_of_the_walk() {
        let two = ("x-forwarded-for", "203.0.113.9, 10.0.0.2");
        for (given, secure) in [
            (&[("x-forwarded-for", "203.0.113.9"), ("x-forwarded-proto", "https")][..], true),
            (&[("x-forwarded-for", "203.0.113.9"), ("x-forwarded-proto", "http")], false),
            (&[("x-forwarded-for", "203.0.113.9"), ("x-forwarded-proto", "https, http")], false),
            (&[two, ("x-forwarded-proto", "https, http")], true),
            (&[two, ("x-forwarded-proto", "https,http,http")], false),
            (&[two, ("x-forwarded-proto", "HTTPS")], true),
            (&[("x-forwarded-proto", "https")], true),
            (&[], false),
        ] {
            assert_eq!(seen(given).1, secure, "{given:?}");
        }
    }

    #[test]
    fn forwarded_is_parsed_as_in_rfc_7239() {
        for (entries, address, secure) in [
            ("for=203.0.113.9;proto=https;by=10.0.0.1", "203.0.113.9", true),
            (r#"For="[2001:db8:cafe::17]:4711""#, "2001:db8:cafe::17", false),
            ("for=1.1.1.1;proto=https, for=203.0.113.9;proto=http", "203.0.113.9", false),
            ("for=203.0.113.9;proto=https , for=10.0.0.2;proto=http", "203.0.113.9", true),
            (r#"for="203.0.113.9:80";host="a,b;c\"d";proto=https"#, "203.0.113.9", true),
            ("for=203.0.113.9:80", "203.0.113.9", false),
            ("for=1.1.1.1, for=unknown", "10.0.0.1", false),
            ("for=1.1.1.1, for=_hidden", "10.0.0.1", false),
            ("proto=https", "10.0.0.1", false),
            // Text that a client may put in front of the proxy's entry.
            (r#"for=1.1.1.1;x=", for=203.0.113.9"#, "10.0.0.1", false),
            (r#"for=1.1.1.1;x=", for="[2001:db8::1]""#, "10.0.0.1", false),
            (r#"for="1.1.1.1\", for=203.0.113.9"#, "10.0.0.1", false),
            ("for, for=203.0.113.9", "10.0.0.1", false),
            ("=, for=203.0.113.9", "10.0.0.1", false),
            ("for=1.1.1.1 for=203.0.113.9", "10.0.0.1", false),
        ] {
            assert_eq!(seen(&[("forwarded", entries)]), (address.to_owned(), secure), "{entries}");
        }
    }

    #[test]
    fn headers_that_contradict_each_other_are_ignored() {
        let same = [("x-forwarded-for", "203.0.113.9"), ("forwarded", "for=203.0.113.9")];
        assert_eq!(seen(&same).0, "203.0.113.9");
        let forged = [
            ("x-forwarded-for", "203.0.113.9"),
            ("forwarded", "for=1.1.1.1;proto=https"),
            ("x-forwarded-proto", "https"),
        ];
        assert_eq!(seen(&forged), ("10.0.0.1".into(), false));
    }
}
