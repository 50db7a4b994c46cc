//! Tests of the table of rooms.

use super::route::Route;
use super::*;

fn socket(n: u8) -> SocketId {
    SocketId::from_random([n; 15])
}

fn location(worker: u16, member: u32) -> SocketLocation {
    SocketLocation {
        worker: WorkerId(worker),
        slot: SlotKey { index: member, generation: 0 },
        member: MemberKey(member),
    }
}

fn room(name: &str) -> RoomName {
    RoomName::parse(name).unwrap()
}

fn to(names: &[&str]) -> Target {
    Target { rooms: names.iter().map(|name| room(name).into()).collect(), ..Target::default() }
}

fn up_to(rooms_max: usize) -> RoomBounds {
    RoomBounds { rooms_max, name_bytes_max: 100, bytes_max: usize::MAX }
}

fn two_sockets() -> Rooms {
    let mut rooms = Rooms::default();
    rooms.connect(socket(1), &NamespacePath::root(), location(0, 10));
    rooms.connect(socket(2), &NamespacePath::root(), location(1, 20));
    rooms
}

#[test]
fn a_room_lives_from_its_first_member_to_its_last() {
    let mut rooms = two_sockets();
    assert!(rooms.route(&NamespacePath::root(), &to(&["a"])).rooms.is_empty());
    let joined = rooms.join(&socket(1), &room("a"), up_to(9)).unwrap();
    assert!(joined.is_new);
    assert_eq!(rooms.join(&socket(2), &room("a"), up_to(9)).unwrap().members, 2);
    assert!(!rooms.join(&socket(2), &room("a"), up_to(9)).unwrap().is_new);
    let route = rooms.route(&NamespacePath::root(), &to(&["a"]));
    assert_eq!((rooms.member_count(&route, WorkerId(0)), rooms.member_count(&route, WorkerId(1))), (1, 1));
    assert_eq!(
        rooms.leave(&socket(1), &room("a")),
        Some(LeaveChange { location: location(0, 10), room: joined.room, members: 1 })
    );
    assert_eq!(rooms.leave(&socket(1), &room("a")), None);
    rooms.disconnect(&socket(2));
    assert!(rooms.route(&NamespacePath::root(), &to(&["a"])).rooms.is_empty());
}

#[test]
fn an_empty_target_means_all_sockets_of_the_namespace() {
    let mut rooms = two_sockets();
    let route = rooms.route(&NamespacePath::root(), &Target::default());
    assert_eq!(rooms.member_count(&route, WorkerId(0)) + rooms.member_count(&route, WorkerId(1)), 2);
    rooms.disconnect(&socket(1));
    rooms.disconnect(&socket(2));
    assert_eq!(rooms.route(&NamespacePath::root(), &Target::default()), Route::default());
    assert!(rooms.rooms.is_empty() && rooms.namespaces.is_empty() && rooms.by_path.is_empty());
}

#[test]
fn rooms_and_namespace_are_removed_with_the_last_socket() {
    let mut rooms = Rooms::default();
    rooms.connect(socket(1), &NamespacePath::root(), location(0, 1));
    for name in ["a", "b", "c"] {
        rooms.join(&socket(1), &room(name), up_to(9)).unwrap();
    }
    rooms.leave(&socket(1), &room("a")).unwrap();
    assert_eq!(rooms.disconnect(&socket(1)), Some(location(0, 1)));
    assert!(rooms.rooms.is_empty() && rooms.namespaces.is_empty() && rooms.by_path.is_empty());
}

#[test]
fn a_socket_id_names_the_sockets_own_room() {
    let rooms = two_sockets();
    let route = rooms.route(&NamespacePath::root(), &Target::socket(socket(2)));
    assert_eq!(route.sockets.as_slice(), [location(1, 20)]);
    let excluded = Target { except: SmallVec::from_elem(socket(1).into(), 1), ..Target::default() };
    assert_eq!(rooms.route(&NamespacePath::root(), &excluded).exclude.as_slice(), [location(0, 10)]);
}

#[test]
fn another_sockets_own_room_cannot_be_joined() {
    let mut rooms = two_sockets();
    assert_eq!(rooms.join(&socket(1), &socket(2).into(), up_to(9)), Err(MembershipError::ForeignRoom));
    assert!(rooms.join(&socket(1), &socket(1).into(), up_to(9)).is_ok());
    assert!(rooms.join(&socket(1), &socket(7).into(), up_to(9)).is_ok(), "an unused id is a name like any other");
}

#[test]
fn a_socket_may_be_in_a_bounded_number_of_rooms() {
    let mut rooms = two_sockets();
    rooms.join(&socket(1), &room("a"), up_to(1)).unwrap();
    assert_eq!(rooms.join(&socket(1), &room("b"), up_to(1)), Err(MembershipError::TooManyRooms));
    assert!(!rooms.join(&socket(1), &room("a"), up_to(1)).unwrap().is_new);
    assert_eq!(rooms.join(&socket(9), &room("a"), up_to(1)), Err(MembershipError::NotConnected));
}

#[test]
fn names_of_a_sockets_rooms_are_bounded_in_bytes() {
    let mut rooms = two_sockets();
    let bounds = RoomBounds { name_bytes_max: 5, ..up_to(9) };
    rooms.join(&socket(1), &room("abc"), bounds).unwrap();
    assert_eq!(rooms.join(&socket(1), &room("def"), bounds), Err(MembershipError::TooManyRooms));
    assert!(!rooms.join(&socket(1), &room("abc"), bounds).unwrap().is_new);
    rooms.join(&socket(2), &room("def"), bounds).unwrap();
    rooms.leave(&socket(1), &room("abc")).unwrap();
    rooms.join(&socket(1), &room("def"), bounds).unwrap();
}

#[test]
fn a_socket_in_many_rooms_is_refused_before_one_in_few() {
    let mut rooms = two_sockets();
    let bounds = RoomBounds { bytes_max: 200 * (MEMBERSHIP_BYTES + ROOM_BYTES), ..up_to(1_000) };
    let bounds = RoomBounds { name_bytes_max: 10_000, ..bounds };
    let mut join = |who: u8, number: usize| rooms.join(&socket(who), &room(&number.to_string()), bounds);
    let many = (0..).take_while(|number| join(1, *number).is_ok()).count();
    assert!((140..=150).contains(&many), "{many} rooms: three quarters");
    let few = (1_000..).take_while(|number| join(2, *number).is_ok()).count();
    assert_eq!(few, FEW_ROOMS);
    assert_eq!(join(1, 2_000), Err(MembershipError::BudgetSpent));
    assert!(!join(1, 0).unwrap().is_new, "existing memberships are kept");
}

#[test]
fn a_socket_in_many_rooms_leaves_them_in_turns() {
    let mut rooms = two_sockets();
    let count = 2 * ROOMS_PER_REMOVAL + 2;
    for number in 0..count {
        rooms.rejoin(&socket(1), &room(&number.to_string()));
    }
    rooms.rejoin(&socket(2), &room("0"));
    assert_eq!(rooms.disconnect(&socket(1)), Some(location(0, 10)));
    assert!(
        rooms.route(&NamespacePath::root(), &Target::socket(socket(1))).sockets.is_empty(),
        "the socket is still addressable"
    );
    let left =
        [rooms.rooms(), (rooms.continue_removal(), rooms.rooms()).1, (rooms.continue_removal(), rooms.rooms()).1];
    assert!(left[0] > left[1] && left[1] > left[2] && left[2] == 1 && !rooms.has_pending_removals(), "{left:?}");
    // The socket reconnects and disconnects. It reconnects again while it is still counted in
    // rooms.
    rooms.connect(socket(1), &NamespacePath::root(), location(0, 11));
    for number in 0..count {
        rooms.rejoin(&socket(1), &room(&number.to_string()));
    }
    rooms.disconnect(&socket(1));
    rooms.connect(socket(1), &NamespacePath::root(), location(1, 12));
    for number in 0..count {
        rooms.rejoin(&socket(1), &room(&number.to_string()));
    }
    while rooms.has_pending_removals() {
        rooms.continue_removal();
    }
    assert_eq!(rooms.rooms(), count);
    rooms.disconnect(&socket(2));
    rooms.disconnect(&socket(1));
    while rooms.has_pending_removals() {
        rooms.continue_removal();
    }
    assert!(rooms.rooms.is_empty() && rooms.namespaces.is_empty() && rooms.bytes() == 0);
}

#[test]
fn rooms_take_no_memory_when_all_sockets_have_disconnected() {
    let mut rooms = two_sockets();
    for number in 0..10_000 {
        rooms.rejoin(&socket(1), &room(&number.to_string()));
        rooms.rejoin(&socket(2), &room(&(number / 2).to_string()));
    }
    assert!(rooms.bytes() > 10_000 * ROOM_BYTES);
    rooms.disconnect(&socket(1));
    rooms.leave(&socket(2), &room("7")).unwrap();
    rooms.disconnect(&socket(2));
    while rooms.has_pending_removals() {
        rooms.continue_removal();
    }
    assert_eq!(rooms.bytes(), 0);
    assert!(rooms.rooms.capacity() < 100, "room for {}", rooms.rooms.capacity());
}
