//! What operators ask: does it live, does it take sessions, what has it counted.

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};

use super::super::{METRICS_CONTENT_TYPE, Server};

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

pub(super) fn metrics(io: &Server) -> HttpResponse {
    HttpResponse::Ok().insert_header((CONTENT_TYPE, METRICS_CONTENT_TYPE)).body(io.metrics())
}
