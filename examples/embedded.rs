//! Stentor inside an actix-web application of one's own: one port, one server, the application's routes beside the hub's.
//!
//! `cargo run --example embedded`, then point a `socket.io-client` at http://127.0.0.1:3000.

use actix_web::{App, HttpServer, web};
use stentor::{Args, Event, Server};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The hub wants an actix system to live in; `#[actix_web::main]` makes one as well.
    actix_web::rt::System::new().block_on(async {
        let io = Server::builder().build()?;
        // What one client says in the lobby, everybody in it hears.
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
            // Before the server stops, so that clients are notified and reconnect to the next one.
            io.close().await;
        };
        HttpServer::new(app)
            .shutdown_signal(end)
            // Before `bind`, which takes the callback along.
            .on_connect(stentor::on_connect)
            // A polling client's FIN ends its poll at once, and its connection lives from ping to ping.
            .h1_allow_half_closed(false)
            .keep_alive(std::time::Duration::from_secs(75))
            .bind(("127.0.0.1", 3000))?
            .run()
            .await?;
        Ok(())
    })
}
