//! Permits of a server's HTTP connections: ordinary permits, and a reserve for operators.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Time for which a failed accept is reported. Accepting is retried twice in this time.
const FAILURE_COUNTS: Duration = Duration::from_secs(1);

/// Permits for the HTTP connections of all ports of one server.
#[derive(Clone)]
pub(super) struct HttpPermits {
    ordinary: Arc<Semaphore>,
    ordinary_max: usize,
    /// Permits for health, metrics, the HTTP API and upgrades while all ordinary permits are in
    /// use.
    reserve: Arc<Semaphore>,
    accept: Arc<AcceptFailures>,
}

/// Permit of a connection, released when dropped.
pub(super) struct HttpPermit {
    /// True if the permit belongs to the reserve. Such a permit allows one request of an operator,
    /// or one upgrade.
    pub(super) is_of_reserve: bool,
    _permit: OwnedSemaphorePermit,
}

impl HttpPermit {
    fn ordinary(permit: OwnedSemaphorePermit) -> Self {
        Self { is_of_reserve: false, _permit: permit }
    }

    fn reserve(permit: OwnedSemaphorePermit) -> Self {
        Self { is_of_reserve: true, _permit: permit }
    }
}

struct AcceptFailures {
    base: Instant,
    /// Milliseconds from `base` to the last failure, plus one. 0 if there was no failure.
    last: AtomicU64,
}

impl HttpPermits {
    /// Creates `ordinary` permits, at least one, and in addition the permits of the reserve.
    pub(super) fn new(ordinary: usize, reserve: usize) -> Self {
        let accept = AcceptFailures { base: Instant::now(), last: AtomicU64::new(0) };
        let ordinary_max = ordinary.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            ordinary: Arc::new(Semaphore::new(ordinary_max)),
            ordinary_max,
            reserve: Arc::new(Semaphore::new(reserve.min(Semaphore::MAX_PERMITS))),
            accept: Arc::new(accept),
        }
    }

    /// Waits until a permit is available. The permit is not acquired, since a connection may never
    /// arrive.
    pub(super) async fn available(&self) {
        tokio::select! {
            _ = self.ordinary.acquire() => {}
            _ = self.reserve.acquire() => {}
        }
    }

    pub(super) async fn acquire(&self) -> Option<HttpPermit> {
        tokio::select! {
            biased;
            permit = self.ordinary.clone().acquire_owned() => permit.ok().map(HttpPermit::ordinary),
            permit = self.reserve.clone().acquire_owned() => permit.ok().map(HttpPermit::reserve),
        }
    }

    pub(super) fn try_ordinary(&self) -> Option<HttpPermit> {
        self.ordinary.clone().try_acquire_owned().ok().map(HttpPermit::ordinary)
    }

    /// True if all ordinary permits are in use.
    pub(super) fn is_full(&self) -> bool {
        self.ordinary.available_permits() == 0
    }

    /// Number of ordinary permits in use, and their maximum.
    pub(super) fn in_use(&self) -> (usize, usize) {
        (self.ordinary_max - self.ordinary.available_permits(), self.ordinary_max)
    }

    /// Records a failed accept.
    pub(super) fn accept_failed(&self, now: Instant) {
        let since = now.saturating_duration_since(self.accept.base).as_millis();
        self.accept.last.store(u64::try_from(since).unwrap_or(u64::MAX).saturating_add(1), Ordering::Relaxed);
    }

    /// True if an accept failed within the last second.
    pub(super) fn is_accept_failing(&self, now: Instant) -> bool {
        let last = self.accept.last.load(Ordering::Relaxed);
        last > 0 && now < self.accept.base + Duration::from_millis(last) + FAILURE_COUNTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_used_once_ordinary_permits_are_in_use() {
        actix::System::new().block_on(async {
            let permits = HttpPermits::new(1, 1);
            assert!(!permits.is_full());
            let ordinary = permits.acquire().await;
            assert!(ordinary.as_ref().is_some_and(|permit| !permit.is_of_reserve) && permits.is_full());
            permits.available().await;
            let reserve = permits.acquire().await;
            assert!(reserve.is_some_and(|permit| permit.is_of_reserve) && permits.try_ordinary().is_none());
            drop(ordinary);
            assert!(permits.try_ordinary().is_some() && !permits.is_full());
        });
    }

    #[test]
    fn a_failed_accept_counts_for_a_second() {
        let permits = HttpPermits::new(1, 0);
        let now = Instant::now();
        assert!(!permits.is_accept_failing(now));
        permits.accept_failed(now);
        assert!(permits.is_accept_failing(now) && permits.is_accept_failing(now + FAILURE_COUNTS / 2));
        assert!(!permits.is_accept_failing(now + 2 * FAILURE_COUNTS));
    }
}
