//! Origin check of websockets, to which browsers do not apply CORS.

use actix_http::RequestHead;
use actix_web::http::header::{self, HeaderMap, HeaderName};

use super::AccessPolicy;
use super::hosts::split_port;

impl AccessPolicy {
    /// Returns whether a websocket may be opened from the origin in its Origin header. A request
    /// without the header is always admitted. If `Cors::guard_websockets` is on, `cors` must allow
    /// the origin. If `guards_origins` is set, the origin must be the server's own, or `cors` must
    /// allow it.
    pub(super) fn admits_origin(&self, head: &RequestHead) -> bool {
        if self.cors.as_ref().is_some_and(|cors| !cors.admits_websocket(&head.headers)) {
            return false;
        }
        if !self.guards_origins {
            return true;
        }
        let Some(origin) = head.headers.get(header::ORIGIN) else { return true };
        let is_own = origin.to_str().is_ok_and(|origin| self.is_own(origin, head));
        is_own || self.cors.as_ref().is_some_and(|cors| cors.admits_origin(&head.headers))
    }

    /// Returns whether the origin belongs to the host of the request, or to the host in the
    /// `X-Forwarded-Host` header of a trusted proxy.
    fn is_own(&self, origin: &str, head: &RequestHead) -> bool {
        let Some((scheme, authority)) = origin.split_once("://") else { return false };
        let is_of = |host: Option<&str>| host.is_some_and(|host| is_same(scheme, authority, host));
        if is_of(first(&head.headers, header::HOST)) {
            return true;
        }
        let is_proxied = self.proxies.trusts_peer(head.peer_addr);
        is_proxied && is_of(first(&head.headers, header::X_FORWARDED_HOST))
    }
}

fn first(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()?.split(',').next().map(str::trim)
}

/// Returns whether an origin's authority and a Host header name the same host. If the Host header
/// has no port, only the names are compared.
fn is_same(scheme: &str, authority: &str, host: &str) -> bool {
    // Starscream, the websocket library of socket.io-client-swift, sends an origin with the scheme
    // `ws` or `wss`.
    let is_secure = ["https", "wss"].iter().any(|secure| scheme.eq_ignore_ascii_case(secure));
    let default = if is_secure { "443" } else { "80" };
    let ((name, port), (own, own_port)) = (split_port(authority), split_port(host));
    name.eq_ignore_ascii_case(own) && own_port.is_none_or(|own_port| own_port == port.unwrap_or(default))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::cors::Cors;
    use crate::transport::proxies::Proxies;
    use actix_web::http::header::HeaderValue;

    fn admits(policy: &AccessPolicy, peer: &str, headers: &[(&'static str, &'static str)]) -> bool {
        let mut head = RequestHead::default();
        head.peer_addr = Some(peer.parse().unwrap());
        for (name, value) in headers {
            head.headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        policy.admits_origin(&head)
    }

    #[test]
    fn own_allowed_and_missing_origins_are_admitted() {
        let cors = Some(Cors::origins(["https://page.example"]));
        let policy = AccessPolicy { guards_origins: true, cors, ..AccessPolicy::default() };
        for (origin, host, admitted) in [
            ("http://127.0.0.1:3000", "127.0.0.1:3000", true),
            ("http://[::1]:3000", "[::1]:3000", true),
            ("https://hub.example", "Hub.example", true),
            ("https://hub.example", "hub.example:443", true),
            ("http://hub.example", "hub.example:80", true),
            ("https://hub.example:8443", "hub.example", true),
            ("https://page.example", "hub.example", true),
            ("ws://127.0.0.1:3000", "127.0.0.1:3000", true),
            ("ws://hub.example", "hub.example:80", true),
            ("wss://hub.example", "hub.example:443", true),
            ("wss://hub.example", "hub.example:80", false),
            ("http://127.0.0.1:3001", "127.0.0.1:3000", false),
            ("http://hub.example", "hub.example:443", false),
            ("http://evil.example", "127.0.0.1:3000", false),
            ("https://hub.example.evil.example", "hub.example", false),
            ("https://hub.example@evil.example", "hub.example", false),
            ("null", "hub.example", false),
            ("", "hub.example", false),
        ] {
            let is_admitted = admits(&policy, "192.0.2.1:1", &[("origin", origin), ("host", host)]);
            assert_eq!(is_admitted, admitted, "{origin} at {host}");
        }
        assert!(admits(&policy, "192.0.2.1:1", &[("host", "hub.example")]));
        assert!(admits(
            &AccessPolicy::default(),
            "192.0.2.1:1",
            &[("origin", "http://evil.example"), ("host", "hub.example")]
        ));
    }

    #[test]
    fn a_forwarded_host_counts_only_from_a_trusted_proxy() {
        let proxies = Proxies::parse(["10.0.0.0/8"]).unwrap();
        let policy = AccessPolicy { guards_origins: true, proxies, ..AccessPolicy::default() };
        let headers =
            [("origin", "https://hub.example"), ("host", "backend:3000"), ("x-forwarded-host", "hub.example")];
        assert!(admits(&policy, "10.1.1.1:1", &headers));
        assert!(!admits(&policy, "192.0.2.1:1", &headers));
    }
}
