//! The end of identities that expire: a notice to the client, and then the end of its connection.
//! The end of tokens for rooms: the rooms are left.
//!
//! Each worker has one task and one list of its expiring sockets, so that an expiring socket costs
//! an entry and no timer.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix_web::rt;
use stentor::{Identity, Socket};
use tokio::sync::Notify;

use super::access::leave_expired;
use super::counters;

/// Longest time before the end at which a client is asked for a new token. It is a third of the
/// time that is left if that is less: a client that answers with the same token is not asked in a
/// loop.
const NOTICE: Duration = Duration::from_secs(30);

/// Time for which an identity is valid that had expired when the client connected. Tokens are
/// accepted a little after their expiry, since clocks differ, and a client that is disconnected
/// immediately would return in a loop.
const GRACE: Duration = Duration::from_secs(10);

/// Longest sleep of the task, after which it looks at the clock again, which may have been changed.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// Maximum number of sockets of one turn of the task. Others of the worker then run.
const TURN_MAX: usize = 256;

/// Position in the list: a time, and a number that tells sockets of the same time apart.
type Position = (SystemTime, u64);

/// Position of a socket in the list of its worker. An extension of the socket.
struct Scheduled(Position);

/// Position of a socket for the first of its tokens for rooms that expires. An extension of the
/// socket.
struct ScheduledRooms(Position);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Notice {
        ends_at: SystemTime,
    },
    End,
    /// A token for a room expires.
    Room,
}

#[derive(Default)]
struct Expiring {
    due: RefCell<BTreeMap<Position, (Socket, Step)>>,
    numbers: Cell<u64>,
    is_running: Cell<bool>,
    /// Notified when an earlier step is added.
    changed: Notify,
}

thread_local! {
    static EXPIRING: Rc<Expiring> = Rc::default();
}

/// Schedules the end of the identity of a socket, in place of an earlier one. Must be called on the
/// worker of the socket.
pub(super) fn schedule(socket: &Socket) {
    let expiring = EXPIRING.with(Rc::clone);
    expiring.remove(socket);
    // The handler of the disconnect, which forgets the socket, may have run before.
    if !socket.is_connected() {
        return;
    }
    let now = SystemTime::now();
    let Some(left) = Identity::of(socket).expires_in(now) else { return };
    // A time that the clock does not have is never reached.
    let left = if left.is_zero() { GRACE } else { left };
    let Some(ends_at) = now.checked_add(left) else { return };
    expiring.add(socket, now + (left - NOTICE.min(left / 3)), Step::Notice { ends_at });
    if !expiring.is_running.replace(true) {
        rt::spawn(run(expiring));
    }
}

/// Schedules the end of the first token for a room, in place of an earlier one. `expires_at` is in
/// seconds since 1970. Must be called on the worker of the socket.
pub(super) fn schedule_room(socket: &Socket, expires_at: Option<u64>) {
    let expiring = EXPIRING.with(Rc::clone);
    expiring.remove_rooms(socket);
    // A time that cannot be represented does not come.
    let at = expires_at.and_then(|at| UNIX_EPOCH.checked_add(Duration::from_secs(at)));
    let Some(at) = at.filter(|_| socket.is_connected()) else { return };
    expiring.add(socket, at, Step::Room);
    if !expiring.is_running.replace(true) {
        rt::spawn(run(expiring));
    }
}

/// Removes a socket from the list. Must be called on the worker of the socket.
pub(super) fn forget(socket: &Socket) {
    EXPIRING.with(|expiring| {
        expiring.remove(socket);
        expiring.remove_rooms(socket);
    });
}

impl Expiring {
    fn add(&self, socket: &Socket, at: SystemTime, step: Step) {
        let number = self.numbers.get();
        self.numbers.set(number.wrapping_add(1));
        let mut due = self.due.borrow_mut();
        let is_first = due.first_key_value().is_none_or(|((first, _), _)| at < *first);
        due.insert((at, number), (socket.clone(), step));
        match step {
            Step::Room => drop(socket.extensions().insert(ScheduledRooms((at, number)))),
            Step::Notice { .. } | Step::End => drop(socket.extensions().insert(Scheduled((at, number)))),
        }
        if is_first {
            self.changed.notify_one();
        }
    }

    fn remove(&self, socket: &Socket) {
        if let Some(scheduled) = socket.extensions().remove::<Scheduled>() {
            self.due.borrow_mut().remove(&scheduled.0);
        }
    }

    fn remove_rooms(&self, socket: &Socket) {
        if let Some(scheduled) = socket.extensions().remove::<ScheduledRooms>() {
            self.due.borrow_mut().remove(&scheduled.0);
        }
    }

    fn next_at(&self) -> Option<SystemTime> {
        self.due.borrow().first_key_value().map(|((at, _), _)| *at)
    }

    fn pop(&self, now: SystemTime) -> Option<(Socket, Step)> {
        let mut due = self.due.borrow_mut();
        let first = due.first_entry().filter(|first| first.key().0 <= now)?;
        Some(first.remove())
    }
}

/// Runs the steps of one worker at their times, until none is left.
async fn run(expiring: Rc<Expiring>) {
    while let Some(at) = expiring.next_at() {
        let now = SystemTime::now();
        if let Ok(wait) = at.duration_since(now)
            && !wait.is_zero()
        {
            let _ = tokio::time::timeout(wait.min(SLEEP_MAX), expiring.changed.notified()).await;
            continue;
        }
        for _ in 0..TURN_MAX {
            let Some((socket, step)) = expiring.pop(now) else { break };
            take_step(&expiring, socket, step, now);
        }
        tokio::task::yield_now().await;
    }
    expiring.is_running.set(false);
}

fn take_step(expiring: &Expiring, socket: Socket, step: Step, now: SystemTime) {
    match step {
        Step::Notice { ends_at } => {
            expiring.add(&socket, ends_at, Step::End);
            let in_ms = ends_at.duration_since(now).map_or(0, |left| left.as_millis() as u64);
            // A client that reads slowly delays its own notice only.
            rt::spawn(async move {
                // Fails only if the socket has disconnected.
                let _ = socket.emit("stentor:expiring", serde_json::json!({ "in_ms": in_ms })).await;
            });
        }
        Step::End => {
            counters::expired(&socket);
            socket.close_transport();
        }
        // The queue may be slow, and other sockets do not wait for it.
        Step::Room => drop(rt::spawn(async move { leave_expired(&socket).await })),
    }
}
