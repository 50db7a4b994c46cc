//! The demo page: the files of `static/`, built into the binary.

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use rust_embed::RustEmbed;

#[derive(RustEmbed)]
#[folder = "static/"]
struct Files;

/// Serves the demo page at `/`, to be given to [`Listener::configure`](crate::Listener::configure).
pub fn page(config: &mut ServiceConfig) {
    config.default_service(web::get().to(file));
}

async fn file(request: HttpRequest) -> HttpResponse {
    let path = match request.path().trim_start_matches('/') {
        "" => "index.html",
        path => path,
    };
    match Files::get(path) {
        Some(file) => HttpResponse::Ok()
            .insert_header((CONTENT_TYPE, file.metadata.mimetype()))
            .insert_header((CACHE_CONTROL, "no-cache"))
            .body(file.data),
        None => HttpResponse::NotFound().body(format!("nothing at /{path}\n")),
    }
}
