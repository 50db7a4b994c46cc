//! HTTP resources beside the hub: bodies within its budget, and who their clients are.

use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;

use actix_web::HttpRequest;
use actix_web::http::header::CONTENT_LENGTH;
use actix_web::web::{Bytes, Payload};

use super::Server;
use crate::state::budget::Charge;
use crate::transport::body::{BodyError, read_body};

/// The body of a request, as [`Server::read_body`] read it. Counts against
/// [`limits.memory.incoming_bytes_max`](crate::limits::MemoryLimits::incoming_bytes_max) until it is dropped.
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
    /// The address of the client that sent this request: that of the peer, or the one that
    /// [trusted proxies](super::Builder::trusted_proxies) forward. `None` if the connection has no address.
    pub fn client_address(&self, request: &HttpRequest) -> Option<IpAddr> {
        let peer = request.peer_addr()?.ip();
        Some(self.endpoint.policy.proxies.client(peer, request.headers()).address)
    }

    /// Reads the body of a request of at most `bytes_max` bytes, within [`limits.http.body_timeout`](crate::limits::HttpLimits::body_timeout).
    /// What has come counts against [`limits.memory.incoming_bytes_max`](crate::limits::MemoryLimits::incoming_bytes_max), together with what clients
    /// have sent. Must be called inside an actix system, as every handler of actix-web is.
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
