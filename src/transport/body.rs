//! Reading a request's body, charged to the budget of what clients send while it comes in.

use std::pin::Pin;
use std::time::Duration;

use actix_web::error::PayloadError;
use actix_web::web::{Bytes, BytesMut, Payload};
use futures_core::Stream;
use thiserror::Error;

use crate::state::budget::Charge;

/// Why the body of a request was not read to its end.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The body is larger than the caller allows.
    #[error("body exceeds limit of {0} bytes")]
    TooLarge(usize),
    /// Clients hold as many bytes as [`limits.memory.incoming_bytes_max`](crate::limits::MemoryLimits::incoming_bytes_max) allows; try again later.
    #[error("no memory for the body: {0}")]
    Overloaded(String),
    /// The body did not come within [`limits.http.body_timeout`](crate::limits::HttpLimits::body_timeout).
    #[error("body did not come within {0:?}")]
    Timeout(Duration),
    /// The connection or the encoding broke.
    #[error("body cannot be read: {0}")]
    Broken(#[from] PayloadError),
}

/// Reads a body of `bytes_max` bytes at most within `timeout`. `charge` holds its size.
pub(crate) async fn read_body(
    payload: &mut Payload,
    bytes_max: usize,
    timeout: Duration,
    charge: &mut Charge,
) -> Result<Bytes, BodyError> {
    let read = async {
        let mut body = BytesMut::new();
        while let Some(chunk) = std::future::poll_fn(|cx| Pin::new(&mut *payload).poll_next(cx)).await {
            let chunk = chunk?;
            if body.len() + chunk.len() > bytes_max {
                return Err(BodyError::TooLarge(bytes_max));
            }
            body.extend_from_slice(&chunk);
            charge.set(body.capacity()).map_err(|spent| BodyError::Overloaded(spent.to_string()))?;
        }
        Ok(body.freeze())
    };
    tokio::time::timeout(timeout, read).await.unwrap_or(Err(BodyError::Timeout(timeout)))
}
