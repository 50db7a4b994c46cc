//! Several workers against one: deliveries per second, in turns, with publishers that are never
//! idle.

use std::sync::Arc;
use std::time::Duration;

use crate::Failure;
use crate::fleet::{Fleet, Measured, Rooms};
use crate::options::Options;
use crate::table::Table;

const ROOMS: usize = 4;

/// Members of each room, including the publisher.
const MEMBERS: usize = 1_000;

/// Number of events that each publisher keeps in flight.
const WINDOW: u32 = 16;

pub(crate) async fn measure(options: &Options, table: &mut Table) -> Result<(), Failure> {
    println!("{ROOMS} rooms of {MEMBERS}, a publisher in each with {WINDOW} events under way");
    let mut one = fleet(1, options).await?;
    let mut many = fleet(options.against, options).await?;
    let events = events_for(&mut one, options.seconds as f64).await?;
    let mut rates = Vec::new();
    let (mut alone, mut together) = (Measured::default(), Measured::default());
    for _ in 0..options.repetitions {
        let pair = [turn(&mut one, events, &mut alone).await?, turn(&mut many, events, &mut together).await?];
        println!("deliveries a second: {:.2} M with 1, {:.2} M with {}", pair[0] / 1e6, pair[1] / 1e6, options.against);
        rates.push(pair);
    }
    let median = |of: &dyn Fn(&[f64; 2]) -> f64| {
        let mut sorted: Vec<f64> = rates.iter().map(of).collect();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    };
    table.add("deliveries, 1 worker", format!("{:.2} M a second", median(&|pair| pair[0]) / 1e6));
    table.add(
        format!("deliveries, {} workers", options.against),
        format!("{:.2} M a second", median(&|pair| pair[1]) / 1e6),
    );
    table.add(
        format!("{} workers against one", options.against),
        format!("{:.2} times", median(&|pair| pair[1] / pair[0])),
    );
    let events = events * options.repetitions;
    table.add("time, 1 worker", shares(&one, &alone, events));
    table.add(format!("time, {} workers", options.against), shares(&many, &together, events));
    Ok(())
}

async fn fleet(workers: usize, options: &Options) -> Result<Fleet, Failure> {
    let listeners = ROOMS * (MEMBERS - 1);
    let rooms: Rooms = Arc::new(move |number| {
        let room = format!("room-{}", number % ROOMS);
        if number < listeners { vec![room] } else { vec![room, "publishers".to_owned()] }
    });
    // Longer than this bench takes.
    let ping_interval = Duration::from_secs(24 * 60 * 60);
    let mut fleet = Fleet::start(workers, options.recovery.clone(), ping_interval, rooms).await?;
    fleet.grow(listeners).await?;
    // `listeners` is a multiple of `ROOMS`.
    fleet.publishers((0..ROOMS).map(|room| format!("room-{room}")).collect(), WINDOW).await?;
    Ok(fleet)
}

/// Number of events per publisher that take about this long.
async fn events_for(fleet: &mut Fleet, seconds: f64) -> Result<usize, Failure> {
    let mut events = 64;
    loop {
        let took = fleet.publish(ROOMS, MEMBERS, events).await?.took.as_secs_f64();
        if took > 0.2 {
            return Ok((events as f64 * seconds / took) as usize);
        }
        events *= 2;
    }
}

/// Runs one turn; gives deliveries per second.
async fn turn(fleet: &mut Fleet, events: usize, sum: &mut Measured) -> Result<f64, Failure> {
    let measured = fleet.publish(ROOMS, MEMBERS, events).await?;
    sum.spent.add(&measured.spent);
    sum.took += measured.took;
    Ok((ROOMS * MEMBERS * events) as f64 / measured.took.as_secs_f64())
}

/// CPU use of each thread, and CPU time of a delivery on all threads. A worker that neither ran nor
/// waited for a CPU had nothing to do.
fn shares(fleet: &Fleet, measured: &Measured, events: usize) -> String {
    let percent = |nanos: u64| format!("{:.0} %", nanos as f64 / measured.took.as_nanos() as f64 * 100.0);
    let workers: Vec<_> = fleet
        .workers
        .iter()
        .map(|worker| measured.spent.of(worker.id))
        .map(|share| format!("ran {}, waited for a CPU {}", percent(share.ran), percent(share.waited)))
        .collect();
    let all = measured.spent.all();
    let beside = percent(all - fleet.on_workers(&measured.spent));
    let per_delivery = all as f64 / (ROOMS * MEMBERS * events) as f64;
    format!("{}; beside workers {beside}; {per_delivery:.0} ns a delivery", workers.join("; "))
}
