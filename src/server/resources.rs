//! Support for an application's HTTP resources: request bodies within the memory budget, and
//! addresses of clients.

use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;

use actix_web::HttpRequest;
use actix_web::http::header::CONTENT_LENGTH;
use actix_web::web::{Bytes, Payload};

use super::Server;
use crate::state::budget::Charge;
use crate::transport::body::{BodyError, read_body};

/// Body of a request, read by [`Server::read_body`]. Until the body is dropped, its bytes count
/// against [`limits.memory.incoming_bytes_max`](crate::limits::MemoryLimits::incoming_bytes_max).
pub struct RequestBody {
    bytes: Bytes,
    _charge: Charge,
}

impl Deref for RequestBody {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody").field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}

impl Server {
    /// Returns the address of the client that sent this request. Behind [trusted
    /// proxies](super::Builder::trusted_proxies), this is the forwarded address, otherwise that of
    /// the peer. `None` if the connection has no address.
    pub fn client_address(&self, request: &HttpRequest) -> Option<IpAddr> {
        self.endpoint.policy.get().proxies.client(request.peer_addr(), request.headers()).address
    }

    /// Reads the body of a request, at most `bytes_max` bytes, within
    /// [`limits.http.body_timeout`](crate::limits::HttpLimits::body_timeout). The body counts
    /// against
    /// [`limits.memory.incoming_bytes_max`](crate::limits::MemoryLimits::incoming_bytes_max), like
    /// input of clients. Must be called inside an actix system, for example in a handler of
    /// actix-web.
    pub async fn read_body(
        &self,
        request: &HttpRequest,
        mut payload: Payload,
        bytes_max: usize,
    ) -> Result<RequestBody, BodyError> {
        let announced =
            request.headers().get(CONTENT_LENGTH).and_then(|bytes| bytes.to_str().ok()?.parse::<usize>().ok());
        if announced.is_some_and(|bytes| bytes > bytes_max) {
            return Err(BodyError::TooLarge(bytes_max));
        }
        let worker = self.endpoint.workers.current();
        let mut charge = Charge::new(worker.budgets().incoming.clone());
        let body = read_body(&mut payload, bytes_max, self.limits().http.body_timeout, &mut charge).await;
        if let Err(BodyError::Overloaded(_)) = body {
            worker.metrics().incoming_refused.add(1);
        }
        Ok(RequestBody { bytes: body?, _charge: charge })
    }
}
