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

fn reply<T>(result: Result<T, impl ToString>) -> Value {
    result.map_or_else(|reason| json!({"error": {"code": "refused", "message": reason.to_string()}}), |_| json!({}))
}

async fn join(socket: Socket, event: Event<String>) -> Result<(), HandlerError> {
    Ok(event.ack.send(reply(socket.join(event.data).await))?)
}

async fn leave(socket: Socket, event: Event<String>) -> Result<(), HandlerError> {
    Ok(event.ack.send(reply(socket.leave(event.data).await))?)
}

async fn say(socket: Socket, event: Event<(String, String)>) -> Result<(), HandlerError> {
    let (room, text) = event.data;
    if !(1..=2000).contains(&text.len()) || !socket.rooms().await?.contains(&room) {
        return Ok(event.ack.send(reply(Err::<(), _>("expected 1 to 2000 bytes, from a member of the room")))?);
    }
    socket.all().to(&room).emit("message", (&room, socket.id().to_string(), text)).await?;
    Ok(event.ack.send(json!({}))?)
}

/// Volatile: dropped for members whose connection is not ready. The sender does not receive it.
async fn typing(socket: Socket, event: Event<String>) -> Result<(), HandlerError> {
    if socket.rooms().await?.contains(&event.data) {
        socket.to(&event.data).volatile().emit("typing", (&event.data, socket.id().to_string())).await?;
    }
    Ok(())
}

/// Emits the members of a room to it after each change. One task does, so the newest list is last.
async fn announce(namespace: Namespace) {
    let mut changes = namespace.room_events();
    while let Some(change) = changes.next().await {
        let Ok(RoomEvent::Joined { room, .. } | RoomEvent::Left { room, .. }) = change else { continue };
        let Ok(members) = namespace.to(&room).socket_ids().await else { continue }; // overloaded
        let members: Vec<_> = members.iter().map(ToString::to_string).collect();
        let _ = namespace.to(&room).emit("members", (&room, members)).await;
    }
}
