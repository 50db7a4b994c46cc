//! The invariant of order: random programs of several clients on two workers, checked against the
//! one order that all must see.
//!
//! In each round every client sends one program, all concurrently; a handler runs its steps and
//! acks with the results. A barrier is then emitted to all sockets, so an event that has not
//! arrived by then is lost. `STENTOR_SEED` repeats a run.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stentor::{Event, Recovery, Server, Socket};

use super::support::{Client, Hub, Transport, Websocket};

/// Number of steps in one run; there are two runs, with recovery off and on.
const STEPS: usize = 5_000;
const CLIENTS: usize = 7;
const ROOMS: [&str; 3] = ["red", "green", "blue"];

/// One step of a program. Each emit has its own number.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Step {
    Join(String),
    Leave(String),
    /// Emits to a room, including the sender.
    Publish(String, u64),
    /// Emits to a room, without the sender.
    Others(String, u64),
    /// Emits to two rooms; each member receives the event once.
    Both(String, String, u64),
    /// Emits to the sender only.
    Direct(u64),
    /// Emits to all sockets.
    All(u64),
    /// Emits to the id of some socket.
    Socket(String, u64),
}

impl Step {
    fn emitted(&self) -> Option<u64> {
        match self {
            Self::Join(_) | Self::Leave(_) => None,
            Self::Publish(_, n) | Self::Others(_, n) | Self::Both(_, _, n) => Some(*n),
            Self::Direct(n) | Self::All(n) | Self::Socket(_, n) => Some(*n),
        }
    }
}

async fn run(io: &Server, socket: &Socket, step: Step) -> Result<Option<String>, Box<dyn std::error::Error>> {
    match step {
        Step::Join(room) => return Ok(socket.join(room).await?.offset.map(|offset| offset.to_string())),
        Step::Leave(room) => socket.leave(room).await?,
        Step::Publish(room, n) => io.to(room).emit("e", n).await?,
        Step::Others(room, n) => socket.to(room).emit("e", n).await?,
        Step::Both(one, two, n) => io.to(one).to(two).emit("e", n).await?,
        Step::Direct(n) => socket.emit("e", n).await?,
        Step::All(n) => io.emit("e", n).await?,
        Step::Socket(id, n) => io.to(id).emit("e", n).await?,
    }
    Ok(None)
}

fn register(io: &Server) {
    let hub = io.clone();
    io.of("/").on("program", move |socket, event: Event<(Vec<Step>,)>| {
        let io = hub.clone();
        async move {
            let mut results = Vec::new();
            for step in event.data.0 {
                results.push(run(&io, &socket, step).await.map_err(|error| std::io::Error::other(error.to_string()))?);
            }
            // Without an await in between, the ack still has to follow all emitted events.
            event.ack.send((results,))?;
            Ok(())
        }
    });
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end
    }

    fn room(&mut self) -> String {
        ROOMS[self.below(ROOMS.len())].into()
    }
}

/// Packets that a client received, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Received {
    Event { n: u64, token: Option<String> },
    Ack { results: Vec<Option<String>> },
}

struct Participant {
    client: Client,
    id: String,
    candidate: Option<Websocket>,
    rooms: HashSet<String>,
}

impl Participant {
    fn join(hub: &Hub, transport: Transport) -> Self {
        let mut client = hub.open(transport);
        let id = client.connect("")["sid"].as_str().unwrap().to_owned();
        Self { client, id, candidate: None, rooms: HashSet::new() }
    }

    /// The next event or ack.
    fn receive(&mut self) -> Received {
        let packet = self.client.recv_text();
        if let Some(event) = packet.strip_prefix("42") {
            let event: Vec<Value> = serde_json::from_str(event).unwrap();
            assert_eq!(event[0], "e", "{packet}");
            let token = event.get(2).map(|token| token.as_str().unwrap().to_owned());
            return Received::Event { n: event[1].as_u64().unwrap(), token };
        }
        let results = packet.strip_prefix("4377").unwrap_or_else(|| panic!("unexpected {packet}"));
        let (results,): (Vec<Option<String>>,) = serde_json::from_str(results).unwrap();
        Received::Ack { results }
    }

    /// All packets up to and including the first for which `last` is true.
    fn receive_until(&mut self, last: impl Fn(&Received) -> bool) -> Vec<Received> {
        let mut received = vec![self.receive()];
        while !received.last().is_some_and(&last) {
            received.push(self.receive());
        }
        received
    }
}

/// One round: for each client its rooms before, its program, and the packets that it received.
struct Round<'a> {
    recovery: bool,
    ids: &'a [String],
    rooms_before: Vec<HashSet<String>>,
    programs: Vec<Vec<Step>>,
    received: Vec<Vec<Received>>,
    barrier: u64,
}

impl Round<'_> {
    fn check(&self) {
        for client in 0..self.programs.len() {
            self.check_own_order(client);
            self.check_membership(client);
        }
        self.check_one_order();
    }

    fn events(&self, client: usize) -> Vec<u64> {
        let events = self.received[client].iter().filter_map(|received| match received {
            Received::Event { n, .. } => Some(*n),
            Received::Ack { .. } => None,
        });
        events.collect()
    }

    /// Checks that each ack comes after the events that its program emitted to its own client, in
    /// the program's order.
    fn check_own_order(&self, client: usize) {
        let own: HashSet<u64> = self.programs[client].iter().filter_map(Step::emitted).collect();
        let program = self.programs[client].iter().filter_map(Step::emitted).filter(|n| self.reaches_own(client, *n));
        let mut got = Vec::new();
        let mut acks = 0;
        for received in &self.received[client] {
            match received {
                Received::Event { n, .. } if own.contains(n) => {
                    assert_eq!(acks, 0, "client {client}: event {n} came after the ack\n{}", self.trace(client));
                    got.push(*n);
                }
                Received::Event { .. } => {}
                Received::Ack { .. } => acks += 1,
            }
        }
        assert_eq!(acks, 1, "client {client}: one ack\n{}", self.trace(client));
        assert_eq!(got, program.collect::<Vec<_>>(), "client {client}: own emits in order\n{}", self.trace(client));
    }

    /// True if an emit of the client's own program must reach it: the joins and leaves before the
    /// emit decide.
    fn reaches_own(&self, client: usize, emitted: u64) -> bool {
        let mut rooms = self.rooms_before[client].clone();
        for step in &self.programs[client] {
            match step {
                Step::Join(room) => drop(rooms.insert(room.clone())),
                Step::Leave(room) => drop(rooms.remove(room)),
                step if step.emitted() == Some(emitted) => {
                    return match step {
                        Step::Publish(room, _) => rooms.contains(room),
                        Step::Both(one, two, _) => rooms.contains(one) || rooms.contains(two),
                        Step::Socket(id, _) => *id == self.ids[client],
                        Step::Others(..) => false,
                        _ => true,
                    };
                }
                _ => {}
            }
        }
        unreachable!("{emitted} is of this program")
    }

    /// A client in a room during the whole round receives all its events, a client outside none;
    /// for other clients positions decide.
    fn check_membership(&self, client: usize) {
        let got: HashSet<u64> = self.events(client).into_iter().collect();
        assert_eq!(got.len(), self.events(client).len(), "client {client}: no event twice\n{}", self.trace(client));
        assert!(got.contains(&self.barrier));
        for (sender, program) in self.programs.iter().enumerate().filter(|(sender, _)| *sender != client) {
            for step in program {
                let Some(n) = step.emitted() else { continue };
                let expected = match step {
                    Step::Publish(room, _) | Step::Others(room, _) => self.member(client, room, n),
                    Step::Both(one, two, _) => match (self.member(client, one, n), self.member(client, two, n)) {
                        (Some(true), _) | (_, Some(true)) => Some(true),
                        (Some(false), Some(false)) => Some(false),
                        _ => None,
                    },
                    Step::Socket(id, _) => Some(*id == self.ids[client]),
                    Step::All(_) => Some(true),
                    _ => Some(false),
                };
                if let Some(expected) = expected {
                    let trace = || format!("{}\n{}", self.trace(sender), self.trace(client));
                    assert_eq!(
                        got.contains(&n),
                        expected,
                        "client {client}, event {n} of {sender}: {step:?}\n{}",
                        trace()
                    );
                }
            }
        }
    }

    /// True if the client was in the room when event `n` was emitted; `None` if the trace does not
    /// decide it.
    fn member(&self, client: usize, room: &str, n: u64) -> Option<bool> {
        let token = self.tokens().get(&n).cloned();
        let results = self.received[client].iter().find_map(|received| match received {
            Received::Ack { results } => Some(results),
            Received::Event { .. } => None,
        })?;
        let mut member = Some(self.rooms_before[client].contains(room));
        // Newest known position of this client's program.
        let mut known: Option<String> = None;
        for (step, result) in self.programs[client].iter().zip(results) {
            let at = result.clone().or_else(|| step.emitted().and_then(|n| self.tokens().get(&n).cloned()));
            match step {
                Step::Join(joined) if joined == room && member != Some(true) => match (&token, &at) {
                    // The offset of a new join is its own position.
                    (Some(token), Some(at)) if token < at => return member,
                    (Some(_), Some(_)) => member = Some(true),
                    _ => return None,
                },
                Step::Leave(left) if left == room && member != Some(false) => match (&token, &known) {
                    (Some(token), Some(known)) if token < known => return member,
                    // The leave is between `known` and the next known position; a later step may
                    // settle it.
                    (Some(token), _) => match self.next_known(client, step, results) {
                        Some(next) if *token > next => member = Some(false),
                        _ => return None,
                    },
                    _ => return None,
                },
                _ => {}
            }
            known = at.or(known);
        }
        member
    }

    /// First known position of the client's program after `step`.
    fn next_known(&self, client: usize, step: &Step, results: &[Option<String>]) -> Option<String> {
        let program = &self.programs[client];
        let behind = program.iter().zip(results).skip_while(|(other, _)| !std::ptr::eq(*other, step)).skip(1);
        behind
            .filter(|(step, _)| step.emitted().is_some())
            .find_map(|(step, _)| self.tokens().get(&step.emitted()?).cloned())
    }

    /// Position of each event by its offset, which is equal for all clients.
    fn tokens(&self) -> BTreeMap<u64, String> {
        let mut tokens = BTreeMap::new();
        for received in self.received.iter().flatten() {
            if let Received::Event { n, token: Some(token) } = received {
                let before = tokens.insert(*n, token.clone());
                assert!(before.is_none_or(|before| before == *token), "event {n} has two offsets");
            }
        }
        tokens
    }

    /// All clients see their common events in one order; with recovery on it is the order of
    /// offsets.
    fn check_one_order(&self) {
        assert_eq!(self.tokens().is_empty(), !self.recovery);
        let views: Vec<Vec<u64>> = (0..self.received.len()).map(|client| self.events(client)).collect();
        for (client, view) in views.iter().enumerate() {
            if self.recovery {
                let tokens = self.tokens();
                assert!(view.is_sorted_by_key(|n| &tokens[n]), "client {client}\n{}", self.trace(client));
            }
            let places: HashMap<u64, usize> = view.iter().enumerate().map(|(place, n)| (*n, place)).collect();
            for (other, view) in views.iter().enumerate() {
                let shared: Vec<usize> = view.iter().filter_map(|n| places.get(n).copied()).collect();
                assert!(shared.is_sorted(), "{client} and {other}\n{}\n{}", self.trace(client), self.trace(other));
            }
        }
    }

    fn trace(&self, client: usize) -> String {
        let (rooms, program) = (&self.rooms_before[client], &self.programs[client]);
        format!("client {client} in {rooms:?}\n  ran   {program:?}\n  received {:?}", self.received[client])
    }
}

fn program(random: &mut Random, ids: &[String], next: &mut u64) -> Vec<Step> {
    let steps = 1 + random.below(7);
    let mut number = || {
        *next += 1;
        *next
    };
    let step = |_| match random.below(14) {
        0..=2 => Step::Join(random.room()),
        3 | 4 => Step::Leave(random.room()),
        5..=7 => Step::Publish(random.room(), number()),
        8 => Step::Others(random.room(), number()),
        9 => Step::Both(random.room(), random.room(), number()),
        10 | 11 => Step::Direct(number()),
        12 => Step::All(number()),
        _ => Step::Socket(ids[random.below(ids.len())].clone(), number()),
    };
    (0..steps).map(step).collect()
}

fn seed() -> u64 {
    let given = std::env::var("STENTOR_SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64) | 1
}

fn run_rounds(recovery: Recovery) {
    let seed = seed();
    println!("STENTOR_SEED={seed}");
    let on = recovery == Recovery::memory();
    let hub = Hub::on_workers(2, |builder| builder.recovery(recovery), register);
    let mut random = Random(seed);
    let transports = Transport::ALL;
    let mut participants: Vec<Participant> =
        (0..CLIENTS).map(|n| Participant::join(&hub, transports[n % transports.len()])).collect();
    let (mut steps, mut next) = (0, 0);
    while steps < STEPS {
        let ids: Vec<String> = participants.iter().map(|participant| participant.id.clone()).collect();
        let programs: Vec<_> = participants.iter().map(|_| program(&mut random, &ids, &mut next)).collect();
        let rooms_before = participants.iter().map(|participant| participant.rooms.clone()).collect();
        for (participant, program) in participants.iter_mut().zip(&programs) {
            participant.client.send(&format!("4277{}", json!(["program", program])));
            step_upgrade(&mut random, participant);
        }
        steps += programs.iter().map(Vec::len).sum::<usize>();
        next += 1;
        let received = end_round(&mut participants, next);
        for (participant, program) in participants.iter_mut().zip(&programs) {
            for step in program {
                match step {
                    Step::Join(room) => drop(participant.rooms.insert(room.clone())),
                    Step::Leave(room) => drop(participant.rooms.remove(room)),
                    _ => {}
                }
            }
        }
        Round { recovery: on, ids: &ids, rooms_before, programs, received, barrier: next }.check();
        replace_one(&mut random, &hub, &mut participants);
    }
    println!("{steps} steps, {next} numbers");
}

/// Each client waits for its own ack; then one client emits the barrier, which follows all other
/// events.
fn end_round(participants: &mut [Participant], barrier: u64) -> Vec<Vec<Received>> {
    let mut received: Vec<Vec<Received>> = participants
        .iter_mut()
        .map(|participant| participant.receive_until(|received| matches!(received, Received::Ack { .. })))
        .collect();
    let (last, others) = participants.split_last_mut().unwrap();
    last.client.send(&format!(r#"42["program",[{{"all":{barrier}}}]]"#));
    for (received, participant) in received.iter_mut().zip(others.iter_mut().chain([last])) {
        received.extend(
            participant.receive_until(|received| matches!(received, Received::Event { n, .. } if *n == barrier)),
        );
    }
    received
}

/// A polling client begins an upgrade now and then, and finishes it some rounds later with events
/// in flight.
fn step_upgrade(random: &mut Random, participant: &mut Participant) {
    if let Some(candidate) = participant.candidate.take() {
        if random.below(3) == 0 {
            participant.client.promote(candidate);
        } else {
            participant.candidate = Some(candidate);
        }
    } else if participant.client.is_polling() && random.below(10) == 0 {
        participant.candidate = Some(participant.client.probe());
    }
}

/// Now and then one client disconnects and another connects.
fn replace_one(random: &mut Random, hub: &Hub, participants: &mut [Participant]) {
    if random.below(8) == 0 {
        let gone = random.below(participants.len());
        let transport = Transport::ALL[random.below(Transport::ALL.len())];
        let newcomer = Participant::join(hub, transport);
        participants[gone] = newcomer;
    }
}

#[test]
fn all_clients_see_one_order_with_recovery_off() {
    run_rounds(Recovery::off());
}

#[test]
fn all_clients_see_one_order_with_recovery_on() {
    run_rounds(Recovery::memory());
}
