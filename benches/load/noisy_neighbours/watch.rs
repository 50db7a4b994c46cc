//! Observation of the server beside noisy neighbours: its memory ten times per second, and its log.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::process::Server;
use crate::report::line;

const SAMPLE_EVERY: Duration = Duration::from_millis(100);

pub(super) struct Resident<'a> {
    server: &'a Server,
    next: Instant,
    peak: u64,
}

impl<'a> Resident<'a> {
    pub(super) fn new(server: &'a Server) -> Self {
        Self { server, next: Instant::now(), peak: 0 }
    }

    pub(super) fn now(&self) -> Result<u64, Failure> {
        self.server.resident_kib()
    }

    /// Resets the maximum. Gives the resident KiB.
    pub(super) fn restart(&mut self) -> Result<u64, Failure> {
        self.peak = self.now()?;
        Ok(self.peak)
    }

    /// Maximum KiB since the reset.
    pub(super) fn peak(&self) -> u64 {
        self.peak
    }

    pub(super) fn sample(&mut self, now: Instant) -> Result<(), Failure> {
        if now >= self.next {
            self.peak = self.peak.max(self.now()?);
            self.next = now + SAMPLE_EVERY;
        }
        Ok(())
    }
}

/// The server's stderr, in a file that is removed with this value.
pub(super) struct Log {
    path: PathBuf,
    read: usize,
}

impl Log {
    pub(super) fn new() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("stentor-load-{}.log", std::process::id()));
        File::create(&path).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        Ok(Self { path, read: 0 })
    }

    pub(super) fn output(&self) -> Result<File, Failure> {
        Ok(File::options().append(true).open(&self.path)?)
    }

    pub(super) fn skip(&mut self) {
        self.read = self.text().len();
    }

    /// Prints the number of new lines of each kind, with the first of each. A log without any line
    /// about the disconnected clients is marked.
    pub(super) fn print(&mut self, disconnects: u64) {
        let text = self.text();
        let mut kinds: BTreeMap<String, (u64, &str)> = BTreeMap::new();
        for entry in text.get(self.read..).unwrap_or_default().lines() {
            kinds.entry(kind(entry)).or_insert((0, entry)).0 += 1;
        }
        let silent = if disconnects > 0 { format!(" of {disconnects} disconnects  <-- SILENT") } else { String::new() };
        if kinds.is_empty() {
            line("log", format!("no line{silent}"));
        }
        for (kind, (count, example)) in &kinds {
            line("log", format!("{count} × {kind}"));
            line("", format!("such as {example}"));
        }
        self.read = text.len();
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.path).unwrap_or_default()).into_owned()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// An entry without time, module and facts: `[time LEVEL module] subject key=value …`.
fn kind(entry: &str) -> String {
    let (head, subject) = entry.split_once("] ").unwrap_or(("", entry));
    let level = head.split_ascii_whitespace().nth(1).unwrap_or_default();
    let words = subject.split_ascii_whitespace().take_while(|word| !word.contains('='));
    std::iter::once(level).chain(words).collect::<Vec<_>>().join(" ").trim_start().to_owned()
}
