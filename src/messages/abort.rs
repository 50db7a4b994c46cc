//! The panic guard of actors that every session depends on: hub, fanout, flusher, server sender.

/// Aborts the process if the guard is dropped by a panic. Otherwise, Tokio would catch the panic,
/// and the process would continue without the actor. Without a hub, for example, every session
/// would wait forever. After a restart, sessions recover from the journal.
pub(crate) struct AbortOnUnwind(pub(crate) &'static str);

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        if std::thread::panicking() {
            log::error!("{} panicked, the process is aborted", self.0);
            log::logger().flush();
            std::process::abort();
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    /// Runs a test again in a separate process, in which [`is_to_panic`] is true, and asserts that
    /// this process aborts.
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
