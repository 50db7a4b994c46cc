//! The hub on a thread and a port of its own, beside axum; likewise in any other tokio program.
//!
//! `cargo run --example beside_axum -- 8080 3000`, then open http://127.0.0.1:8080/.

#[path = "page/client.rs"]
mod client;

use axum::Router;
use axum::http::StatusCode;
use axum::response::Html;
use axum::routing::{get, post};
use stentor::{Cors, Server};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let port: u16 = args.next().as_deref().unwrap_or("8080").parse()?;
    let hub_port: u16 = args.next().as_deref().unwrap_or("3000").parse()?;

    // The page is of another origin than the hub, which has to allow it.
    let builder = Server::builder().cors(Cors::origins([format!("http://127.0.0.1:{port}")]));
    let (bound, bind_result) = oneshot::channel();
    let io = builder.spawn(move |io| async move {
        io.of("/").on_connection(|socket| async move {
            socket.join("lobby").await?;
            Ok(())
        });
        let listener = io.bind(("127.0.0.1", hub_port));
        let _ = bound.send(listener.as_ref().map(drop).map_err(ToString::to_string));
        listener?.configure(client::files).disable_signals().run().await
    })?;
    bind_result.await??;

    let page = include_str!("beside_axum.html").replace("HUB_PORT", &hub_port.to_string());
    let hub = io.clone();
    let app = Router::new()
        .route("/", get(move || async move { Html(page) }))
        .route("/announce", post(move |text: String| announce(hub, text)));
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("beside_axum: open http://127.0.0.1:{port}/");
    let mut sigterm = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let stop = async move { tokio::select!(_ = tokio::signal::ctrl_c() => (), _ = sigterm.recv() => ()) };
    axum::serve(listener, app).with_graceful_shutdown(stop).await?;
    // Sessions are closed before the program ends, so that clients reconnect.
    io.close().await;
    Ok(())
}

/// A handler of axum. `Server` is `Clone`, `Send` and `Sync`, and works in every runtime.
async fn announce(io: Server, text: String) -> (StatusCode, String) {
    if !(1..=500).contains(&text.chars().count()) {
        return (StatusCode::BAD_REQUEST, "an announcement has 1 to 500 characters".to_owned());
    }
    match io.to("lobby").emit("announcement", text).await {
        Ok(()) => (StatusCode::OK, "announced".to_owned()),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
    }
}
