//! The client library as files of `static/client`. A page of your own can bundle `socket.io-client`
//! instead.

use std::path::{Component, Path};

use actix_web::Responder;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::{self, ServiceConfig};

/// Adds the library at `/client/index.js`.
pub(crate) fn files(config: &mut ServiceConfig) {
    config.route("/client/{path:.+}", web::get().to(file));
}

async fn file(path: web::Path<String>) -> Option<impl Responder> {
    let path = Path::new(path.as_str());
    let is_inside = path.components().all(|part| matches!(part, Component::Normal(_)));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("static/client");
    let text = is_inside.then(|| std::fs::read_to_string(folder.join(path)).ok())??;
    Some(text.customize().insert_header((CONTENT_TYPE, "text/javascript; charset=utf-8")))
}
