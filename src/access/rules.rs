//! Rules of a server: what clients may do in rooms that their permissions do not name.

use super::identity::{Identity, USER_ROOM_PREFIX};
use super::permissions::RoomPattern;

/// Access in rooms that the permissions of a client do not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DefaultAccess {
    /// Clients may do nothing there.
    #[default]
    Deny,
    /// Members of the room may act in it.
    Member,
    /// Every client may act in every room.
    Any,
}

/// Answer to the question if a client may act in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoomAccess {
    /// The client may act.
    Allowed,
    /// The client may act if its socket is a member of the room.
    IfMember,
    /// The client may not act.
    Denied,
}

impl RoomAccess {
    /// True if the client may act. `is_member` states if its socket is a member of the room.
    pub fn allows(self, is_member: bool) -> bool {
        match self {
            Self::Allowed => true,
            Self::IfMember => is_member,
            Self::Denied => false,
        }
    }
}

/// Rules by which clients act in rooms. The default is the strictest: clients may do only what
/// their permissions allow, and users have rooms.
///
/// With `user_rooms`, the room `user:<id>` belongs to the user with this id. The server joins it
/// for each socket of the user, and an event that is published to it reaches the user on every
/// device. No client can join or leave such a room, whatever its permissions are. To publish to it,
/// a client needs a pattern that begins with `user:`; a pattern such as `*` is not sufficient.
///
/// ```
/// use stentor::{AccessRules, DefaultAccess, Identity, RoomAccess, RoomPattern};
///
/// let mut rules = AccessRules::default();
/// rules.publish_default = DefaultAccess::Member;
///
/// let mut ada = Identity::of_user("42")?;
/// ada.permissions.join = vec![RoomPattern::new("chat:*")?];
/// assert_eq!(rules.may_join(&ada, "chat:7"), RoomAccess::Allowed);
/// assert_eq!(rules.may_join(&ada, "staff"), RoomAccess::Denied);
/// assert_eq!(rules.may_publish(&ada, "chat:7"), RoomAccess::IfMember);
/// assert_eq!(rules.may_join(&ada, "user:43"), RoomAccess::Denied);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct AccessRules {
    /// Access by which clients join rooms that their permissions do not name. With
    /// [`DefaultAccess::Member`], a client may repeat the join of a room in which it already is,
    /// for instance because the server has joined it for the client.
    pub join_default: DefaultAccess,
    /// Access by which clients publish to rooms that their permissions do not name.
    pub publish_default: DefaultAccess,
    /// True if the rooms `user:<id>` belong to the users.
    pub user_rooms: bool,
}

impl Default for AccessRules {
    fn default() -> Self {
        Self { join_default: DefaultAccess::Deny, publish_default: DefaultAccess::Deny, user_rooms: true }
    }
}

impl AccessRules {
    /// Rules that allow every client everything, except in rooms of other users.
    pub const fn open() -> Self {
        Self { join_default: DefaultAccess::Any, publish_default: DefaultAccess::Any, user_rooms: true }
    }

    /// Access of the client to `join` this room.
    pub fn may_join(&self, identity: &Identity, room: &str) -> RoomAccess {
        match self.user_of(room) {
            Some(user) => of_user(identity, user),
            None => by_patterns(&identity.permissions.join, room, self.join_default),
        }
    }

    /// Access of the client to `publish` to this room.
    pub fn may_publish(&self, identity: &Identity, room: &str) -> RoomAccess {
        let patterns = &identity.permissions.publish;
        match self.user_of(room) {
            // A pattern like "*" is meant for the rooms of the application.
            Some(_) if self.publish_default != DefaultAccess::Any => {
                let mut explicit = patterns.iter().filter(|pattern| pattern.as_str().starts_with(USER_ROOM_PREFIX));
                if explicit.any(|pattern| pattern.matches(room)) {
                    RoomAccess::Allowed
                } else {
                    by_patterns(&[], room, self.publish_default)
                }
            }
            _ => by_patterns(patterns, room, self.publish_default),
        }
    }

    /// Access of the client to the list of the members of this room. For a room that its
    /// permissions do not name, this is the default access to join.
    pub fn may_list_members(&self, identity: &Identity, room: &str) -> RoomAccess {
        match self.user_of(room) {
            Some(user) => of_user(identity, user),
            None => by_patterns(&identity.permissions.members, room, self.join_default),
        }
    }

    /// True if a client may leave this room by itself, which it may not if the room is a user's.
    pub fn may_leave(&self, room: &str) -> bool {
        self.user_of(room).is_none()
    }

    /// Id of the user to whom the room belongs. `None` for other rooms.
    pub fn user_of<'a>(&self, room: &'a str) -> Option<&'a str> {
        room.strip_prefix(USER_ROOM_PREFIX).filter(|_| self.user_rooms)
    }
}

/// Access to the room of `user`, which only the user has.
fn of_user(identity: &Identity, user: &str) -> RoomAccess {
    if identity.user() == Some(user) { RoomAccess::Allowed } else { RoomAccess::Denied }
}

fn by_patterns(patterns: &[RoomPattern], room: &str, default: DefaultAccess) -> RoomAccess {
    match default {
        DefaultAccess::Any => RoomAccess::Allowed,
        _ if patterns.iter().any(|pattern| pattern.matches(room)) => RoomAccess::Allowed,
        DefaultAccess::Member => RoomAccess::IfMember,
        DefaultAccess::Deny => RoomAccess::Denied,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use RoomAccess::{Allowed, Denied, IfMember};

    fn patterns(patterns: &[&str]) -> Vec<RoomPattern> {
        patterns.iter().map(|pattern| RoomPattern::new(*pattern).expect("a pattern")).collect()
    }

    /// User 42 with one list of patterns for everything.
    fn identity(allowed: &[&str]) -> Identity {
        let mut identity = Identity::of_user("42").expect("a user");
        let permissions = &mut identity.permissions;
        (permissions.join, permissions.publish, permissions.members) =
            (patterns(allowed), patterns(allowed), patterns(allowed));
        identity
    }

    fn rules(default: DefaultAccess) -> AccessRules {
        AccessRules { join_default: default, publish_default: default, user_rooms: true }
    }

    /// Access to join, to publish, and to list members.
    fn access(rules: AccessRules, identity: &Identity, room: &str) -> [RoomAccess; 3] {
        [rules.may_join(identity, room), rules.may_publish(identity, room), rules.may_list_members(identity, room)]
    }

    #[test]
    fn rooms_outside_of_the_permissions_have_the_default_access() {
        let ada = identity(&["chat:*"]);
        for (default, expected) in
            [(DefaultAccess::Deny, Denied), (DefaultAccess::Member, IfMember), (DefaultAccess::Any, Allowed)]
        {
            assert_eq!(access(rules(default), &ada, "chat:7"), [Allowed; 3], "{default:?}");
            assert_eq!(access(rules(default), &ada, "staff"), [expected; 3], "{default:?}");
            assert_eq!(access(rules(default), &Identity::default(), "chat:7"), [expected; 3], "{default:?}");
        }
    }

    #[test]
    fn a_room_name_with_stars_is_no_pattern() {
        let ada = identity(&["chat:7"]);
        for room in ["*", "chat:*", "chat:**", "c*7", "chat:7*"] {
            assert_eq!(access(rules(DefaultAccess::Deny), &ada, room), [Denied; 3], "{room}");
        }
    }

    #[test]
    fn the_room_of_a_user_is_closed_to_others() {
        let ada = identity(&["*", "user:*", "user:43"]);
        for default in [DefaultAccess::Deny, DefaultAccess::Member, DefaultAccess::Any] {
            let rules = rules(default);
            assert_eq!((rules.may_join(&ada, "user:42"), rules.may_join(&ada, "user:43")), (Allowed, Denied));
            assert_eq!(rules.may_list_members(&ada, "user:43"), Denied, "{default:?}");
            assert_eq!(rules.may_join(&Identity::default(), "user:42"), Denied, "{default:?}");
            assert!(!rules.may_leave("user:42") && rules.may_leave("chat:7"));
        }
        let without = AccessRules { user_rooms: false, ..rules(DefaultAccess::Deny) };
        assert_eq!(access(without, &ada, "user:43"), [Allowed; 3]);
        assert!(without.may_leave("user:42"));
    }

    #[test]
    fn publishing_to_a_user_needs_a_pattern_for_users() {
        let of = |allowed: &[&str], default| rules(default).may_publish(&identity(allowed), "user:43");
        for (allowed, expected) in
            [("*", Denied), ("u*", Denied), ("*43", Denied), ("user:*", Allowed), ("user:43", Allowed)]
        {
            assert_eq!(of(&[allowed], DefaultAccess::Deny), expected, "{allowed}");
        }
        assert_eq!(of(&["*"], DefaultAccess::Member), IfMember);
        assert_eq!(of(&[], DefaultAccess::Any), Allowed);
    }

    #[test]
    fn members_only_access_needs_a_membership() {
        let answers = [Allowed, IfMember, Denied].map(|access| (access.allows(true), access.allows(false)));
        assert_eq!(answers, [(true, true), (true, false), (false, false)]);
    }
}
