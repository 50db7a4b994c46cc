//! The guard of actors without which the process is worth nothing: hub, fanout, flusher, committer.

/// Aborts the process if it is dropped by a panic. tokio would swallow the panic and leave a live process whose hub is
/// dead: every session would wait for ever. A restart reads the log.
pub(crate) struct AbortOnUnwind(pub(crate) &'static str);

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        if std::thread::panicking() {
            log::error!("{} panicked; the process ends, since nothing works without it", self.0);
            std::process::abort();
        }
    }
}
