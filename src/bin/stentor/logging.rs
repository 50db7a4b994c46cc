//! Logging that never blocks: a bounded buffer of lines, and a thread that writes them to stderr.
//!
//! If stderr is read too slowly, lines are dropped and counted. Lines are selected and formatted by
//! the logger that writes to the [`LogPipe`]. Warnings of other crates are limited, since peers can
//! cause them.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use env_logger::WriteStyle;
use log::{Level, Log, Metadata, Record};

use super::config::Named;
use super::log_json;
use super::throttle::Throttle;

/// Maximum number of buffered lines. This is enough for some seconds at debug level.
const LINES_MAX: usize = 8_192;

/// Maximum number of bytes of buffered lines.
const BYTES_MAX: usize = 1 << 20;

/// Time limit of a flush, since stderr may never be read again.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

/// Interval between checks of a flush for remaining lines.
const FLUSH_POLL: Duration = Duration::from_millis(1);

/// Number of throttles for lines of other crates. Places in their code share a throttle by chance
/// only, so that a frequent line rarely hides others.
const FOREIGN_THROTTLES: usize = 64;

/// Form of the log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Text,
    /// One JSON object a line.
    Json,
    /// Text on a terminal, otherwise JSON.
    Auto,
}

impl Named for LogFormat {
    const NAMES: &'static [(&'static str, Self)] = &[("text", Self::Text), ("json", Self::Json), ("auto", Self::Auto)];
}

/// True once a log with lines of JSON was started.
static IS_JSON: AtomicBool = AtomicBool::new(false);

/// Returns whether everything on stderr must be a line of JSON.
pub(crate) fn is_json() -> bool {
    IS_JSON.load(Ordering::Relaxed)
}

/// Starts the log, which a separate thread writes to stderr. `filters` are those of `log_level`.
pub(crate) fn start(filters: &str, format: LogFormat) -> io::Result<()> {
    let is_terminal = io::stderr().is_terminal();
    let is_json = format == LogFormat::Json || format == LogFormat::Auto && !is_terminal;
    IS_JSON.store(is_json, Ordering::Relaxed);
    let (pipe, flusher) = pipe_to(io::stderr(), is_json)?;
    let is_coloured = is_terminal && std::env::var_os("NO_COLOR").is_none();
    let mut builder = env_logger::Builder::new();
    builder
        .parse_filters(filters)
        .write_style(if is_coloured { WriteStyle::Always } else { WriteStyle::Never })
        .target(env_logger::Target::Pipe(Box::new(pipe)));
    if is_json {
        builder.format(|out, record| {
            let (time, text) = (out.timestamp_millis().to_string(), record.args().to_string());
            writeln!(out, "{}", log_json::line(&time, record.level(), record.target(), &text))
        });
    }
    let formatter = builder.build();
    let level = formatter.filter();
    let foreign = std::array::from_fn(|_| Throttle::default());
    log::set_boxed_logger(Box::new(Logger { formatter, flusher, foreign })).map_err(io::Error::other)?;
    log::set_max_level(level);
    log_panics();
    Ok(())
}

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

/// Creates a pipe to `out` and starts the thread that writes the lines.
fn pipe_to(out: impl Write + Send + 'static, is_json: bool) -> io::Result<(LogPipe, LogFlusher)> {
    let (lines, receiver) = mpsc::sync_channel(LINES_MAX);
    let state = Arc::<State>::default();
    let writing = state.clone();
    thread::Builder::new().name("log".into()).spawn(move || write_all(&receiver, &writing, out, is_json))?;
    Ok((LogPipe { lines, state: state.clone() }, LogFlusher(state)))
}

fn write_all(lines: &Receiver<Vec<u8>>, state: &State, mut out: impl Write, is_json: bool) {
    for line in lines {
        // The result is ignored, since an error of stderr cannot be reported anywhere.
        let _ = out.write_all(&line);
        let dropped = state.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let _ = out.write_all(note_of_dropped(dropped, is_json).as_bytes());
        }
        state.waiting_bytes.fetch_sub(line.len(), Ordering::Relaxed);
        state.waiting_lines.fetch_sub(1, Ordering::Release);
    }
}

fn note_of_dropped(count: u64, is_json: bool) -> String {
    let text = format!("log lines dropped, stderr is read too slowly count={count}");
    if is_json {
        let now = humantime::format_rfc3339_millis(std::time::SystemTime::now()).to_string();
        log_json::line(&now, Level::Warn, "stentor", &text) + "\n"
    } else {
        format!("stentor: {text}\n")
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
    formatter: env_logger::Logger,
    flusher: LogFlusher,
    /// Throttles of warnings and errors of other crates, by the place that logs.
    foreign: [Throttle; FOREIGN_THROTTLES],
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.formatter.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if is_own(record.target()) || record.level() > Level::Warn {
            return self.formatter.log(record);
        }
        if !self.formatter.matches(record) {
            return;
        }
        let place = BuildHasherDefault::<DefaultHasher>::default().hash_one((record.target(), record.line()));
        let Some(skipped) = self.foreign[place as usize % FOREIGN_THROTTLES].is_due() else { return };
        let mut limited = Record::builder();
        limited.metadata(record.metadata().clone()).module_path(record.module_path());
        self.formatter.log(&limited.args(format_args!("{} skipped={skipped}", record.args())).build());
    }

    fn flush(&self) {
        self.formatter.flush();
        self.flusher.flush();
    }
}

/// Returns whether a line is one of this project, which limits its own lines.
fn is_own(target: &str) -> bool {
    target == "stentor" || target.starts_with("stentor::")
}

/// Logs panics. Call `log::logger().flush()` before the process ends. That call waits for at most
/// half a second.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = thread::current();
        let name = thread.name().unwrap_or("unnamed");
        // The backtrace is captured only if RUST_BACKTRACE is set.
        let backtrace = std::backtrace::Backtrace::capture();
        let backtrace = match backtrace.status() {
            std::backtrace::BacktraceStatus::Captured => format!("\n{backtrace}"),
            _ => String::new(),
        };
        log::error!("thread panicked thread={name} error={panic}{backtrace}");
        if name == "main" {
            log::logger().flush();
        }
    }));
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
    fn the_note_of_dropped_lines_has_the_form_of_the_log() {
        assert_eq!(note_of_dropped(3, false), "stentor: log lines dropped, stderr is read too slowly count=3\n");
        let json: serde_json::Value = serde_json::from_str(&note_of_dropped(3, true)).unwrap();
        assert_eq!((&json["level"], &json["fields"]["count"]), (&"warn".into(), &"3".into()));
    }

    #[test]
    fn lines_are_dropped_and_counted_while_the_reader_stalls() {
        let (release, released) = mpsc::channel();
        let (written, lines) = mpsc::channel();
        let (mut pipe, flusher) = pipe_to(Stalled(released, written), false).unwrap();
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
