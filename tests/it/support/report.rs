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
    #[track_caller]
    pub(crate) fn next(&self) -> String {
        match self.0.recv_timeout(DEADLINE) {
            Ok(said) => said,
            Err(_) => panic!("no handler said anything within {DEADLINE:?}"),
        }
    }

    /// What is said next must be this.
    #[track_caller]
    pub(crate) fn expect(&self, said: &str, context: impl std::fmt::Debug) {
        match self.0.recv_timeout(DEADLINE) {
            Ok(next) => assert_eq!(next, said, "{context:?}"),
            Err(_) => panic!("{said:?} was not said within {DEADLINE:?}: {context:?}"),
        }
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
    io.of("/").on_disconnect(move |_, reason| {
        tell.say(reason.as_str());
        async { Ok(()) }
    });
}
