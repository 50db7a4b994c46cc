//! The cookie that a handshake may set, for load balancers that keep a client on one server by it.

use std::fmt::Write;
use std::time::Duration;

use actix_web::http::header::HeaderValue;
use thiserror::Error;

use crate::ids::SessionId;

/// A cookie that holds the session's id, set by the answer to a handshake: of polling, and of a websocket.
///
/// The server itself never reads it. Its defaults are engine.io's: `io`, path `/`, `HttpOnly`, `SameSite=Lax`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cookie {
    name: String,
    path: String,
    http_only: bool,
    secure: bool,
    same_site: SameSite,
    max_age: Option<Duration>,
}

/// With which requests of other sites' pages a browser sends a cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameSite {
    /// With none of them.
    Strict,
    /// When its user follows a link, and no others.
    Lax,
    /// With all. Browsers want [`Cookie::secure`] too.
    None,
}

/// Why a [`Cookie`] cannot be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CookieError {
    /// Use letters, digits, `-` and `_`.
    #[error("{0:?} is not the name of a cookie")]
    Name(String),
    /// Begin it with a slash; it cannot hold a semicolon.
    #[error("path {0:?}: expected a path such as \"/\"")]
    Path(String),
    /// Call [`Cookie::secure`] as well: browsers refuse the cookie otherwise.
    #[error("SameSite=None needs a secure cookie")]
    Insecure,
}

impl Default for Cookie {
    fn default() -> Self {
        Self {
            name: "io".into(),
            path: "/".into(),
            http_only: true,
            secure: false,
            same_site: SameSite::Lax,
            max_age: None,
        }
    }
}

impl Cookie {
    /// Its name; `io` by default.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.name = name.into();
        self
    }

    /// With which paths browsers send it; `/` by default, which is all.
    #[must_use]
    pub fn path(mut self, path: &str) -> Self {
        self.path = path.into();
        self
    }

    /// Whether it is hidden from the page's scripts; true by default.
    #[must_use]
    pub fn http_only(mut self, http_only: bool) -> Self {
        self.http_only = http_only;
        self
    }

    /// Browsers send it over encrypted connections alone; off by default.
    #[must_use]
    pub fn secure(mut self) -> Self {
        self.secure = true;
        self
    }

    /// With which requests of other sites' pages browsers send it; `Lax` by default.
    #[must_use]
    pub fn same_site(mut self, same_site: SameSite) -> Self {
        self.same_site = same_site;
        self
    }

    /// How long browsers keep it; by default until they are closed.
    #[must_use]
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// Refuses what no browser would take.
    pub(crate) fn check(&self) -> Result<(), CookieError> {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if self.name.is_empty() || !self.name.bytes().all(is_token) {
            return Err(CookieError::Name(self.name.clone()));
        }
        let is_path = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b';';
        if !self.path.starts_with('/') || !self.path.bytes().all(is_path) {
            return Err(CookieError::Path(self.path.clone()));
        }
        if self.same_site == SameSite::None && !self.secure {
            return Err(CookieError::Insecure);
        }
        Ok(())
    }

    /// What sets it, for a session. `None` only if it was never checked.
    pub(super) fn header(&self, id: &SessionId) -> Option<HeaderValue> {
        let mut cookie = format!("{}={id}", self.name);
        if let Some(age) = self.max_age {
            let _ = write!(cookie, "; Max-Age={}", age.as_secs());
        }
        cookie.extend(["; Path=", &self.path]);
        if self.http_only {
            cookie.push_str("; HttpOnly");
        }
        if self.secure {
            cookie.push_str("; Secure");
        }
        cookie.push_str(match self.same_site {
            SameSite::Strict => "; SameSite=Strict",
            SameSite::Lax => "; SameSite=Lax",
            SameSite::None => "; SameSite=None",
        });
        HeaderValue::try_from(cookie).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_written_as_engine_io_writes_them() {
        let id = SessionId::from_random([0; 15]);
        let all = Cookie::default()
            .name("sid")
            .path("/hub")
            .secure()
            .http_only(false)
            .same_site(SameSite::None)
            .max_age(Duration::from_secs(60));
        for (cookie, expected) in [
            (Cookie::default(), "io=AAAAAAAAAAAAAAAAAAAA; Path=/; HttpOnly; SameSite=Lax"),
            (all, "sid=AAAAAAAAAAAAAAAAAAAA; Max-Age=60; Path=/hub; Secure; SameSite=None"),
        ] {
            assert_eq!(cookie.check(), Ok(()));
            assert_eq!(cookie.header(&id).unwrap(), expected);
        }
    }

    #[test]
    fn what_browsers_refuse_is_refused() {
        for name in ["", "a b", "a=b", "a;b", "ä", "a\r\n"] {
            assert_eq!(Cookie::default().name(name).check(), Err(CookieError::Name(name.into())));
        }
        for path in ["", "hub", "/a;b", "/a\r\n"] {
            assert_eq!(Cookie::default().path(path).check(), Err(CookieError::Path(path.into())));
        }
        assert_eq!(Cookie::default().same_site(SameSite::None).check(), Err(CookieError::Insecure));
    }
}
