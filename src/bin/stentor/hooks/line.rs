//! The order of one socket's events: one after the other while a hook is asked. Sockets do not wait
//! for each other.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde::Serialize;
use stentor::Socket;
use tokio::sync::Semaphore;

use super::answer::Body;
use super::client::Failure;
use super::request::Client;
use super::{Held, Hook, Hooks, SOCKET_WAITING_BYTES_MAX, Verdict, WAITING_BYTES_MAX};

/// The hooks of one socket, and the order in which they are asked.
pub(crate) struct Line {
    pub(crate) hooks: Hooks,
    /// One permit, for the event whose turn it is. Waiting events get it in their order.
    turns: Semaphore,
    /// Bytes of the socket's events that wait for their turn or for an answer.
    waiting_bytes: AtomicUsize,
    /// Number of hooks of the socket that were not answered.
    unanswered: AtomicUsize,
    /// True until the hook of the event whose turn it is was asked.
    is_asking: AtomicBool,
    /// True if the event waited while an earlier hook was not answered.
    is_stale: AtomicBool,
}

impl Line {
    pub(crate) fn new(hooks: Hooks) -> Self {
        Self {
            hooks,
            turns: Semaphore::new(1),
            waiting_bytes: AtomicUsize::new(0),
            unanswered: AtomicUsize::new(0),
            is_asking: AtomicBool::new(false),
            is_stale: AtomicBool::new(false),
        }
    }

    /// The hooks of a socket, if it has any.
    pub(crate) fn of(socket: &Socket) -> Option<Arc<Self>> {
        socket.extensions().get::<Self>()
    }

    /// Asks the hook of the event whose turn it is.
    ///
    /// If an earlier hook was not answered while the event waited, it is not asked. Otherwise each
    /// of the waiting events would wait for the whole time limit once more.
    pub(crate) async fn ask<T: Body>(
        &self,
        hook: Hook,
        client: &Client<'_>,
        fields: impl Serialize,
    ) -> Result<T, Verdict> {
        let answer = if self.is_stale.load(Ordering::Relaxed) {
            Err(self.hooks.unavailable(hook, &Failure::Stale))
        } else {
            self.hooks.ask(hook, client, fields).await
        };
        if matches!(answer, Err(Verdict::Unavailable)) {
            self.unanswered.fetch_add(1, Ordering::Relaxed);
        }
        // What the answer to another event asks for is done before the turn ends.
        self.is_asking.store(hook == Hook::Event, Ordering::Relaxed);
        answer
    }

    /// Counts the bytes of an event that waits, up to the bounds of the socket and of all.
    fn hold(&self, bytes: usize) -> Result<[Held<'_>; 2], Failure> {
        // A socket of which nothing else waits may have an event of any size.
        let of_socket = Held::add(&self.waiting_bytes, bytes, SOCKET_WAITING_BYTES_MAX.max(bytes))
            .ok_or(Failure::TooMuchOfSocketWaits(SOCKET_WAITING_BYTES_MAX))?;
        let of_all = Held::add(&self.hooks.0.waiting_bytes, bytes, WAITING_BYTES_MAX)
            .ok_or(Failure::TooMuchWaits(WAITING_BYTES_MAX))?;
        Ok([of_socket, of_all])
    }

    /// Waits for the event's turn and runs `action`. The turn ends when the hook was asked and
    /// `action` waits for something else: the order of operations that were begun is that of the
    /// session.
    async fn run<T>(&self, hook: Option<Hook>, bytes: usize, action: impl Future<Output = T>) -> Result<T, Verdict> {
        let waiting = self.hold(bytes);
        let _waiting = waiting.map_err(|failure| self.hooks.unavailable(hook.unwrap_or(Hook::Event), &failure))?;
        let unanswered = self.unanswered.load(Ordering::Relaxed);
        // The semaphore is never closed.
        let mut turn = self.turns.acquire().await.ok();
        self.is_stale.store(self.unanswered.load(Ordering::Relaxed) != unanswered, Ordering::Relaxed);
        self.is_asking.store(hook.is_some_and(|hook| self.hooks.asks_in_turn(hook)), Ordering::Relaxed);
        let mut action = pin!(action);
        let done = poll_fn(|context| {
            let polled = action.as_mut().poll(context);
            // While the event has its turn, the flag is its own.
            if turn.is_some() && !self.is_asking.load(Ordering::Relaxed) {
                turn = None;
            }
            polled
        });
        Ok(done.await)
    }
}

/// Runs `action` for an event of this socket, in its turn if the socket's events are asked about.
pub(crate) async fn in_turn<T>(
    socket: &Socket,
    hook: Option<Hook>,
    bytes: usize,
    action: impl Future<Output = T>,
) -> Result<T, Verdict> {
    let has_turns = |line: &Arc<Line>| {
        line.hooks.asks_events() || hook == Some(Hook::Connect) && line.hooks.asks_in_turn(Hook::Connect)
    };
    match Line::of(socket).filter(has_turns) {
        Some(line) => line.run(hook, bytes, action).await,
        None => Ok(action.await),
    }
}
