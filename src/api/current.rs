//! Which session's handler is being polled on this thread.
//!
//! Emits inside a handler go through that session, also those of `io`, so that one socket sees what server code
//! emitted in the order in which it was emitted (**Invariant**, order).

use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::messages::session::SessionLink;

thread_local! {
    static CURRENT: RefCell<Option<Current>> = const { RefCell::new(None) };
}

/// A session, and the server to which it belongs.
#[derive(Debug)]
struct Current {
    server: usize,
    link: SessionLink,
}

/// The session whose handler is being polled, if it belongs to this server.
pub(crate) fn session(server: usize) -> Option<SessionLink> {
    CURRENT.with_borrow(|current| current.as_ref().filter(|current| current.server == server).map(|c| c.link.clone()))
}

/// A future that has a current session whenever it is polled.
pub(crate) struct InSession<F> {
    /// None while it is polled.
    current: Option<Current>,
    future: F,
}

impl<F: Future + Unpin> InSession<F> {
    /// Wraps `future` for a session of a server.
    pub(crate) fn new(server: usize, link: SessionLink, future: F) -> Self {
        Self { current: Some(Current { server, link }), future }
    }
}

impl<F: Future + Unpin> Future for InSession<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Self { current, future } = &mut *self;
        let before = CURRENT.replace(current.take());
        let _restore = Restore { before, current };
        Pin::new(future).poll(cx)
    }
}

/// Also when the handler panics.
struct Restore<'a> {
    before: Option<Current>,
    current: &'a mut Option<Current>,
}

impl Drop for Restore<'_> {
    fn drop(&mut self) {
        *self.current = CURRENT.replace(self.before.take());
    }
}
