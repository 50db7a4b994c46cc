//! What handlers tell a test: one channel of sentences, in the order in which they were said.

use std::sync::mpsc::{Receiver, Sender, channel};

use stentor::Server;

use super::DEADLINE;

/// The end that handlers hold.
#[derive(Debug, Clone)]
pub(crate) struct Tell(Sender<String>);

impl Tell {
    /// Says something. A test that is over does not listen any more.
    pub(crate) fn say(&self, what: impl Into<String>) {
        let _ = self.0.send(what.into());
    }
}

/// The end that the test holds.
#[derive(Debug)]
pub(crate) struct Told(Receiver<String>);

impl Told {
    /// What was said next.
    pub(crate) fn next(&self) -> String {
        self.0.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("no handler said anything within {DEADLINE:?}"))
    }

    /// The next `count` sentences.
    pub(crate) fn take(&self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.next()).collect()
    }

    /// What was said by now and not yet heard.
    pub(crate) fn rest(&self) -> Vec<String> {
        self.0.try_iter().collect()
    }
}

/// A channel.
pub(crate) fn report() -> (Tell, Told) {
    let (tell, told) = channel();
    (Tell(tell), Told(told))
}

/// Says why each socket of `/` ends.
pub(crate) fn ends(io: &Server, tell: &Tell) {
    let tell = tell.clone();
    let _ = io.of("/").on_disconnect(move |_, reason| {
        tell.say(reason.as_str());
        async { Ok(()) }
    });
}
