//! Liveness, readiness and metrics.

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, ContentType};
use actix_web::{HttpResponse, web};

use stentor::{METRICS_CONTENT_TYPE, Server};

use super::super::hooks;
use super::super::process_metrics;
use super::super::vocabulary::counters;
use super::Api;

/// Responds with 200. A missing response means that this thread is blocked.
pub(super) async fn healthz() -> HttpResponse {
    HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).insert_header(ContentType::plaintext()).body("ok")
}

/// Responds with 200 if new sessions are accepted, otherwise with 503 and the reason. A failed
/// queue is reported and does not change the status, since live traffic continues, and another
/// server would not have the stored events.
pub(super) fn readyz(io: &Server) -> HttpResponse {
    let (mut response, text) = match io.accepting() {
        Ok(()) if process_metrics::are_files_nearly_exhausted() => {
            (HttpResponse::ServiceUnavailable(), FILES_NEARLY_EXHAUSTED.to_owned())
        }
        Ok(()) if io.queue_has_failed() => (HttpResponse::Ok(), QUEUE_FAILED.to_owned()),
        Ok(()) => (HttpResponse::Ok(), "ok".to_owned()),
        Err(reason) => (HttpResponse::ServiceUnavailable(), reason.to_string()),
    };
    response.insert_header((CACHE_CONTROL, "no-store")).insert_header(ContentType::plaintext()).body(text)
}

const FILES_NEARLY_EXHAUSTED: &str = "process has nearly as many open files as its limit allows";

const QUEUE_FAILED: &str = "ok, but the queue has failed: durable publishes are refused; see the log";

/// Last line of the metrics text.
const END: &str = "# EOF\n";

/// Responds with the metrics of the hub, the API and the process.
pub(super) async fn metrics(api: Api) -> HttpResponse {
    let mut text = api.io.metrics();
    // Counting many open files takes longer than a worker may be blocked.
    let process = web::block(process_metrics::text).await.unwrap_or_default();
    text.insert_str(text.len() - END.len(), &(api.counters.metrics() + &hooks::metrics() + &counters::metrics() + &process));
    HttpResponse::Ok().insert_header((CONTENT_TYPE, METRICS_CONTENT_TYPE)).body(text)
}
