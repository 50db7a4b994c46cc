//! A hub in this process, and clients that write and read bytes. Everything that waits has a deadline.

mod client;
mod host;
mod http;
mod hub;
mod report;
mod websocket;

use std::time::{Duration, Instant};

pub(crate) use self::client::{Client, Ended, Packet, Transport, on_every_transport};
pub(crate) use self::host::{Host, Manners};
pub(crate) use self::http::{Head, Http};
pub(crate) use self::hub::{API_KEY, Hub};
pub(crate) use self::report::{Tell, Told, ends, report};
pub(crate) use self::websocket::{Frame, Websocket, frame};

/// For anything that must happen. Generous: it is only ever waited for in full when a test fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until `fact` holds.
pub(crate) fn eventually(what: &str, mut fact: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !fact() {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
