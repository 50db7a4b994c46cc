//! Facts of the delivery of one subscriber's events.

use super::*;

const LIMITS: DeliveryLimits = DeliveryLimits {
    in_flight_max: 2,
    in_flight_bytes_max: 100,
    ack_wait: 30,
    back_off: Vec::new(),
    max_deliver: 20,
    nak_delay_max: 1_000,
};

fn limits() -> DeliveryLimits {
    DeliveryLimits { back_off: vec![1, 5], ..LIMITS }
}

fn event(number: u64) -> PendingEvent {
    PendingEvent { number, attempts: 0, alone: false, bytes: 1, content: () }
}

/// A delivery over a connection that has read these events, and what it did.
fn reading(events: &[PendingEvent]) -> (Delivery, Vec<Effect>) {
    let mut delivery = Delivery::<()>::new(limits(), Mode::Push, 0, 9);
    let mut effects = Vec::new();
    delivery.advance(UnixMillis(0), &mut effects);
    let next = events.last().map_or(0, |last| last.number);
    let page = Page { fresh: events.to_vec(), next, ..Page::default() };
    delivery.on_page(page, UnixMillis(0), &mut effects);
    (delivery, effects)
}

fn sent(effects: &[Effect]) -> Vec<u64> {
    let sent = |effect: &Effect| match effect {
        Effect::Send { number, .. } => Some(*number),
        _ => None,
    };
    effects.iter().filter_map(sent).collect()
}

#[test]
fn events_in_flight_are_bounded_and_an_ack_makes_room() {
    let (mut delivery, mut effects) = reading(&[event(1), event(2), event(3)]);
    assert_eq!(sent(&effects), [1, 2]);
    effects.clear();
    delivery.on_ack(1, UnixMillis(1), &mut effects).unwrap();
    assert_eq!(effects, [Effect::Commit { number: 1, settlement: Settlement::Acked }]);
    effects.clear();
    delivery.on_commit(1, Settlement::Acked, true, UnixMillis(2), &mut effects);
    assert_eq!(sent(&effects), [3]);
}

#[test]
fn a_page_is_as_large_as_the_room_in_flight_or_a_part_of_its_bound() {
    for (in_flight, expected) in [(0, (8, 160)), (3, (5, 100)), (7, (2, 20)), (5, (3, 60))] {
        let limits = DeliveryLimits { in_flight_max: 8, in_flight_bytes_max: 160, ..limits() };
        let mut delivery = Delivery::<()>::new(limits, Mode::Push, 0, 9);
        let mut effects = Vec::new();
        delivery.advance(UnixMillis(0), &mut effects);
        let fresh = (1..=in_flight).map(|number| PendingEvent { bytes: 20, ..event(number) }).collect();
        let page = Page { fresh, next: in_flight, more: true, ..Page::default() };
        delivery.on_page(page, UnixMillis(0), &mut effects);
        let Some(Effect::Read { events_max, bytes_max, .. }) = effects.last() else { panic!("{effects:?}") };
        assert_eq!((*events_max, *bytes_max), expected);
    }
}

#[test]
fn events_that_wait_for_room_are_bounded_in_bytes() {
    let (mut delivery, mut effects) = reading(&[event(1), event(2)]);
    for number in 3..=4 {
        let large = PendingEvent { bytes: 60, ..event(number) };
        delivery.on_event(large, UnixMillis(1), &mut effects);
    }
    let waiting: Vec<u64> = delivery.ready.iter().map(|event| event.number).collect();
    assert_eq!((waiting, delivery.unread), (vec![3], true), "the other one is read again");
}

#[test]
fn acks_of_earlier_connections_are_accepted_within_a_bound() {
    let (mut delivery, _) = reading(&[]);
    let mut effects = Vec::new();
    assert_eq!(delivery.on_ack(5, UnixMillis(1), &mut effects), Ok(()));
    assert_eq!(delivery.on_ack(5, UnixMillis(1), &mut effects), Ok(()), "repeated: one commit");
    assert_eq!(delivery.on_ack(6, UnixMillis(1), &mut effects), Ok(()));
    assert_eq!(delivery.on_ack(7, UnixMillis(1), &mut effects), Err(Refused::Overloaded));
    assert_eq!(delivery.on_ack(10, UnixMillis(1), &mut effects), Err(Refused::NeverSent));
    assert_eq!(effects.len(), 2);
}

#[test]
fn a_page_without_fresh_events_is_read_once() {
    let mut delivery = Delivery::<()>::new(limits(), Mode::Push, 0, 9);
    let mut effects = Vec::new();
    delivery.advance(UnixMillis(0), &mut effects);
    let damaged = Page { next: 2, more: true, ..Page::default() };
    delivery.on_page(damaged, UnixMillis(0), &mut effects);
    let read = |effect: &Effect| match effect {
        Effect::Read { after, .. } => Some(*after),
        _ => None,
    };
    assert_eq!(effects.iter().filter_map(read).collect::<Vec<_>>(), [0, 2]);
}

#[test]
fn an_ack_whose_commit_failed_is_committed_again() {
    let (mut delivery, _) = reading(&[event(1)]);
    let mut effects = Vec::new();
    delivery.on_ack(1, UnixMillis(1), &mut effects).unwrap();
    delivery.on_commit(1, Settlement::Acked, false, UnixMillis(2), &mut effects);
    delivery.advance(UnixMillis(32), &mut effects);
    let commit = Effect::Commit { number: 1, settlement: Settlement::Acked };
    assert_eq!(effects, [commit.clone(), commit]);
}

#[test]
fn an_event_that_may_end_its_client_is_sent_alone() {
    let suspect = PendingEvent { attempts: 2, alone: true, ..event(1) };
    let (mut delivery, effects) = reading(&[suspect, event(2)]);
    assert_eq!(sent(&effects), [1]);
    let mut effects = Vec::new();
    delivery.on_ack(1, UnixMillis(1), &mut effects).unwrap();
    delivery.on_commit(1, Settlement::Acked, true, UnixMillis(1), &mut effects);
    assert_eq!(sent(&effects), [2]);
}

#[test]
fn a_lost_connection_counts_for_its_oldest_event_alone() {
    let (delivery, _) = reading(&[event(1), event(2)]);
    let mut effects = Vec::new();
    delivery.on_connection_lost(UnixMillis(7), &mut effects);
    let settlement = Settlement::Retry { attempts: 1, alone: false, at: UnixMillis(7) };
    assert_eq!(effects, [Effect::Commit { number: 1, settlement }]);
}
