//! The cost of encoding and decoding: an outgoing event, an incoming event, the body of a poll,
//! frames of a websocket.

use bytestring::ByteString;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use std::hint::black_box;
use std::time::Duration;
use stentor::bench_support::codec::{self, Event, Frames};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An event's argument of this many bytes, as JSON.
fn argument(bytes: usize) -> String {
    format!("\"{}\"", "x".repeat(bytes))
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode an event");
    for bytes in [100, 10_000] {
        let argument = argument(bytes);
        group.throughput(Throughput::Bytes(bytes as u64));
        for (name, token) in [("without token", false), ("with token", true)] {
            group.bench_with_input(BenchmarkId::new(name, bytes), &argument, |bencher, argument| {
                bencher.iter(|| codec::encode("message", black_box(argument), token));
            });
        }
    }
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode an event");
    for bytes in [100, 10_000] {
        let text = ByteString::from(format!("4217[\"publish\",\"lobby\",{}]", argument(bytes)));
        assert!(codec::is_packet(text.clone()));
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_with_input(BenchmarkId::from_parameter(bytes), &text, |bencher, text| {
            bencher.iter(|| codec::is_packet(black_box(text.clone())));
        });
    }
}

fn poll(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("answer a poll");
    for events in [1, 100] {
        let waiting: Vec<Event> = (0..events).map(|_| codec::encode("message", &argument(100), false)).collect();
        assert!(codec::poll(&waiting).len() > events * 100);
        group.throughput(Throughput::Elements(events as u64));
        group.bench_with_input(BenchmarkId::new("events", events), &waiting, |bencher, waiting| {
            bencher.iter(|| codec::poll(black_box(waiting)));
        });
    }
}

fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("read a websocket");
    for (frames, bytes) in [(1, 100), (64, 100), (1, 10_000)] {
        let frame = codec::client_frame(&format!("42[\"message\",{}]", argument(bytes)));
        let chunk = frame.repeat(frames);
        assert_eq!(Frames::new().read(&chunk), frames);
        group.throughput(Throughput::Elements(frames as u64));
        group.bench_with_input(BenchmarkId::new(format!("frames of {bytes}"), frames), &chunk, |bencher, chunk| {
            bencher.iter_batched_ref(Frames::new, |reader| reader.read(black_box(chunk)), BatchSize::SmallInput);
        });
    }
}

fn main() {
    let mut criterion = Criterion::default()
        .without_plots()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    for bench in [encode, decode, poll, frames] {
        bench(&mut criterion);
    }
    criterion.final_summary();
}
