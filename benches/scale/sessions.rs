//! Scaling with sessions from a thousand to a million: memory per session, CPU of a connect, a
//! heartbeat and a delivery.

use std::sync::Arc;
use std::time::{Duration, Instant};

use stentor::bench_support::line;

use crate::Failure;
use crate::client::Listener;
use crate::fleet::{Fleet, Rooms};
use crate::meter::{self, Times};
use crate::options::Options;
use crate::table::Table;

/// Sizes of rooms, in addition to the room of all sessions.
const ROOMS: [usize; 5] = [10, 100, 1_000, 10_000, 100_000];

/// Numbers of sessions at which memory is read.
const STEPS: [usize; 3] = [1_000, 10_000, 100_000];

/// The room of all sessions.
const ALL: &str = "all";

/// A prime, so that members of a room are scattered over all sessions: `n -> n * STREW % sessions`
/// meets each once.
const STREW: usize = 7_368_787;

/// Maximum number of members of all rooms with an event in flight.
const REACH: usize = 64_000;

pub(crate) async fn measure(options: &Options, table: &mut Table) -> Result<(), Failure> {
    let (sessions, workers) = (options.sessions, options.workers);
    println!("{sessions} sessions on {workers} worker(s), {:?}, without sockets", options.recovery);
    table.add("line instead of a socket", format!("{} bytes a session", line::line_bytes::<Listener>()));
    let begun = Instant::now();
    // The first pings are due approximately when everything else has been measured.
    let ping_interval = Duration::from_secs(10) + Duration::from_micros(50) * u32::try_from(sessions)?;
    let mut fleet = Fleet::start(workers, options.recovery.clone(), ping_interval, rooms(sessions)).await?;
    grow(&mut fleet, sessions, table).await?;
    for members in ROOMS.into_iter().filter(|members| *members < sessions) {
        deliver(&mut fleet, &members.to_string(), members, options.deliveries, table).await?;
    }
    deliver(&mut fleet, ALL, sessions, options.deliveries, table).await?;
    heartbeat(&fleet, begun + ping_interval, table).await?;
    table.add("peak memory", format!("{:.2} GiB", meter::peak()? as f64 / (1u64 << 30) as f64));
    if fleet.io.sessions() != sessions {
        let metrics = fleet.io.metrics();
        let closed: Vec<_> = metrics.lines().filter(|line| line.starts_with("stentor_sessions_closed_total")).collect();
        return Err(format!(
            "expected {sessions} sessions at the end, found {}: {}",
            fleet.io.sessions(),
            closed.join(", ")
        )
        .into());
    }
    Ok(())
}

fn rooms(sessions: usize) -> Rooms {
    Arc::new(move |number| {
        let place = number * STREW % sessions;
        let rooms = ROOMS.into_iter().filter(|members| *members < sessions && place < *members);
        std::iter::once(ALL.to_owned()).chain(rooms.map(|members| members.to_string())).collect()
    })
}

async fn grow(fleet: &mut Fleet, sessions: usize, table: &mut Table) -> Result<(), Failure> {
    settle().await;
    let empty = meter::resident()?;
    table.add("memory without sessions", format!("{:.1} MiB", empty as f64 / f64::from(1 << 20)));
    let mut last = empty;
    let steps = STEPS.into_iter().filter(|step| *step < sessions).chain([sessions]);
    for step in steps {
        let (before, times, begun) = (fleet.sessions(), Times::now()?, Instant::now());
        fleet.grow(step).await?;
        let (spent, took) = (Times::now()?.since(&times), begun.elapsed());
        settle().await;
        let (resident, opened) = (meter::resident()?, (step - before) as f64);
        table.add(
            format!("{step:>8} sessions, memory"),
            format!(
                "{:.0} bytes a session ({:.0} for each of the last {opened})",
                resident.saturating_sub(empty) as f64 / step as f64,
                resident.saturating_sub(last) as f64 / opened,
            ),
        );
        last = resident;
        table.add(
            format!("{step:>8} sessions, connect and join"),
            format!(
                "{:.2} us of CPU each ({:.2} on their workers), {:.0} a second",
                spent.all() as f64 / opened / 1e3,
                fleet.on_workers(&spent) as f64 / opened / 1e3,
                opened / took.as_secs_f64(),
            ),
        );
    }
    Ok(())
}

async fn deliver(
    fleet: &mut Fleet,
    room: &str,
    members: usize,
    deliveries: usize,
    table: &mut Table,
) -> Result<(), Failure> {
    let window = (REACH / members).clamp(1, 64);
    let broadcasts = (deliveries / members).max(5);
    let pings = fleet.counts().pings;
    // A first run allocates what later runs reuse.
    let room = [room.to_owned()];
    fleet.broadcast(&room, members, 2, window).await?;
    let measured = fleet.broadcast(&room, members, broadcasts, window).await?;
    let per_delivery = |nanos: u64| nanos as f64 / (members * broadcasts) as f64;
    let (here, publisher) = (fleet.on_workers(&measured.spent), measured.spent.of(meter::thread()).ran);
    let elsewhere = measured.spent.all() - here - publisher;
    let per_broadcast = |nanos: u64| nanos as f64 / broadcasts as f64 / 1e3;
    table.add(
        format!("{members:>8} members"),
        format!(
            "{:.0} ns of CPU a delivery ({:.0} on workers); beside workers {:.1} us a broadcast, and {:.1} for its publisher; \
             {broadcasts} broadcasts in {:.2} s",
            per_delivery(measured.spent.all() - publisher),
            per_delivery(here),
            per_broadcast(elsewhere),
            per_broadcast(publisher),
            measured.took.as_secs_f64(),
        ),
    );
    if fleet.counts().pings != pings {
        println!("notice: pings left meanwhile; the figure has their part in it");
    }
    Ok(())
}

/// Sends one ping to every session and waits for the pongs.
async fn heartbeat(fleet: &Fleet, first: Instant, table: &mut Table) -> Result<(), Failure> {
    let wait = first.saturating_duration_since(Instant::now());
    println!("waiting {wait:.0?} for the first ping");
    tokio::time::sleep(wait).await;
    let (before, times) = (fleet.counts().pings, Times::now()?);
    fleet.wait("pings", fleet.sessions() as u64, |counts| counts.pings).await?;
    settle().await;
    let (spent, pings) = (Times::now()?.since(&times), fleet.counts().pings - before);
    table.add("heartbeat", format!("{:.2} us of CPU each ({pings} pings)", spent.all() as f64 / pings as f64 / 1e3));
    Ok(())
}

/// Waits for pending work: allocators release pages after a moment without use.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(500)).await;
}
