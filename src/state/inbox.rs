//! Events that cannot start a handler yet, because their socket is not open, too many handlers run,
//! or credit is used up.
//!
//! Events of one socket are released in the order of arrival.

use super::lazy_queue::LazyQueue;

/// Held events of one session, with their sockets and sizes.
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
    /// Holds an event. Never fails, since a received event must not be lost. Instead, the session
    /// stops reading when [`Inbox::is_full`] returns true.
    pub(crate) fn hold(&mut self, socket: S, bytes: usize, event: E) {
        self.bytes += bytes;
        self.held.push_back((socket, bytes, event));
    }

    /// Returns whether either limit is reached, so that the session should stop reading.
    pub(crate) fn is_full(&self, events_max: usize, bytes_max: usize) -> bool {
        self.held.len() >= events_max || self.bytes >= bytes_max
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Removes and returns the first event whose socket is ready.
    pub(crate) fn release(&mut self, ready: impl Fn(&S) -> bool) -> Option<(S, E)> {
        let position = self.held.iter().position(|(socket, ..)| ready(socket))?;
        let (socket, bytes, event) = self.held.remove(position)?;
        self.bytes -= bytes;
        Some((socket, event))
    }

    /// Moves the held events of one socket to another socket.
    pub(crate) fn rename(&mut self, from: &S, to: &S)
    where
        S: Clone,
    {
        self.held.iter_mut().filter(|(held, ..)| held == from).for_each(|(held, ..)| held.clone_from(to));
    }

    pub(crate) fn forget(&mut self, socket: &S) {
        self.held.retain(|(held, ..)| held != socket);
        self.bytes = self.held.iter().map(|(_, bytes, _)| bytes).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_a_ready_socket_pass_those_of_another() {
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
    fn held_events_follow_a_renamed_socket() {
        let mut inbox = Inbox::default();
        inbox.hold("drawn", 1, 1);
        inbox.hold("other", 1, 2);
        inbox.rename(&"drawn", &"claimed");
        assert_eq!(inbox.release(|socket| *socket == "claimed"), Some(("claimed", 1)));
        assert_eq!(inbox.release(|socket| *socket == "other"), Some(("other", 2)));
    }

    #[test]
    fn either_limit_makes_the_inbox_full() {
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
