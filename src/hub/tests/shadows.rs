//! Tests of shadow rooms: joined, journalled, and left out of every listing.

use super::*;
use crate::messages::session::Listing;

impl Rig {
    fn join_durable(&mut self, n: u8, name: &str) {
        self.join_durable_after(n, name, 0);
    }

    pub(super) fn join_durable_after(&mut self, n: u8, name: &str, after: u64) {
        let (from, socket) = (self.from(), socket(n));
        self.tell(OrderedCommand::JoinDurable { from, socket, room: room(name), after });
    }

    /// Emits to the members of a room that do not receive its durable events from the queue.
    fn emit_durable(&mut self, name: &str, event: &str) {
        let draft = Draft::event(Parser::Json, NamespacePath::root(), event, "", Vec::new(), false);
        let except = SmallVec::from_elem(RoomName::shadow_of(&room(name)).into(), 1);
        let target = Target { rooms: SmallVec::from_elem(room(name).into(), 1), except, ..Target::default() };
        let (from, emit) = (self.from(), Box::new(Emit { target, draft, grade: Grade::Plain }));
        self.tell(OrderedCommand::Broadcast { from, emit, ack: AckWanted::No });
    }
}

#[test]
fn a_resumed_subscriber_does_not_catch_up_on_durable_events() {
    run(async {
        let mut rig = Rig::recovering(Limits::default());
        rig.connect(1);
        rig.join_durable(1, "a");
        rig.connect(2);
        rig.join(2, "a");
        rig.tell(disconnect(1));
        rig.emit_durable("a", "durable");
        rig.emit("a", "plain", Grade::Plain);
        rig.received().await;
        rig.resume(1, None);
        let resumed = rig.received().await;
        assert_eq!(resumed[..3], ["attach 101 behind 1", "join 101", "join 101"], "the room and its shadow");
        rig.read(1, Lsn(1));
        assert_eq!(rig.received().await, [r#"replay 101 42["plain"] live"#]);
    });
}

#[test]
fn a_shadow_room_takes_no_place_of_a_plain_room() {
    run(async {
        let mut rig = Rig::new(Limits::with(|limits| limits.sockets.rooms_max = 2), Stores::default());
        rig.connect(1);
        rig.join_durable(1, "a");
        rig.join(1, "b");
        rig.join(1, "c");
        let lines = rig.received().await;
        assert!(
            lines.ends_with(&["answer 3 joined 1", "answer 4 refused TooManyRooms"].map(str::to_owned)),
            "{lines:?}"
        );
    });
}

#[test]
fn a_shadow_room_is_listed_nowhere_and_counts_for_no_bound_of_its_own() {
    run(async {
        let mut rig = Rig::new(Limits::with(|limits| limits.sockets.rooms_max = 1), Stores::default());
        rig.connect(1);
        rig.join_durable(1, "a");
        rig.join_durable(1, "b");
        assert_eq!(rig.received().await[4..], ["answer 2 joined 1", "answer 3 refused TooManyRooms"]);
        for listing in
            [Listing::OfSocket(socket(1)), Listing::InNamespace { namespace: NamespacePath::root(), from: 0 }]
        {
            let from = rig.from();
            rig.tell(OrderedCommand::List { from, listing });
        }
        assert_eq!(rig.received().await, ["listed 1", "listed 1"]);
        let from = rig.from();
        rig.tell(OrderedCommand::LeaveDurable { from, socket: socket(1), room: room("a") });
        rig.join_durable(1, "b");
        assert_eq!(rig.received().await[2..], ["answer 6 left", "join 1", "join 1", "answer 7 joined 1"]);
    });
}

#[test]
fn a_socket_leaves_rooms_that_are_no_subscription_of_it_any_more() {
    run(async {
        let mut rig = Rig::new(Limits::default(), Stores::default());
        rig.connect(1);
        rig.join_durable(1, "a");
        rig.join_durable(1, "b");
        rig.join(1, "c");
        rig.received().await;
        let from = rig.from();
        rig.tell(OrderedCommand::KeepDurable { from, socket: socket(1), rooms: vec![room("b"), room("d")] });
        assert_eq!(rig.received().await, ["leave 1", "leave 1", "answer 5 left"]);
        let from = rig.from();
        rig.tell(OrderedCommand::List { from, listing: Listing::OfSocket(socket(1)) });
        assert_eq!(rig.received().await, ["listed 2"], "b and c");
    });
}
