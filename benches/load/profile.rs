//! `perf` on the server during the measured interval: warm-up and connects are not in the profile.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Failure;
use crate::options::Options;
use crate::process::{Server, die_with_parent};
use crate::report::line;

/// Samples of each thread per second; not a round number, to avoid beating with timers.
const FREQUENCY: &str = "997";
/// Bytes of stack per sample, from which the callers are read: libc has no frame pointers.
const CALL_GRAPH: &str = "dwarf,16384";
/// Time for `perf` to attach to all threads before the warm-up starts.
const ATTACHED: Duration = Duration::from_millis(500);
/// Time limit for `perf` to write its record.
const END_DEADLINE: Duration = Duration::from_secs(20);

pub(crate) struct Profile(Option<(Child, PathBuf)>);

impl Profile {
    /// Starts a record when `warm_up` is over, if requested by the command line. A later
    /// measurement replaces the record of an earlier one.
    pub(crate) fn begin(options: &Options, server: &Server, warm_up: Duration) -> Result<Self, Failure> {
        let Some(path) = options.profile.clone() else { return Ok(Self(None)) };
        let mut command = Command::new("perf");
        command.args(["record", "--quiet", "--freq", FREQUENCY, "--call-graph", CALL_GRAPH]);
        command.args(["--delay", &(ATTACHED + warm_up).as_millis().to_string()]);
        command.args(["--pid", &server.pid().to_string(), "--output"]).arg(&path).stdin(Stdio::null());
        die_with_parent(&mut command);
        let mut child =
            command.spawn().map_err(|error| format!("cannot start perf: {error}; `make profile` gets it"))?;
        std::thread::sleep(ATTACHED);
        if let Some(status) = child.try_wait()? {
            return Err(format!("perf ended before there was anything to see: {status}").into());
        }
        Ok(Self(Some((child, path))))
    }

    pub(crate) fn end(self) -> Result<(), Failure> {
        let Some((mut child, path)) = self.0 else { return Ok(()) };
        // The signal of Ctrl-C: perf then writes its file, and its exit status names the signal.
        kill_process(Pid::from_child(&child), Signal::INT)?;
        let deadline = Instant::now() + END_DEADLINE;
        while child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                child.kill()?;
                return Err(format!("waited {END_DEADLINE:?} for perf to write {}", path.display()).into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        line("profile", path.display());
        Ok(())
    }
}
