//! Check of the Host header against the names under which the server may be reached.
//!
//! The check prevents DNS rebinding, where the name of another site resolves to this machine. The
//! browser then treats the server as that site's own origin, and only the Host header reveals the
//! other name.

use std::net::IpAddr;

use actix_web::http::header::{self, HeaderMap};

/// Hosts that are accepted in the Host header. Any host by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Hosts {
    #[default]
    Any,
    /// These hosts, in lower case and without ports, and the names of the loopback interface.
    Named(Vec<String>),
}

impl Hosts {
    /// Only the names of the loopback interface: `localhost` and its subdomains, `127.0.0.0/8`,
    /// `[::1]`.
    pub(crate) const LOOPBACK: Self = Self::Named(Vec::new());

    /// Parses host names or addresses without ports. `*` allows any host. Returns the first invalid
    /// text as error.
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
            named.push(normalize(unbracketed(name)));
        }
        Ok(Self::Named(named))
    }

    /// Checks the Host header. If a host is not allowed, returns this host as error. A request
    /// without a Host header is admitted, since browsers always send the header.
    pub(crate) fn admit(&self, headers: &HeaderMap) -> Result<(), String> {
        let Self::Named(named) = self else { return Ok(()) };
        let mut hosts = headers.get_all(header::HOST).map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
        hosts.find(|host| !is_among(named, host)).map_or(Ok(()), Err)
    }
}

fn is_among(named: &[String], host: &str) -> bool {
    let (name, _) = split_port(host);
    let name = normalize(name);
    if let Ok(address) = name.parse::<IpAddr>() {
        return address.is_loopback() || named.contains(&name);
    }
    name == "localhost" || name.ends_with(".localhost") || named.contains(&name)
}

fn normalize(name: &str) -> String {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.parse::<IpAddr>().map_or_else(|_| name.to_ascii_lowercase(), |address| address.to_canonical().to_string())
}

fn unbracketed(text: &str) -> &str {
    text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text)
}

/// Splits `name:port` into the name, or the address without brackets, and the port.
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
    fn only_loopback_names_are_admitted_with_any_port() {
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
    fn named_hosts_and_the_loopback_are_admitted() {
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
    fn all_hosts_are_checked_and_requests_without_one_admitted() {
        let mut headers = HeaderMap::new();
        assert_eq!(Hosts::LOOPBACK.admit(&headers), Ok(()));
        headers.append(header::HOST, HeaderValue::from_static("localhost"));
        headers.append(header::HOST, HeaderValue::from_static("evil.example"));
        assert_eq!(Hosts::LOOPBACK.admit(&headers), Err("evil.example".into()));
    }
}
