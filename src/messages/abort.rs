//! The guard of actors without which the process is worth nothing: hub, fanout, flusher, server sender, committer.

/// Aborts the process if it is dropped by a panic. tokio would swallow the panic and leave a live process whose hub is
/// dead: every session would wait for ever. A restart reads the log.
pub(crate) struct AbortOnUnwind(pub(crate) &'static str);

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        if std::thread::panicking() {
            log::error!("{} panicked; the process ends, since nothing works without it", self.0);
            log::logger().flush();
            std::process::abort();
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    /// Runs a test once more as a process of its own, in which [`is_to_panic`], and sees it abort.
    pub(crate) fn aborts(test: &str) {
        const SIGABRT: i32 = 6;
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env("STENTOR_TEST_PANIC", "1")
            .output()
            .unwrap();
        assert_eq!(child.status.signal(), Some(SIGABRT), "{child:?}");
    }

    pub(crate) fn is_to_panic() -> bool {
        std::env::var_os("STENTOR_TEST_PANIC").is_some()
    }
}
