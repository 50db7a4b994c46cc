//! socketioxide with the events of the load generator; with feature `mimalloc`, on that allocator.
//!
//! One thread, because it is measured on one core; TCP_NODELAY, which axum does not set by default.
//! The rest are defaults.

use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt;
use serde_json::{Value, json};
use socketioxide::SocketIo;
use socketioxide::extract::{AckSender, Data, SocketRef};
use tokio::net::TcpListener;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<u64> = std::env::args().skip(1).map_while(|argument| argument.parse().ok()).collect();
    let [port, ping_interval] = arguments[..] else {
        return Err("expected <port> <ping interval in ms>".into());
    };
    let (layer, io) = SocketIo::builder()
        .ping_interval(Duration::from_millis(ping_interval))
        .ping_timeout(Duration::from_secs(20))
        .build_layer();
    io.ns("/", on_connect);
    let listener = TcpListener::bind(("127.0.0.1", u16::try_from(port)?)).await?;
    println!("socketioxide: listening on {port}");
    let listener = listener.tap_io(|stream| {
        // Fails only for a connection that has ended already.
        let _ = stream.set_nodelay(true);
    });
    Ok(axum::serve(listener, Router::new().layer(layer)).await?)
}

async fn on_connect(socket: SocketRef) {
    socket.on("join", async |socket: SocketRef, Data(room): Data<String>, ack: AckSender| {
        let reply = json!({ "room": room });
        socket.join(room);
        ack.send(&reply).ok();
    });
    socket.on("leave", async |socket: SocketRef, Data(room): Data<String>, ack: AckSender| {
        let reply = json!({ "room": room });
        socket.leave(room);
        ack.send(&reply).ok();
    });
    socket.on("publish", async |io: SocketIo, Data((room, event, argument)): Data<(String, String, Value)>| {
        // An event refused by a full buffer is lost, and the load generator reports it.
        io.to(room).emit(event, &argument).await.ok();
    });
    socket.on("echo", async |Data(argument): Data<Value>, ack: AckSender| {
        ack.send(&argument).ok();
    });
}
