//! Logging that never blocks: a bounded buffer of lines, and a thread that writes them to stderr.
//!
//! If stderr is read too slowly, lines are dropped and counted. Lines are selected and formatted by
//! the logger that writes to the [`LogPipe`].

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use log::{LevelFilter, Log, Metadata, Record, SetLoggerError};

/// Maximum number of buffered lines. This is enough for some seconds at debug level.
const LINES_MAX: usize = 8_192;

/// Maximum number of bytes of buffered lines.
const BYTES_MAX: usize = 1 << 20;

/// Time limit of a flush, since stderr may never be read again.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

/// Interval between checks of a flush for remaining lines.
const FLUSH_POLL: Duration = Duration::from_millis(1);

/// Writer for a logger. Lines that do not fit into the buffer are dropped and counted.
pub(crate) struct LogPipe {
    lines: SyncSender<Vec<u8>>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    waiting_lines: AtomicUsize,
    waiting_bytes: AtomicUsize,
    /// Number of lines that were dropped since the last line was written.
    dropped: AtomicU64,
}

/// A handle that waits until all logged lines are written.
pub(crate) struct LogFlusher(Arc<State>);

/// Creates a pipe to stderr and starts the thread that writes the lines.
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
        // The result is ignored, since an error of stderr cannot be reported anywhere.
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
    /// Buffers one or several lines. Never fails and never waits.
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
    /// Waits until all lines are written, for at most half a second.
    fn flush(&self) {
        let deadline = Instant::now() + FLUSH_TIMEOUT;
        while self.0.waiting_lines.load(Ordering::Acquire) > 0 && Instant::now() < deadline {
            thread::sleep(FLUSH_POLL);
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

/// Installs `formatter`, which writes to a [`LogPipe`], as the logger of the process. Panics are
/// logged as well. Call `log::logger().flush()` before the process ends. That call waits for at
/// most half a second.
pub(crate) fn install(formatter: Box<dyn Log>, level: LevelFilter, flusher: LogFlusher) -> Result<(), SetLoggerError> {
    log::set_boxed_logger(Box::new(Logger { formatter, flusher }))?;
    log::set_max_level(level);
    std::panic::set_hook(Box::new(|panic| {
        let thread = thread::current();
        let name = thread.name().unwrap_or("unnamed");
        // The backtrace is captured only if RUST_BACKTRACE is set.
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

    /// Writer that blocks until its channel is closed.
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
    fn lines_are_dropped_and_counted_while_the_reader_stalls() {
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
