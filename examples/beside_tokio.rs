//! Stentor in a program on plain tokio, such as one with axum: the hub has a thread and a port of
//! its own.
//!
//! `cargo run --example beside_tokio`, then connect a `socket.io-client` to http://127.0.0.1:3000.
//! With axum, the main function ends with these lines instead of the clock; handlers can use `io`,
//! which is `Clone`, `Send` and `Sync`:
//!
//! ```text
//! let sessions = io.clone();
//! let app = axum::Router::new()
//!     .route("/sessions", axum::routing::get(move || async move { sessions.sessions().to_string() }));
//! let listener = tokio::net::TcpListener::bind(("127.0.0.1", 8080)).await?;
//! let stop = async { let _ = tokio::signal::ctrl_c().await; };
//! axum::serve(listener, app).with_graceful_shutdown(stop).await?;
//! io.close().await;
//! ```

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
