//! Permissions of a client, as patterns of room names.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ids::ROOM_BYTES_MAX;
use crate::pattern;

/// A pattern is not valid.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PatternError {
    /// An empty pattern would fit no room.
    #[error("pattern is empty, expected a name such as \"chat:7\" or \"chat:*\"")]
    Empty,
    /// The pattern is longer than any name.
    #[error("pattern of {bytes} bytes exceeds limit of {ROOM_BYTES_MAX}")]
    TooLong {
        /// Length of the pattern in bytes.
        bytes: usize,
    },
}

/// A room name in which `*` stands for any text, also for none.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RoomPattern(Box<str>);

impl RoomPattern {
    /// Creates a pattern.
    ///
    /// # Errors
    ///
    /// Fails if the pattern is empty, or longer than a room name.
    pub fn new(pattern: impl Into<String>) -> Result<Self, PatternError> {
        let pattern: String = pattern.into();
        match pattern.len() {
            0 => Err(PatternError::Empty),
            bytes if bytes > ROOM_BYTES_MAX => Err(PatternError::TooLong { bytes }),
            _ => Ok(Self(pattern.into())),
        }
    }

    /// Text of the pattern.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True if the name fits the pattern. A `*` in the name has no meaning.
    pub fn matches(&self, name: &str) -> bool {
        pattern::matches(&self.0, name)
    }
}

impl TryFrom<String> for RoomPattern {
    type Error = PatternError;

    fn try_from(pattern: String) -> Result<Self, PatternError> {
        Self::new(pattern)
    }
}

impl From<RoomPattern> for String {
    fn from(pattern: RoomPattern) -> Self {
        pattern.0.into()
    }
}

/// The rooms in which a client may act. What a client may do in other rooms is decided by
/// [`AccessRules`](crate::AccessRules).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Permissions {
    /// Rooms that the client may join.
    pub join: Vec<RoomPattern>,
    /// Rooms to which the client may publish, also without being a member.
    pub publish: Vec<RoomPattern>,
    /// Rooms whose members the client may list.
    pub members: Vec<RoomPattern>,
}

impl Permissions {
    /// True if none of the patterns allows anything.
    pub fn is_empty(&self) -> bool {
        self.join.is_empty() && self.publish.is_empty() && self.members.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_bounded() {
        assert_eq!(RoomPattern::new(""), Err(PatternError::Empty));
        assert_eq!(RoomPattern::new("p".repeat(257)), Err(PatternError::TooLong { bytes: 257 }));
        assert!(RoomPattern::new("p".repeat(256)).is_ok());
    }

    #[test]
    fn permissions_are_read_from_json() {
        let read = serde_json::from_str::<Permissions>;
        let permissions = read(r#"{"join":["chat:*"],"publish":[]}"#).expect("permissions");
        assert_eq!(permissions.join, [RoomPattern::new("chat:*").expect("a pattern")]);
        assert!(permissions.members.is_empty() && read("{}").expect("none").is_empty());
        for wrong in [r#"{"join":"chat:*"}"#, r#"{"join":[""]}"#, r#"{"join":[7]}"#, "7"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
