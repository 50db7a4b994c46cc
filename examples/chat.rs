//! Chat with a login: connection middleware refuses a bad name, and the page shows the reason.
//!
//! `cargo run --example chat`, then open http://127.0.0.1:3000/ in two tabs.

mod page;

use actix_web::rt::System;
use serde::Deserialize;
use serde_json::json;
use stentor::{ConnectError, Event, HandlerError, Server, Socket};

const NAME_LENGTH_MAX: usize = 20;
const TEXT_LENGTH_MAX: usize = 500;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port: u16 = std::env::args().nth(1).as_deref().unwrap_or("3000").parse()?;
    System::new().block_on(async move {
        // A message that is no text gets an error in its ack.
        let io = Server::builder().ack_errors(true).build()?;
        io.of("/")
            .with(log_in)
            .on_connection(|socket| async move { Ok(socket.all().emit("joined", socket.data::<String>()?).await?) })
            .on_disconnect(|socket, _| async move { Ok(socket.all().emit("left", socket.data::<String>()?).await?) })
            .on("message", say);
        let listener = io.bind(("127.0.0.1", port))?.configure(page::serve(include_str!("chat.html")));
        println!("chat: open http://127.0.0.1:{port}/");
        Ok(listener.run().await?)
    })
}

/// Payload of CONNECT: `auth` in JavaScript.
#[derive(Deserialize)]
struct Login {
    name: String,
}

/// Middleware, before the socket is connected. A real program checks a password or a token here.
async fn log_in(socket: Socket) -> Result<(), ConnectError> {
    let refused = || ConnectError::new(format!("a name has 1 to {NAME_LENGTH_MAX} letters or digits"));
    let Login { name } = socket.auth().map_err(|_| refused())?;
    let length = name.chars().filter(|character| character.is_alphanumeric()).count();
    if length != name.chars().count() || !(1..=NAME_LENGTH_MAX).contains(&length) {
        return Err(refused());
    }
    socket.set_data(name).map_err(|error| ConnectError::new(error.to_string()))
}

async fn say(socket: Socket, event: Event<String>) -> Result<(), HandlerError> {
    if !(1..=TEXT_LENGTH_MAX).contains(&event.data.chars().count()) {
        let message = format!("a message has 1 to {TEXT_LENGTH_MAX} characters");
        return Ok(event.ack.send(json!({"error": {"code": "bad_request", "message": message}}))?);
    }
    // To everyone, including the sender, so that all pages show the same order.
    socket.all().emit("message", (socket.data::<String>()?, event.data)).await?;
    Ok(event.ack.send(json!({}))?)
}
