//! Tour of the API, one handler per feature. The tests with the stock JavaScript client run against
//! this server and against `tests/clients/tour-node.mjs`, the same server on Node's socket.io.
//!
//! ```text
//! cargo run --example tour -- 3000          on a port of its own
//! cargo run --example tour -- 3000 hosted   inside a host's actix-web application
//! ```

use std::time::Duration;

use actix_web::{App, HttpServer};
use serde::Deserialize;
use serde_json::{Value, json};
use stentor::{Args, ConnectError, Event, HandlerError, Namespace, Server};

#[derive(Deserialize, Default)]
struct Auth {
    name: Option<String>,
    token: Option<String>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    env_logger::init();
    let mut args = std::env::args().skip(1);
    let port: u16 = args.next().ok_or("usage: tour PORT [hosted]")?.parse()?;
    let hosted = args.next().is_some_and(|word| word == "hosted");
    actix::System::new().block_on(async move {
        let io = Server::builder().build()?;
        register(&io);
        if hosted {
            let app = {
                let io = io.clone();
                move || App::new().configure(io.routes("/socket.io"))
            };
            let host = HttpServer::new(app).workers(2).on_connect(stentor::on_connect).bind(("127.0.0.1", port))?;
            host.shutdown_timeout(1).run().await?;
        } else {
            io.bind(("127.0.0.1", port))?.workers(2).run().await?;
        }
        Ok(())
    })
}

fn register(io: &Server) {
    io.of("/quiet");
    io.of_matching(|path| path.starts_with("/tenant-")).on("where", |socket, event: Event<()>| async move {
        event.ack.send(socket.namespace().path())?;
        Ok(())
    });
    let main = io
        .of("/")
        .with(|socket| async move {
            let auth: Option<Auth> = socket.auth().map_err(|error| ConnectError::new(error.to_string()))?;
            let Auth { name, token } = auth.unwrap_or_default();
            if token.as_deref() == Some("bad") {
                return Err(ConnectError::new("not authorized").with_data(json!({"code": 17})));
            }
            socket.set_data(name).map_err(|error| ConnectError::new(error.to_string()))
        })
        .with_events(|_, event| async move {
            if &*event.name != "forbidden" {
                return Ok(Some(event));
            }
            event.ack.send(json!({"error": "forbidden"}))?;
            Ok(None)
        })
        .on_connection(|socket| async move {
            // Handlers of a single socket, as in applications on Node.
            socket.on("own", |_, event: Event<()>| async move {
                event.ack.send("own")?;
                Ok(())
            });
            socket.once("once", |socket, _: Event<()>| async move { Ok(socket.emit("came once", ()).await?) });
            Ok(())
        })
        .on_disconnecting(|socket, leaving| async move {
            let name: Value = socket.data()?;
            for room in leaving.rooms {
                socket.to(room).emit("left", (&name, leaving.reason.as_str())).await?;
            }
            Ok(())
        });
    emitting(rooms(about(main), io), io);
}

/// Handshake and identity of a socket.
fn about(namespace: Namespace) -> Namespace {
    namespace
        .on("echo", |_, event: Event<Args>| async move {
            event.ack.send(event.data)?;
            Ok(())
        })
        .on("handshake", |socket, event: Event<()>| async move {
            let handshake = socket.handshake();
            let reply = json!({
                "query": handshake.query_value("word"),
                "header": handshake.header("x-test"),
                "secure": handshake.is_secure(),
                "auth": socket.auth::<Value>()?,
                "id": socket.id().to_string(),
            });
            event.ack.send(reply)?;
            Ok(())
        })
        .on("bye", |socket, event: Event<bool>| async move {
            socket.disconnect(event.data);
            Ok(())
        })
}

/// Rooms of this socket and of others.
fn rooms(namespace: Namespace, io: &Server) -> Namespace {
    let (fetch, moved, kick) = (io.clone(), io.clone(), io.clone());
    namespace
        .on("join", |socket, event: Event<String>| async move {
            socket.join(&event.data).await?;
            event.ack.send(())?;
            Ok(())
        })
        .on("leave", |socket, event: Event<String>| async move {
            socket.leave(&event.data).await?;
            event.ack.send(())?;
            Ok(())
        })
        .on("rooms", |socket, event: Event<()>| async move {
            event.ack.send(socket.rooms().await?)?;
            Ok(())
        })
        .on("fetch", move |_, event: Event<String>| {
            let io = fetch.clone();
            async move {
                let mut names = Vec::new();
                for socket in io.to(event.data).fetch_sockets().await? {
                    names.push(socket.data::<String>()?);
                }
                names.sort_unstable();
                event.ack.send(names)?;
                Ok(())
            }
        })
        .on("move", move |_, event: Event<(String, String)>| {
            let io = moved.clone();
            async move {
                let (from, to) = &event.data;
                io.to(from).sockets_join([to]).await?;
                io.to(to).sockets_leave([from]).await?;
                event.ack.send(())?;
                Ok(())
            }
        })
        .on("kick", move |_, event: Event<(String, bool)>| {
            let io = kick.clone();
            async move {
                let (room, close) = event.data;
                io.to(room).disconnect_sockets(close).await?;
                event.ack.send(())?;
                Ok(())
            }
        })
}

/// Emits to one socket, to some and to all, with and without acks.
fn emitting(namespace: Namespace, io: &Server) {
    let (all, except, collect) = (io.clone(), io.clone(), io.clone());
    namespace
        .on("to", |socket, event: Event<(String, Value)>| async move {
            let (room, word) = event.data;
            Ok(socket.to(room).emit("word", word).await?)
        })
        .on("all", move |_, event: Event<(String, Value)>| {
            let io = all.clone();
            async move {
                let (room, word) = event.data;
                Ok(io.to(room).emit("word", word).await?)
            }
        })
        .on("except", move |_, event: Event<(String, String, Value)>| {
            let io = except.clone();
            async move {
                let (room, but, word) = event.data;
                Ok(io.to(room).except(but).emit("word", word).await?)
            }
        })
        .on(
            "broadcast",
            |socket, event: Event<Value>| async move { Ok(socket.broadcast().emit("word", event.data).await?) },
        )
        .on("relay", |socket, event: Event<Args>| async move {
            // The arguments are forwarded unchanged, attachments included.
            Ok(socket.broadcast().emit("relayed", event.data).await?)
        })
        .on("volatile", |socket, event: Event<u32>| async move {
            for n in 0..event.data {
                socket.volatile().emit("maybe", n).await?;
            }
            event.ack.send(())?;
            Ok(())
        })
        .on("ask me", |socket, event: Event<(u64, Value)>| async move {
            let (millis, question) = event.data;
            let asked = socket.timeout(Duration::from_millis(millis));
            let answer = asked.emit_with_ack::<Args, _>("question", question).await;
            match answer {
                Ok(answer) => event.ack.send(answer)?,
                Err(_) => event.ack.send("timed out")?,
            }
            Ok::<_, HandlerError>(())
        })
        .on("ask all", move |_, event: Event<(String, u64)>| {
            let io = collect.clone();
            async move {
                let (room, millis) = event.data;
                let asked = io.to(room).timeout(Duration::from_millis(millis));
                let acks = asked.emit_with_ack::<String, _>("question", "?").await?;
                let mut answers: Vec<_> = acks.answers.into_iter().map(|(_, answer)| answer).collect();
                answers.sort_unstable();
                event.ack.send((answers, acks.missing.len()))?;
                Ok(())
            }
        });
}
