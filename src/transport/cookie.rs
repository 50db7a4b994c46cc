//! The cookie that the response to a handshake sets. Load balancers can route a client by this
//! cookie.

use std::fmt::Write;
use std::time::Duration;

use actix_web::http::header::HeaderValue;
use thiserror::Error;

use crate::ids::SessionId;

/// A cookie that contains the session id. The response to a handshake sets the cookie, over polling
/// and over a websocket.
///
/// The server itself never reads the cookie. The defaults are engine.io's: `io`, path `/`,
/// `HttpOnly`, `SameSite=Lax`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cookie {
    name: String,
    path: String,
    http_only: bool,
    secure: bool,
    same_site: SameSite,
    max_age: Option<Duration>,
}

/// SameSite attribute of a cookie. Determines the cross-site requests with which browsers send the
/// cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameSite {
    /// Browsers never send the cookie with cross-site requests.
    Strict,
    /// Browsers send the cookie when the user follows a link from another site.
    Lax,
    /// Browsers send the cookie with all requests. Browsers require [`Cookie::secure`] as well.
    None,
}

/// Reason why a [`Cookie`] is invalid.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CookieError {
    /// The name is empty or contains an invalid character. Use letters, digits, `-` and `_`.
    #[error("{0:?} is not the name of a cookie")]
    Name(String),
    /// The path must begin with a slash and must not contain a semicolon.
    #[error("path {0:?}: expected a path such as \"/\"")]
    Path(String),
    /// A cookie with [`SameSite::None`] must also be [`Cookie::secure`]. Otherwise browsers ignore
    /// the cookie.
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
    /// Name of the cookie. `io` by default.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.name = name.into();
        self
    }

    /// Path prefix for which browsers send the cookie. `/` by default, which covers all paths.
    #[must_use]
    pub fn path(mut self, path: &str) -> Self {
        self.path = path.into();
        self
    }

    /// Hides the cookie from scripts of the page. On by default.
    #[must_use]
    pub fn http_only(mut self, http_only: bool) -> Self {
        self.http_only = http_only;
        self
    }

    /// Restricts the cookie to encrypted connections. Off by default.
    #[must_use]
    pub fn secure(mut self) -> Self {
        self.secure = true;
        self
    }

    /// SameSite attribute of the cookie. `Lax` by default.
    #[must_use]
    pub fn same_site(mut self, same_site: SameSite) -> Self {
        self.same_site = same_site;
        self
    }

    /// Time for which browsers keep the cookie. By default, browsers keep the cookie until the user
    /// closes the browser.
    #[must_use]
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// Validates the attributes, since browsers ignore an invalid cookie.
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

    /// Value of the Set-Cookie header for a session. `None` only if the cookie was not validated.
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
    fn cookies_that_browsers_ignore_are_rejected() {
        for name in ["", "a b", "a=b", "a;b", "ä", "a\r\n"] {
            assert_eq!(Cookie::default().name(name).check(), Err(CookieError::Name(name.into())));
        }
        for path in ["", "hub", "/a;b", "/a\r\n"] {
            assert_eq!(Cookie::default().path(path).check(), Err(CookieError::Path(path.into())));
        }
        assert_eq!(Cookie::default().same_site(SameSite::None).check(), Err(CookieError::Insecure));
    }
}
