//! Contents of a queue as lines of text.

use std::io::{self, Write};
use std::time::SystemTime;

use stentor::{InspectedEvent, InspectedGap, InspectedSubscriber, InspectedSubscription, QueueStats};

/// A time in UTC, to the second.
pub(super) fn time(at: SystemTime) -> String {
    humantime::format_rfc3339_seconds(at).to_string()
}

/// A name in quotes, without characters that a terminal would act on.
pub(super) fn escaped(name: &str) -> String {
    format!("{name:?}")
}

/// A count with its noun.
pub(super) fn plural(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// A count that may have stopped at its bound.
fn capped(count: u64, is_capped: bool) -> String {
    format!("{count}{}", if is_capped { "+" } else { "" })
}

pub(super) fn heading(out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "{:<24}  {:<10}  {:<7}  {:>7}  {:<20}  {:>6}  LAST SEEN",
        "NAME", "NAMESPACE", "STATE", "PENDING", "OLDEST", "DEAD"
    )
}

pub(super) fn row(subscriber: &InspectedSubscriber, out: &mut impl Write) -> io::Result<()> {
    let InspectedSubscriber { namespace, name, .. } = subscriber;
    writeln!(
        out,
        "{:<24}  {:<10}  {:<7}  {:>7}  {:<20}  {:>6}  {}",
        name,
        namespace.as_str(),
        state(subscriber),
        capped(subscriber.pending, subscriber.is_capped),
        subscriber.oldest_at.map_or_else(|| "-".into(), time),
        subscriber.dead_letters,
        time(subscriber.seen_at)
    )
}

fn state(subscriber: &InspectedSubscriber) -> &'static str {
    if subscriber.expired_at.is_some() { "expired" } else { "active" }
}

pub(super) fn subscriber(subscriber: &InspectedSubscriber, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "subscriber    {} of namespace {}", subscriber.name, subscriber.namespace)?;
    match subscriber.expired_at {
        Some(at) => writeln!(out, "state         expired at {}", time(at))?,
        None => writeln!(out, "state         active")?,
    }
    writeln!(out, "created       {}", time(subscriber.created_at))?;
    writeln!(out, "last seen     {}", time(subscriber.seen_at))?;
    let oldest = subscriber.oldest_at.map(|at| format!(", the oldest since {}", time(at))).unwrap_or_default();
    writeln!(out, "pending       {}{oldest}", capped(subscriber.pending, subscriber.is_capped))?;
    writeln!(out, "dead letters  {}", subscriber.dead_letters)?;
    writeln!(out, "rooms         {}", subscriber.rooms)
}

/// The oldest pending event, which keeps the floor where it is.
pub(super) fn blocking(event: &InspectedEvent, out: &mut impl Write) -> io::Result<()> {
    let InspectedEvent { offset, room, .. } = event;
    write!(out, "blocked by    event {offset} (number {}) of room {}, ", offset.number, escaped(room))?;
    write!(out, "published {}", time(event.published_at))?;
    writeln!(out, "{}", delivery(event))
}

fn delivery(event: &InspectedEvent) -> String {
    let mut text = match event.attempts {
        0 => ", no failed delivery".to_owned(),
        attempts => format!(", {attempts} failed deliver{}", if attempts == 1 { "y" } else { "ies" }),
    };
    if let Some(at) = event.retry_at {
        text += &format!(", next not before {}", time(at));
    }
    if event.alone {
        text += ", alone";
    }
    text
}

pub(super) fn subscription(room: &InspectedSubscription, out: &mut impl Write) -> io::Result<()> {
    let name = if room.is_own { "replayed dead letters".to_owned() } else { escaped(&room.room) };
    write!(out, "  room        {name}: {} pending", capped(room.pending, room.is_capped))?;
    write!(out, ", floor {} (number {})", room.floor, room.floor.number)?;
    write!(out, ", subscribed after number {}", room.after.number)?;
    match room.acked_ranges {
        0 => writeln!(out),
        ranges => writeln!(out, ", {} acknowledged beyond the floor", plural(ranges, "range")),
    }
}

pub(super) fn failed(event: &InspectedEvent, out: &mut impl Write) -> io::Result<()> {
    let InspectedEvent { offset, room, .. } = event;
    let delivery = delivery(event);
    writeln!(out, "  failed      event {offset} (number {}) of room {}{delivery}", offset.number, escaped(room))
}

pub(super) fn gap(gap: &InspectedGap, out: &mut impl Write) -> io::Result<()> {
    let events = gap.events.map(|events| format!(", {}", plural(events, "event"))).unwrap_or_default();
    writeln!(
        out,
        "  gap         {} to {} (numbers {} to {}){events}: {}",
        gap.from, gap.to, gap.from.number, gap.to.number, gap.reason
    )
}

/// Says that a list continues beyond its bound.
pub(super) fn rest(found: usize, shown_max: usize, list: &str, out: &mut impl Write) -> io::Result<()> {
    if found > shown_max { writeln!(out, "  {list:<10}  … further ones are not shown") } else { Ok(()) }
}

pub(super) fn stats(stats: &QueueStats, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "head          {} (number {})", stats.head, stats.head.number)?;
    writeln!(out, "revealed      {} (number {})", stats.revealed, stats.revealed.number)?;
    writeln!(out, "events        {}", stats.events)?;
    writeln!(out, "bytes         {} of events and dead letters", stats.bytes)?;
    writeln!(out, "rooms         {}", stats.rooms)?;
    writeln!(out, "subscribers   {}", stats.subscribers)?;
    writeln!(out, "dead letters  {}", stats.dead_letters)?;
    writeln!(out, "dedup ids     {}", stats.dedup_ids)?;
    writeln!(out, "commits       {}, the newest at {}", stats.commits, time(stats.last_commit_at))?;
    for (path, bytes) in &stats.files {
        writeln!(out, "file          {} {bytes} bytes", path.display())?;
    }
    writeln!(out, "unused        {} bytes of the database", stats.unused_bytes)
}
