//! Rooms: join and leave, members, messages, and a typing indicator that may be dropped.
//!
//! `cargo run --example rooms`, then open http://127.0.0.1:3000/ in two tabs.

mod page;

use actix_web::rt::{System, spawn};
use serde_json::{Value, json};
use stentor::{Event, HandlerError, Namespace, RoomEvent, Server, Socket};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port: u16 = std::env::args().nth(1).as_deref().unwrap_or("3000").parse()?;
    System::new().block_on(async move {
        let io = Server::builder().ack_errors(true).build()?;
        spawn(announce(io.of("/").on("join", join).on("leave", leave).on("message", say).on("typing", typing)));
        let listener = io.bind(("127.0.0.1", port))?.configure(page::serve(include_str!("rooms.html")));
        println!("rooms: open http://127.0.0.1:{port}/");
        Ok(listener.run().await?)
    })
}

fn reply(refusal: Option<String>) -> Value {
    refusal.map_or_else(|| json!({}), |message| json!({"error": {"code": "refused", "message": message}}))
}

async fn join(socket: Socket, event: Event<String>) -> Result<(), HandlerError> {
    // Fails if the name is empty or too long, or if the socket is in too many rooms.
    Ok(event.ack.send(reply(socket.join(event.data).await.err().map(|error| error.to_string())))?)
}

async fn leave(socket: Socket, event: Event<String>) -> Result<(), HandlerError> {
    Ok(event.ack.send(reply(socket.leave(event.data).await.err().map(|error| error.to_string())))?)
}

async fn say(socket: Socket, event: Event<(String, String)>) -> Result<(), HandlerError> {
    let (room, text) = event.data;
    if text.is_empty() || text.len() > 2000 || !socket.rooms().await?.contains(&room) {
        return Ok(event.ack.send(reply(Some("expected 1 to 2000 bytes, from a member of the room".into())))?);
    }
    socket.all().to(&room).emit("message", (&room, socket.id().to_string(), text)).await?;
    Ok(event.ack.send(reply(None))?)
}

/// Volatile: dropped for members whose connection is not ready. The sender does not receive it.
async fn typing(socket: Socket, event: Event<String>) -> Result<(), HandlerError> {
    Ok(socket.to(&event.data).volatile().emit("typing", (&event.data, socket.id().to_string())).await?)
}

/// Emits the members of a room to it after each change. One task does, so the newest list is last.
async fn announce(namespace: Namespace) {
    let mut changes = namespace.room_events();
    while let Some(change) = changes.next().await {
        let Ok(RoomEvent::Joined { room, .. } | RoomEvent::Left { room, .. }) = change else { continue };
        // An overloaded hub fails here: then the members see the next change only.
        let Ok(members) = namespace.to(&room).socket_ids().await else { continue };
        let members: Vec<_> = members.iter().map(ToString::to_string).collect();
        let _ = namespace.to(&room).emit("members", (&room, members)).await;
    }
}
