//! Reports of handlers to a test: one channel of sentences, in order.

use std::sync::mpsc::{Receiver, Sender, channel};

use stentor::Server;

use super::DEADLINE;

#[derive(Debug, Clone)]
pub(crate) struct Reporter(Sender<String>);

impl Reporter {
    /// Sends a sentence; ignored once the test has ended.
    pub(crate) fn report(&self, what: impl Into<String>) {
        let _ = self.0.send(what.into());
    }
}

#[derive(Debug)]
pub(crate) struct Reports(Receiver<String>);

impl Reports {
    #[track_caller]
    pub(crate) fn next(&self) -> String {
        match self.0.recv_timeout(DEADLINE) {
            Ok(said) => said,
            Err(_) => panic!("no handler reported anything within {DEADLINE:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn expect(&self, said: &str, context: impl std::fmt::Debug) {
        match self.0.recv_timeout(DEADLINE) {
            Ok(next) => assert_eq!(next, said, "{context:?}"),
            Err(_) => panic!("no report {said:?} within {DEADLINE:?}: {context:?}"),
        }
    }

    /// The next `count` sentences.
    pub(crate) fn take(&self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.next()).collect()
    }

    /// Sentences sent by now and not yet read.
    pub(crate) fn rest(&self) -> Vec<String> {
        self.0.try_iter().collect()
    }
}

pub(crate) fn report_channel() -> (Reporter, Reports) {
    let (reporter, reports) = channel();
    (Reporter(reporter), Reports(reports))
}

/// Reports the reason of each disconnect in `/`.
pub(crate) fn report_disconnects(io: &Server, reporter: &Reporter) {
    let reporter = reporter.clone();
    io.of("/").on_disconnect(move |_, reason| {
        reporter.report(reason.as_str());
        async { Ok(()) }
    });
}
