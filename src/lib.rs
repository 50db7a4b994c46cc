//! Stentor: a realtime hub that speaks Socket.IO v5 over Engine.IO v4 with unmodified
//! `socket.io-client`s.
//!
//! An event emitted by a client is sent only to the server. An event emitted by the server is sent
//! to all sockets in the target rooms. One actor, the hub, determines the order of all events and
//! numbers them.
//!
//! ```no_run
//! use stentor::{Event, Recovery, Server};
//!
//! # #[derive(serde::Serialize, serde::Deserialize)] struct ChatMessage { text: String }
//! # async fn start() -> Result<(), Box<dyn std::error::Error>> {
//! let io = Server::builder().recovery(Recovery::memory()).build()?;
//! io
//!     .of("/")
//!     .on("message", |socket, event: Event<ChatMessage>| async move {
//!         socket.to("lobby").emit("message", &event.data).await?;
//!         event.ack.send("ok")?;
//!         Ok(())
//!     })
//!     .on_connection(|socket| async move {
//!         socket.join("lobby").await?;
//!         Ok(())
//!     })
//!     .on_disconnect(|socket, reason| async move {
//!         log::info!("left id={} reason={reason}", socket.id());
//!         Ok(())
//!     });
//! io.run(("127.0.0.1", 3000)).await?;
//! # Ok(()) }
//! ```
//!
//! [`Server::routes`] mounts the hub in an actix-web application.
//!
//! The default feature `serve` builds the binary `stentor`. A program that embeds the hub does not
//! need this feature: `stentor = { …, default-features = false }`. The feature `jwt` adds tokens by
//! which clients connect, and `tls` encrypted ports.
//!
//! # Layout
//!
//! Each folder belongs to a floor and imports only from lower floors (checked by
//! `tests/architecture.rs`).
//!
//! | floor | | |
//! |---|---|---|
//! | – | `bin/stentor/` | the binary, a crate of its own that uses the public API |
//! | 9 | `fuzzing.rs`, `bench_support/` | properties of the decoders; internal access for benchmarks |
//! | 8 | `server/` | composition root, the server's own port, routes for a host application |
//! | 7 | `transport/` | polling, websocket (raw, or a pump in a host application), admission |
//! | 6 | `session/`, `hub/`, `subscribers/` | the actors, which communicate through `messages/` |
//! | 5 | `worker/`, `access/` | per-thread state: fanout, outboxes, flusher, queue to the hub; who a client is and what it may do |
//! | 4 | `api/` | handles for the application |
//! | 3 | `messages/` | messages between actors |
//! | 2 | `recovery/` | sessions that clients may resume, and the positions from which they resume |
//! | 1 | `state/`, `journal/`, `queue/`, `metrics/` | sans-IO state machines; the journal; durable events; counters |
//! | 0 | `protocol/`, `ids.rs`, `limits.rs`, `pattern.rs`, `folder.rs`, `live.rs` | wire formats, identifiers, limits; patterns of names; locked folders; settings that change |

mod access;
mod api;
#[cfg(feature = "bench-internals")]
#[doc(hidden)]
pub mod bench_support;
mod folder;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod hub;
mod ids;
mod journal;
pub mod limits;
mod live;
mod messages;
mod metrics;
mod pattern;
mod protocol;
mod queue;
mod recovery;
mod server;
mod session;
mod state;
mod subscribers;
mod transport;
mod worker;

pub use crate::access::identity::{Identity, IdentityError};
#[cfg(feature = "jwt")]
pub use crate::access::jwt::{Auth, RoomGrant, TokenError, TokenKeyError, TokenKeys};
pub use crate::access::permissions::{PatternError, Permissions, RoomPattern};
pub use crate::access::rules::{AccessRules, DefaultAccess, RoomAccess};
pub use crate::api::ack::Ack;
pub use crate::api::answers::Answers;
pub use crate::api::args::{FromArgs, OutgoingArgs, ToArgs};
pub use crate::api::broadcast::Broadcast;
pub use crate::api::core::Socket;
pub use crate::api::durable::{Durable, PublishError};
pub use crate::api::error::{AckError, ConnectError, DataError, EmitError, HandlerError, RoomError};
pub use crate::api::event::{Disconnecting, Event};
pub use crate::api::namespace::{Namespace, NamespacePattern, RoomSummary};
pub use crate::api::queue_error::QueueError;
pub use crate::api::queue_values::{
    DeadLetterEvent, DeadLetters, Pulled, PulledEvent, QueueGap, StoredEvents, SubscriberDetails, SubscriberSummary,
};
pub use crate::api::recovery_clients::RecoveryClients;
pub use crate::api::room_events::{Lagged, RoomEvent, RoomEvents};
pub use crate::api::socket_emitter::SocketEmitter;
pub use crate::api::subscriber::Subscriber;
pub use crate::ids::{Epoch, Fingerprint, IdError, Lsn, NamespacePath, Offset, QueueOffset, SocketId};
pub use crate::journal::OpenError as JournalOpenError;
pub use crate::journal::inspect::{
    InspectedRecord, Inspection as JournalInspection, JournalStats, ReadError as JournalReadError,
};
pub use crate::limits::Limits;
pub use crate::messages::answer::{Joined, Receipt, Stored};
pub use crate::messages::extensions::Extensions;
pub use crate::messages::handshake::Handshake;
pub use crate::protocol::reason::DisconnectReason;
pub use crate::protocol::socketio::Parser;
pub use crate::protocol::socketio::packet::Args;
pub use crate::queue::edit::QueueEditor;
pub use crate::queue::inspect::{
    InspectedDeadLetter, InspectedEvent, InspectedGap, InspectedRoom, InspectedSubscriber, InspectedSubscription,
    QueueChangeError, QueueCheck, QueueDamage, QueueInspection, QueueOpenError, QueueReadError, QueueStats,
};
pub use crate::queue::record::{GapReason, SubscriberNameError};
pub use crate::server::on_connect;
pub use crate::server::{
    BuildError, Builder, Listener, METRICS_CONTENT_TYPE, NotAccepting, Port, Queue, Recovery, RequestBody, Server,
};
#[cfg(feature = "tls")]
pub use crate::server::{Tls, TlsError};
pub use crate::transport::body::BodyError;
pub use crate::transport::cookie::{Cookie, CookieError, SameSite};
pub use crate::transport::cors::{Cors, CorsError};
