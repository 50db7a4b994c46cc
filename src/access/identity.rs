//! The identity of a client: its user, and what that user may do.

use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::value::RawValue;
use thiserror::Error;

use super::permissions::{Permissions, RoomPattern};
use crate::api::core::Socket;
use crate::api::error::RoomError;
use crate::ids::{IdError, ROOM_BYTES_MAX, RoomName};

/// First characters of the name of a user's room.
pub(crate) const USER_ROOM_PREFIX: &str = "user:";

/// Maximum length of a user id in bytes: the name of the user's room is a room name.
const USER_BYTES_MAX: usize = ROOM_BYTES_MAX - USER_ROOM_PREFIX.len();

/// The identity that [`Identity::of`] returns for sockets without one.
static ANONYMOUS: LazyLock<Arc<Identity>> = LazyLock::new(Arc::default);

/// A part of an identity is invalid.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// A user id must have at least one byte. A client without a user has no user id.
    #[error("user id is empty")]
    UserEmpty,
    /// The user id is too long.
    #[error("user id of {bytes} bytes exceeds limit of {USER_BYTES_MAX}")]
    UserTooLong {
        /// Length of the user id in bytes.
        bytes: usize,
    },
    /// The name of a room to join is invalid.
    #[error("room to join: {0}")]
    Room(#[from] IdError),
}

/// The identity of a client: its user, and what it may do.
///
/// The identity of a socket is one of its [extensions](crate::Socket::extensions).
/// [Connection middleware](crate::Namespace::with) stores it, for instance that of `Auth::jwt` of
/// the feature `jwt`, and [`Identity::of`] reads it, which takes about as long as a lookup in a
/// map. A later identity of the same socket replaces the earlier one.
///
/// ```
/// use stentor::{ConnectError, Identity, RoomPattern};
///
/// # fn register(io: &stentor::Server) {
/// io.of("/").with(|socket| async move {
///     let cookie = socket.handshake().header("cookie").unwrap_or_default();
///     # fn user_of(cookie: &str) -> Option<&str> { Some(cookie) }
///     let user = user_of(cookie).ok_or_else(|| ConnectError::new("not logged in"))?;
///     let mut identity =
///         Identity::of_user(user).map_err(|error| ConnectError::new(error.to_string()))?;
///     identity.permissions.join =
///         vec![RoomPattern::new("chat:*").map_err(|error| ConnectError::new(error.to_string()))?];
///     socket.extensions().insert(identity);
///     Ok(())
/// });
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Identity {
    user: Option<Box<str>>,
    rooms: Vec<RoomName>,
    /// Any JSON about the user, for instance a name, for other clients and the application. `None`
    /// if there is none.
    pub info: Option<Box<RawValue>>,
    /// The rooms in which the client may act.
    pub permissions: Permissions,
    /// Namespaces to which the client may connect, as patterns in which `*` stands for any text.
    /// `None` for all namespaces.
    pub namespaces: Option<Vec<RoomPattern>>,
    /// Expiry in seconds since 1970. `None` for an identity that does not expire.
    pub expires_at: Option<u64>,
}

impl Identity {
    /// The identity of a user, without permissions.
    ///
    /// # Errors
    ///
    /// Fails if the user id is empty or too long for the name of the user's room.
    pub fn of_user(user: impl Into<String>) -> Result<Self, IdentityError> {
        let user: String = user.into();
        match user.len() {
            0 => Err(IdentityError::UserEmpty),
            bytes if bytes > USER_BYTES_MAX => Err(IdentityError::UserTooLong { bytes }),
            _ => Ok(Self { user: Some(user.into()), ..Self::default() }),
        }
    }

    /// The identity of a socket. Without one, the socket is anonymous: it has neither a user nor
    /// permissions of its own.
    pub fn of(socket: &Socket) -> Arc<Self> {
        socket.extensions().get::<Self>().unwrap_or_else(|| ANONYMOUS.clone())
    }

    /// Id of the user. `None` for an anonymous client.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Name of the user's room, `user:<id>`. `None` for an anonymous client.
    pub fn user_room(&self) -> Option<String> {
        self.user().map(user_room)
    }

    /// Rooms that the server joins for the client when it connects, without the user's room.
    pub fn rooms(&self) -> impl Iterator<Item = &str> {
        self.rooms.iter().map(RoomName::as_str)
    }

    /// Sets the rooms that the server joins for the client when it connects. Permission to join
    /// them is not needed.
    ///
    /// # Errors
    ///
    /// Fails if one of the names is not the name of a room. The earlier rooms are kept.
    pub fn set_rooms<S: AsRef<str>>(&mut self, rooms: impl IntoIterator<Item = S>) -> Result<(), IdentityError> {
        self.rooms = rooms.into_iter().map(|room| RoomName::parse(room.as_ref())).collect::<Result<_, _>>()?;
        Ok(())
    }

    /// Joins the rooms of the identity and the room of its user, for
    /// [`on_connection`](crate::Namespace::on_connection).
    ///
    /// # Errors
    ///
    /// Fails if a room is not joined, for instance since the socket has disconnected.
    pub async fn join_rooms(&self, socket: &Socket) -> Result<(), RoomError> {
        for room in self.user_room().iter().map(String::as_str).chain(self.rooms()) {
            socket.join(room).await?;
        }
        Ok(())
    }

    /// True if the client may connect to the namespace with this path.
    pub fn may_connect_to(&self, namespace: &str) -> bool {
        self.namespaces.as_ref().is_none_or(|patterns| patterns.iter().any(|pattern| pattern.matches(namespace)))
    }

    /// Time until the identity expires, zero if it has expired. `None` if it does not expire.
    pub fn expires_in(&self, now: SystemTime) -> Option<Duration> {
        let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        Some(Duration::from_secs(self.expires_at?).saturating_sub(since_epoch))
    }
}

/// Name of the room of the user with this id.
pub(crate) fn user_room(user: &str) -> String {
    format!("{USER_ROOM_PREFIX}{user}")
}

/// The `info` is not printed, since it may be private.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("user", &self.user)
            .field("rooms", &self.rooms)
            .field("permissions", &self.permissions)
            .field("namespaces", &self.namespaces)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_id_fits_into_the_name_of_a_room() {
        assert_eq!(Identity::of_user("").err(), Some(IdentityError::UserEmpty));
        assert_eq!(Identity::of_user("u".repeat(252)).err(), Some(IdentityError::UserTooLong { bytes: 252 }));
        let longest = Identity::of_user("u".repeat(251)).expect("the longest user id");
        assert!(RoomName::parse(&longest.user_room().unwrap_or_default()).is_ok());
        assert_eq!((Identity::default().user(), Identity::default().user_room()), (None, None));
    }

    #[test]
    fn rooms_to_join_are_names_of_rooms() {
        let mut identity = Identity::default();
        identity.set_rooms(["lobby", "news"]).expect("two rooms");
        assert!(identity.set_rooms(["lobby", ""]).is_err());
        assert_eq!(identity.rooms().collect::<Vec<_>>(), ["lobby", "news"]);
    }

    #[test]
    fn namespaces_are_restricted_only_where_they_are_listed() {
        let mut identity = Identity::default();
        assert!(identity.may_connect_to("/") && identity.may_connect_to("/chat"));
        identity.namespaces = Some(vec![RoomPattern::new("/chat-*").expect("a pattern")]);
        assert!(identity.may_connect_to("/chat-1") && !identity.may_connect_to("/"));
        identity.namespaces = Some(Vec::new());
        assert!(!identity.may_connect_to("/"));
    }

    #[test]
    fn the_time_to_expiry_ends_at_zero() {
        let mut identity = Identity::default();
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(identity.expires_in(at(5)), None);
        identity.expires_at = Some(20);
        assert_eq!(identity.expires_in(at(5)), Some(Duration::from_secs(15)));
        assert_eq!(identity.expires_in(at(25)), Some(Duration::ZERO));
    }
}
