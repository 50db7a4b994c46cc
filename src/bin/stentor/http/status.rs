//! What operators ask: does it live, does it take sessions, what has it counted.

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};

use stentor::{METRICS_CONTENT_TYPE, Server};

use super::Api;

/// The process lives: this thread of it answers.
pub(super) async fn healthz() -> HttpResponse {
    HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).body("ok")
}

/// Whether new sessions are let in, or why not.
pub(super) fn readyz(io: &Server) -> HttpResponse {
    let (mut response, text) = match io.accepting() {
        Ok(()) => (HttpResponse::Ok(), "ok".to_owned()),
        Err(reason) => (HttpResponse::ServiceUnavailable(), reason.to_string()),
    };
    response.insert_header((CACHE_CONTROL, "no-store")).body(text)
}

/// The line that ends a scrape.
const END: &str = "# EOF\n";

/// A scrape: the metrics of the hub, and those of the API.
pub(super) fn metrics(api: &Api) -> HttpResponse {
    let mut text = api.io.metrics();
    text.insert_str(text.len() - END.len(), &api.refused_keys.metric());
    HttpResponse::Ok().insert_header((CONTENT_TYPE, METRICS_CONTENT_TYPE)).body(text)
}
