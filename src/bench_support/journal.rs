//! Journals on disk and in memory, with the operations that the hub uses: reads, and batches of
//! appends that each end with a flush.

use std::path::Path;

use smallvec::smallvec;

use crate::ids::{Epoch, Fingerprint, Lsn, NamespacePath, Recipient};
use crate::journal::file::{FileJournal, FileOptions};
use crate::journal::folder::BootId;
use crate::journal::memory::MemoryJournal;
use crate::journal::{EventRecord, Record, RecordBody};
use crate::limits::Limits;
use crate::protocol::encoded::{EncodedFrame, Message};

/// A journal with the default limits of a server.
pub struct Journal {
    inner: Box<dyn crate::journal::Journal>,
}

impl Journal {
    /// An empty journal in memory.
    pub fn memory() -> Self {
        let limits = Limits::default();
        let (records_max, bytes_max) = (limits.journal.records_max, limits.journal.bytes_max);
        Self { inner: Box::new(MemoryJournal::new(Epoch::new(1, 1), Lsn(0), records_max, bytes_max)) }
    }

    /// The journal in this folder. The folder is created if it does not exist.
    pub fn file(folder: &Path) -> Result<Self, String> {
        let options = FileOptions::new(Epoch::new(1, 1), BootId::new(1), &Limits::default());
        let journal = FileJournal::open(folder, options).map_err(|error| error.to_string())?;
        Ok(Self { inner: Box::new(journal) })
    }

    /// The newest position in the journal.
    pub fn head(&self) -> u64 {
        self.inner.head().0
    }

    /// Appends an event the given number of times, then flushes.
    pub fn turn(&mut self, event: &Sample, times: u64) -> Result<(), String> {
        for _ in 0..times {
            let lsn = self.inner.head().next();
            self.inner.append(Record { lsn, ..event.0.clone() }).map_err(|error| error.to_string())?;
        }
        self.inner.flush().map_err(|error| error.to_string())
    }

    /// Reads the records after a position, as for a client that catches up. Returns their count.
    pub fn read(&self, after: u64, records_max: usize) -> Result<usize, String> {
        let chunk = self.inner.read(Lsn(after), records_max, Limits::default().recovery.replay_bytes);
        chunk.map(|chunk| chunk.records.len()).map_err(|error| error.to_string())
    }

    /// Closes the journal cleanly, with an fsync if it is on disk.
    pub fn close(mut self) -> Result<(), String> {
        self.inner.close().map_err(|error| error.to_string())
    }
}

/// An event in the form in which the hub stores it.
pub struct Sample(Record);

impl Sample {
    /// An event for one room, with a payload of the given number of bytes.
    pub fn new(bytes: usize) -> Self {
        let message = Message::from(EncodedFrame::text(&format!(r#"42["e","{}"]"#, "x".repeat(bytes))));
        let rooms = Recipient::parse("lobby").map_or_else(|_| smallvec![], |room| smallvec![room]);
        let event = EventRecord {
            namespace: NamespacePath::root(),
            rooms,
            except: smallvec![],
            exclude: None,
            stored: None,
            message,
        };
        Self(Record { lsn: Lsn(0), fingerprint: Fingerprint::new(1), body: RecordBody::Event(event.into()) })
    }
}
