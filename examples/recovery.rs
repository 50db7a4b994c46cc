//! A newsroom whose readers miss nothing: what recovery asks of an application, with middleware, rooms and data.
//!
//! ```text
//! cargo run --example recovery -- 3000               what is said is kept in memory
//! cargo run --example recovery -- 3000 ./newsroom    on disk: readers are recovered after kill -9 as well
//! ```
//!
//! Connect a `socket.io-client` with `auth: { name: "kim" }` and emit the events below. The tests in
//! `tests/clients/recovery.test.mjs` do.

use std::collections::HashSet;
use std::sync::Arc;

use actix_web::web::{self, ServiceConfig};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stentor::{Answers, Args, ConnectError, Event, FromArgs, Namespace, Recovery, Server, Socket};
use tokio::sync::watch;

/// What readers send when they connect.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Auth {
    name: String,
}

/// What is kept with a reader's socket, and comes back with it.
#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Reader {
    name: String,
    bookmark: Value,
}

/// In place of a database: who is banned, and whose entry takes long to be found.
#[derive(Default)]
struct Registry {
    banned: HashSet<String>,
    slow: HashSet<String>,
}

type SharedRegistry = Arc<watch::Sender<Registry>>;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    env_logger::init();
    let mut args = std::env::args().skip(1);
    let port: u16 = args.next().ok_or("usage: recovery PORT [DIRECTORY]")?.parse()?;
    let recovery = args.next().map_or_else(Recovery::memory, Recovery::disk);
    actix::System::new().block_on(async move {
        let io = Server::builder().recovery(recovery).build()?;
        let registry = SharedRegistry::default();
        moderating(readers(admission(&io, &registry), &io), &io, &registry);
        // `/metrics` tells how many were recovered, and why others were not.
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

/// Who comes in, and what awaits them.
fn admission(io: &Server, registry: &SharedRegistry) -> Namespace {
    let (door, registry) = (io.clone(), registry.clone());
    rooms(io.of("/")).with(move |socket| let_in(door.clone(), registry.clone(), socket)).on_connection(
        |socket| async move {
            // Id, rooms and data of a recovered socket are back, and what it missed is on its way. Only who is new is put
            // into rooms and told how things stand.
            if !socket.recovered() {
                socket.join("everybody").await?;
                socket.emit("welcome", json!({"id": socket.id().to_string()})).await?;
            }
            Ok(())
        },
    )
}

/// The events that `stentor serve` offers as well.
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

/// Asks of those who come back what it asks of those who are new: a client is recovered, and sent what it missed, only after
/// all middleware has let it in.
async fn let_in(io: Server, registry: SharedRegistry, socket: Socket) -> Result<(), ConnectError> {
    let failed = |error: &dyn std::error::Error| ConnectError::new(error.to_string());
    let Auth { name } = socket.auth::<Option<Auth>>().map_err(|error| failed(&error))?.unwrap_or_default();
    let knock = (&name, socket.id().to_string(), socket.recovered());
    io.to("door").emit("knock", knock).await.map_err(|error| failed(&error))?;

    let mut entries = registry.subscribe();
    let entries = entries.wait_for(|entries| !entries.slow.contains(&name)).await.map_err(|error| failed(&error))?;
    if entries.banned.contains(&name) {
        return Err(ConnectError::new("banned"));
    }
    // In a recovered socket the data is there already. If it is another's, who has logged in on the same page since, the
    // client starts afresh.
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

/// What a reader can ask for.
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
        // Dropped where a connection is not ready for it, and not kept for those who are away.
        .on("hint", move |_, event: Event<(String, String)>| {
            let io = hints.clone();
            async move {
                let (room, hint) = event.data;
                io.to(room).volatile().emit("hint", hint).await?;
                Ok(event.ack.send(())?)
            }
        })
        // Who is in the room and does not answer is counted as missing; who was away meanwhile is not recovered, since the
        // question cannot be asked again.
        .on("ask", move |_, event: Event<(String, String)>| {
            let io = questions.clone();
            async move {
                let (room, question) = event.data;
                let told = io.to(room).timeout(ANSWER_TIME).emit_with_ack::<Value, _>("question", question).await?;
                let Answers { answers, missing, .. } = told;
                Ok(event.ack.send((answers.len(), missing.len()))?)
            }
        })
        // To a room and to one of its members by turns: heard in this order, at once or after a recovery.
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

/// What a moderator can do; in an application, only a moderator.
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
        // Out of a room: what is said there from here on is not for them, what was said before is.
        .on("expel", move |_, event: Event<String>| {
            let io = expel.clone();
            async move {
                io.to(&event.data).sockets_leave([&event.data]).await?;
                Ok(event.ack.send(())?)
            }
        })
        // Out of the namespace, which ends recovery for good; or their whole connections, which does too.
        .on("kick", move |_, event: Event<(String, bool)>| {
            let io = kick.clone();
            async move {
                let (room, close) = event.data;
                io.to(room).disconnect_sockets(close).await?;
                Ok(event.ack.send(())?)
            }
        });
}
