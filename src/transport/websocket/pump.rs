//! The websocket inside a host application: an actix-web-actors actor pumps between the host's connection and the session.
//!
//! The only file that names actix-web-actors. The session is never that actor: actix-http polls it as a response body, and
//! not at all while the client takes no bytes, so a client that stops reading freezes it, timers and mailbox included
//! (actix-web issue 2441). The session stays on its own worker and talks to the pump through two bounded channels: packets
//! go out, each holding its bytes of [`limits.transport.pump_bytes_max`](crate::limits::TransportLimits::pump_bytes_max); bytes come in as they were read.
//!
//! The pump refuses to decode. actix-web-actors' own reader would buffer a frame of any length before it refused it, so it is
//! given no bytes; [`frames`](super::frames) keeps the bounds, on the session's worker, as for a raw websocket.

mod session_end;

use std::cell::Cell;
use std::future::poll_fn;
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix::{Actor, ActorContext, AsyncContext, StreamHandler};
use actix_http::body::{BodySize, BoxBody, MessageBody};
use actix_http::ws::{CloseReason as WsCloseReason, Message, OpCode, ProtocolError, verify_handshake};
use actix_web::error::PayloadError;
use actix_web::http::header::{ContentType, SEC_WEBSOCKET_PROTOCOL, SET_COOKIE};
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use actix_web_actors::ws::{WebsocketContext, WsResponseBuilder};
use bytes::Bytes;
use bytestring::ByteString;
use futures_core::Stream;
use socket2::Socket;
use tokio::sync::mpsc;

use self::session_end::{Outgoing, channels};
use super::super::{Admitted, Endpoint, HandshakeRequest, Refusal};
use super::negotiation::{subprotocol, wants_base64};
use crate::messages::session::SessionCommand;
use crate::protocol::encoded::EncodedFrame;
use crate::session::InitialTransport;

/// Answers an upgrade request inside a host application.
pub(crate) async fn handle(endpoint: Endpoint, request: HttpRequest, payload: Payload) -> HttpResponse {
    accept(&endpoint, &request, payload).await.unwrap_or_else(|refusal| {
        endpoint.record_refusal(&refusal, request.head());
        // As engine.io does: the message is the body, and the connection is closed.
        let mut response = HttpResponse::build(refusal.upgrade_status());
        response.force_close().content_type(ContentType::html()).body(refusal.message().to_owned())
    })
}

async fn accept(endpoint: &Endpoint, request: &HttpRequest, payload: Payload) -> Result<HttpResponse, Refusal> {
    let encrypted = request.app_config().secure();
    let admitted = endpoint.admit(HandshakeRequest { head: request.head(), upgrade: true, encrypted }).await?;
    // Stricter than actix-web-actors is; the same as for a raw websocket.
    verify_handshake(request.head()).map_err(|_| Refusal::BadRequest)?;
    let base64 = wants_base64(request.uri().query());
    let bounds = endpoint.policy.messages.clone();
    let (outgoing, handoff, to_session) = channels(&endpoint.services.core.limits, bounds, base64);
    let pump = Pump { outgoing: Some(outgoing) };
    let mut response = WsResponseBuilder::new(pump, request, NoBytes).start().map_err(|_| Refusal::BadRequest)?;
    if let Some(protocol) = subprotocol(request.headers()) {
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    actix::spawn(read(payload, to_session));
    let handoff = Box::new(handoff);
    match admitted {
        // The session may be on another worker. If it has ended meanwhile, the pump ends as soon as it has begun.
        Admitted::Session(link) => drop(link.post(SessionCommand::Websocket(handoff))),
        Admitted::PendingSession(pending) => {
            if let Some(cookie) = endpoint.policy.cookie(&pending) {
                response.headers_mut().insert(SET_COOKIE, cookie);
            }
            endpoint.open(pending, InitialTransport::Websocket(handoff));
        }
    }
    let socket = request.conn_data::<HostSocket>().and_then(HostSocket::take);
    Ok(response.map_body(|_, body| PumpBody { body, socket }.boxed()))
}

/// A second descriptor of a host's connection, until its first request: a websocket ends the reading by it, see [`PumpBody`].
pub(crate) struct HostSocket(Cell<Option<Socket>>);

impl HostSocket {
    pub(crate) fn new(socket: Socket) -> Self {
        Self(Cell::new(Some(socket)))
    }

    pub(crate) fn take(&self) -> Option<Socket> {
        self.0.take()
    }
}

/// The response's body, with which a websocket ends. After a body, actix-http waits for the client's end where not all of the
/// request has come, for `client_disconnect_timeout`; and the request of a websocket has no end of its own, while the client
/// waits for the server's (RFC 6455, 7.1.1). So the reading is ended here: actix-http writes what it has, and closes.
struct PumpBody {
    body: BoxBody,
    socket: Option<Socket>,
}

impl MessageBody for PumpBody {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(cx)
    }
}

impl Drop for PumpBody {
    fn drop(&mut self) {
        if let Some(socket) = &self.socket {
            // It fails where the connection has ended already.
            let _ = socket.shutdown(Shutdown::Read);
        }
    }
}

/// Passes on what the client sends, for as long as the session wants it. Beside the actor, so that a client that reads
/// slowly is heard all the same. Ends without a word: the channel's end says that the client has gone (whether in order,
/// actix-http does not tell).
async fn read(mut payload: Payload, to_session: mpsc::Sender<Bytes>) {
    loop {
        let chunk = tokio::select! {
            chunk = poll_fn(|cx| Pin::new(&mut payload).poll_next(cx)) => chunk,
            () = to_session.closed() => return,
        };
        let Some(Ok(chunk)) = chunk else { return };
        if to_session.send(chunk).await.is_err() {
            return;
        }
    }
}

/// The actor: what the session sends becomes the response's body.
struct Pump {
    outgoing: Option<Outgoing>,
}

impl Actor for Pump {
    type Context = WebsocketContext<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if let Some(outgoing) = self.outgoing.take() {
            ctx.add_stream(outgoing);
        }
    }
}

impl StreamHandler<EncodedFrame> for Pump {
    fn handle(&mut self, packet: EncodedFrame, ctx: &mut Self::Context) {
        ctx.write_raw(message(&packet));
    }

    /// The session has let go of the connection. What was written still leaves.
    fn finished(&mut self, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

/// actix-web-actors wants to read; it is given nothing.
impl StreamHandler<Result<Message, ProtocolError>> for Pump {
    fn handle(&mut self, _: Result<Message, ProtocolError>, _: &mut Self::Context) {}
}

/// A stream of bytes that never gives any.
struct NoBytes;

impl Stream for NoBytes {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Pending
    }
}

/// A packet as actix-web-actors encodes it: it offers no way to write a frame that is encoded already.
fn message(packet: &EncodedFrame) -> Message {
    let body = packet.to_body();
    match OpCode::from(packet.frame()[0] & 0x0f) {
        // What was text stays text: the check cannot fail, it can only not be left out.
        OpCode::Text => ByteString::try_from(body).map_or(Message::Nop, Message::Text),
        OpCode::Pong => Message::Pong(body),
        OpCode::Close => Message::Close(close_reason(&body)),
        _ => Message::Binary(body),
    }
}

fn close_reason(body: &[u8]) -> Option<WsCloseReason> {
    let (code, reason) = body.split_first_chunk()?;
    let description = String::from_utf8_lossy(reason).into_owned();
    Some(WsCloseReason { code: u16::from_be_bytes(*code).into(), description: Some(description) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_what_they_were() {
        assert_eq!(message(&EncodedFrame::text("4é")), Message::Text("4é".into()));
        assert_eq!(message(&EncodedFrame::binary(b"\xff")), Message::Binary(Bytes::from_static(b"\xff")));
        assert_eq!(message(&EncodedFrame::websocket_pong(b"hi")), Message::Pong(Bytes::from_static(b"hi")));
        let close = WsCloseReason { code: 1009.into(), description: Some("transport error".into()) };
        assert_eq!(message(&EncodedFrame::websocket_close(1009, "transport error")), Message::Close(Some(close)));
    }
}
