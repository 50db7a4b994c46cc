//! The claims of a token: their checks, and the identity that they describe.

use serde::Deserialize;
use serde_json::value::to_raw_value;
use serde_json::{Map, Value};

use super::error::TokenError;
use crate::access::identity::Identity;
use crate::access::permissions::{Permissions, RoomPattern};

/// Claims by their names.
pub(super) type Claims = Map<String, Value>;

/// Claim of a token for one room, which a token for a connection does not have.
const ROOM: &str = "room";

/// Claim of a token for one room: the namespace of the room, `/` without it.
const NAMESPACE: &str = "namespace";

/// Maximum number of bytes of a foreign text in an error.
const SHOWN_BYTES_MAX: usize = 160;

/// Expectations of a token.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    pub(super) issuer: Option<String>,
    /// Audiences of which a token must have one. A token for an audience is refused if there are
    /// none (RFC 7519, section 4.1.3).
    pub(super) audiences: Vec<String>,
    pub(super) user_claim: String,
    pub(super) claims: String,
    /// Seconds by which the clock of the issuer may differ.
    pub(super) leeway: u64,
}

/// The claim of permissions.
#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct HubClaims {
    namespaces: Option<Vec<RoomPattern>>,
    rooms: Vec<String>,
    join: Vec<RoomPattern>,
    publish: Vec<RoomPattern>,
    members: Vec<RoomPattern>,
    info: Option<Value>,
}

/// Permission to join one room, from a token for this room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RoomGrant {
    /// True if the client may also publish to the room.
    pub publish: bool,
    /// Time from which the token is no longer valid, in seconds since 1970.
    pub expires_at: u64,
}

impl Expected {
    /// Checks the claims of a token for a connection at the time `now`, in seconds since 1970.
    pub(super) fn identity(&self, claims: &Claims, now: u64) -> Result<Identity, TokenError> {
        let expires_at = self.check(claims, now)?;
        if claims.contains_key(ROOM) {
            return Err(TokenError::claim(ROOM, "this token is for a join, not for a connection"));
        }
        let mut identity =
            Identity::of_user(self.user(claims)?).map_err(|error| TokenError::identity(&self.user_claim, &error))?;
        let hub = match find(claims, &self.claims) {
            Some(hub) => HubClaims::deserialize(hub)
                .map_err(|error| TokenError::claim(&self.claims, shown(&error.to_string())))?,
            None => HubClaims::default(),
        };
        identity.set_rooms(hub.rooms).map_err(|error| TokenError::identity(&self.claims, &error))?;
        identity.namespaces = hub.namespaces;
        let HubClaims { join, publish, members, .. } = hub;
        identity.permissions = Permissions { join, publish, members };
        let info = hub.info.as_ref().or_else(|| claims.get("info")).filter(|info| !info.is_null());
        identity.info = info.and_then(|info| to_raw_value(info).ok());
        identity.expires_at = Some(expires_at);
        Ok(identity)
    }

    /// Checks the claims of a token for one room of a namespace.
    pub(super) fn room_grant(
        &self,
        claims: &Claims,
        user: Option<&str>,
        namespace: &str,
        room: &str,
        now: u64,
    ) -> Result<RoomGrant, TokenError> {
        let expires_at = self.check(claims, now)?;
        if Some(self.user(claims)?.as_str()) != user {
            return Err(TokenError::OtherUser);
        }
        match claims.get(ROOM) {
            Some(Value::String(of)) if of == room => {}
            Some(Value::String(_)) => return Err(TokenError::claim(ROOM, "this token is for another room")),
            _ => return Err(TokenError::claim(ROOM, "expected the name of the room")),
        }
        match claims.get(NAMESPACE) {
            None | Some(Value::Null) if namespace == "/" => {}
            Some(Value::String(of)) if of == namespace => {}
            None | Some(Value::Null | Value::String(_)) => {
                return Err(TokenError::claim(NAMESPACE, "this token is for another namespace"));
            }
            Some(_) => return Err(TokenError::claim(NAMESPACE, "expected the path of a namespace")),
        }
        let publish = match claims.get("publish") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(publish)) => *publish,
            Some(_) => return Err(TokenError::claim("publish", "expected true or false")),
        };
        Ok(RoomGrant { publish, expires_at })
    }

    /// Checks times, issuer and audience. Returns the time of the expiry.
    fn check(&self, claims: &Claims, now: u64) -> Result<u64, TokenError> {
        let expires_at = time(claims, "exp")?.ok_or_else(|| TokenError::claim("exp", "missing"))?;
        if expires_at.saturating_add(self.leeway) <= now {
            return Err(TokenError::Expired { seconds: now - expires_at });
        }
        if let Some(start) = time(claims, "nbf")?.filter(|start| *start > now.saturating_add(self.leeway)) {
            return Err(TokenError::NotYetValid { seconds: start - now });
        }
        if let Some(issuer) = &self.issuer
            && claims.get("iss").and_then(Value::as_str) != Some(issuer)
        {
            return Err(TokenError::claim("iss", "this is not the expected issuer"));
        }
        self.check_audience(claims)?;
        Ok(expires_at)
    }

    fn check_audience(&self, claims: &Claims) -> Result<(), TokenError> {
        let is_expected = |audience: &Value| {
            audience.as_str().is_some_and(|audience| self.audiences.iter().any(|known| known == audience))
        };
        let problem = match claims.get("aud") {
            None | Some(Value::Null) if self.audiences.is_empty() => return Ok(()),
            None | Some(Value::Null) => "missing",
            Some(Value::Array(audiences)) if audiences.iter().any(is_expected) => return Ok(()),
            Some(audience) if is_expected(audience) => return Ok(()),
            Some(_) if self.audiences.is_empty() => "this token is for an audience, and this server has none",
            Some(_) => "this token is for another audience",
        };
        Err(TokenError::claim("aud", problem))
    }

    fn user(&self, claims: &Claims) -> Result<String, TokenError> {
        match find(claims, &self.user_claim) {
            Some(Value::String(user)) => Ok(user.clone()),
            // Some back ends write the number of a database row.
            Some(Value::Number(user)) if !user.is_f64() => Ok(user.to_string()),
            Some(Value::Null) | None => {
                Err(TokenError::claim(&self.user_claim, "missing, expected the id of the user"))
            }
            Some(_) => Err(TokenError::claim(&self.user_claim, "expected a string, the id of the user")),
        }
    }
}

/// The claim of this name. If there is none, a dot in the name leads into an object.
fn find<'a>(claims: &'a Claims, name: &str) -> Option<&'a Value> {
    claims.get(name).or_else(|| {
        let (outer, inner) = name.split_once('.')?;
        find(claims.get(outer)?.as_object()?, inner)
    })
}

/// The last second of the year 9999. A later time is usually one in milliseconds.
const TIME_MAX: u64 = 253_402_300_799;

/// A time in seconds since 1970, which may have decimals.
fn time(claims: &Claims, name: &str) -> Result<Option<u64>, TokenError> {
    let wrong = || TokenError::claim(name, "expected seconds (not milliseconds) since 1970, up to the year 9999");
    match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(seconds)) => match (seconds.as_u64(), seconds.as_f64()) {
            (Some(seconds), _) if seconds <= TIME_MAX => Ok(Some(seconds)),
            // The conversion rounds down, and is in range.
            (None, Some(seconds)) if (0.0..TIME_MAX as f64).contains(&seconds) => Ok(Some(seconds as u64)),
            _ => Err(wrong()),
        },
        Some(_) => Err(wrong()),
    }
}

/// The start of a text from a token.
fn shown(text: &str) -> String {
    match text.char_indices().map(|(at, _)| at).find(|at| *at >= SHOWN_BYTES_MAX) {
        Some(end) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
