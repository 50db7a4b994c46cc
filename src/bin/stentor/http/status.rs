//! Liveness, readiness and metrics.

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};

use stentor::{METRICS_CONTENT_TYPE, Server};

use super::Api;

/// Responds with 200. A missing response means that this thread is blocked.
pub(super) async fn healthz() -> HttpResponse {
    HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).body("ok")
}

/// Responds with 200 if new sessions are accepted, otherwise with 503 and the reason.
pub(super) fn readyz(io: &Server) -> HttpResponse {
    let (mut response, text) = match io.accepting() {
        Ok(()) => (HttpResponse::Ok(), "ok".to_owned()),
        Err(reason) => (HttpResponse::ServiceUnavailable(), reason.to_string()),
    };
    response.insert_header((CACHE_CONTROL, "no-store")).body(text)
}

/// Last line of the metrics text.
const END: &str = "# EOF\n";

/// Responds with the metrics of the hub and the API.
pub(super) fn metrics(api: &Api) -> HttpResponse {
    let mut text = api.io.metrics();
    text.insert_str(text.len() - END.len(), &api.refused_keys.metric());
    HttpResponse::Ok().insert_header((CONTENT_TYPE, METRICS_CONTENT_TYPE)).body(text)
}
