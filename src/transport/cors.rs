//! Cross-origin resource sharing: which web pages of other origins may use the server, told to their browsers.
//!
//! It guards polling. Browsers do not apply it to websockets, so neither does this, unless
//! [`Cors::guard_websockets`] asks for it; it never guards against what is no browser.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use actix_http::RequestHead;
use actix_web::HttpResponse;
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use thiserror::Error;

use super::hosts::split_port;

/// Which web pages of other origins may use the server.
///
/// Without it (the default), no header speaks of origins at all: pages of the server's own origin are served, browsers
/// keep others away.
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
    /// Empty: those that the browser asks for.
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

/// Why a [`Cors`] cannot be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CorsError {
    /// Write the origin as browsers do: scheme, host, and the port if it is not the scheme's own; or use
    /// [`Cors::any_origin`].
    #[error("origin {0:?}: expected scheme, host and port as browsers write them, such as \"https://example.org\"")]
    Origin(String),
    /// Name the origins, or give a predicate: browsers take no credentials where any origin is allowed.
    #[error("credentials cannot be allowed to any origin; name the origins, or choose them by a predicate")]
    AnyWithCredentials,
    /// A method's or a header's name has other characters than names have.
    #[error("{0:?} is not the name of a method or a header")]
    Name(String),
}

impl Cors {
    /// Pages of exactly these origins: `https://example.org`, `http://localhost:5173`, `capacitor://localhost`; `file://` for
    /// websockets of local files. Upper case, a slash at the end and the default port of `http` or `https` make no difference.
    pub fn origins(origins: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::new(Origins::Named(origins.into_iter().map(|origin| normal(&origin.into())).collect()))
    }

    /// Pages of any origin, which are answered `*`. Cannot be combined with [`Cors::credentials`].
    pub fn any_origin() -> Self {
        Self::new(Origins::Any)
    }

    /// Pages whose origin the predicate takes. It is asked at every request, and sees what the browser sent: also
    /// `null`, which sandboxed pages and local files say.
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

    /// Pages may send cookies and other credentials (`withCredentials` in the client). Off by default.
    #[must_use]
    pub fn credentials(mut self) -> Self {
        self.credentials = true;
        self
    }

    /// Methods that pages may use; GET and POST by default, which is all that clients need.
    #[must_use]
    pub fn methods(mut self, methods: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.methods = methods.into_iter().map(Into::into).collect();
        self
    }

    /// Headers that pages may send (`extraHeaders` in the client); by default all that their browser asks for.
    #[must_use]
    pub fn allowed_headers(mut self, headers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.headers = headers.into_iter().map(Into::into).collect();
        self
    }

    /// How long browsers may remember the answer to a preflight; by default as long as they like, mostly 5 s.
    #[must_use]
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// Refuses websockets too if they name an origin that is not allowed. Off by default, as in engine.io. The page's
    /// own origin must then be among the allowed ones, since browsers name it at every websocket. Clients that are no
    /// browsers name none, and pass.
    #[must_use]
    pub fn guard_websockets(mut self) -> Self {
        self.guards_websockets = true;
        self
    }

    /// Refuses what no browser would understand.
    pub(crate) fn check(&self) -> Result<(), CorsError> {
        match &self.origins {
            Origins::Any if self.credentials => return Err(CorsError::AnyWithCredentials),
            Origins::Named(origins) => {
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

    /// Whether a websocket with these headers may be.
    pub(super) fn admits_websocket(&self, request: &HeaderMap) -> bool {
        !self.guards_websockets || !request.contains_key(header::ORIGIN) || self.allowed(request).is_some()
    }

    /// Whether a page of the origin that these headers name may use the server.
    pub(super) fn admits_origin(&self, request: &HeaderMap) -> bool {
        self.allowed(request).is_some()
    }

    /// The header by which a browser knows its page's origin; nothing if it is not allowed.
    fn allowed(&self, request: &HeaderMap) -> Option<HeaderValue> {
        if matches!(self.origins, Origins::Any) {
            return Some(HeaderValue::from_static("*"));
        }
        let origin = request.get(header::ORIGIN)?;
        let text = origin.to_str().ok()?;
        let allowed = match &self.origins {
            Origins::Any => true,
            Origins::Named(origins) => origins.iter().any(|known| known == text),
            Origins::Matching(predicate) => predicate(text),
        };
        allowed.then(|| origin.clone())
    }

    /// Adds to an answer what the browser of this request is to know.
    pub(crate) fn tell(&self, request: &HeaderMap, answer: &mut HeaderMap) {
        self.tell_allowed(self.allowed(request), answer);
    }

    fn tell_allowed(&self, allowed: Option<HeaderValue>, answer: &mut HeaderMap) {
        if !matches!(self.origins, Origins::Any) {
            // Also where none is allowed: a cache must not hand this answer to a page of another origin.
            answer.append(header::VARY, HeaderValue::from_static("Origin"));
        }
        let Some(allowed) = allowed else { return };
        answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if self.credentials {
            answer.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }

    /// The answer to a browser that asks before its page's request. `None` if this is no such question, or if the
    /// origin is not allowed: then it is a request like any other.
    pub(super) fn preflight(&self, request: &RequestHead) -> Option<HttpResponse> {
        if request.method != Method::OPTIONS {
            return None;
        }
        let allowed = self.allowed(&request.headers)?;
        let mut response = HttpResponse::NoContent().finish();
        let answer = response.headers_mut();
        self.tell_allowed(Some(allowed), answer);
        let mut insert = |name, value: String| {
            // Checked when the server was built.
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
        } else if let Some(asked) = request.headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
            answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
            answer.append(header::VARY, HeaderValue::from_static("Access-Control-Request-Headers"));
        }
        Some(response)
    }
}

/// The origin of websockets of local files (Electron, Cordova), which has no host.
const LOCAL_FILES: &str = "file://";

/// The origin as browsers write it.
fn normal(origin: &str) -> String {
    let origin = origin.to_ascii_lowercase();
    let origin = origin.strip_suffix('/').filter(|_| origin != LOCAL_FILES).unwrap_or(&origin);
    let default = match origin.split_once("://") {
        Some(("http", _)) => ":80",
        Some(("https", _)) => ":443",
        _ => return origin.to_owned(),
    };
    origin.strip_suffix(default).unwrap_or(origin).to_owned()
}

/// Whether a browser could write this origin: a scheme, `://`, and a host, with neither path nor upper case; or that of local
/// files. `null` is what sandboxed pages of any site say.
fn is_origin(text: &str) -> bool {
    if text == LOCAL_FILES {
        return true;
    }
    let Some((scheme, authority)) = text.split_once("://") else { return false };
    let (host, port) = split_port(authority);
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return false;
    }
    let is_scheme = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte);
    let is_host = |byte: u8| byte.is_ascii_graphic() && !byte.is_ascii_uppercase() && !b"/?#@*,".contains(&byte);
    !scheme.is_empty() && scheme.bytes().all(is_scheme) && !host.is_empty() && host.bytes().all(is_host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_checked_as_browsers_write_them() {
        for origin in
            ["https://a.org", "http://localhost:5173", "http://[::1]:3000", "capacitor://localhost", "file://"]
        {
            assert_eq!(Cors::origins([origin]).check(), Ok(()), "{origin}");
        }
        for origin in ["", "*", "null", "a.org", "https://", "https://a.org/b", "https://*.a.org", "https://a.org:x"] {
            let is_refused = matches!(Cors::origins([origin]).check(), Err(CorsError::Origin(_)));
            assert!(is_refused, "{origin}");
        }
    }

    #[test]
    fn origins_are_named_in_more_than_one_spelling() {
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
    fn any_origin_and_credentials_exclude_each_other() {
        assert_eq!(Cors::any_origin().check(), Ok(()));
        assert_eq!(Cors::any_origin().credentials().check(), Err(CorsError::AnyWithCredentials));
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
