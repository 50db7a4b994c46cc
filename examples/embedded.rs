//! Stentor inside an actix-web application: one port for the application's routes and the hub's.
//!
//! `cargo run --example embedded`, then connect a `socket.io-client` to http://127.0.0.1:3000.

use actix_web::{App, HttpServer, web};
use stentor::{Args, Event, Server};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The hub needs an actix system; `#[actix_web::main]` starts one as well.
    actix_web::rt::System::new().block_on(async {
        let io = Server::builder().build()?;
        // Messages go to all other members of the lobby.
        io.of("/")
            .on_connection(|socket| async move {
                socket.join("lobby").await?;
                Ok(())
            })
            .on("message", |socket, event: Event<Args>| async move {
                socket.to("lobby").emit("message", &event.data).await?;
                Ok(())
            });

        let hub = io.clone();
        let app =
            move || App::new().configure(hub.routes("/socket.io")).route("/", web::get().to(|| async { "hello\n" }));
        let end = async move {
            let _ = actix_web::rt::signal::ctrl_c().await;
            // Before the server stops, so that clients reconnect.
            io.close().await;
        };
        HttpServer::new(app)
            .shutdown_signal(end)
            // Before `bind`, which copies the callback.
            .on_connect(stentor::on_connect)
            // A FIN of a polling client ends its poll; a connection lives from ping to ping.
            .h1_allow_half_closed(false)
            .keep_alive(std::time::Duration::from_secs(75))
            .bind(("127.0.0.1", 3000))?
            .run()
            .await?;
        Ok(())
    })
}
