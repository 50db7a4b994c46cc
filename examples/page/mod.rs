//! The page of an example and the client library, on the port of the example.

mod client;

use actix_web::web::{self, Html, ServiceConfig};

/// Adds `html` at `/` and the client library at `/client/index.js`. The result is an argument of
/// [`stentor::Listener::configure`], or of `configure` of an actix-web application.
pub(crate) fn serve(html: &'static str) -> impl Fn(&mut ServiceConfig) + Clone + Send + Sync + 'static {
    move |config| {
        config.configure(client::files).route("/", web::get().to(move || async move { Html::new(html) }));
    }
}
