//! Reading of request bodies, whose memory is charged to the budget of incoming bytes.

use std::pin::Pin;
use std::time::Duration;

use actix_web::error::PayloadError;
use actix_web::web::{Bytes, BytesMut, Payload};
use futures_core::Stream;
use thiserror::Error;

use crate::state::budget::Charge;

/// Reason why a request body was not read completely.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The body is larger than the caller allows.
    #[error("body exceeds limit of {0} bytes")]
    TooLarge(usize),
    /// The memory for input of all clients,
    /// [`limits.memory.incoming_bytes_max`](crate::limits::MemoryLimits::incoming_bytes_max), is
    /// used up. The client may try again later.
    #[error("no memory for the body: {0}")]
    Overloaded(String),
    /// The body did not arrive within
    /// [`limits.http.body_timeout`](crate::limits::HttpLimits::body_timeout).
    #[error("body did not arrive within {0:?}")]
    Timeout(Duration),
    /// The connection failed, or the encoding is invalid.
    #[error("body cannot be read: {0}")]
    Broken(#[from] PayloadError),
}

/// Reads a body of at most `bytes_max` bytes within `timeout`. The memory of the body is charged to
/// `charge`.
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
            charge.set(body.capacity()).map_err(|error| BodyError::Overloaded(error.to_string()))?;
        }
        Ok(body.freeze())
    };
    tokio::time::timeout(timeout, read).await.unwrap_or(Err(BodyError::Timeout(timeout)))
}
