//! The cost of access control: the check of a room by the permissions of a client.

use criterion::{BenchmarkId, Criterion};
use std::hint::black_box;
use std::time::Duration;
use stentor::{AccessRules, DefaultAccess, Identity, RoomAccess, RoomPattern};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A user who may publish to the rooms of `count` patterns, of which the last fits `chat:7`.
fn user(count: usize) -> Identity {
    let mut user = Identity::of_user("42").expect("a user");
    let others = (1..count).map(|number| format!("team-{number}:*"));
    let patterns = others.chain(["chat:*".to_owned()]).map(RoomPattern::new);
    user.permissions.publish = patterns.collect::<Result<_, _>>().expect("patterns");
    user
}

fn rules(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("access");
    let mut rules = AccessRules::default();
    rules.publish_default = DefaultAccess::Member;
    for count in [1, 8, 64] {
        let user = user(count);
        for (room, expected) in
            [("chat:7", RoomAccess::Allowed), ("news", RoomAccess::IfMember), ("user:43", RoomAccess::IfMember)]
        {
            assert_eq!(rules.may_publish(&user, room), expected);
            group.bench_function(BenchmarkId::new(format!("publish to {room}, patterns"), count), |bencher| {
                bencher.iter(|| rules.may_publish(black_box(&user), black_box(room)))
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
    rules(&mut criterion);
    criterion.final_summary();
}
