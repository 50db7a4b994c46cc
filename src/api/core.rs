//! What all handles of one server share: the way to the hub for code outside sessions, and the registered handlers.

use std::sync::Arc;

use tokio::sync::{broadcast, oneshot};

use super::args::{OutgoingArgs, ToArgs};
use super::current;
use super::error::EmitError;
use super::recovery_clients::RecoveryClients;
use super::registry::Registry;
use crate::ids::NamespacePath;
use crate::limits::Limits;
use crate::messages::request::{NoAnswer, Request};
use crate::messages::room_change::RoomChange;
use crate::messages::session::{OfferError, SessionLink};
use crate::protocol::draft::Draft;
use crate::protocol::encoded::Message;
use crate::protocol::socketio::{Parser, RESERVED_EVENTS};

/// The shared part of a server's handles.
#[derive(Debug)]
pub(crate) struct Core {
    /// Where code outside any session hands in its requests.
    pub(crate) server_sender: SessionLink,
    /// Whether events are numbered and bear tokens.
    pub(crate) recovery: bool,
    /// The clients that are recoverable where their namespace does not say otherwise.
    pub(crate) recovery_clients: RecoveryClients,
    /// True if an event that is not handled is answered in its ack.
    pub(crate) ack_errors: bool,
    /// The form of its packets.
    pub(crate) parser: Parser,
    /// The server's bounds.
    pub(crate) limits: Arc<Limits>,
    /// Which namespaces there are, and their handlers.
    pub(crate) registry: Registry,
    /// Changes of rooms, sent by the hub while someone watches.
    pub(crate) room_changes: broadcast::Sender<RoomChange>,
}

impl Core {
    /// Tells servers in one process apart.
    pub(crate) fn identity(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self) as usize
    }

    /// Where an emit to rooms goes: to the session whose handler runs, else to `own`; to the server sender if there is none, or
    /// if it has ended: a handler that says who left must still be heard.
    pub(crate) fn outlet(self: &Arc<Self>, own: Option<&SessionLink>) -> SessionLink {
        let session = current::session(self.identity()).or_else(|| own.cloned());
        session.filter(SessionLink::is_open).unwrap_or_else(|| self.server_sender.clone())
    }

    /// Encodes an event once, with a hole for its token if it is to bear one.
    pub(crate) fn draft(
        &self,
        namespace: &NamespacePath,
        name: &str,
        data: &impl ToArgs,
        token_hole: bool,
    ) -> Result<Draft, EmitError> {
        if RESERVED_EVENTS.contains(&name) {
            return Err(EmitError::ReservedName(name.into()));
        }
        let args = self.encode(data)?;
        let hole = token_hole && self.recovery;
        Ok(Draft::event(self.parser, namespace.clone(), name, args.json(), args.attachments.to_vec(), hole))
    }

    /// Encodes the answer to the client's ack `id`.
    pub(crate) fn answer(&self, namespace: &NamespacePath, id: u64, data: &impl ToArgs) -> Result<Message, EmitError> {
        let args = self.encode(data)?;
        Ok(Draft::ack(self.parser, namespace.clone(), id, args.json(), args.attachments.to_vec()))
    }

    /// Writes arguments, with no more attachments than a client accepts: the JavaScript parser refuses a packet with more.
    pub(crate) fn encode<'a>(&self, data: &'a impl ToArgs) -> Result<OutgoingArgs<'a>, EmitError> {
        let args = data.to_args()?;
        let (count, limit) = (args.attachments.len(), self.parser.attachments_max());
        if count > limit {
            return Err(EmitError::TooManyAttachments { count, limit });
        }
        Ok(args)
    }

    /// Hands a request in and awaits its answer.
    ///
    /// The deadline is the taker's, who answers every request in time or, when it ends, by dropping the sender: a
    /// second timer here would only cost.
    pub(crate) async fn ask<T, E: From<NoAnswer>>(
        link: &SessionLink,
        request: impl FnOnce(oneshot::Sender<Result<T, E>>) -> Request,
    ) -> Result<T, E> {
        Self::begin(link, request).finish().await
    }

    /// Hands a request in.
    pub(crate) fn begin<T, E: From<NoAnswer>>(
        link: &SessionLink,
        request: impl FnOnce(oneshot::Sender<Result<T, E>>) -> Request,
    ) -> PendingAnswer<T, E> {
        let (sender, receiver) = oneshot::channel();
        PendingAnswer(match link.offer(request(sender)) {
            Ok(()) => Ok(receiver),
            Err(OfferError::Full) => Err(NoAnswer::Overloaded.into()),
            Err(OfferError::Gone) => Err(NoAnswer::Disconnected.into()),
        })
    }
}

/// A request that was handed in, or refused at once.
pub(crate) struct PendingAnswer<T, E>(Result<oneshot::Receiver<Result<T, E>>, E>);

impl<T, E: From<NoAnswer>> PendingAnswer<T, E> {
    /// Awaits the answer.
    pub(crate) async fn finish(self) -> Result<T, E> {
        self.0?.await.unwrap_or_else(|_| Err(NoAnswer::Disconnected.into()))
    }
}
