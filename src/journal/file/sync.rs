//! A thread that waits until full segments are on the disk. A slow disk thus does not delay the
//! hub, and little remains to be written when the journal is closed.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use crate::journal::disk;

/// Maximum number of queued segments. Further segments are synced when the journal is closed.
const WAITING_MAX: usize = 2;

type Job = (u64, Arc<File>);

/// Sequence numbers of the synced segments, or the first error.
type Outcome = io::Result<Vec<u64>>;

#[derive(Debug)]
pub(super) struct Syncer {
    sync: fn(&File) -> io::Result<()>,
    running: Option<(SyncSender<Job>, JoinHandle<Outcome>)>,
}

impl Syncer {
    pub(super) fn new(sync: fn(&File) -> io::Result<()>) -> Self {
        Self { sync, running: None }
    }

    pub(super) fn submit(&mut self, sequence: u64, file: Arc<File>) {
        if self.running.is_none() {
            let (jobs, taken) = sync_channel(WAITING_MAX);
            let sync = self.sync;
            // If the thread cannot be started, all segments are synced when the journal is closed.
            let thread = thread::Builder::new().name("journal-sync".to_owned()).spawn(move || run(&taken, sync));
            self.running = thread.ok().map(|thread| (jobs, thread));
        }
        if let Some((jobs, _)) = &self.running {
            // The queue is full if segments fill faster than the disk can write them. In this case,
            // the segment is synced when the journal is closed.
            let _ = jobs.try_send((sequence, file));
        }
    }

    /// Waits until the queued segments are synced. Returns all segments that were synced since the
    /// thread started.
    pub(super) fn finish(&mut self) -> Outcome {
        let Some((jobs, thread)) = self.running.take() else { return Ok(Vec::new()) };
        drop(jobs);
        thread.join().unwrap_or_else(|_| Err(io::Error::other("sync thread panicked")))
    }

    pub(super) fn sync(&self, file: &File) -> io::Result<()> {
        (self.sync)(file)
    }
}

impl Default for Syncer {
    fn default() -> Self {
        Self::new(disk::sync)
    }
}

/// Syncs the queued segments and stops at the first error. The kernel reports a failed write only
/// once, so a later sync would succeed although data is missing.
fn run(taken: &Receiver<Job>, sync: fn(&File) -> io::Result<()>) -> Outcome {
    taken.iter().map(|(sequence, file)| sync(&file).map(|()| sequence)).collect()
}
