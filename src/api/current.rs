//! The session whose handler the current thread is polling.
//!
//! A handler emits everything through that session, also to a namespace or to another socket. So a
//! socket receives the handler's events in the order in which they were emitted (**Invariant**,
//! order).

use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::messages::session::SessionLink;

thread_local! {
    static CURRENT: RefCell<Option<Current>> = const { RefCell::new(None) };
}

#[derive(Debug)]
struct Current {
    /// Identity of the session's server.
    server: usize,
    link: SessionLink,
}

/// The current session, if it belongs to the given server.
pub(crate) fn session(server: usize) -> Option<SessionLink> {
    CURRENT.with_borrow(|current| current.as_ref().filter(|current| current.server == server).map(|c| c.link.clone()))
}

/// A future that makes a session current while it is polled.
pub(crate) struct InSession<F> {
    /// The session. `None` while the future is polled, since the session is then in `CURRENT`.
    current: Option<Current>,
    future: F,
}

impl<F: Future + Unpin> InSession<F> {
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

/// Restores the previous session on drop, also when the handler panics.
struct Restore<'a> {
    before: Option<Current>,
    current: &'a mut Option<Current>,
}

impl Drop for Restore<'_> {
    fn drop(&mut self) {
        *self.current = CURRENT.replace(self.before.take());
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::task::Waker;

    use super::*;
    use crate::messages::session::tests::link;

    fn in_session<F: Future + Unpin>(server: usize, future: F) -> InSession<F> {
        InSession::new(server, link(), future)
    }

    fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
        Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    fn current() -> Option<usize> {
        (1..=2).find(|server| session(*server).is_some())
    }

    #[test]
    fn the_innermost_polled_session_is_current() {
        let seen = RefCell::new(Vec::new());
        let look = || seen.borrow_mut().push(current());
        let mut outer = in_session(
            1,
            poll_fn(|_| {
                look();
                let mut inner = in_session(
                    2,
                    poll_fn(|_| {
                        look();
                        Poll::Ready(())
                    }),
                );
                let _ = poll(&mut inner);
                look();
                Poll::<()>::Pending
            }),
        );
        for _ in 0..2 {
            assert!(poll(&mut outer).is_pending());
            look();
        }
        let each = [Some(1), Some(2), Some(1), None];
        assert_eq!(*seen.borrow(), [each, each].concat());
    }

    #[test]
    fn a_panicking_handler_does_not_stay_current() {
        let mut bad = in_session(1, poll_fn(|_| -> Poll<()> { panic!("as a handler may") }));
        catch_unwind(AssertUnwindSafe(|| poll(&mut bad))).unwrap_err();
        assert_eq!(current(), None);
    }
}
