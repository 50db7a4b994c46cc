//! Full segments on their way to the disk, on a thread of their own: a slow disk does not hold up the hub, and little is left to do when
//! the journal is closed.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use crate::journal::disk;

/// Segments that may wait. One for which there is no room is synced when the journal is closed.
const WAITING_MAX: usize = 2;

type Job = (u64, Arc<File>);

/// The segments that the thread has synced, or why one was not.
type Outcome = io::Result<Vec<u64>>;

/// Waits for the disk on behalf of one journal.
#[derive(Debug)]
pub(super) struct Syncer {
    sync: fn(&File) -> io::Result<()>,
    running: Option<(SyncSender<Job>, JoinHandle<Outcome>)>,
}

impl Syncer {
    pub(super) fn new(sync: fn(&File) -> io::Result<()>) -> Self {
        Self { sync, running: None }
    }

    /// Takes a segment to which nothing is written any more.
    pub(super) fn begin(&mut self, sequence: u64, file: Arc<File>) {
        if self.running.is_none() {
            let (jobs, taken) = sync_channel(WAITING_MAX);
            let sync = self.sync;
            // Without a thread everything is synced at the end.
            let thread = thread::Builder::new().name("journal-sync".to_owned()).spawn(move || run(&taken, sync));
            self.running = thread.ok().map(|thread| (jobs, thread));
        }
        if let Some((jobs, _)) = &self.running {
            // Full: the disk is slower than the ring turns.
            let _ = jobs.try_send((sequence, file));
        }
    }

    /// Waits for what was begun. Gives the segments that are on the disk.
    pub(super) fn finish(&mut self) -> Outcome {
        let Some((jobs, thread)) = self.running.take() else { return Ok(Vec::new()) };
        drop(jobs);
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that syncs has panicked")))
    }

    /// Waits until a file is on the disk.
    pub(super) fn sync(&self, file: &File) -> io::Result<()> {
        (self.sync)(file)
    }
}

impl Default for Syncer {
    fn default() -> Self {
        Self::new(disk::sync)
    }
}

/// The kernel tells of a failed write once, so the first error is the last word.
fn run(taken: &Receiver<Job>, sync: fn(&File) -> io::Result<()>) -> Outcome {
    taken.iter().map(|(sequence, file)| sync(&file).map(|()| sequence)).collect()
}
