//! The names under which a server is reached: the check of a request's Host header.
//!
//! It keeps pages of other sites away whose own name was made to point at this machine (DNS rebinding): to their browser the
//! server then is of their own origin, and only the Host tells.

use std::net::IpAddr;

use actix_web::http::header::{self, HeaderMap};

/// The hosts that requests may name. By default any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Hosts {
    #[default]
    Any,
    /// These, in lower case and without ports, and the names of the loopback.
    Named(Vec<String>),
}

impl Hosts {
    /// The names of the loopback alone: `localhost` and names below it, `127.0.0.0/8`, `[::1]`.
    pub(crate) const LOOPBACK: Self = Self::Named(Vec::new());

    /// Reads names or addresses without ports; `*` is any. Gives back the first that is none.
    pub(crate) fn parse<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> Result<Self, String> {
        let mut named = Vec::new();
        for name in names {
            let name = name.as_ref();
            if name == "*" {
                return Ok(Self::Any);
            }
            let is_address = unbracketed(name).parse::<IpAddr>().is_ok();
            let is_name =
                !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
            if !is_address && !is_name {
                return Err(name.to_owned());
            }
            named.push(normal(unbracketed(name)));
        }
        Ok(Self::Named(named))
    }

    /// Whether the request may be served; if not, the host that it names. One without a Host comes from no browser.
    pub(crate) fn admit(&self, headers: &HeaderMap) -> Result<(), String> {
        let Self::Named(named) = self else { return Ok(()) };
        let mut hosts = headers.get_all(header::HOST).map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
        hosts.find(|host| !is_among(named, host)).map_or(Ok(()), Err)
    }
}

fn is_among(named: &[String], host: &str) -> bool {
    let (name, _) = split_port(host);
    let name = normal(name);
    if let Ok(address) = name.parse::<IpAddr>() {
        return address.is_loopback() || named.contains(&name);
    }
    name == "localhost" || name.ends_with(".localhost") || named.contains(&name)
}

/// The one spelling of a name or an address.
fn normal(name: &str) -> String {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.parse::<IpAddr>().map_or_else(|_| name.to_ascii_lowercase(), |address| address.to_canonical().to_string())
}

fn unbracketed(text: &str) -> &str {
    text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text)
}

/// The name, or the address without brackets, and the port of `name:port`.
pub(super) fn split_port(host: &str) -> (&str, Option<&str>) {
    if let Some((address, rest)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (address, rest.strip_prefix(':'));
    }
    match host.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') => (name, Some(port)),
        _ => (host, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;

    fn admits(hosts: &Hosts, host: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
        hosts.admit(&headers).is_ok()
    }

    #[test]
    fn loopback_names_are_admitted_with_any_port_and_others_not() {
        for host in
            ["localhost", "LOCALHOST:3000", "a.localhost", "localhost.:80", "127.0.0.1:1", "127.9.9.9", "[::1]:3000"]
        {
            assert!(admits(&Hosts::LOOPBACK, host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "[::2]",
            "evil:localhost",
        ] {
            assert!(!admits(&Hosts::LOOPBACK, host) && admits(&Hosts::Any, host), "{host}");
        }
    }

    #[test]
    fn named_hosts_are_admitted_beside_the_loopback() {
        let hosts = Hosts::parse(["Hub.example.org", "192.0.2.1", "[2001:db8::1]"]).unwrap();
        for host in ["hub.example.org:8443", "HUB.example.org", "192.0.2.1:80", "[2001:db8::1]:80", "localhost"] {
            assert!(admits(&hosts, host), "{host}");
        }
        let hosts_spelt_otherwise = Hosts::parse(["HUB.example.org.", "::ffff:192.0.2.1", "[2001:DB8:0:0::1]"]);
        assert_eq!(hosts_spelt_otherwise.as_ref(), Ok(&hosts));
        assert!(!admits(&hosts, "example.org") && !admits(&hosts, "x.hub.example.org"));
        assert_eq!(Hosts::parse(["a.example", "*"]), Ok(Hosts::Any));
        for wrong in ["", "a.example:80", "http://a.example", "a b"] {
            assert_eq!(Hosts::parse([wrong]), Err(wrong.to_owned()));
        }
    }

    #[test]
    fn every_host_of_a_request_is_checked_and_none_is_no_browser() {
        let mut headers = HeaderMap::new();
        assert_eq!(Hosts::LOOPBACK.admit(&headers), Ok(()));
        headers.append(header::HOST, HeaderValue::from_static("localhost"));
        headers.append(header::HOST, HeaderValue::from_static("evil.example"));
        assert_eq!(Hosts::LOOPBACK.admit(&headers), Err("evil.example".into()));
    }
}
