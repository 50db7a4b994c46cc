//! HTTP long polling: a GET drains the session's outbox once, a POST delivers packets.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::http::{Method, header};
use actix_web::web::{Bytes, Payload};
use actix_web::{HttpMessage, HttpRequest, HttpResponse};
use bytestring::ByteString;
use futures_core::Stream;
use tokio::sync::oneshot;

use super::access_policy::is_encrypted;
use super::body::{BodyError, read_body};
use super::{Admitted, Endpoint, HandshakeRequest, HttpRefusal};
use crate::messages::session::{SessionCommand, SessionLink};
use crate::messages::sink::{CloseReason, Drained, FrameSink};
use crate::protocol::encoded::EncodedFrame;
use crate::protocol::engineio::payload::{PayloadReader, PayloadWriter};
use crate::protocol::engineio::transport_kind::TransportKind;
use crate::protocol::reason::DisconnectReason;
use crate::session::InitialTransport;
use crate::state::budget::Charge;
use crate::state::outbox::Outbox;

const CLOSE: &str = "1";

const CONTENT_TYPE: &str = "text/plain; charset=UTF-8";

/// Answers every request for the Socket.IO path that is not an upgrade.
pub(crate) async fn handle(endpoint: Endpoint, request: HttpRequest, mut payload: Payload) -> HttpResponse {
    let response = respond(&endpoint, &request, &mut payload).await;
    let mut cx = Context::from_waker(Waker::noop());
    match Pin::new(&mut payload).poll_next(&mut cx) {
        Poll::Ready(None) => response,
        _ => response.map_body(|_, body| Unread { body, _payload: payload }.boxed()),
    }
}

async fn respond(endpoint: &Endpoint, request: &HttpRequest, payload: &mut Payload) -> HttpResponse {
    let policy = endpoint.policy.get();
    let cors = policy.cors.as_ref();
    if let Some(preflight) = cors.and_then(|cors| cors.preflight(request.head())) {
        return preflight;
    }
    let mut response = answer(endpoint, request, payload).await.unwrap_or_else(|refusal| {
        let detail = endpoint.record_refusal(&refusal, request.head());
        refusal.response(detail.as_deref())
    });
    // Responses to refused requests need the CORS headers as well. Otherwise the browser hides the
    // reason from the page.
    if let Some(cors) = cors {
        cors.add_headers(request.headers(), response.headers_mut());
    }
    response
}

async fn answer(
    endpoint: &Endpoint,
    request: &HttpRequest,
    payload: &mut Payload,
) -> Result<HttpResponse, HttpRefusal> {
    let poll_bytes_max = endpoint.services.core.limits.transport.poll_bytes_max;
    let encrypted = is_encrypted(request);
    match endpoint.admit(HandshakeRequest { head: request.head(), upgrade: false, encrypted }).await? {
        Admitted::PendingSession(pending) => {
            let cookie = endpoint.policy.get().cookie(&pending);
            let mut response = poll(endpoint.open(pending, InitialTransport::Polling), poll_bytes_max).await?;
            if let Some(cookie) = cookie {
                response.headers_mut().insert(header::SET_COOKIE, cookie);
            }
            Ok(response)
        }
        Admitted::Session(link) => match *request.method() {
            Method::GET => poll(link, poll_bytes_max).await,
            Method::POST => post(endpoint, link, request, payload).await,
            _ => Err(HttpRefusal::BadRequest),
        },
    }
}

/// Answers a GET with the next batch. The response is created only when the batch is complete,
/// since some clients fail when the head arrives without the body.
async fn poll(link: SessionLink, bytes_max: usize) -> Result<HttpResponse, HttpRefusal> {
    let (sink, batches) = PollSink::new(bytes_max);
    let (reply, replied) = oneshot::channel();
    link.post(SessionCommand::Drain { sink: Box::new(sink), reply }).map_err(|_| HttpRefusal::UnknownSession)?;
    replied.await.map_err(|_| HttpRefusal::UnknownSession)??;
    let mut response = HttpResponse::Ok();
    response.insert_header((header::CONTENT_TYPE, CONTENT_TYPE)).insert_header((header::CACHE_CONTROL, "no-store"));
    Ok(response.body(PendingPoll { batches, link: Some(link) }.await))
}

/// Drains an outbox once, into the response of one GET.
pub(crate) struct PollSink {
    batch: Option<oneshot::Sender<Vec<u8>>>,
    bytes_max: usize,
}

impl PollSink {
    /// Returns the sink and the receiver of its batch.
    pub(crate) fn new(bytes_max: usize) -> (Self, oneshot::Receiver<Vec<u8>>) {
        let (batch, batches) = oneshot::channel();
        (Self { batch: Some(batch), bytes_max }, batches)
    }
}

impl FrameSink for PollSink {
    fn drain(&mut self, outbox: &mut Outbox) -> Drained {
        if self.batch.as_ref().is_none_or(oneshot::Sender::is_closed) {
            return Drained::Lost("poll aborted by the client".into());
        }
        let mut payload = PayloadWriter::new();
        while let Some(packet) = outbox.peek() {
            // A binary packet is sent in base64, which encodes three bytes as four.
            let bytes = if packet.is_binary() { packet.body().len() / 3 * 4 + 5 } else { packet.body().len() };
            // The close packet is sent alone. A client closes as soon as it reads a close packet,
            // before it has emitted the other packets of the batch to its listeners.
            let is_close = !packet.is_binary() && packet.body() == CLOSE.as_bytes();
            if !payload.is_empty() && (is_close || payload.len() + bytes > self.bytes_max) {
                break;
            }
            if packet.is_binary() {
                payload.push_binary(packet.body())
            } else {
                payload.push_raw(packet.body())
            }
            outbox.pop();
        }
        if payload.is_empty() {
            return Drained::All;
        }
        if let Some(batch) = self.batch.take() {
            let _ = batch.send(payload.finish());
        }
        Drained::Finished
    }

    fn queue_close(&mut self, close_reason: CloseReason, outbox: &mut Outbox) {
        // A client that has sent a close packet, or no CONNECT in time, receives a noop. Any other
        // client receives a close packet.
        let packet = if close_reason == CloseReason::Ended(DisconnectReason::TransportClose) { "6" } else { CLOSE };
        outbox.push_final(EncodedFrame::text(packet));
    }

    fn finish(&mut self) -> bool {
        false
    }

    fn abort(&mut self) {}
}

impl Drop for PollSink {
    /// Answers a poll that has received no batch with a noop, since clients treat an empty body as
    /// an error.
    fn drop(&mut self) {
        if let Some(batch) = self.batch.take() {
            let _ = batch.send(b"6".to_vec());
        }
    }
}

/// The batch that a GET waits for. If this future is dropped before the batch arrives, the poll is
/// aborted. actix-http drops the request's handler, and this future with it, when the client has
/// closed the connection. actix-http always notices a reset, but a FIN only if half-closed
/// connections are disabled.
struct PendingPoll {
    batches: oneshot::Receiver<Vec<u8>>,
    /// `None` once the batch was received.
    link: Option<SessionLink>,
}

impl Future for PendingPoll {
    type Output = Vec<u8>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Vec<u8>> {
        let batch = std::task::ready!(Pin::new(&mut self.batches).poll(cx));
        self.link = None;
        // The fallback is never used, since `PollSink` always sends a batch, at the latest when it
        // is dropped.
        Poll::Ready(batch.unwrap_or_else(|_| b"6".to_vec()))
    }
}

impl Drop for PendingPoll {
    fn drop(&mut self) {
        if let Some(link) = self.link.take() {
            let _ = link.post(SessionCommand::TransportFailed("poll aborted by the client".into()));
        }
    }
}

/// A response to a request whose body was not read completely. The payload is kept until the
/// response is written, which makes actix-http close the connection. Otherwise actix-http would
/// read and discard the rest for as long as the client sends.
struct Unread {
    body: BoxBody,
    _payload: Payload,
}

impl MessageBody for Unread {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(cx)
    }
}

async fn post(
    endpoint: &Endpoint,
    link: SessionLink,
    request: &HttpRequest,
    payload: &mut Payload,
) -> Result<HttpResponse, HttpRefusal> {
    let limits = &endpoint.services.core.limits;
    let Some(claim) = link.begin_post() else {
        let _ = link.post(SessionCommand::TransportFailed("a second POST while one is read".into()));
        return Err(HttpRefusal::BadRequest);
    };
    if request.content_type().eq_ignore_ascii_case("application/octet-stream") {
        // This drops `claim` without `complete`, which ends the session.
        return Err(HttpRefusal::BadRequest);
    }
    let worker = endpoint.worker();
    // The charge is held until the session has handled the packets.
    let mut charge = Charge::new(worker.budgets().incoming.clone());
    let body = match read_body(payload, limits.transport.payload_bytes_max, limits.http.body_timeout, &mut charge).await
    {
        Ok(body) => body,
        Err(BodyError::TooLarge(_)) => {
            claim.complete();
            worker.metrics().oversized[TransportKind::Polling].add(1);
            log::debug!("POST refused, body too large bytes_max={}", limits.transport.payload_bytes_max);
            return Ok(HttpResponse::PayloadTooLarge().insert_header(header::ContentType::plaintext()).finish());
        }
        Err(BodyError::Overloaded(detail)) => {
            claim.complete();
            worker.metrics().incoming_refused.add(1);
            if let Some(skipped) = worker.log_throttles().message_refused.is_due(Instant::now()) {
                log::warn!("POST refused, budget of incoming bytes exceeded skipped={skipped} detail=\"{detail}\"");
            }
            return Err(HttpRefusal::Overloaded);
        }
        Err(BodyError::Broken(_) | BodyError::Timeout(_)) => return Err(HttpRefusal::BadRequest),
    };
    let packets = ByteString::try_from(body).map(PayloadReader::new).map_err(|_| "payload is not UTF-8".to_owned());
    let (reply, replied) = oneshot::channel();
    if link.post(SessionCommand::Post { packets, reply }).is_err() {
        claim.complete();
        return Err(HttpRefusal::UnknownSession);
    }
    let answer = replied.await;
    claim.complete();
    answer.map_err(|_| HttpRefusal::UnknownSession)??;
    let mut response = HttpResponse::Ok();
    response.insert_header((header::CONTENT_TYPE, "text/html")).insert_header((header::CACHE_CONTROL, "no-store"));
    Ok(response.body("ok"))
}
