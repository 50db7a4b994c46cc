//! A hub in this process, and clients that write and read bytes. Every wait has a deadline.

mod back_end;
mod bridge;
mod certificate;
mod client;
mod host;
mod http;
mod hub;
mod process;
pub(crate) mod product;
mod report;
pub(crate) mod websocket;

use std::time::{Duration, Instant};

pub(crate) use self::back_end::{Asked, BackEnd, Reply};
pub(crate) use self::bridge::{Bridge, client_config};
pub(crate) use self::certificate::CertificateFiles;
pub(crate) use self::client::{Client, Ended, Packet, Transport, on_every_transport};
pub(crate) use self::host::{Host, HostSettings};
pub(crate) use self::http::{Head, Http};
pub(crate) use self::hub::{API_KEY, Hub, mount};
pub(crate) use self::process::{Process, address_of, stentor};
pub(crate) use self::report::{Reporter, Reports, report_channel, report_disconnects};
pub(crate) use self::websocket::{Frame, Websocket, frame, header};

/// Deadline of any expected event. It is generous: only a failing test waits for all of it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Writes `chunk` repeatedly until `bytes_max` are written or the server accepts no more; gives the
/// number of bytes written.
pub(crate) fn write_until_blocked(
    mut write: impl FnMut(&[u8]) -> std::io::Result<()>,
    chunk: &[u8],
    bytes_max: usize,
) -> usize {
    let mut written = 0;
    while written < bytes_max && write(chunk).is_ok() {
        written += chunk.len();
    }
    written
}

/// Writes `bytes` repeatedly until the server has closed the connection; another client gets an
/// answer between two writes.
pub(crate) fn write_until_closed(http: &mut Http, bytes: &[u8], other: &mut Client) {
    while http.try_write(bytes).is_ok() {
        other.expect_echo();
    }
}

pub(crate) fn eventually(what: &str, mut fact: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !fact() {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Runs an operation of the library, within the deadline of tests.
#[track_caller]
pub(crate) fn run<T>(operation: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(DEADLINE, operation).await.expect("the operation completes") })
}
