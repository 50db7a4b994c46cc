//! A log that nobody waits for: lines go through a bounded buffer to a thread that writes them to stderr.
//!
//! A reader of stderr that stalls then costs lines, which are counted, and no worker its time. Which lines there are, and their
//! form, is the business of the logger that writes into the [`LogPipe`].

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use log::{LevelFilter, Log, Metadata, Record, SetLoggerError};

/// Lines that may wait to be written: some seconds of a debug level.
const LINES_MAX: usize = 8_192;

/// Bytes of those lines.
const BYTES_MAX: usize = 1 << 20;

/// Longest that a flush waits: at an end, nobody may ever read stderr again.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

/// Between two looks of a flush at what is left.
const FLUSH_LOOK: Duration = Duration::from_millis(1);

/// Where a logger writes its lines to. A line that finds no room is dropped and counted.
pub(crate) struct LogPipe {
    lines: SyncSender<Vec<u8>>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    waiting_lines: AtomicUsize,
    waiting_bytes: AtomicUsize,
    /// Since the last line that was written.
    dropped: AtomicU64,
}

/// Waits until what was logged has been written.
pub(crate) struct LogFlusher(Arc<State>);

/// A pipe to stderr, and the thread behind it.
pub(crate) fn to_stderr() -> io::Result<(LogPipe, LogFlusher)> {
    pipe_to(io::stderr())
}

fn pipe_to(out: impl Write + Send + 'static) -> io::Result<(LogPipe, LogFlusher)> {
    let (lines, receiver) = mpsc::sync_channel(LINES_MAX);
    let state = Arc::<State>::default();
    let writing = state.clone();
    thread::Builder::new().name("log".into()).spawn(move || write_all(&receiver, &writing, out))?;
    Ok((LogPipe { lines, state: state.clone() }, LogFlusher(state)))
}

fn write_all(lines: &Receiver<Vec<u8>>, state: &State, mut out: impl Write) {
    for line in lines {
        // A closed stderr is nothing that could be reported anywhere.
        let _ = out.write_all(&line);
        let dropped = state.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let note = format!("stentor: log lines dropped, stderr is read too slowly count={dropped}\n");
            let _ = out.write_all(note.as_bytes());
        }
        state.waiting_bytes.fetch_sub(line.len(), Ordering::Relaxed);
        state.waiting_lines.fetch_sub(1, Ordering::Release);
    }
}

impl Write for LogPipe {
    /// Takes one line, or as many as are written together; never fails and never waits.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let State { waiting_lines, waiting_bytes, dropped } = &*self.state;
        let has_room = waiting_bytes.load(Ordering::Relaxed) + line.len() <= BYTES_MAX;
        waiting_bytes.fetch_add(line.len(), Ordering::Relaxed);
        waiting_lines.fetch_add(1, Ordering::Relaxed);
        if !has_room || self.lines.try_send(line.to_vec()).is_err() {
            waiting_bytes.fetch_sub(line.len(), Ordering::Relaxed);
            waiting_lines.fetch_sub(1, Ordering::Relaxed);
            dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl LogFlusher {
    /// Waits until nothing is left to be written, for half a second at most.
    fn flush(&self) {
        let deadline = Instant::now() + FLUSH_TIMEOUT;
        while self.0.waiting_lines.load(Ordering::Acquire) > 0 && Instant::now() < deadline {
            thread::sleep(FLUSH_LOOK);
        }
    }
}

struct Logger {
    formatter: Box<dyn Log>,
    flusher: LogFlusher,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.formatter.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        self.formatter.log(record);
    }

    fn flush(&self) {
        self.formatter.flush();
        self.flusher.flush();
    }
}

/// Makes `formatter`, which writes into a [`LogPipe`], the process's logger, and logs panics with it. `log::logger().flush()`
/// then waits for what was logged, half a second at most; call it before the process ends.
pub(crate) fn install(formatter: Box<dyn Log>, level: LevelFilter, flusher: LogFlusher) -> Result<(), SetLoggerError> {
    log::set_boxed_logger(Box::new(Logger { formatter, flusher }))?;
    log::set_max_level(level);
    std::panic::set_hook(Box::new(|panic| {
        let thread = thread::current();
        let name = thread.name().unwrap_or("unnamed");
        // Printed only if RUST_BACKTRACE asks for it.
        let backtrace = std::backtrace::Backtrace::capture();
        let backtrace = match backtrace.status() {
            std::backtrace::BacktraceStatus::Captured => format!("\n{backtrace}"),
            _ => String::new(),
        };
        log::error!("thread panicked thread={name} {panic}{backtrace}");
        if name == "main" {
            log::logger().flush();
        }
    }));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes nothing until then.
    struct Stalled(Receiver<()>, mpsc::Sender<String>);

    impl Write for Stalled {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            let _ = self.1.send(String::from_utf8_lossy(line).into_owned());
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stalled_reader_costs_lines_that_are_counted() {
        let (release, released) = mpsc::channel();
        let (written, lines) = mpsc::channel();
        let (mut pipe, flusher) = pipe_to(Stalled(released, written)).unwrap();
        let line = [b'x'; 1 << 10];
        for _ in 0..3_000 {
            assert_eq!(pipe.write(&line).unwrap(), line.len(), "never waits");
        }
        flusher.flush();
        assert!(pipe.state.waiting_bytes.load(Ordering::Relaxed) <= BYTES_MAX);
        drop(release);
        drop(pipe);
        let lines: Vec<_> = lines.iter().collect();
        let dropped = lines.iter().find_map(|line| line.trim().rsplit_once("count=")?.1.parse::<usize>().ok());
        let kept = lines.iter().filter(|line| line.starts_with("xxx")).count();
        assert_eq!((kept, dropped), (1 << 10, Some(3_000 - (1 << 10))));
        flusher.flush();
        assert_eq!(flusher.0.waiting_lines.load(Ordering::Relaxed), 0);
    }
}
