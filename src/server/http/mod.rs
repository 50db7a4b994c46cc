//! The HTTP of `stentor serve` beside its clients: whether it lives, whether it takes sessions, what it counts.
//!
//! Refuses to know what a session is: everything here is asked of [`Server`].

mod status;

use actix_web::web::{self, ServiceConfig};

use super::Server;

/// The routes `/healthz`, `/readyz` and `/metrics`, to be given to [`Listener::configure`](crate::Listener::configure).
pub fn routes(io: Server) -> impl Fn(&mut ServiceConfig) + Clone + Send + Sync + 'static {
    move |config| {
        let (ready, metrics) = (io.clone(), io.clone());
        config
            .route("/healthz", web::get().to(status::healthz))
            .route("/readyz", web::get().to(move || std::future::ready(status::readyz(&ready))))
            .route("/metrics", web::get().to(move || std::future::ready(status::metrics(&metrics))));
    }
}
