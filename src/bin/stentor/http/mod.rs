//! HTTP resources of `stentor serve`: health, metrics, and an API to publish, to list and to
//! disconnect clients, and to receive as a subscriber of the queue.

mod access;
mod body;
mod clients;
mod keys;
mod publish;
mod query;
mod reload;
mod resources;
mod rooms;
mod status;
mod subscribers;

use std::sync::Arc;

use actix_service::Service as _;
use actix_web::http::header::{ALLOW, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, Route, guard};
use serde::Serialize;

use stentor::{AccessRules, Identity, Server};

use self::access::ApiCounters;
use self::body::bad;
use self::resources::{RESOURCES, Resource};
use super::error_code::ErrorCode;
use super::live::Live;
use super::replies::{ErrorAnswer, ErrorBody};

pub(crate) use self::keys::{ApiKey, Scopes, is_api_key};
pub(crate) use self::reload::{Reload, Reloaded};

#[derive(Debug, Clone, PartialEq, Eq)]
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

/// Settings of the API, which a reload replaces.
#[derive(Debug)]
pub(crate) struct ApiSettings {
    /// Keys of which a request needs one. If there are none, every request is refused.
    pub(crate) keys: Vec<ApiKey>,
    pub(crate) limits: ApiLimits,
    pub(crate) rules: AccessRules,
}

impl ApiSettings {
    /// Name of the room of a user.
    fn user_room(&self, user: &str) -> Result<String, ErrorBody> {
        if !self.rules.user_rooms {
            return Err(bad("users have no rooms: set user_rooms to true (STENTOR_USER_ROOMS, --user-rooms)"));
        }
        let identity = Identity::of_user(user).map_err(|error| bad(error.to_string()))?;
        Ok(identity.user_room().unwrap_or_default())
    }
}

/// State shared by all resources of the API.
#[derive(Clone)]
struct Api {
    io: Server,
    settings: Arc<Live<ApiSettings>>,
    reload: Reload,
    counters: Arc<ApiCounters>,
}

/// Returns a function for [`stentor::Listener::configure`] that adds `/healthz`, `/readyz`,
/// `/metrics` and `/api/v1/…`. Without a key, the API refuses every request.
pub(crate) fn routes(
    io: Server,
    settings: Arc<Live<ApiSettings>>,
    reload: Reload,
) -> impl Fn(&mut ServiceConfig) + Clone + Send + Sync + 'static {
    let api = Api { io, settings, reload, counters: Arc::default() };
    move |config| {
        let counted = api.clone();
        let scope = web::scope("/api").app_data(web::Data::new(api.clone())).default_service(web::to(nothing));
        health(api.io.clone())(config);
        config
            .service(open("/metrics", get_or_head().to(move || status::metrics(counted.clone()))))
            .service(RESOURCES.iter().fold(scope, |scope, resource| scope.service(served(&api, resource))));
    }
}

/// Returns a function for [`stentor::Listener::configure`] that adds `/healthz` and `/readyz`.
pub(crate) fn health(io: Server) -> impl Fn(&mut ServiceConfig) + Clone + Send + Sync + 'static {
    move |config| {
        let io = io.clone();
        config
            .service(open("/healthz", get_or_head().to(status::healthz)))
            .service(open("/readyz", get_or_head().to(move || std::future::ready(status::readyz(&io)))));
    }
}

/// A resource of the API, which only requests with the right key and method reach.
fn served(api: &Api, resource: &'static Resource) -> impl actix_web::dev::HttpServiceFactory + use<> {
    let api = api.clone();
    web::resource(resource.path).route((resource.route)()).wrap_fn(move |request, service| {
        let admitted = match api.admit(request.request(), resource.methods) {
            Ok(()) => Ok(service.call(request)),
            Err(error) => {
                let refused = refusal(error, resource);
                Err(request.into_response(refused))
            }
        };
        let counters = api.counters.clone();
        async move {
            let response = match admitted {
                Ok(called) => called.await?,
                Err(refused) => refused,
            };
            counters.count(response.status());
            Ok(response)
        }
    })
}

/// A resource without a key, for GET and HEAD.
fn open(path: &'static str, get: Route) -> actix_web::Resource {
    let refused = || async { HttpResponse::MethodNotAllowed().insert_header((ALLOW, "GET, HEAD")).finish() };
    web::resource(path).route(get).default_service(web::to(refused))
}

/// Route for GET and HEAD. For HEAD, actix-web omits the body.
fn get_or_head() -> Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

async fn nothing(api: web::Data<Api>, request: HttpRequest) -> HttpResponse {
    let known: Vec<_> = RESOURCES.iter().map(ToString::to_string).collect();
    let message = format!("nothing at {}; there are {}", request.path(), known.join(", "));
    let not_found = || Err(ErrorBody::new(ErrorCode::NotFound, message));
    let response = answer::<()>(api.admit_key(&request).and_then(|_| not_found()));
    api.counters.count(response.status());
    response
}

fn refusal(error: ErrorBody, resource: &Resource) -> HttpResponse {
    let is_of_method = error.code == ErrorCode::MethodNotAllowed;
    let mut response = answer::<()>(Err(error));
    if is_of_method && let Ok(allow) = HeaderValue::try_from(resource.allow()) {
        response.headers_mut().insert(ALLOW, allow);
    }
    response
}

/// Builds the JSON response to a request.
fn answer<T: Serialize>(done: Result<T, ErrorBody>) -> HttpResponse {
    let error = match done {
        Ok(reply) => return HttpResponse::Ok().json(reply),
        Err(error) => error,
    };
    let mut response = HttpResponse::build(error.code.status());
    match error.code {
        ErrorCode::Unauthorized => drop(response.insert_header((WWW_AUTHENTICATE, "Bearer"))),
        ErrorCode::Overloaded | ErrorCode::Unavailable => drop(response.insert_header((RETRY_AFTER, "1"))),
        _ => {}
    }
    response.json(ErrorAnswer { error })
}
