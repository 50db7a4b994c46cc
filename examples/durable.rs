//! Orders for kitchens whose displays may be off, and a printer inside the server. Run
//! `cargo run --example durable -- 3000 ./queue`, or without the folder to store orders in memory.
//! Open http://127.0.0.1:3000/?kitchen=grill, close it, order at http://127.0.0.1:3000/, reopen it.

mod page;

use std::time::Duration;

use actix_web::rt::{System, spawn, time::sleep};
use serde_json::{Value, json};
use stentor::{Event, HandlerError, Namespace, PublishError, Queue, QueueError, Server, Socket};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let port: u16 = args.next().as_deref().unwrap_or("3000").parse()?;
    let queue = args.next().map_or_else(Queue::memory, Queue::disk);
    System::new().block_on(async move {
        let io = Server::builder().queue(queue).ack_errors(true).build()?;
        let namespace = io.of("/").on_connection(attach).on("order", order);
        spawn(async move {
            while let Err(error) = print(&namespace).await {
                eprintln!("printer fails, next attempt in a second: {error}");
                sleep(Duration::from_secs(1)).await;
            }
        });
        let listener = io.bind(("127.0.0.1", port))?.configure(page::serve(include_str!("durable.html")));
        println!("durable: open http://127.0.0.1:{port}/ and http://127.0.0.1:{port}/?kitchen=grill");
        Ok(listener.run().await?)
    })
}

/// A display receives missed orders, then new ones. A real program checks that it is that kitchen.
async fn attach(socket: Socket) -> Result<(), HandlerError> {
    let auth: Value = socket.auth()?;
    let Some(kitchen) = auth["kitchen"].as_str() else { return Ok(()) };
    match socket.subscribe_as(format!("kitchen:{kitchen}")).await {
        Ok(display) => Ok(display.subscribe("orders").await?),
        Err(error) => Ok(socket.emit("refused", error.to_string()).await?),
    }
}

/// The ack is sent when the order is stored. A till that gets none sends the same id again.
async fn order(socket: Socket, event: Event<(String, String)>) -> Result<(), HandlerError> {
    let (id, dish) = event.data;
    let stored = socket.to("orders").durable().dedup_id(id).emit_confirmed("order", dish).await;
    let refusal = |error: PublishError| json!({"error": {"code": "not_stored", "message": error.to_string()}});
    Ok(event.ack.send(stored.map_or_else(refusal, |stored| json!({"pending_for": stored.pending_for})))?)
}

/// A subscriber without a socket pulls orders, and acknowledges each one after its work.
async fn print(namespace: &Namespace) -> Result<(), QueueError> {
    let printer = namespace.subscriber("printer").await?;
    printer.subscribe("orders").await?;
    loop {
        for order in printer.pull(10, Duration::from_secs(60)).await?.events {
            println!("printed {}", order.args.json());
            printer.ack(&order.offset).await?;
        }
    }
}
