//! Cross-origin resource sharing (CORS): the web pages of other origins that may use the server.
//!
//! CORS restricts polling. Browsers do not apply CORS to websockets. With
//! [`Cors::guard_websockets`], the server itself refuses websockets of other origins. Clients other
//! than browsers are not restricted.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use actix_http::RequestHead;
use actix_web::HttpResponse;
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use thiserror::Error;

use super::hosts::split_port;

/// Web pages of other origins that may use the server.
///
/// Without a `Cors`, the server sends no CORS headers, and browsers allow requests only from pages
/// of the server's own origin.
///
/// ```
/// use stentor::Cors;
///
/// let named = Cors::origins(["https://chat.example.org", "http://localhost:5173"]).credentials();
/// let chosen = Cors::matching(|origin| origin.ends_with(".example.org"));
/// let public = Cors::any_origin();
/// ```
#[derive(Debug, Clone)]
pub struct Cors {
    origins: Origins,
    credentials: bool,
    methods: Vec<String>,
    /// Allowed headers. If empty, all headers that the browser requests are allowed.
    headers: Vec<String>,
    max_age: Option<Duration>,
    guards_websockets: bool,
}

#[derive(Clone)]
enum Origins {
    Any,
    Named(Vec<String>),
    Matching(Arc<dyn Fn(&str) -> bool + Send + Sync>),
}

impl fmt::Debug for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("Any"),
            Self::Named(origins) => origins.fmt(f),
            Self::Matching(_) => f.write_str("Matching"),
        }
    }
}

/// Reason why a [`Cors`] is invalid.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CorsError {
    /// The origin must be written as browsers send it: scheme, host, and the port unless it is the
    /// scheme's default. Use [`Cors::any_origin`] to allow all origins.
    #[error(
        "origin {0:?}: expected scheme, host and port as browsers write them, such as \"https://example.org\", a pattern \
         such as \"https://*.example.org\" or \"http://localhost:*\", or \"null\""
    )]
    Origin(String),
    /// Browsers reject credentials if any origin is allowed, and pages of any site can send the
    /// origin `null`. Name the origins, or use a predicate.
    #[error("credentials require named origins or a predicate, neither any origin nor null")]
    AnyWithCredentials,
    /// The name of a method or header contains an invalid character.
    #[error("{0:?} is not the name of a method or a header")]
    Name(String),
}

impl Cors {
    /// Allows pages of the given origins, such as `https://example.org`, `http://localhost:5173` or
    /// `capacitor://localhost`. The origin `file://` allows websockets of local files. Case, a
    /// trailing slash and the default port of `http` or `https` are ignored.
    ///
    /// An origin may be a pattern. In a host, `*` stands for one or more characters of one label,
    /// so `https://*.example.org` allows `https://a.example.org`, but neither
    /// `https://a.b.example.org` nor `https://example.org`. A label has at most one `*`, and the
    /// last label has none. `:*` stands for any port, also the default one.
    ///
    /// `null` is the origin of sandboxed pages and local files. Every site can open a sandboxed
    /// page, so `null` allows pages of any site. It cannot be combined with [`Cors::credentials`].
    pub fn origins(origins: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::new(Origins::Named(origins.into_iter().map(|origin| normalize(&origin.into())).collect()))
    }

    /// Allows pages of any origin (`*`). Cannot be combined with [`Cors::credentials`].
    pub fn any_origin() -> Self {
        Self::new(Origins::Any)
    }

    /// Allows pages whose origin satisfies the predicate. For every request with an Origin header,
    /// the predicate is called with the value of the header. The value may be `null`, which
    /// sandboxed pages and local files send.
    pub fn matching(predicate: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self::new(Origins::Matching(Arc::new(predicate)))
    }

    fn new(origins: Origins) -> Self {
        Self {
            origins,
            credentials: false,
            methods: vec!["GET".into(), "POST".into()],
            headers: Vec::new(),
            max_age: None,
            guards_websockets: false,
        }
    }

    /// Allows cookies and other credentials (`withCredentials` in the client). Off by default.
    #[must_use]
    pub fn credentials(mut self) -> Self {
        self.credentials = true;
        self
    }

    /// Methods that pages may use. GET and POST by default, which suffice for all clients.
    #[must_use]
    pub fn methods(mut self, methods: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.methods = methods.into_iter().map(Into::into).collect();
        self
    }

    /// Headers that pages may send (`extraHeaders` in the client). By default, all headers that the
    /// browser requests are allowed.
    #[must_use]
    pub fn allowed_headers(mut self, headers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.headers = headers.into_iter().map(Into::into).collect();
        self
    }

    /// Time for which browsers may cache the response to a preflight. If unset, as by default, most
    /// browsers use 5 seconds.
    #[must_use]
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// Refuses websockets with an origin that is not allowed. Off by default, as in engine.io. If
    /// on, the server's own origin must be allowed explicitly, since browsers send an origin with
    /// every websocket. Clients without an Origin header are admitted.
    #[must_use]
    pub fn guard_websockets(mut self) -> Self {
        self.guards_websockets = true;
        self
    }

    pub(crate) fn check(&self) -> Result<(), CorsError> {
        match &self.origins {
            Origins::Any if self.credentials => return Err(CorsError::AnyWithCredentials),
            Origins::Named(origins) => {
                if self.credentials && origins.iter().any(|origin| origin == NO_ORIGIN) {
                    return Err(CorsError::AnyWithCredentials);
                }
                if let Some(wrong) = origins.iter().find(|origin| !is_origin(origin)) {
                    return Err(CorsError::Origin(wrong.clone()));
                }
            }
            Origins::Any | Origins::Matching(_) => {}
        }
        let mut names = self.methods.iter().chain(&self.headers);
        match names.find(|name| HeaderName::from_bytes(name.as_bytes()).is_err()) {
            Some(wrong) => Err(CorsError::Name(wrong.clone())),
            None => Ok(()),
        }
    }

    pub(super) fn admits_websocket(&self, request: &HeaderMap) -> bool {
        !self.guards_websockets || !request.contains_key(header::ORIGIN) || self.allowed(request).is_some()
    }

    pub(super) fn admits_origin(&self, request: &HeaderMap) -> bool {
        self.allowed(request).is_some()
    }

    /// Value of the Access-Control-Allow-Origin header, or `None` if the origin is not allowed.
    fn allowed(&self, request: &HeaderMap) -> Option<HeaderValue> {
        if matches!(self.origins, Origins::Any) {
            return Some(HeaderValue::from_static("*"));
        }
        let origin = request.get(header::ORIGIN)?;
        let text = origin.to_str().ok()?;
        let allowed = match &self.origins {
            Origins::Any => true,
            Origins::Named(origins) => origins.iter().any(|known| matches(known, text)),
            Origins::Matching(predicate) => predicate(text),
        };
        allowed.then(|| origin.clone())
    }

    pub(crate) fn add_headers(&self, request: &HeaderMap, answer: &mut HeaderMap) {
        self.add_headers_for(self.allowed(request), answer);
    }

    fn add_headers_for(&self, allowed: Option<HeaderValue>, answer: &mut HeaderMap) {
        if !matches!(self.origins, Origins::Any) {
            // The header is also needed if the origin is not allowed: a cache must not serve this
            // response to a page of another origin.
            answer.append(header::VARY, HeaderValue::from_static("Origin"));
        }
        let Some(allowed) = allowed else { return };
        answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if self.credentials {
            answer.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }

    /// Response to a preflight request. `None` if the request is not a preflight or its origin is
    /// not allowed. Such a request is handled like any other.
    pub(super) fn preflight(&self, request: &RequestHead) -> Option<HttpResponse> {
        if request.method != Method::OPTIONS {
            return None;
        }
        let allowed = self.allowed(&request.headers)?;
        let mut response = HttpResponse::NoContent().finish();
        let answer = response.headers_mut();
        self.add_headers_for(Some(allowed), answer);
        let mut insert = |name, value: String| {
            // The conversion cannot fail, since the values were validated when the server was
            // built.
            if let Ok(value) = HeaderValue::try_from(value) {
                answer.insert(name, value);
            }
        };
        insert(header::ACCESS_CONTROL_ALLOW_METHODS, self.methods.join(","));
        if let Some(age) = self.max_age {
            insert(header::ACCESS_CONTROL_MAX_AGE, age.as_secs().to_string());
        }
        if !self.headers.is_empty() {
            insert(header::ACCESS_CONTROL_ALLOW_HEADERS, self.headers.join(","));
        } else if let Some(requested) = request.headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
            answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, requested.clone());
            answer.append(header::VARY, HeaderValue::from_static("Access-Control-Request-Headers"));
        }
        Some(response)
    }
}

/// Origin that local files send with websockets (in Electron and Cordova). This origin has no host.
const LOCAL_FILES: &str = "file://";

fn normalize(origin: &str) -> String {
    let origin = origin.to_ascii_lowercase();
    let origin = origin.strip_suffix('/').filter(|_| origin != LOCAL_FILES).unwrap_or(&origin);
    let default = match origin.split_once("://") {
        Some(("http", _)) => ":80",
        Some(("https", _)) => ":443",
        _ => return origin.to_owned(),
    };
    origin.strip_suffix(default).unwrap_or(origin).to_owned()
}

/// Origin that browsers send for sandboxed pages and local files.
const NO_ORIGIN: &str = "null";

/// Returns whether an origin is `known`, or matches the pattern `known`.
fn matches(known: &str, origin: &str) -> bool {
    if known == origin {
        return true;
    }
    let (Some((scheme, pattern)), Some((origin_scheme, authority))) =
        (known.split_once("://"), origin.split_once("://"))
    else {
        return false;
    };
    let ((host_pattern, port_pattern), (host, port)) = (split_port(pattern), split_port(authority));
    scheme == origin_scheme
        && matches_host(host_pattern, host)
        && (port_pattern == port || port_pattern == Some("*") && port.is_none_or(is_port))
}

fn matches_host(pattern: &str, host: &str) -> bool {
    let matches_label = |(pattern, label): (&str, &str)| match pattern.split_once('*') {
        None => pattern == label,
        Some((start, end)) => label.len() > start.len() + end.len() && label.starts_with(start) && label.ends_with(end),
    };
    pattern.split('.').count() == host.split('.').count() && pattern.split('.').zip(host.split('.')).all(matches_label)
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok()
}

/// Returns whether the text is an origin as browsers send it, or a pattern of such origins: a
/// scheme, `://` and a host in lower case, without a path. [`LOCAL_FILES`] and [`NO_ORIGIN`] are
/// origins as well.
fn is_origin(text: &str) -> bool {
    if text == LOCAL_FILES || text == NO_ORIGIN {
        return true;
    }
    let Some((scheme, authority)) = text.split_once("://") else { return false };
    let (host, port) = split_port(authority);
    if port.is_some_and(|port| port != "*" && !is_port(port)) {
        return false;
    }
    let is_scheme = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte);
    let is_host = |byte: u8| byte.is_ascii_graphic() && !byte.is_ascii_uppercase() && !b"/?#@,".contains(&byte);
    let stars = |label: &str| label.bytes().filter(|byte| *byte == b'*').count();
    !scheme.is_empty()
        && scheme.bytes().all(is_scheme)
        && !host.is_empty()
        && host.bytes().all(is_host)
        && host.split('.').all(|label| stars(label) <= 1)
        && host.rsplit('.').next().is_some_and(|last| stars(last) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_origins_as_browsers_write_them_are_valid() {
        for origin in [
            "https://a.org",
            "http://localhost:5173",
            "http://[::1]:3000",
            "capacitor://localhost",
            "file://",
            "null",
            "https://*.a.org",
            "https://app-*.a.org:8443",
            "https://*.*.a.org",
            "http://localhost:*",
            "http://[::1]:*",
        ] {
            assert_eq!(Cors::origins([origin]).check(), Ok(()), "{origin}");
        }
        for origin in [
            "",
            "*",
            "a.org",
            "https://",
            "https://a.org/b",
            "https://a.org:x",
            "https://*",
            "https://*:*",
            "https://a.*",
            "https://**.a.org",
            "https://a*b*.a.org",
            "*://a.org",
            "*.a.org",
        ] {
            let is_refused = matches!(Cors::origins([origin]).check(), Err(CorsError::Origin(_)));
            assert!(is_refused, "{origin}");
        }
    }

    #[test]
    fn origins_may_be_named_in_several_spellings() {
        let admits = |named: &str, origin: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            Cors::origins([named]).admits_origin(&headers)
        };
        for named in ["https://a.org", "https://a.org/", "HTTPS://A.org", "https://a.org:443", "https://a.org:443/"] {
            assert!(admits(named, "https://a.org"), "{named}");
            assert!(!admits(named, "http://a.org") && !admits(named, "https://a.org:8443"), "{named}");
        }
        assert!(admits("http://[::1]:80", "http://[::1]") && admits("http://a.org:443", "http://a.org:443"));
    }

    #[test]
    fn a_star_matches_within_one_label_or_any_port() {
        for (pattern, origin, expected) in [
            ("https://*.a.org", "https://b.a.org", true),
            ("https://*.a.org", "https://c.b.a.org", false),
            ("https://*.a.org", "https://a.org", false),
            ("https://*.a.org", "https://.a.org", false),
            ("https://*.a.org", "http://b.a.org", false),
            ("https://*.a.org", "https://b.a.org:8443", false),
            ("https://*.a.org", "https://b.a.org.evil.example", false),
            ("https://*.a.org", "https://evil.example/.a.org", false),
            ("https://*.*.a.org", "https://c.b.a.org", true),
            ("https://app-*.a.org", "https://app-7.a.org", true),
            ("https://app-*.a.org", "https://app-.a.org", false),
            ("https://*.a.org:*", "https://b.a.org:8443", true),
            ("http://localhost:*", "http://localhost:5173", true),
            ("http://localhost:*", "http://localhost", true),
            ("http://localhost:*", "http://localhost:evil", false),
            ("http://localhost:*", "http://localhost.evil.example:80", false),
            ("http://[::1]:*", "http://[::1]:3000", true),
            ("http://[::1]:*", "http://[::2]:3000", false),
            ("null", "null", true),
            ("https://*.a.org", "null", false),
        ] {
            assert_eq!(matches(pattern, origin), expected, "{pattern} {origin}");
        }
    }

    #[test]
    fn any_origin_and_credentials_exclude_each_other() {
        assert_eq!(Cors::any_origin().check(), Ok(()));
        assert_eq!(Cors::any_origin().credentials().check(), Err(CorsError::AnyWithCredentials));
        assert_eq!(Cors::origins(["null"]).credentials().check(), Err(CorsError::AnyWithCredentials));
    }

    #[test]
    fn names_of_methods_and_headers_are_checked() {
        let cors = Cors::any_origin().methods(["GET"]).allowed_headers(["X-Token", "authorization"]);
        assert_eq!(cors.check(), Ok(()));
        for name in ["", "a b", "a\r\nSet-Cookie: b", "a,b"] {
            assert_eq!(Cors::any_origin().allowed_headers([name]).check(), Err(CorsError::Name(name.into())));
            assert_eq!(Cors::any_origin().methods([name]).check(), Err(CorsError::Name(name.into())));
        }
    }
}
