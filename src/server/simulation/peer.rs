//! Client side of a simulated connection, and a stub of its session.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use actix::{Actor, Context, Handler};

use crate::messages::answer::{Answer, ConnectAnswer};
use crate::messages::session::SessionCommand;
use crate::messages::sink::{CloseReason, Drained, FrameSink};
use crate::state::outbox::Outbox;

/// Client side of one connection.
#[derive(Default)]
pub(super) struct Peer {
    /// Number of packets that the client still reads.
    pub(super) allowed: Cell<usize>,
    pub(super) received: RefCell<VecDeque<String>>,
    /// Answer of the hub to the connect.
    answer: Cell<Option<ConnectAnswer>>,
    /// True once the worker asked to close the connection.
    pub(super) is_ended: Cell<bool>,
}

impl Peer {
    pub(super) async fn answered(&self) -> ConnectAnswer {
        loop {
            match self.answer.take() {
                Some(answer) => return answer,
                None => tokio::task::yield_now().await,
            }
        }
    }
}

pub(super) struct PeerSink(pub(super) Rc<Peer>);

impl FrameSink for PeerSink {
    fn drain(&mut self, outbox: &mut Outbox) -> Drained {
        while self.0.allowed.get() > 0 {
            let Some(packet) = outbox.pop() else { return Drained::All };
            self.0.allowed.set(self.0.allowed.get() - 1);
            self.0.received.borrow_mut().push_back(String::from_utf8_lossy(packet.body()).into_owned());
        }
        if outbox.is_empty() { Drained::All } else { Drained::Blocked }
    }
    fn queue_close(&mut self, _: CloseReason, _: &mut Outbox) {}
    fn finish(&mut self) -> bool {
        false
    }
    fn abort(&mut self) {}
}

pub(super) struct SessionStub(pub(super) Rc<Peer>);

impl Actor for SessionStub {
    type Context = Context<Self>;
}

impl Handler<SessionCommand> for SessionStub {
    type Result = ();

    fn handle(&mut self, command: SessionCommand, _: &mut Context<Self>) {
        match command {
            SessionCommand::Answered { answer: Answer::Connect(answer), .. } => self.0.answer.set(Some(answer)),
            SessionCommand::OutboxFull(_) | SessionCommand::Evicted | SessionCommand::DrainerLost(_) => {
                self.0.is_ended.set(true);
            }
            _ => {}
        }
    }
}
