//! Events that arrived before they may start: their socket is not open yet, too many handlers run, or credit ran out.
//!
//! Within one socket, events leave in the order in which they came.

use super::lazy_queue::LazyQueue;

/// Held events of one session, each with the socket it is for and its size.
#[derive(Debug)]
pub(crate) struct Inbox<S, E> {
    bytes: usize,
    held: LazyQueue<(S, usize, E)>,
}

impl<S, E> Default for Inbox<S, E> {
    fn default() -> Self {
        Self { bytes: 0, held: LazyQueue::default() }
    }
}

impl<S: PartialEq + 'static, E: 'static> Inbox<S, E> {
    /// Holds an event. Never refuses: what was already read must not be lost; [`Inbox::is_full`] stops the reading.
    pub(crate) fn hold(&mut self, socket: S, bytes: usize, event: E) {
        self.bytes += bytes;
        self.held.push_back((socket, bytes, event));
    }

    /// Whether the session should stop reading: from either bound on.
    pub(crate) fn is_full(&self, events_max: usize, bytes_max: usize) -> bool {
        self.held.len() >= events_max || self.bytes >= bytes_max
    }

    /// Bytes of the events held.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing is held.
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Takes the first event whose socket is ready.
    pub(crate) fn release(&mut self, ready: impl Fn(&S) -> bool) -> Option<(S, E)> {
        let position = self.held.iter().position(|(socket, ..)| ready(socket))?;
        let (socket, bytes, event) = self.held.remove(position)?;
        self.bytes -= bytes;
        Some((socket, event))
    }

    /// What is held for one socket is for another.
    pub(crate) fn rename(&mut self, from: &S, to: &S)
    where
        S: Clone,
    {
        self.held.iter_mut().filter(|(held, ..)| held == from).for_each(|(held, ..)| held.clone_from(to));
    }

    /// Drops what is held for a socket that is gone.
    pub(crate) fn forget(&mut self, socket: &S) {
        self.held.retain(|(held, ..)| held != socket);
        self.bytes = self.held.iter().map(|(_, bytes, _)| bytes).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ready_socket_is_not_held_up_by_one_that_is_not() {
        let mut inbox = Inbox::default();
        inbox.hold("slow", 1, 1);
        inbox.hold("fast", 1, 2);
        inbox.hold("fast", 1, 3);
        assert_eq!(inbox.release(|socket| *socket == "fast"), Some(("fast", 2)));
        assert_eq!(inbox.release(|_| true), Some(("slow", 1)));
        assert_eq!(inbox.release(|_| true), Some(("fast", 3)));
        assert_eq!(inbox.release(|_| true), None);
    }

    #[test]
    fn what_is_held_for_a_socket_follows_it_to_its_new_name() {
        let mut inbox = Inbox::default();
        inbox.hold("drawn", 1, 1);
        inbox.hold("other", 1, 2);
        inbox.rename(&"drawn", &"claimed");
        assert_eq!(inbox.release(|socket| *socket == "claimed"), Some(("claimed", 1)));
        assert_eq!(inbox.release(|socket| *socket == "other"), Some(("other", 2)));
    }

    #[test]
    fn either_bound_makes_it_full() {
        let mut inbox = Inbox::default();
        inbox.hold((), 99, ());
        assert!(!inbox.is_full(2, 100));
        inbox.hold((), 0, ());
        assert!(inbox.is_full(2, 100));
        inbox.forget(&());
        assert!(inbox.is_empty() && !inbox.is_full(2, 100));
        inbox.hold((), 100, ());
        assert!(inbox.is_full(2, 100));
    }
}
