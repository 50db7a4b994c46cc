//! The websocket inside a host application: an actix-web-actors actor pumps frames between the
//! host's connection and the session.
//!
//! Only this file uses actix-web-actors. The session is a separate actor, since actix-http polls
//! the websocket's actor as a response body, and stops polling while the client does not read. A
//! client that stops reading would freeze the session's timers and mailbox (actix-web issue 2441).
//! Therefore the session stays on its own worker and is connected to the pump by two bounded
//! channels. Packets in the outgoing channel hold a share of `transport.pump_bytes_max`. Incoming
//! bytes are passed undecoded.
//!
//! The pump decodes nothing. The frame reader of actix-web-actors would buffer a frame of any
//! length before refusing the frame, so that reader receives no bytes. Instead,
//! [`frame_reader`](super::frame_reader) checks the limits on the session's worker, as for a raw
//! websocket.

mod session_side;

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

use self::session_side::{Outgoing, channels};
use super::super::access_policy::is_encrypted;
use super::super::{Admitted, Endpoint, HandshakeRequest, HttpRefusal};
use super::negotiation::{subprotocol, wants_base64};
use crate::messages::session::SessionCommand;
use crate::protocol::encoded::EncodedFrame;
use crate::session::InitialTransport;

/// Answers an upgrade request inside a host application.
pub(crate) async fn handle(endpoint: Endpoint, request: HttpRequest, payload: Payload) -> HttpResponse {
    accept(&endpoint, &request, payload).await.unwrap_or_else(|refusal| {
        endpoint.record_refusal(&refusal, request.head());
        // As in engine.io, the body is the error message, and the connection is closed.
        let mut response = HttpResponse::build(refusal.upgrade_status());
        response.force_close().content_type(ContentType::html()).body(refusal.message().to_owned())
    })
}

async fn accept(endpoint: &Endpoint, request: &HttpRequest, payload: Payload) -> Result<HttpResponse, HttpRefusal> {
    let encrypted = is_encrypted(request);
    let admitted = endpoint.admit(HandshakeRequest { head: request.head(), upgrade: true, encrypted }).await?;
    // This check is stricter than that of actix-web-actors, and the same as for a raw websocket.
    verify_handshake(request.head()).map_err(|_| HttpRefusal::BadRequest)?;
    let base64 = wants_base64(request.uri().query());
    let bounds = endpoint.policy.get().messages.clone();
    let (outgoing, handoff, to_session) = channels(&endpoint.services.core.limits, bounds, base64);
    let pump = Pump { outgoing: Some(outgoing) };
    let mut response = WsResponseBuilder::new(pump, request, NoBytes).start().map_err(|_| HttpRefusal::BadRequest)?;
    if let Some(protocol) = subprotocol(request.headers()) {
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    actix::spawn(read(payload, to_session));
    let handoff = Box::new(handoff);
    match admitted {
        // The session may be on another worker. If the session has ended meanwhile, the pump ends
        // as soon as it starts.
        Admitted::Session(link) => drop(link.post(SessionCommand::Websocket(handoff))),
        Admitted::PendingSession(pending) => {
            if let Some(cookie) = endpoint.policy.get().cookie(&pending) {
                response.headers_mut().insert(SET_COOKIE, cookie);
            }
            endpoint.open(pending, InitialTransport::Websocket(handoff));
        }
    }
    let socket = request.conn_data::<HostSocket>().and_then(HostSocket::take);
    Ok(response.map_body(|_, body| PumpBody { body, socket }.boxed()))
}

/// A duplicate descriptor of a connection of the host application. The first request on the
/// connection takes the descriptor. A websocket needs the descriptor to shut down the reading side
/// ([`PumpBody`]). Any other request drops the descriptor.
pub(crate) struct HostSocket(Cell<Option<Socket>>);

impl HostSocket {
    pub(crate) fn new(socket: Socket) -> Self {
        Self(Cell::new(Some(socket)))
    }

    pub(crate) fn take(&self) -> Option<Socket> {
        self.0.take()
    }
}

/// Response body of a websocket. Dropping it shuts down the reading side of the connection. Without
/// the shutdown, actix-http would wait for the end of the request body for
/// `client_disconnect_timeout` after the response, while the client waits for the server to close
/// the connection (RFC 6455, 7.1.1). After the shutdown, actix-http writes the buffered bytes and
/// closes the connection.
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
            // The error is ignored, since the shutdown fails if the connection has ended already.
            let _ = socket.shutdown(Shutdown::Read);
        }
    }
}

/// Passes the client's bytes to the session until either side ends. Runs as a separate task, since
/// actix-http may not poll the actor while the client reads slowly. The closed channel notifies the
/// session of the end of the connection. actix-http does not report whether the client closed the
/// connection properly.
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

/// The actor that writes the session's frames to the response body.
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

    /// Called when the session releases the connection. Buffered bytes are still written.
    fn finished(&mut self, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

/// actix-web-actors requires a handler for incoming frames. This handler is never called.
impl StreamHandler<Result<Message, ProtocolError>> for Pump {
    fn handle(&mut self, _: Result<Message, ProtocolError>, _: &mut Self::Context) {}
}

struct NoBytes;

impl Stream for NoBytes {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Pending
    }
}

/// Converts a frame to a message, since actix-web-actors cannot write encoded frames.
fn message(packet: &EncodedFrame) -> Message {
    let body = packet.to_body();
    match OpCode::from(packet.frame()[0] & 0x0f) {
        // The conversion never fails, since a text frame is always UTF-8.
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
    fn frames_are_converted_to_the_same_messages() {
        assert_eq!(message(&EncodedFrame::text("4é")), Message::Text("4é".into()));
        assert_eq!(message(&EncodedFrame::binary(b"\xff")), Message::Binary(Bytes::from_static(b"\xff")));
        assert_eq!(message(&EncodedFrame::websocket_pong(b"hi")), Message::Pong(Bytes::from_static(b"hi")));
        let close = WsCloseReason { code: 1009.into(), description: Some("transport error".into()) };
        assert_eq!(message(&EncodedFrame::websocket_close(1009, "transport error")), Message::Close(Some(close)));
    }
}
