//! The rooms that a socket may keep when it resumes its session.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::ids::RoomName;

type Keeps = dyn Fn(&str) -> bool + Send + Sync;

/// A function of the application that returns true for the names of rooms that a resumed socket
/// keeps. The hub calls it once for each room of the session.
#[derive(Clone)]
pub(crate) struct RoomFilter(Arc<Keeps>);

impl RoomFilter {
    pub(crate) fn new(keeps: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(keeps))
    }

    /// A filter for rooms that both filters keep.
    pub(crate) fn and(self: Arc<Self>, other: Self) -> Self {
        Self::new(move |room| (self.0)(room) && (other.0)(room))
    }

    /// Returns whether the socket keeps a room. A shadow room is kept with its room. If the
    /// function panics, the room is not kept.
    pub(crate) fn keeps(&self, room: &RoomName) -> bool {
        let base = room.of_shadow();
        let name = base.as_ref().unwrap_or(room).as_str();
        catch_unwind(AssertUnwindSafe(|| (self.0)(name))).unwrap_or_else(|_| {
            log::error!("filter of rooms panicked, the room is left room={room:?}");
            false
        })
    }
}

impl fmt::Debug for RoomFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RoomFilter")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_is_kept_with_its_shadow_unless_a_filter_refuses_or_panics() {
        let room = |name: &str| RoomName::parse(name).unwrap();
        let filter = RoomFilter::new(|room| {
            assert_ne!(room, "panics", "planted");
            room.starts_with("chat:")
        });
        let both = Arc::new(filter).and(RoomFilter::new(|room| room != "chat:2"));
        for (name, is_kept) in [("chat:1", true), ("chat:2", false), ("news", false), ("panics", false)] {
            assert_eq!(both.keeps(&room(name)), is_kept, "{name}");
            assert_eq!(both.keeps(&RoomName::shadow_of(&room(name))), is_kept, "shadow of {name}");
        }
    }
}
