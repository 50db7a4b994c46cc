//! Reload of the configuration over HTTP.

use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::web::{self, Data};
use serde::Serialize;

use super::super::error_code::ErrorCode;
use super::super::replies::ErrorBody;
use super::{Api, answer};

/// Result of a reload.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Reloaded {
    /// Settings whose changes are in force.
    pub(crate) changed: Vec<&'static str>,
    /// Settings whose changes take effect at the next start.
    pub(crate) needs_restart: Vec<&'static str>,
}

/// Reloads the configuration. An error, as text, has changed nothing.
pub(crate) type Reload = Arc<dyn Fn() -> Result<Reloaded, String> + Send + Sync>;

/// Handles `POST /api/v1/reload`.
pub(super) async fn reload(api: Data<Api>) -> HttpResponse {
    let reload = api.reload.clone();
    // Files are read, which may block.
    let done = web::block(move || reload()).await;
    let unavailable = || ErrorBody::new(ErrorCode::Unavailable, "server is closing, try again");
    answer(match done {
        Ok(done) => done.map_err(|message| ErrorBody::new(ErrorCode::BadConfiguration, message)),
        Err(_) => Err(unavailable()),
    })
}
