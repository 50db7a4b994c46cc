//! Crashes that tests plant.

/// Ends the process where a test planted a crash: `STENTOR_QUEUE_CRASH` names a point
/// (`before_commit`, `after_commit` or `before_reveal`), and may say at which passage (`:7`). Only
/// debug builds do so.
#[cfg(debug_assertions)]
pub(crate) fn crash_if_planted(point: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static PLANTED: OnceLock<Option<(String, AtomicU64)>> = OnceLock::new();
    let planted = PLANTED.get_or_init(|| {
        let value = std::env::var("STENTOR_QUEUE_CRASH").ok()?;
        let (point, passage) = value.split_once(':').unwrap_or((&value, "1"));
        Some((point.to_owned(), AtomicU64::new(passage.parse().ok()?)))
    });
    if let Some((planted, left)) = planted
        && planted == point
        && left.fetch_sub(1, Ordering::Relaxed) == 1
    {
        std::process::abort();
    }
}

#[cfg(not(debug_assertions))]
pub(crate) fn crash_if_planted(_point: &str) {}
