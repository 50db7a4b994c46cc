//! Private messages: each user has a room, which all tabs of the user join.
//!
//! `cargo run --example private_messages`, then open http://127.0.0.1:3000/?user=ada in two tabs
//! and http://127.0.0.1:3000/?user=bob in a third one.

mod page;

use actix_web::rt::System;
use serde::Deserialize;
use serde_json::json;
use stentor::{ConnectError, Event, HandlerError, Server, Socket};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port: u16 = std::env::args().nth(1).as_deref().unwrap_or("3000").parse()?;
    System::new().block_on(async move {
        let io = Server::builder().ack_errors(true).build()?;
        let namespace = io.of("/").with(log_in).on("private message", send);
        namespace.on_connection(|socket| async move {
            socket.join(room_of(&socket.data::<String>()?)).await?;
            Ok(())
        });
        let listener = io.bind(("127.0.0.1", port))?.configure(page::serve(include_str!("private_messages.html")));
        println!("private_messages: open http://127.0.0.1:{port}/?user=ada and http://127.0.0.1:{port}/?user=bob");
        Ok(listener.run().await?)
    })
}

fn room_of(user: &str) -> String {
    format!("user:{user}")
}

#[derive(Deserialize)]
struct Login {
    user: String,
}

/// A real program takes the user from a session cookie or a signed token instead.
async fn log_in(socket: Socket) -> Result<(), ConnectError> {
    match socket.auth() {
        Ok(Login { user }) if (1..=20).contains(&user.len()) => {
            socket.set_data(user).map_err(|error| ConnectError::new(error.to_string()))
        }
        _ => Err(ConnectError::new("auth.user: expected 1 to 20 bytes")),
    }
}

async fn send(socket: Socket, event: Event<(String, String)>) -> Result<(), HandlerError> {
    let ((to, text), from) = (event.data, socket.data::<String>()?);
    let refusal = if !(1..=500).contains(&text.chars().count()) {
        "a message has 1 to 500 characters"
    } else if to.len() > 20 || socket.all().to(room_of(&to)).socket_ids().await?.is_empty() {
        "this user is not connected"
    } else {
        // To all tabs of both users, including this one, and to nobody else.
        socket.all().to(room_of(&to)).to(room_of(&from)).emit("private message", (from, to, text)).await?;
        return Ok(event.ack.send(json!({}))?);
    };
    Ok(event.ack.send(json!({"error": {"code": "bad_request", "message": refusal}}))?)
}
