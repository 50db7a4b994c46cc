//! The cost of a broadcast through server sender, hub sender, hub and fanout to outboxes whose
//! drainers accept all packets and write none.

#[path = "scale/client.rs"]
mod client;
#[expect(dead_code, reason = "shared with the bench of sessions, which needs all of it")]
#[path = "scale/fleet.rs"]
mod fleet;
#[expect(dead_code, reason = "shared with the bench of sessions, which needs all of it")]
#[path = "scale/meter.rs"]
mod meter;

use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use fleet::Fleet;
use stentor::Recovery;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn std::error::Error>;

/// Number of broadcasts in flight.
const WINDOW: usize = 64;

/// A server with a worker, and its clients, distributed over the rooms in turn.
async fn fleet(recovery: Recovery, rooms: &[String], members: usize) -> Result<Fleet, Failure> {
    let names = rooms.to_vec();
    let joined = Arc::new(move |number: usize| vec![names[number % names.len()].clone()]);
    // Longer than this bench takes.
    let ping_interval = Duration::from_secs(24 * 60 * 60);
    let mut fleet = Fleet::start(1, recovery, ping_interval, joined).await?;
    fleet.grow(rooms.len() * members).await?;
    Ok(fleet)
}

fn main() -> Result<(), Failure> {
    let mut criterion = Criterion::default()
        .without_plots()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(10)
        .configure_from_args();
    let system = actix::System::new();
    for (kind, recovery) in [("recovery off", Recovery::off()), ("recovery in memory", Recovery::memory())] {
        let mut group = criterion.benchmark_group(format!("broadcast, {kind}"));
        // Long samples, because their end is noticed with a delay of up to a millisecond.
        group.sampling_mode(SamplingMode::Flat);
        for (rooms, members) in [(1, 10), (1, 1_000), (100, 10)] {
            let names: Vec<_> = (0..rooms).map(|room| format!("room-{room}")).collect();
            let mut fleet = system.block_on(fleet(recovery.clone(), &names, members))?;
            group.throughput(Throughput::Elements(members as u64));
            group.bench_function(BenchmarkId::new("rooms x members", format!("{rooms}x{members}")), |bencher| {
                bencher.iter_custom(|count| {
                    // Complete rounds, so that each room gets the same number.
                    let rounds = (count as usize).div_ceil(rooms);
                    let took = system.block_on(fleet.broadcast(&names, members, rounds, WINDOW));
                    let took = took.unwrap_or_else(|failure| panic!("{failure}")).took;
                    took.mul_f64(count as f64 / (rounds * rooms) as f64)
                });
            });
        }
    }
    criterion.final_summary();
    Ok(())
}
