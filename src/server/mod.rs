//! The composition root: puts hub, desk, workers and transports together, and hands out the `io` handle.

mod builder;
pub mod config;
pub mod demo;
mod listener;
pub mod vocabulary;

use std::io;
use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;

use crate::api::args::ToArgs;
use crate::api::broadcast::Broadcast;
use crate::api::error::EmitError;
use crate::api::namespace::Namespace;
use crate::hub::HubAddress;
use crate::ids::NamespacePath;
use crate::messages::hub::HubControl;
use crate::transport::Endpoint;

pub use self::builder::{BuildError, Builder, Recovery};
pub use self::listener::Listener;

/// Longest a server waits for its sessions to part when it closes.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// Between two looks at how many sessions are left.
const CLOSE_LOOK: Duration = Duration::from_millis(5);

/// A server: the `io` of Socket.IO. Cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct Server {
    endpoint: Endpoint,
    hub: HubAddress,
    path: Arc<str>,
    root: Namespace,
}

impl Server {
    /// Begins a server. Every setting has Socket.IO's default where Socket.IO has one.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A namespace, which comes to be if it was not there. `/` always is.
    ///
    /// # Panics
    ///
    /// If `path` does not begin with `/`, holds a comma, or is longer than 256 bytes: a mistake in the program.
    pub fn of(&self, path: &str) -> Namespace {
        match NamespacePath::parse(ByteString::from(path)) {
            Ok(path) => Namespace::new(self.endpoint.services.core.clone(), path),
            Err(error) => panic!("Server::of({path:?}): {error}"),
        }
    }

    /// A room of `/`; see [`Broadcast::to`].
    pub fn to(&self, room: impl AsRef<str>) -> Broadcast {
        self.root.to(room)
    }

    /// Everybody in `/` but the members of a room; see [`Broadcast::except`].
    pub fn except(&self, room: impl AsRef<str>) -> Broadcast {
        self.root.except(room)
    }

    /// Emits to every socket of `/`; see [`Broadcast::emit`].
    pub async fn emit<T: ToArgs>(&self, name: &str, data: T) -> Result<(), EmitError> {
        self.root.emit(name, data).await
    }

    /// Sessions connected at present, in all transports.
    pub fn sessions(&self) -> usize {
        self.endpoint.services.directory.len()
    }

    /// Binds an address, to serve this server there and nothing else.
    pub fn bind(&self, address: impl ToSocketAddrs) -> io::Result<Listener> {
        Listener::bind(self.clone(), address)
    }

    /// Serves on an address until the process is asked to end (SIGINT, SIGTERM).
    pub async fn run(&self, address: impl ToSocketAddrs) -> io::Result<()> {
        self.bind(address)?.run().await
    }

    /// Closes every session at transport level, without a DISCONNECT packet, so that clients come back. Completes when
    /// all have parted, after half a second at the latest.
    pub async fn close(&self) {
        if self.hub.control.try_send(HubControl::Shutdown).is_err() {
            ::log::warn!("hub takes no shutdown, sessions end with their threads");
            return;
        }
        let all_gone = async {
            while self.sessions() > 0 {
                tokio::time::sleep(CLOSE_LOOK).await;
            }
        };
        if tokio::time::timeout(CLOSE_TIMEOUT, all_gone).await.is_err() {
            ::log::warn!("sessions left behind count={}", self.sessions());
        }
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("path", &self.path).field("sessions", &self.sessions()).finish_non_exhaustive()
    }
}
