//! Rules for every request of a server's own port: Host check, reserve, state of the connection.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use actix_http::error::PayloadError;
use actix_http::{BoxedPayloadStream, Payload, RequestHead};
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::RETRY_AFTER;
use actix_web::http::{ConnectionType, StatusCode};
use actix_web::web::Bytes;
use actix_web::{HttpMessage, HttpResponse};
use futures_core::Stream;

use super::http_connection::HttpConnection;
use super::http_permits::HttpPermits;
use crate::api::error_answer::ErrorAnswer;
use crate::live::Live;
use crate::transport::AccessPolicy;
use crate::transport::hosts::Hosts;
use crate::worker::log_throttle::Throttle;

/// Prefixes of the paths that may be requested on connections of the reserve.
const OPERATORS: [&str; 4] = ["/healthz", "/readyz", "/metrics", "/api/"];

/// Path prefix of the files that pages of allowed origins may import.
const CLIENT: &str = "/client/";

/// Request rules of one thread.
pub(super) struct RequestRules {
    pub(super) permits: HttpPermits,
    policy: Live<AccessPolicy>,
    refused_hosts: Throttle,
    refused_addresses: Throttle,
}

impl RequestRules {
    pub(super) fn new(permits: HttpPermits, policy: Live<AccessPolicy>) -> Self {
        Self { permits, policy, refused_hosts: Throttle::new(1), refused_addresses: Throttle::new(1) }
    }

    /// Checks the Host header against the hosts of the policy or, if the policy has none, those of
    /// the port. Refusals are logged, at most one per second.
    pub(super) fn admits_host(&self, default_hosts: &Hosts, head: &RequestHead) -> bool {
        let policy = self.policy.get();
        let hosts = policy.hosts.as_ref().unwrap_or(default_hosts);
        let Err(host) = hosts.admit(&head.headers) else { return true };
        if let Some(skipped) = self.refused_hosts.is_due(Instant::now()) {
            let address = head.peer_addr.map_or_else(|| "unix".to_owned(), |address| address.to_string());
            log::warn!(
                "request refused, its Host is not in allowed_hosts host={host:?} address={address} skipped={skipped}"
            );
        }
        false
    }

    /// Checks the address of a client behind a trusted proxy. Refusals are logged, at most one per
    /// second.
    fn admits_client(&self, head: &RequestHead) -> bool {
        let policy = self.policy.get();
        if policy.admits_client(head) {
            return true;
        }
        if let Some(skipped) = self.refused_addresses.is_due(Instant::now()) {
            let address = policy.proxies.client(head.peer_addr, &head.headers).address;
            let address = address.map_or_else(|| "unknown".to_owned(), |address| address.to_string());
            log::warn!("request refused, its client's address is not allowed address={address} skipped={skipped}");
        }
        false
    }

    /// Admits a request, or returns the response that refuses it. The caller must pass every
    /// response to [`HttpAdmission::finish`].
    pub(super) fn admit(
        self: &Rc<Self>,
        mut request: ServiceRequest,
    ) -> (Result<ServiceRequest, ServiceResponse>, HttpAdmission) {
        let connection = request.conn_data::<Rc<HttpConnection>>().cloned();
        let exchange = connection.map(|connection| Exchange::begin(connection, &mut request));
        let is_of_reserve = exchange.as_ref().is_some_and(|exchange| self.is_of_reserve(&exchange.0));
        let hosts = exchange.as_ref().map(|exchange| &exchange.0.port().default_hosts);
        let refusal = if hosts.is_none_or(|hosts| !self.admits_host(hosts, request.head())) {
            Some(host_refusal())
        } else if !self.admits_client(request.head()) {
            Some(address_refusal())
        } else if is_of_reserve && !OPERATORS.iter().any(|path| request.path().starts_with(path)) {
            Some(no_permit())
        } else {
            None
        };
        let closes = is_of_reserve || request.head().upgrade();
        let admission = HttpAdmission { rules: self.clone(), exchange, closes };
        match refusal {
            Some(refusal) => (Err(request.into_response(refusal)), admission),
            None => (Ok(request), admission),
        }
    }

    fn is_of_reserve(&self, connection: &HttpConnection) -> bool {
        if !connection.is_of_reserve() {
            return false;
        }
        let ordinary = self.permits.try_ordinary();
        ordinary.map(|permit| connection.promote(permit)).is_none()
    }
}

/// Bookkeeping of an admitted or refused request.
pub(super) struct HttpAdmission {
    rules: Rc<RequestRules>,
    /// `None` if the connection has no [`HttpConnection`].
    exchange: Option<Exchange>,
    /// True if the connection is closed after the response.
    closes: bool,
}

impl HttpAdmission {
    /// Sets the response headers that the rules require. The request ends when the response body is
    /// dropped.
    pub(super) fn finish(self, mut response: ServiceResponse) -> ServiceResponse<Response> {
        let Self { rules, exchange, closes } = self;
        if closes {
            // Connections of the reserve close after one response. Upgrades to other protocols than
            // websocket are ignored, and actix-http does not keep the connection alive after such a
            // request.
            response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
        }
        let is_client = response.request().path().starts_with(CLIENT);
        if let Some(cors) = rules.policy.get().cors.as_ref().filter(|_| is_client) {
            let request = response.request().clone();
            cors.add_headers(request.headers(), response.headers_mut());
        }
        response.map_body(|_, body| Response { body, _exchange: exchange })
    }
}

/// Response body for a refused Host.
pub(super) const HOST_REFUSAL: &str = "{\"error\":{\"code\":\"host_not_allowed\",\"message\":\"this Host is not served here; \
                                       add it to allowed_hosts (STENTOR_ALLOWED_HOSTS, Builder::allowed_hosts)\"}}";

fn host_refusal() -> HttpResponse {
    HttpResponse::build(StatusCode::MISDIRECTED_REQUEST).content_type("application/json").body(HOST_REFUSAL)
}

fn address_refusal() -> HttpResponse {
    let message = "this address is not served; see allowed_addresses and denied_addresses";
    HttpResponse::Forbidden().json(ErrorAnswer::new("address_not_allowed", message))
}

fn no_permit() -> HttpResponse {
    let message = "http_connections_max HTTP connections are open; try again";
    HttpResponse::ServiceUnavailable().insert_header((RETRY_AFTER, "1")).json(ErrorAnswer::new("overloaded", message))
}

/// A request and its response on a connection. Dropping this value ends the request.
struct Exchange(Rc<HttpConnection>);

impl Exchange {
    fn begin(connection: Rc<HttpConnection>, request: &mut ServiceRequest) -> Self {
        let payload = request.take_payload();
        let has_body = !matches!(payload, Payload::None);
        connection.begin_request(has_body);
        if has_body {
            let body: BoxedPayloadStream = Box::pin(Body { payload, connection: connection.clone() });
            request.set_payload(Payload::Stream { payload: body });
        }
        Self(connection)
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.0.end_request();
    }
}

/// Request body that notifies its connection when the body is complete.
struct Body {
    payload: Payload,
    connection: Rc<HttpConnection>,
}

impl Stream for Body {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = Pin::new(&mut self.payload).poll_next(cx);
        if matches!(next, Poll::Ready(None)) {
            self.connection.end_body();
        }
        next
    }
}

/// Response body. Dropping it ends the request.
pub(super) struct Response {
    body: BoxBody,
    _exchange: Option<Exchange>,
}

impl MessageBody for Response {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(cx)
    }
}
