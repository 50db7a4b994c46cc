//! Random sequences of changes: both stores answer the same and hold the same.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::*;
use crate::queue::limits::RetentionRule;
use crate::queue::record::SubscriberState;

const NAMES: [&str; 3] = ["s", "t", "u"];
const ROOMS: [&str; 4] = ["a", "b", "kept.a", "few.a"];

fn limits() -> StoreLimits {
    let rule = |pattern: &str| RetentionRule { pattern: pattern.into(), ..Default::default() };
    StoreLimits {
        queue_bytes_max: 4_000,
        dead_letters_max: 2,
        dedup_ids_max: 8,
        subscriptions_per_subscriber_max: 3,
        gaps_per_room_max: 4,
        subscriber_expiry: Duration::from_secs(500),
        tombstone_for: Duration::from_secs(1000),
        dedup_window: Duration::from_secs(200),
        retention: vec![
            RetentionRule { max_age: Some(Duration::from_secs(100)), ..rule("kept.*") },
            RetentionRule { max_events: Some(3), ..rule("few.*") },
        ],
        ..StoreLimits::default()
    }
}

/// One step: a batch of changes, a wait, or a restart.
#[derive(Debug, Clone)]
enum Step {
    Commit(Vec<Draft>),
    Wait(u64),
    Reopen,
}

/// A change whose numbers count back from the newest event.
#[derive(Debug, Clone)]
enum Draft {
    Publish { rooms: Vec<usize>, dedup: Option<u8>, content: u8, expires_in: Option<u64> },
    Revealed(u64),
    Create(usize),
    Subscribe { name: usize, room: usize, back: Option<u64> },
    Unsubscribe { name: usize, room: usize },
    Ack { name: usize, back: Vec<u64> },
    AckUpTo { name: usize, back: u64 },
    AckGap { name: usize, at: usize },
    Term { name: usize, back: u64 },
    Failed { name: usize, back: u64 },
    Replay(usize),
    PurgeSubscriber { name: usize, back: u64 },
    PurgeRoom { room: usize, back: u64 },
    Remove(usize),
    Touch(usize),
    Attach { name: usize, create: bool },
    Detach { name: usize, back: u64 },
    DetachAll,
    Expire,
}

fn drafts() -> impl Strategy<Value = Draft> {
    let name = 0..NAMES.len();
    let room = 0..ROOMS.len();
    let back = 0..12_u64;
    let rooms = proptest::collection::vec(room.clone(), 1..4);
    let dedup = proptest::option::weighted(0.3, 0..6_u8);
    let expires_in = proptest::option::weighted(0.2, 0..200_u64);
    prop_oneof![
        12 => (rooms, dedup, 0..2_u8, expires_in)
            .prop_map(|(rooms, dedup, content, expires_in)| Draft::Publish { rooms, dedup, content, expires_in }),
        6 => (0..3_u64).prop_map(Draft::Revealed),
        3 => name.clone().prop_map(Draft::Create),
        8 => (name.clone(), room.clone(), proptest::option::weighted(0.6, back.clone()))
            .prop_map(|(name, room, back)| Draft::Subscribe { name, room, back }),
        3 => (name.clone(), room.clone()).prop_map(|(name, room)| Draft::Unsubscribe { name, room }),
        8 => (name.clone(), proptest::collection::vec(back.clone(), 1..4)).prop_map(|(name, back)| Draft::Ack { name, back }),
        4 => (name.clone(), back.clone()).prop_map(|(name, back)| Draft::AckUpTo { name, back }),
        2 => (name.clone(), back.clone()).prop_map(|(name, at)| Draft::AckGap { name, at: at as usize }),
        3 => (name.clone(), back.clone()).prop_map(|(name, back)| Draft::Term { name, back }),
        2 => (name.clone(), back.clone()).prop_map(|(name, back)| Draft::Failed { name, back }),
        1 => name.clone().prop_map(Draft::Replay),
        2 => (name.clone(), back.clone()).prop_map(|(name, back)| Draft::PurgeSubscriber { name, back }),
        1 => (room, back).prop_map(|(room, back)| Draft::PurgeRoom { room, back }),
        1 => name.clone().prop_map(Draft::Remove),
        1 => name.clone().prop_map(Draft::Touch),
        2 => (name.clone(), any::<bool>()).prop_map(|(name, create)| Draft::Attach { name, create }),
        2 => (name, 0..12_u64).prop_map(|(name, back)| Draft::Detach { name, back }),
        1 => Just(Draft::DetachAll),
        2 => Just(Draft::Expire),
    ]
}

fn steps(count: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => proptest::collection::vec(drafts(), 1..5).prop_map(Step::Commit),
        2 => (0..150_u64).prop_map(Step::Wait),
        2 => (0..NAMES.len(), 0..ROOMS.len(), 0..12_u64, 0..6_u64).prop_map(|(name, room, back, to)| {
            // A subscription to the past whose events are handled before they are counted.
            let subscribe = Draft::Subscribe { name, room, back: Some(back) };
            Step::Commit(vec![Draft::Revealed(0), Draft::Create(name), subscribe, Draft::AckUpTo { name, back: to }])
        }),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..count)
}

impl Draft {
    fn change(&self, b: &mut Bench) -> Change {
        let (head, now) = (b.store.head().number, b.now);
        let to = |back: u64| head.saturating_sub(back);
        match self {
            Self::Publish { rooms, dedup, content, expires_in } => {
                let rooms: Vec<&str> = rooms.iter().map(|room| ROOMS[*room]).collect();
                let mut event = event(&rooms, &format!("content {content}"));
                event.expires_at = expires_in.map(|seconds| UnixMillis(now.0 + seconds * 1000));
                event.dedup = dedup.map(|id| Dedup {
                    id: Bytes::from(vec![id]),
                    content: ContentHash::of(&event.rooms, &event.payload),
                });
                Change::Publish(Box::new(event))
            }
            Self::Revealed(back) => Change::Revealed { up_to: to(*back) },
            Self::Create(name) => Change::CreateSubscriber { subscriber: key(NAMES[*name]) },
            Self::Subscribe { name, room, back } => {
                subscribe(NAMES[*name], ROOMS[*room], back.map_or(StartPosition::Now, |back| after(to(back))))
            }
            Self::Unsubscribe { name, room } => unsubscribe(NAMES[*name], ROOMS[*room]),
            Self::Ack { name, back } => ack(NAMES[*name], &back.iter().map(|back| to(*back)).collect::<Vec<_>>()),
            Self::AckUpTo { name, back } => ack_up_to(NAMES[*name], to(*back)),
            Self::AckGap { name, at } => {
                let gaps = b.gaps(NAMES[*name]);
                let gap = if gaps.is_empty() {
                    gap(1, 9, Some(3), GapReason::Expired)
                } else {
                    gaps[at % gaps.len()].clone()
                };
                ack_gap(NAMES[*name], gap)
            }
            Self::Term { name, back } => term(NAMES[*name], to(*back)),
            Self::Failed { name, back } => {
                failed(NAMES[*name], to(*back), *back as u32 + 1, UnixMillis(now.0 + 20_000 * (back % 4)))
            }
            Self::Replay(name) => Change::ReplayDead { subscriber: key(NAMES[*name]), numbers: None },
            Self::PurgeSubscriber { name, back } => {
                Change::PurgeSubscriber { subscriber: key(NAMES[*name]), up_to: to(*back) }
            }
            Self::PurgeRoom { room: name, back } => {
                Change::PurgeRoom { namespace: NamespacePath::root(), room: room(ROOMS[*name]), up_to: to(*back) }
            }
            Self::Remove(name) => Change::RemoveSubscriber { subscriber: key(NAMES[*name]) },
            Self::Touch(name) => Change::Touch { subscriber: key(NAMES[*name]), seen_at: now },
            Self::Attach { name, create } => Change::Attach { subscriber: key(NAMES[*name]), create: *create },
            Self::Detach { name, back } => Change::Detach { subscriber: key(NAMES[*name]), sent_up_to: to(*back) },
            Self::DetachAll => Change::DetachAll,
            Self::Expire => Change::Expire { budget: 10_000 },
        }
    }
}

/// All that the readers of two stores can see.
fn compare(a: &mut Bench, b: &mut Bench) -> Result<(), TestCaseError> {
    prop_assert_eq!(a.totals(), b.totals());
    prop_assert_eq!(a.reader.subscribers(None, 99).unwrap(), b.reader.subscribers(None, 99).unwrap());
    prop_assert_eq!(a.reader.unrevealed(0, ALL).unwrap(), b.reader.unrevealed(0, ALL).unwrap());
    for name in NAMES {
        prop_assert_eq!(a.page(name, 0, ALL), b.page(name, 0, ALL), "pending {}", name);
        prop_assert_eq!(a.gaps(name), b.gaps(name), "gaps {}", name);
        prop_assert_eq!(a.dead(name), b.dead(name), "dead {}", name);
        let backlog = |bench: &mut Bench| bench.reader.backlog(&key(name), 3).unwrap();
        prop_assert_eq!(backlog(a), backlog(b), "backlog {}", name);
        let pages = [PageLimit { events: 2, bytes: usize::MAX }, PageLimit { events: 9, bytes: 20 }];
        for limit in pages {
            prop_assert_eq!(a.page(name, 3, limit), b.page(name, 3, limit));
        }
        for limit in [ALL, PageLimit { events: 2, bytes: 20 }] {
            let read = |b: &mut Bench| b.reader.deliverable(&key(name), 3, &[1, 5], b.now, limit).unwrap();
            prop_assert_eq!(read(a), read(b), "deliverable {}", name);
        }
        let few = |bench: &mut Bench| bench.reader.gaps(&key(name), 2, 2).unwrap();
        prop_assert_eq!(few(a), few(b), "gaps {}", name);
    }
    for name in ROOMS {
        let read = |bench: &mut Bench| bench.reader.events(&NamespacePath::root(), &[room(name)], 0, ALL).unwrap();
        prop_assert_eq!(read(a), read(b), "room {}", name);
    }
    Ok(())
}

/// Runs steps on both stores.
fn run(steps: &[Step]) -> Result<(), TestCaseError> {
    let (mut memory, mut sqlite) = (Bench::memory(limits()), Bench::sqlite(limits()));
    for step in steps {
        match step {
            Step::Wait(seconds) => {
                memory.wait(Duration::from_secs(*seconds));
                sqlite.wait(Duration::from_secs(*seconds));
            }
            Step::Reopen => sqlite = sqlite.reopen(),
            Step::Commit(drafts) => {
                // Work is finished between changes: when events are freed can be seen by a
                // subscription to the past.
                for draft in drafts {
                    let change = draft.change(&mut memory);
                    match (memory.apply(change.clone()), sqlite.apply(change.clone())) {
                        // A store that was opened reports gaps that it does not know.
                        (
                            Outcome::Expired { has_new_gaps, .. },
                            Outcome::Expired { has_new_gaps: has_reported, .. },
                        ) => {
                            prop_assert!(has_reported || !has_new_gaps);
                            sqlite.complete(&change);
                        }
                        (expected, outcome) => prop_assert_eq!(expected, outcome, "{:?}", change),
                    }
                }
            }
        }
        compare(&mut memory, &mut sqlite)?;
    }
    Ok(())
}

/// Each case is up to 40 commits of a few changes, each with a sync; `PROPTEST_CASES` asks for
/// more.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(32)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn both_stores_answer_the_same_and_hold_the_same(steps in steps(40)) {
        run(&steps)?;
    }

    /// Batches with work left over: what is pending does not depend on it.
    #[test]
    fn unfinished_work_cannot_be_seen(steps in steps(40)) {
        // One row of work a commit, and no gap that becomes a range early because a row is still
        // there.
        let limits = StoreLimits { gaps_per_room_max: 10_000, ..limits() };
        let (mut memory, mut sqlite) = (Bench::memory(limits.clone()), Bench::sqlite_with(limits, 1));
        for step in &steps {
            let Step::Commit(drafts) = step else { continue };
            let changes: Vec<Change> = drafts
                .iter()
                .map(|draft| match draft {
                    // The events that are still stored depend on the work that was done.
                    Draft::Subscribe { name, room, .. } => Draft::Subscribe { name: *name, room: *room, back: None },
                    other => other.clone(),
                })
                .filter(|draft| !matches!(draft, Draft::PurgeRoom { .. } | Draft::Expire | Draft::Publish { .. }))
                .map(|draft| draft.change(&mut memory))
                .chain([publish(&["a", "b"], "x"), publish(&["b"], "x")])
                .collect();
            let outcomes = sqlite.store.commit(&changes, sqlite.now).unwrap();
            let expected = memory.store.commit(&changes, memory.now).unwrap();
            // Freed bytes are counted later.
            if outcomes.iter().any(|outcome| matches!(outcome, Outcome::Refused(Refusal::Overloaded { .. }))) {
                return Ok(());
            }
            prop_assert_eq!(outcomes, expected);
            for name in NAMES {
                prop_assert_eq!(memory.page(name, 0, ALL), sqlite.page(name, 0, ALL), "pending {}", name);
                prop_assert_eq!(memory.gaps(name), sqlite.gaps(name), "gaps {}", name);
            }
        }
        sqlite.settle();
        compare(&mut memory, &mut sqlite)?;
    }

    /// Batches with work left over and restarts, also with subscriptions to the past: no event
    /// disappears without a gap, gaps count exactly the events that disappeared, and no row remains
    /// that nobody waits for.
    #[test]
    fn nothing_is_lost_silently_and_nothing_leaks(steps in steps(40)) {
        let limits = StoreLimits { retention: Vec::new(), gaps_per_room_max: 10_000, ..limits() };
        let mut b = Bench::sqlite_with(limits, 1);
        let mut lost = NAMES.map(|_| BTreeSet::new());
        for step in &steps {
            match step {
                Step::Wait(seconds) => b.wait(Duration::from_secs(*seconds)),
                Step::Reopen => {
                    let before = NAMES.map(|name| (b.pending(name), b.gaps(name), b.dead(name)));
                    b = b.reopen_with(1);
                    prop_assert_eq!(before, NAMES.map(|name| (b.pending(name), b.gaps(name), b.dead(name))));
                }
                Step::Commit(drafts) => {
                    let changes: Vec<Change> = drafts.iter().map(|draft| draft.change(&mut b)).collect();
                    let before = NAMES.map(|name| b.pending(name));
                    b.store.commit(&changes, b.now).unwrap();
                    if drafts.len() % 2 == 0 {
                        b.settle();
                    }
                    for ((name, before), lost) in NAMES.into_iter().zip(before).zip(&mut lost) {
                        let info = b.reader.subscriber(&key(name)).unwrap();
                        if info.is_none_or(|info| info.state != SubscriberState::Active) {
                            lost.clear();
                            continue;
                        }
                        let (pending, gaps) = (b.pending(name), b.gaps(name));
                        let vanished = before.into_iter().filter(|number| !pending.contains(number));
                        lost.extend(vanished.filter(|number| !may_vanish(&changes, name, *number)));
                        lost.retain(|number| !pending.contains(number));
                        let is_in = |gap: &Gap, number: u64| (gap.from..=gap.to).contains(&number);
                        let is_reported = |number: u64| gaps.iter().any(|gap| is_in(gap, number));
                        lost.retain(|number| is_reported(*number) || !may_be_confirmed(&changes, name, *number));
                        for number in &*lost {
                            prop_assert!(is_reported(*number), "{name} {number} {changes:?}");
                        }
                        let of_unknown: Vec<&Gap> = gaps.iter().filter(|gap| gap.events.is_none()).collect();
                        for gap in gaps.iter().filter(|gap| gap.reason != GapReason::TooManyDead) {
                            let Some(events) = gap.events else { continue };
                            let known = lost.range(gap.from..=gap.to);
                            let known = known.filter(|number| !of_unknown.iter().any(|gap| is_in(gap, **number))).count() as u64;
                            prop_assert!(known <= events, "{name} {known} {gap:?} {lost:?} {changes:?}");
                            let inside = pending.iter().find(|number| is_in(gap, **number));
                            prop_assert!(inside.is_none(), "{name} {gap:?} {inside:?}");
                        }
                    }
                }
            }
        }
        let removals = NAMES.map(|name| Change::RemoveSubscriber { subscriber: key(name) });
        b.commit(&removals);
        b.reveal();
        b.expire();
        let totals = b.totals();
        prop_assert_eq!((totals.events, totals.bytes, totals.dead_letters, totals.subscribers), (0, 0, 0, 0));
        let file = b.scratch.as_ref().unwrap().path().join("queue.sqlite3");
        let database = rusqlite::Connection::open(file).unwrap();
        for table in ["event", "event_room", "gone", "room", "subscriber", "subscription", "acked", "attempt", "dead_letter", "gap"] {
            let count = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
            let rows = database.query_row(&format!("SELECT count(*) FROM {table}"), [], count).unwrap();
            prop_assert_eq!(rows, 0, "rows in {}", table);
        }
    }
}

/// True if a batch may confirm a gap over an event.
fn may_be_confirmed(changes: &[Change], name: &str, number: u64) -> bool {
    let is_confirmed = |change: &Change| match change {
        Change::AckGaps { subscriber, gaps } => {
            *subscriber == key(name) && gaps.iter().any(|gap| (gap.from..=gap.to).contains(&number))
        }
        _ => false,
    };
    changes.iter().any(is_confirmed) || may_vanish(changes, name, number)
}

/// True if a batch takes an event from what is pending for a subscriber, other than by a gap or by
/// the expiry of the subscriber.
fn may_vanish(changes: &[Change], name: &str, number: u64) -> bool {
    changes.iter().any(|change| match change {
        Change::Ack { subscriber, events: Acked::Numbers(numbers) } => {
            *subscriber == key(name) && numbers.contains(&number)
        }
        Change::Ack { subscriber, events: Acked::UpTo(up_to) } => *subscriber == key(name) && number <= *up_to,
        Change::Term { subscriber, number: given_up, .. } => *subscriber == key(name) && number == *given_up,
        Change::Unsubscribe { subscriber, .. } | Change::RemoveSubscriber { subscriber } => *subscriber == key(name),
        _ => false,
    })
}
