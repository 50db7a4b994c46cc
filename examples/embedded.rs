//! The hub inside an actix-web application: one port for the routes of both, and routes that emit.
//!
//! `cargo run --example embedded`, then open http://127.0.0.1:3000/, or
//! `curl --json '{"dish": "soup"}' http://127.0.0.1:3000/orders`.

mod page;

use std::time::Duration;

use actix_web::error::{ErrorBadRequest, ErrorServiceUnavailable};
use actix_web::web::{self, Data, Json};
use actix_web::{App, HttpServer, rt};
use serde::{Deserialize, Serialize};
use stentor::Server;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port: u16 = std::env::args().nth(1).as_deref().unwrap_or("3000").parse()?;
    // Or `#[actix_web::main]`, as in most applications.
    rt::System::new().block_on(async move {
        let io = Server::builder().build()?;
        io.of("/").on_connection(|socket| async move { Ok(socket.join("kitchen").await.map(drop)?) });
        let shared = io.clone();
        let app = move || {
            App::new()
                .app_data(Data::new(shared.clone()))
                .route("/orders", web::post().to(order))
                .configure(page::serve(include_str!("embedded.html")))
                .configure(shared.routes("/socket.io"))
        };
        let server = HttpServer::new(app)
            // Before `bind`, which copies the callback.
            .on_connect(stentor::on_connect)
            // See `Server::routes` for the reasons.
            .h1_allow_half_closed(false)
            .keep_alive(Duration::from_secs(75))
            // Sessions are closed before the server stops, so that clients reconnect.
            .shutdown_signal(async move {
                let _ = rt::signal::ctrl_c().await;
                io.close().await;
            })
            .bind(("127.0.0.1", port))?;
        println!("embedded: open http://127.0.0.1:{port}/");
        Ok(server.run().await?)
    })
}

#[derive(Deserialize, Serialize)]
struct Order {
    dish: String,
}

/// A route of the application. JSON of another form is refused by actix-web with status 400.
async fn order(io: Data<Server>, Json(order): Json<Order>) -> actix_web::Result<&'static str> {
    if !(1..=100).contains(&order.dish.chars().count()) {
        return Err(ErrorBadRequest("dish: expected 1 to 100 characters\n"));
    }
    io.to("kitchen").emit("order", order).await.map_err(ErrorServiceUnavailable)?;
    Ok("sent to the kitchen\n")
}
