//! Recovery: a client that was away for less than two minutes receives the events that it missed.
//!
//! ```text
//! cargo run --example recovery -- 3000           stores events in memory
//! cargo run --example recovery -- 3000 ./news    in a folder: clients recover after kill -9 as well
//! ```
//!
//! Open http://127.0.0.1:3000/ and cut the connection with the button.

mod page;

use std::time::Duration;

use actix_web::rt::{System, spawn, time};
use stentor::{Recovery, Server};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let port: u16 = args.next().as_deref().unwrap_or("3000").parse()?;
    let recovery = args.next().map_or_else(Recovery::memory, Recovery::disk);
    System::new().block_on(async move {
        let io = Server::builder().recovery(recovery).build()?;
        io.of("/").on_connection(|socket| async move {
            // A recovered socket has its id, rooms and data, and receives what it has missed. Any
            // other one is new: it needs the state of the application.
            if !socket.recovered() {
                socket.join("news").await?;
                socket.emit("state", "you receive all news from now on").await?;
            }
            Ok(())
        });
        spawn(publish(io.clone()));
        let listener = io.bind(("127.0.0.1", port))?.configure(page::serve(include_str!("recovery.html")));
        println!("recovery: open http://127.0.0.1:{port}/");
        Ok(listener.run().await?)
    })
}

/// Publishes a number each second.
async fn publish(io: Server) {
    let mut second = time::interval(Duration::from_secs(1));
    for number in 1u64.. {
        second.tick().await;
        if let Err(error) = io.to("news").emit("news", number).await {
            eprintln!("news {number} not published: {error}");
        }
    }
}
