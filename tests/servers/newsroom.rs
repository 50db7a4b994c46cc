//! Newsroom whose readers miss no event: recovery with middleware, rooms and data.
//!
//! ```text
//! cargo run --example newsroom -- 3000               stores events in memory
//! cargo run --example newsroom -- 3000 ./newsroom    on disk: readers recover after kill -9 as well
//! ```
//!
//! Connect a `socket.io-client` with `auth: { name: "kim" }` and emit the events below. The tests
//! in `tests/clients/recovery.test.mjs` do.

use std::collections::HashSet;
use std::sync::Arc;

use actix_web::web::{self, ServiceConfig};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stentor::{Answers, Args, ConnectError, Event, FromArgs, Namespace, Recovery, Server, Socket};
use tokio::sync::watch;

/// Credentials of a CONNECT.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Auth {
    name: String,
}

/// Data of a reader's socket, recovered with it.
#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Reader {
    name: String,
    bookmark: Value,
}

/// Stand-in for a database: banned names, and names whose lookup is slow.
#[derive(Default)]
struct Registry {
    banned: HashSet<String>,
    slow: HashSet<String>,
}

type SharedRegistry = Arc<watch::Sender<Registry>>;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    env_logger::init();
    let mut args = std::env::args().skip(1);
    let port: u16 = args.next().ok_or("usage: newsroom PORT [DIRECTORY]")?.parse()?;
    let recovery = args.next().map_or_else(Recovery::memory, Recovery::disk);
    actix::System::new().block_on(async move {
        let io = Server::builder().recovery(recovery).build()?;
        let registry = SharedRegistry::default();
        moderating(readers(admission(&io, &registry), &io), &io, &registry);
        // `/metrics` counts recovered sockets, and the others by reason.
        let counted = io.clone();
        let metrics = move || std::future::ready(counted.metrics());
        let listener = io.bind(("127.0.0.1", port))?.workers(2);
        let configure = move |config: &mut ServiceConfig| {
            config.route("/metrics", web::get().to(metrics.clone()));
        };
        listener.configure(configure).run().await?;
        Ok(())
    })
}

/// Middleware and connection handler.
fn admission(io: &Server, registry: &SharedRegistry) -> Namespace {
    let (io, registry) = (io.clone(), registry.clone());
    rooms(io.of("/")).with(move |socket| admit(io.clone(), registry.clone(), socket)).on_connection(
        |socket| async move {
            // A recovered socket has its id, rooms and data, and gets the events that it missed.
            if !socket.recovered() {
                socket.join("everybody").await?;
                socket.emit("welcome", json!({"id": socket.id().to_string()})).await?;
            }
            Ok(())
        },
    )
}

/// Events that `stentor serve` has as well.
fn rooms(namespace: Namespace) -> Namespace {
    namespace
        .on("join", |socket, event: Event<String>| async move {
            socket.join(&event.data).await?;
            event.ack.send(json!({"room": event.data}))?;
            Ok(())
        })
        .on("publish", |socket, event: Event<Args>| async move {
            let (room, name): (String, String) = FromArgs::from_args(event.data.clone())?;
            socket.all().to(room).emit_confirmed(&name, event.data.skip(2)).await?;
            event.ack.send(())?;
            Ok(())
        })
        .on("members", |socket, event: Event<String>| async move {
            let members = socket.all().to(event.data).socket_ids().await?;
            let members: Vec<_> = members.iter().map(ToString::to_string).collect();
            event.ack.send(json!({"members": members}))?;
            Ok(())
        })
        .on("echo", |_, event: Event<Args>| async move {
            event.ack.send(&event.data)?;
            Ok(())
        })
}

/// Middleware, which also checks clients that reconnect. A client is recovered only after all
/// middleware has accepted it.
async fn admit(io: Server, registry: SharedRegistry, socket: Socket) -> Result<(), ConnectError> {
    let failed = |error: &dyn std::error::Error| ConnectError::new(error.to_string());
    let Auth { name } = socket.auth::<Option<Auth>>().map_err(|error| failed(&error))?.unwrap_or_default();
    let request = (&name, socket.id().to_string(), socket.recovered());
    io.to("door").emit("knock", request).await.map_err(|error| failed(&error))?;

    let mut entries = registry.subscribe();
    let entries = entries.wait_for(|entries| !entries.slow.contains(&name)).await.map_err(|error| failed(&error))?;
    if entries.banned.contains(&name) {
        return Err(ConnectError::new("banned"));
    }
    // If another user has logged in on the same page meanwhile, the socket is not recovered.
    if socket.recovered() && reader(&socket).is_some_and(|reader| reader.name != name) {
        socket.decline_recovery();
    }
    if !socket.recovered() {
        socket.set_data(Reader { name, bookmark: Value::Null }).map_err(|error| failed(&error))?;
    }
    Ok(())
}

fn reader(socket: &Socket) -> Option<Reader> {
    socket.data().ok().flatten()
}

/// Events of readers.
fn readers(namespace: Namespace, io: &Server) -> Namespace {
    let (hints, questions, turns) = (io.clone(), io.clone(), io.clone());
    namespace
        .on("me", |socket, event: Event<()>| async move {
            let me = json!({
                "id": socket.id().to_string(),
                "rooms": socket.rooms().await?,
                "data": socket.data::<Value>()?,
                "recovered": socket.recovered(),
            });
            Ok(event.ack.send(me)?)
        })
        .on("bookmark", |socket, event: Event<Value>| async move {
            socket.set_data(Reader { bookmark: event.data, ..reader(&socket).unwrap_or_default() })?;
            Ok(event.ack.send(())?)
        })
        .on("forget me", |socket, event: Event<()>| async move {
            socket.set_data(())?;
            Ok(event.ack.send(())?)
        })
        // Dropped for connections that are not ready, and not stored for disconnected clients.
        .on("hint", move |_, event: Event<(String, String)>| {
            let io = hints.clone();
            async move {
                let (room, hint) = event.data;
                io.to(room).volatile().emit("hint", hint).await?;
                Ok(event.ack.send(())?)
            }
        })
        // Members without an answer count as missing. Members that were disconnected meanwhile
        // cannot recover, since an event with an ack is not repeated.
        .on("ask", move |_, event: Event<(String, String)>| {
            let io = questions.clone();
            async move {
                let (room, question) = event.data;
                let acks = io.to(room).timeout(ANSWER_TIME).emit_with_ack::<Value, _>("question", question).await?;
                let Answers { answers, missing, .. } = acks;
                Ok(event.ack.send((answers.len(), missing.len()))?)
            }
        })
        // Alternately to a room and to one member, which receives all in this order, also by
        // recovery.
        .on("by turns", move |_, event: Event<(String, String, u32)>| {
            let io = turns.clone();
            async move {
                let (room, id, times) = event.data;
                let Some(member) = io.to(id).fetch_sockets().await?.pop() else { return Ok(()) };
                for n in 0..times {
                    io.to(&room).emit("news", format!("room {n}")).await?;
                    member.emit("news", format!("you {n}")).await?;
                }
                Ok(event.ack.send(())?)
            }
        })
}

const ANSWER_TIME: std::time::Duration = std::time::Duration::from_millis(200);

/// Events of moderators, without the check that an application would have.
fn moderating(namespace: Namespace, io: &Server, registry: &SharedRegistry) {
    let (ban, slow, expel, kick) = (registry.clone(), registry.clone(), io.clone(), io.clone());
    namespace
        .on("ban", move |_, event: Event<String>| {
            ban.send_modify(|entries| entries.banned.extend([event.data]));
            async move { Ok(event.ack.send(())?) }
        })
        .on("slow", move |_, event: Event<(String, bool)>| {
            let (name, is_slow) = event.data;
            slow.send_modify(|entries| {
                match is_slow {
                    true => entries.slow.insert(name),
                    false => entries.slow.remove(&name),
                };
            });
            async move { Ok(event.ack.send(())?) }
        })
        // Members that leave a room get its earlier events, but no later ones.
        .on("expel", move |_, event: Event<String>| {
            let io = expel.clone();
            async move {
                io.to(&event.data).sockets_leave([&event.data]).await?;
                Ok(event.ack.send(())?)
            }
        })
        // Disconnects from the namespace or closes the connection; neither can be recovered.
        .on("kick", move |_, event: Event<(String, bool)>| {
            let io = kick.clone();
            async move {
                let (room, close) = event.data;
                io.to(room).disconnect_sockets(close).await?;
                Ok(event.ack.send(())?)
            }
        });
}
