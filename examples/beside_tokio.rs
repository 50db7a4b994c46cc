//! Stentor in a program on plain tokio: the hub on a thread and a port of its own, beside whatever else the program serves.
//!
//! `cargo run --example beside_tokio`, then point a `socket.io-client` at http://127.0.0.1:3000. With axum it is the same:
//! `axum::serve(…)` takes the place of the clock below.

use std::time::Duration;

use stentor::Server;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let io = Server::builder().spawn(|io| async move {
        io.of("/").on_connection(|socket| async move {
            socket.join("lobby").await?;
            Ok(())
        });
        io.bind(("127.0.0.1", 3000))?.disable_signals().run().await
    })?;

    let clock = async {
        for second in 0u64.. {
            io.to("lobby").emit("clock", second).await?;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Ok(())
    };
    tokio::select! {
        outcome = clock => outcome,
        _ = tokio::signal::ctrl_c() => {
            io.close().await;
            Ok(())
        }
    }
}
