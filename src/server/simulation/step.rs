//! Steps of the simulation and their random choice.

use proptest::collection::vec;
use proptest::prelude::*;

use super::{CLIENTS, ROOMS};

#[derive(Debug, Clone)]
pub(super) enum Step {
    Join(usize, usize),
    Leave(usize, usize),
    Emit {
        rooms: Vec<usize>,
        except: Vec<usize>,
        exclude: Option<usize>,
        volatile: bool,
        times: usize,
    },
    /// Emits an event to the socket of one client.
    Direct(usize),
    /// The client (first number) reads at most this many packets (second number).
    Read(usize, usize),
    /// The client stops reading, and the server does not notice.
    Cut(usize),
    /// The connection ends, and the server notices.
    Drop(usize),
    /// The client connects or reconnects on one of the workers.
    Connect(usize, usize),
    /// The process is killed, and a new process opens the journal.
    Kill,
    /// The actors run this many turns.
    Turns(usize),
}

pub(super) fn any_step() -> impl Strategy<Value = Step> {
    let client = || 0..CLIENTS;
    let name = || 0..ROOMS.len() * 3 + CLIENTS;
    let emit = (
        vec(name(), 0..3),
        vec(name(), 0..2),
        proptest::option::weighted(0.2, client()),
        proptest::bool::weighted(0.15),
        prop_oneof![3 => Just(1usize), 1 => 2usize..30],
    );
    prop_oneof![
        8 => (client(), name()).prop_map(|(client, room)| Step::Join(client, room)),
        4 => (client(), name()).prop_map(|(client, room)| Step::Leave(client, room)),
        14 => emit.prop_map(|(rooms, except, exclude, volatile, times)| Step::Emit { rooms, except, exclude, volatile, times }),
        3 => client().prop_map(Step::Direct),
        10 => (client(), 1usize..40).prop_map(|(client, count)| Step::Read(client, count)),
        2 => client().prop_map(Step::Cut),
        3 => client().prop_map(Step::Drop),
        8 => (client(), 0usize..2).prop_map(|(client, worker)| Step::Connect(client, worker)),
        1 => Just(Step::Kill),
        6 => (0usize..12).prop_map(Step::Turns),
    ]
}
