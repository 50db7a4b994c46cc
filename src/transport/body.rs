//! Reading a request's body, charged to the budget of what clients send while it comes in.

use std::pin::Pin;
use std::time::Duration;

use actix_web::error::PayloadError;
use actix_web::web::{Bytes, BytesMut, Payload};
use futures_core::Stream;

use crate::state::budget::{Charge, Spent};

/// Why a body was not read to its end.
#[derive(Debug)]
pub(crate) enum BodyError {
    /// It exceeds the bound.
    TooLarge,
    /// The budget has no room for it.
    Spent(Spent),
    /// It did not come in whole in time.
    Late,
    /// The connection or the encoding broke.
    Broken(PayloadError),
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
            let chunk = chunk.map_err(BodyError::Broken)?;
            if body.len() + chunk.len() > bytes_max {
                return Err(BodyError::TooLarge);
            }
            body.extend_from_slice(&chunk);
            charge.set(body.capacity()).map_err(BodyError::Spent)?;
        }
        Ok(body.freeze())
    };
    tokio::time::timeout(timeout, read).await.unwrap_or(Err(BodyError::Late))
}
