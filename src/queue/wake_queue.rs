//! Values that another thread passes to an actor, which is woken for the first of them.

use std::fmt;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Wakes the actor, or does nothing if its mailbox is full.
type Wake = Box<dyn Fn() + Send + Sync>;

/// Values for an actor, in order. The actor takes them whenever it handles a message.
///
/// **Invariant**: a value is taken although the mailbox of the actor is full. The actor then has
/// messages to handle, and takes values with each of them.
pub(crate) struct WakeQueue<T> {
    waiting: Mutex<Waiting<T>>,
    wake: OnceLock<Wake>,
}

struct Waiting<T> {
    values: Vec<T>,
    bytes: usize,
}

impl<T> Default for WakeQueue<T> {
    fn default() -> Self {
        Self { waiting: Mutex::new(Waiting { values: Vec::new(), bytes: 0 }), wake: OnceLock::new() }
    }
}

impl<T> WakeQueue<T> {
    /// Sets how the actor is woken. Values that were pushed before wake it now.
    pub(crate) fn wake_with(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.wake.set(Box::new(wake));
        if !self.is_empty() {
            self.wake();
        }
    }

    /// Adds a value. The number of values is bounded by what the actor has asked for.
    pub(crate) fn push(&self, value: T) {
        self.push_within(value, 0, usize::MAX);
    }

    /// Adds a value of so many bytes, unless all values would have more than `bytes_max`. Returns
    /// whether the value was added.
    pub(crate) fn push_within(&self, value: T, bytes: usize, bytes_max: usize) -> bool {
        let mut waiting = self.lock();
        if waiting.bytes.saturating_add(bytes) > bytes_max {
            return false;
        }
        waiting.bytes += bytes;
        waiting.values.push(value);
        let is_first = waiting.values.len() == 1;
        drop(waiting);
        if is_first {
            self.wake();
        }
        true
    }

    /// Takes all values.
    pub(crate) fn take(&self) -> Vec<T> {
        let mut waiting = self.lock();
        waiting.bytes = 0;
        std::mem::take(&mut waiting.values)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().values.is_empty()
    }

    fn wake(&self) {
        if let Some(wake) = self.wake.get() {
            wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<T>> {
        // The list is whole after every operation, also if a holder has panicked.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> fmt::Debug for WakeQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WakeQueue").field("values", &self.lock().values.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn the_actor_is_woken_for_the_first_value_only() {
        let (queue, wakes) = (WakeQueue::default(), Arc::new(AtomicUsize::new(0)));
        queue.push(1);
        let counted = wakes.clone();
        queue.wake_with(move || {
            let _ = counted.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(wakes.load(Ordering::Relaxed), 1, "for the value pushed before");
        queue.push(2);
        assert_eq!((wakes.load(Ordering::Relaxed), queue.take()), (1, vec![1, 2]));
        assert!(queue.push_within(3, 6, 10) && !queue.push_within(4, 5, 10));
        assert_eq!((wakes.load(Ordering::Relaxed), queue.take()), (2, vec![3]));
    }
}
