//! Demo page and client library: the files of `static/`, embedded in the binary and gzipped once.

use std::collections::HashMap;
use std::io::Write;
use std::sync::LazyLock;

use actix_web::http::Method;
use actix_web::http::header::{
    ALLOW, AcceptEncoding, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, Encoding, EntityTag, Header,
    IfNoneMatch, VARY, X_CONTENT_TYPE_OPTIONS,
};
use actix_web::web::{self, Bytes, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use flate2::Compression;
use flate2::write::GzEncoder;
use rust_embed::{EmbeddedFile, RustEmbed};

#[derive(RustEmbed)]
#[folder = "static/"]
struct Files;

/// Gzipped files by the hash of their content, since the content changes while the page is
/// developed. Files that gzip would not shrink are omitted.
static GZIPPED: LazyLock<HashMap<[u8; 32], Bytes>> = LazyLock::new(|| {
    let files = Files::iter().filter_map(|path| Files::get(&path));
    files.filter_map(|file| Some((file.metadata.sha256_hash(), gzip(&file.data)?))).collect()
});

/// Adds the demo page at `/`. This function is an argument of [`stentor::Listener::configure`].
pub(crate) fn page(config: &mut ServiceConfig) {
    // Compress at start rather than during the first request.
    LazyLock::force(&GZIPPED);
    config.default_service(web::to(file));
}

fn gzip(data: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(data).ok()?;
    let bytes = encoder.finish().ok()?;
    (bytes.len() < data.len()).then(|| bytes.into())
}

async fn file(request: HttpRequest) -> HttpResponse {
    let path = match request.path().trim_start_matches('/') {
        "" => "index.html",
        path => path,
    };
    let Some(file) = Files::get(path) else {
        return HttpResponse::NotFound()
            .content_type("text/plain; charset=utf-8")
            .body(format!("nothing at /{path}\n"));
    };
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return HttpResponse::MethodNotAllowed().insert_header((ALLOW, "GET, HEAD")).finish();
    }
    let gzipped = GZIPPED.get(&file.metadata.sha256_hash()).filter(|_| takes_gzip(&request));
    let tag = tag(&file, gzipped.is_some());
    let is_known = match IfNoneMatch::parse(&request) {
        Ok(IfNoneMatch::Any) => true,
        Ok(IfNoneMatch::Items(known)) => known.iter().any(|known| known.weak_eq(&tag)),
        Err(_) => false,
    };
    let mut response = if is_known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response
        .insert_header((ETAG, tag.to_string()))
        // The page is cached but always revalidated, since a new binary has a new page.
        .insert_header((CACHE_CONTROL, "no-cache"))
        .insert_header((VARY, "Accept-Encoding"))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"));
    if is_known {
        return response.finish();
    }
    response.insert_header((CONTENT_TYPE, content_type(file.metadata.mimetype())));
    match gzipped {
        Some(bytes) => response.insert_header((CONTENT_ENCODING, "gzip")).body(bytes.clone()),
        None => response.body(file.data),
    }
}

fn takes_gzip(request: &HttpRequest) -> bool {
    let supported = [Encoding::gzip(), Encoding::identity()];
    let accepted = AcceptEncoding::parse(request).ok();
    accepted.and_then(|accepted| accepted.negotiate(supported.iter())) == Some(Encoding::gzip())
}

/// Returns a strong ETag, which differs between the encodings of a file.
fn tag(file: &EmbeddedFile, gzipped: bool) -> EntityTag {
    let hash: String = file.metadata.sha256_hash().iter().map(|byte| format!("{byte:02x}")).collect();
    EntityTag::new_strong(if gzipped { format!("{hash}-gzip") } else { hash })
}

/// Adds `charset=utf-8` to text types.
fn content_type(kind: &str) -> String {
    if kind.starts_with("text/") { format!("{kind}; charset=utf-8") } else { kind.to_owned() }
}
