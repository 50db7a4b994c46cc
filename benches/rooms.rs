//! The cost of rooms: connects, joins and leaves in the hub's table and in a worker's index, and
//! the members of a broadcast.

use criterion::{BenchmarkId, Criterion, Throughput};
use std::hint::black_box;
use std::time::Duration;
use stentor::bench_support::rooms::{Index, Table};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SIZES: [(usize, usize); 2] = [(1_000, 10), (100_000, 1_000)];

/// A walk over all sockets in an order without cache locality.
fn strewn(sockets: usize) -> impl FnMut() -> usize {
    let mut at = 0;
    move || {
        at = (at + 7_368_787) % sockets;
        at
    }
}

fn table(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hub");
    for (sockets, rooms) in SIZES {
        let mut table = Table::new(sockets, rooms);
        let mut next = strewn(sockets);
        assert_eq!(table.resolve(0, 0), sockets / rooms);
        group.bench_function(BenchmarkId::new("disconnect, connect and join", sockets), |bencher| {
            bencher.iter(|| {
                let socket = next();
                table.disconnect(socket);
                table.connect(socket);
                table.join(socket, socket % rooms)
            });
        });
        group.bench_function(BenchmarkId::new("join and leave a second room", sockets), |bencher| {
            bencher.iter(|| {
                let socket = next();
                let room = (socket + 1) % rooms;
                table.join(socket, room);
                table.leave(socket, room)
            });
        });
        group.bench_function(BenchmarkId::new("resolve a broadcast", sockets), |bencher| {
            bencher.iter(|| {
                let socket = next();
                table.resolve(black_box(socket % rooms), socket)
            });
        });
    }
}

fn index(criterion: &mut Criterion) {
    for (members, rooms) in SIZES {
        let mut index = Index::new(members, rooms);
        let mut next = strewn(members);
        let mut group = criterion.benchmark_group("worker");
        group.bench_function(BenchmarkId::new("join and leave a second room", members), |bencher| {
            bencher.iter(|| {
                let member = next();
                let room = (member + 1) % rooms;
                index.join(member, room);
                index.leave(member, room);
            });
        });
        let size = members / rooms;
        assert_eq!(index.select(&[0], 0), size - 1);
        for count in [1, 2] {
            group.throughput(Throughput::Elements((count * size) as u64));
            group.bench_function(BenchmarkId::new(format!("select {count} rooms of {size}"), members), |bencher| {
                bencher.iter(|| {
                    let room = next() % rooms;
                    index.select(&[room, (room + 1) % rooms][..count], 0)
                });
            });
        }
    }
}

fn main() {
    let mut criterion = Criterion::default()
        .without_plots()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    table(&mut criterion);
    index(&mut criterion);
    criterion.final_summary();
}
