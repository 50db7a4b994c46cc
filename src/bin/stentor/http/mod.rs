//! HTTP resources of `stentor serve`: health, metrics, and an API to publish, to list rooms, and to
//! receive as a subscriber of the queue.

mod access;
mod body;
mod publish;
mod query;
mod rooms;
mod status;
mod subscribers;

use std::sync::Arc;

use actix_web::http::header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, Route, guard};
use serde::Serialize;

use stentor::Server;

use self::access::RefusedKeys;
use super::error_code::ErrorCode;
use super::replies::{ErrorAnswer, ErrorBody};
use super::secret::Secret;

#[derive(Debug, Clone)]
pub(crate) struct ApiLimits {
    pub(crate) body_bytes_max: usize,
    pub(crate) batch_max: usize,
    pub(crate) rooms_max: usize,
    pub(crate) page_entries_max: usize,
}

impl Default for ApiLimits {
    fn default() -> Self {
        Self { body_bytes_max: 1_000_000, batch_max: 1_000, rooms_max: 1_024, page_entries_max: 1_000 }
    }
}

/// State shared by all resources of the API.
#[derive(Clone)]
struct Api {
    io: Server,
    /// Key that requests must contain. If `None`, every request is refused.
    key: Option<Secret>,
    limits: ApiLimits,
    refused_keys: Arc<RefusedKeys>,
}

/// Returns a function for [`stentor::Listener::configure`] that adds `/healthz`, `/readyz`,
/// `/metrics` and `/api/v1/…`. Without a key, the API refuses every request.
pub(crate) fn routes(
    io: Server,
    key: Option<Secret>,
    limits: ApiLimits,
) -> impl Fn(&mut ServiceConfig) + Clone + Send + Sync + 'static {
    let api = Api { io, key, limits, refused_keys: Arc::default() };
    move |config| {
        let counted = api.clone();
        health(api.io.clone())(config);
        config.route("/metrics", get_or_head().to(move || std::future::ready(status::metrics(&counted)))).service(
            web::scope("/api")
                .app_data(web::Data::new(api.clone()))
                .route("/v1/publish", web::to(publish::one))
                .route("/v1/publish/batch", web::to(publish::batch))
                .route("/v1/rooms", web::to(rooms::list))
                .route("/v1/rooms/{room:.+}", web::to(rooms::members))
                .route("/v1/subscribers", web::to(subscribers::list))
                .route("/v1/subscribers/{name}", web::to(subscribers::one))
                .route("/v1/subscribers/{name}/rooms/{room:.+}", web::to(subscribers::room))
                .route("/v1/subscribers/{name}/dead", web::to(subscribers::dead))
                .route("/v1/subscribers/{name}/dead/replay", web::to(subscribers::replay))
                .route("/v1/subscribers/{name}/{operation}", web::to(subscribers::operation))
                .default_service(web::to(nothing)),
        );
    }
}

/// Returns a function for [`stentor::Listener::configure`] that adds `/healthz` and `/readyz`.
pub(crate) fn health(io: Server) -> impl Fn(&mut ServiceConfig) + Clone + Send + Sync + 'static {
    move |config| {
        let io = io.clone();
        config
            .route("/healthz", get_or_head().to(status::healthz))
            .route("/readyz", get_or_head().to(move || std::future::ready(status::readyz(&io))));
    }
}

/// Route for GET and HEAD. For HEAD, actix-web omits the body.
fn get_or_head() -> Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

async fn nothing(api: web::Data<Api>, request: HttpRequest) -> HttpResponse {
    let message = format!(
        "nothing at {}; there are POST /api/v1/publish, POST /api/v1/publish/batch, GET /api/v1/rooms, \
         GET /api/v1/rooms/<room>, GET /api/v1/subscribers, GET, PUT and DELETE /api/v1/subscribers/<name>, \
         DELETE /api/v1/subscribers/<name>/rooms/<room>, \
         POST /api/v1/subscribers/<name>/(pull|ack|nak|term|in_progress|purge), \
         GET /api/v1/subscribers/<name>/dead, POST /api/v1/subscribers/<name>/dead/replay",
        request.path()
    );
    answer::<()>("GET, POST", api.admit(&request).and_then(|()| Err(ErrorBody::new(ErrorCode::NotFound, message))))
}

/// Builds the JSON response to a request. `allow` lists the methods that the resource accepts.
fn answer<T: Serialize>(allow: &'static str, done: Result<T, ErrorBody>) -> HttpResponse {
    let error = match done {
        Ok(reply) => return HttpResponse::Ok().json(reply),
        Err(error) => error,
    };
    let mut response = HttpResponse::build(error.code.status());
    match error.code {
        ErrorCode::Unauthorized => drop(response.insert_header((WWW_AUTHENTICATE, "Bearer"))),
        ErrorCode::Overloaded | ErrorCode::Unavailable => drop(response.insert_header((RETRY_AFTER, "1"))),
        ErrorCode::MethodNotAllowed => drop(response.insert_header((ALLOW, allow))),
        _ => {}
    }
    response.json(ErrorAnswer { error })
}
