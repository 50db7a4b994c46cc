//! Orders for kitchens whose displays may be off, and a worker inside the server that prints them.
//!
//! ```text
//! cargo run --example durable -- 3000             stores orders in memory
//! cargo run --example durable -- 3000 ./queue     on disk: orders survive kill -9 as well
//! ```
//!
//! A display is a stock `socket.io-client`. It receives each order until it acknowledges it:
//!
//! ```js
//! const socket = io("http://127.0.0.1:3000", { auth: { kitchen: "grill" } });
//! socket.on("stentor:attached", ({ status, pending }) => console.log(status, pending));
//! socket.on("order", (order, { offset, redelivered }, ack) => { console.log(order); ack(); });
//! ```
//!
//! A till emits `order`, and its ack says for how many subscribers the order is pending.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use stentor::{ConnectError, Event, Namespace, Queue, QueueError, Server};

/// Credentials of a CONNECT. A till has no kitchen.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Auth {
    kitchen: Option<String>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    env_logger::init();
    let mut args = std::env::args().skip(1);
    let port: u16 = args.next().ok_or("usage: durable PORT [DIRECTORY]")?.parse()?;
    let queue = args.next().map_or_else(Queue::memory, Queue::disk);
    actix::System::new().block_on(async move {
        let io = Server::builder().queue(queue).build()?;
        register(io.of("/"));
        actix::spawn(print(io.of("/")));
        io.run(("127.0.0.1", port)).await?;
        Ok(())
    })
}

fn register(namespace: Namespace) {
    namespace
        // A real program checks here that this client is that kitchen.
        .with(|socket| async move {
            match socket.auth::<Option<Auth>>() {
                Ok(_) => Ok(()),
                Err(_) => Err(ConnectError::new("auth.kitchen: expected the name of a kitchen")),
            }
        })
        .on_connection(|socket| async move {
            if let Some(kitchen) = socket.auth::<Option<Auth>>()?.unwrap_or_default().kitchen {
                // From here on the display receives what it has missed, then new orders.
                socket.subscribe_as(kitchen).await?.subscribe("orders").await?;
            }
            Ok(())
        })
        .on("order", |socket, event: Event<Value>| async move {
            // The ack is sent when the order is stored. A till that gets none sends the order again
            // under the same id, and it is stored once.
            let id = event.data["id"].to_string();
            let stored = socket.to("orders").durable().dedup_id(id).emit_confirmed("order", &event.data).await;
            event.ack.send(match stored {
                Ok(stored) => json!({ "pending_for": stored.pending_for, "duplicate": stored.duplicate }),
                Err(error) => json!({ "error": error.to_string() }),
            })?;
            Ok(())
        });
}

/// A subscriber without a socket: it pulls orders, and acknowledges each one after its work.
async fn print(namespace: Namespace) {
    loop {
        if let Err(error) = print_until_failure(&namespace).await {
            log::warn!("printing pauses error=\"{error}\"");
        }
        actix_web::rt::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn print_until_failure(namespace: &Namespace) -> Result<(), QueueError> {
    let printer = namespace.subscriber("printer").await?;
    printer.subscribe("orders").await?;
    loop {
        let pulled = printer.pull(10, Duration::from_secs(60)).await?;
        for gap in pulled.gaps {
            println!("orders are missing: {} to {}, {}", gap.from, gap.to, gap.reason.as_str());
        }
        for order in pulled.events {
            println!("{} {}{}", order.offset, order.args.json(), if order.redelivered { " (again)" } else { "" });
            printer.ack(&order.offset).await?;
        }
    }
}
