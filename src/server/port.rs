//! Ports of a server: bound TCP addresses and unix sockets, plain or encrypted.

use std::fmt;
use std::io;
use std::net::{SocketAddr, SocketAddrV6, TcpListener, ToSocketAddrs};
#[cfg(unix)]
use std::os::unix::net::UnixListener;

use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::TcpListener as TokioTcpListener;
#[cfg(unix)]
use tokio::net::UnixListener as TokioUnixListener;

#[cfg(unix)]
use super::socket_file::SocketFile;
#[cfg(feature = "tls")]
use super::tls::Tls;
use crate::limits::Limits;
use crate::transport::hosts::Hosts;
use crate::transport::network_stream::{NetworkStream, PlainStream};

/// A bound address on which a [`Listener`](super::Listener) serves: a TCP address or a unix socket,
/// with or without TLS.
///
/// A `std::net::TcpListener` and a `std::os::unix::net::UnixListener` can be converted to a port,
/// for sockets that another program has bound.
pub struct Port {
    socket: ListeningSocket,
    /// File of a unix socket that this process has bound.
    #[cfg(unix)]
    file: Option<SocketFile>,
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
}

/// A socket that is not yet registered with a reactor.
pub(super) enum ListeningSocket {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener),
}

impl Port {
    /// Binds the first usable of these TCP addresses. `[::]` serves IPv4 as well.
    pub fn bind(address: impl ToSocketAddrs) -> io::Result<Self> {
        let mut last = io::Error::new(io::ErrorKind::InvalidInput, "address has no IP address");
        for address in address.to_socket_addrs()? {
            match listen(address, false) {
                Ok(socket) => return Ok(socket.into()),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Binds an IPv6 address that serves no IPv4, such as `[::]` beside `0.0.0.0`.
    pub fn bind_v6_only(address: SocketAddrV6) -> io::Result<Self> {
        listen(address.into(), true).map(Self::from)
    }

    /// Binds a unix socket whose file has these permissions, such as `0o660`: clients need the
    /// permission to write. The file of a server that has ended is replaced. The file is removed
    /// when the listener ends.
    ///
    /// Clients of a unix socket have no address, so limits per address do not apply to them.
    #[cfg(unix)]
    pub fn unix(path: impl AsRef<std::path::Path>, mode: u32) -> io::Result<Self> {
        let path = path.as_ref();
        let (socket, file) = SocketFile::bind(path, mode, backlog()).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot listen on unix:{}: {error}", path.display()))
        })?;
        Ok(Self { file: Some(file), ..socket.into() })
    }

    /// Encrypts the connections of this port. A client that speaks no TLS is disconnected.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: &Tls) -> Self {
        self.tls = Some(tls.clone());
        self
    }

    /// The URL of the port: `http://127.0.0.1:3000`, `https://[::]:443`, or `unix:` and the path of
    /// a unix socket. If port 0 was requested, the URL has the port that the system chose.
    pub fn url(&self) -> String {
        match &self.socket {
            ListeningSocket::Tcp(socket) => {
                let scheme = if self.is_encrypted() { "https" } else { "http" };
                socket.local_addr().map_or_else(|error| error.to_string(), |address| format!("{scheme}://{address}"))
            }
            #[cfg(unix)]
            ListeningSocket::Unix(socket) => {
                let address = socket.local_addr();
                let path = address.as_ref().ok().and_then(|address| address.as_pathname());
                format!("unix:{}", path.map_or_else(|| "unnamed".into(), |path| path.to_string_lossy()))
            }
        }
    }

    pub(super) fn local_addr(&self) -> Option<io::Result<SocketAddr>> {
        match &self.socket {
            ListeningSocket::Tcp(socket) => Some(socket.local_addr()),
            #[cfg(unix)]
            ListeningSocket::Unix(_) => None,
        }
    }

    /// Sets the size of the kernel's queue of connections that wait to be accepted.
    pub(super) fn set_backlog(&self, backlog: u32) -> io::Result<()> {
        let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
        match &self.socket {
            ListeningSocket::Tcp(socket) => SockRef::from(socket).listen(backlog),
            #[cfg(unix)]
            ListeningSocket::Unix(socket) => SockRef::from(socket).listen(backlog),
        }
    }

    /// Separates the socket and the rules for its connections.
    pub(super) fn into_parts(self, is_internal: bool) -> (ListeningSocket, PortRules) {
        let rules = PortRules {
            default_hosts: self.default_hosts(),
            is_internal,
            #[cfg(feature = "tls")]
            tls: self.tls,
        };
        (self.socket, rules)
    }

    /// Returns the file to be removed when serving ends.
    #[cfg(unix)]
    pub(super) fn take_file(&mut self) -> Option<SocketFile> {
        self.file.take()
    }

    /// Hosts that are allowed by default: the loopback names on a loopback address and on a unix
    /// socket, and all hosts elsewhere.
    fn default_hosts(&self) -> Hosts {
        match self.local_addr() {
            Some(Ok(address)) if address.ip().to_canonical().is_loopback() => Hosts::LOOPBACK,
            Some(_) => Hosts::Any,
            None => Hosts::LOOPBACK,
        }
    }

    #[cfg(feature = "tls")]
    fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    #[cfg(not(feature = "tls"))]
    fn is_encrypted(&self) -> bool {
        false
    }

    #[cfg(feature = "tls")]
    pub(super) fn certificate(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    fn new(socket: ListeningSocket) -> Self {
        Self {
            socket,
            #[cfg(unix)]
            file: None,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}

impl From<TcpListener> for Port {
    fn from(socket: TcpListener) -> Self {
        Self::new(ListeningSocket::Tcp(socket))
    }
}

#[cfg(unix)]
impl From<UnixListener> for Port {
    fn from(socket: UnixListener) -> Self {
        Self::new(ListeningSocket::Unix(socket))
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Port").field(&self.url()).finish()
    }
}

/// Rules for the connections of a port.
pub(super) struct PortRules {
    /// Accepted Host headers if the policy has none.
    pub(super) default_hosts: Hosts,
    /// True if the port serves the resources for operators alone.
    pub(super) is_internal: bool,
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
}

impl PortRules {
    #[cfg(feature = "tls")]
    pub(super) fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    #[cfg(not(feature = "tls"))]
    pub(super) fn is_encrypted(&self) -> bool {
        false
    }

    /// Performs the TLS handshake, if the port is encrypted.
    #[cfg(feature = "tls")]
    pub(super) async fn secure(&self, stream: PlainStream) -> io::Result<NetworkStream> {
        let Some(tls) = &self.tls else { return Ok(NetworkStream::Plain(stream)) };
        let stream = tokio_rustls::TlsAcceptor::from(tls.config()).accept(stream).await?;
        Ok(NetworkStream::Tls(Box::new(stream)))
    }

    #[cfg(not(feature = "tls"))]
    pub(super) async fn secure(&self, stream: PlainStream) -> io::Result<NetworkStream> {
        Ok(NetworkStream::Plain(stream))
    }
}

#[cfg(test)]
impl PortRules {
    /// Rules of a plain port that accepts any host.
    pub(super) fn plain() -> Self {
        Self {
            default_hosts: Hosts::Any,
            is_internal: false,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}

impl ListeningSocket {
    /// Registers the socket with the reactor of the current thread.
    pub(super) fn register(self) -> io::Result<Acceptor> {
        match self {
            Self::Tcp(socket) => {
                socket.set_nonblocking(true)?;
                TokioTcpListener::from_std(socket).map(Acceptor::Tcp)
            }
            #[cfg(unix)]
            Self::Unix(socket) => {
                socket.set_nonblocking(true)?;
                TokioUnixListener::from_std(socket).map(Acceptor::Unix)
            }
        }
    }
}

/// A socket that accepts connections on the current thread. Dropping it closes the port.
pub(super) enum Acceptor {
    Tcp(TokioTcpListener),
    #[cfg(unix)]
    Unix(TokioUnixListener),
}

impl Acceptor {
    /// Accepts a connection, and returns the address of its peer. Peers of a unix socket have none.
    pub(super) async fn accept(&self) -> io::Result<(PlainStream, Option<SocketAddr>)> {
        match self {
            Self::Tcp(socket) => {
                let (stream, peer) = socket.accept().await?;
                Ok((PlainStream::Tcp(stream), Some(peer)))
            }
            #[cfg(unix)]
            Self::Unix(socket) => {
                let (stream, _) = socket.accept().await?;
                Ok((PlainStream::Unix(stream), None))
            }
        }
    }
}

/// Size of the kernel's queue until the port belongs to a server, which has its own limit.
fn backlog() -> i32 {
    i32::try_from(Limits::default().http.backlog).unwrap_or(i32::MAX)
}

fn listen(address: SocketAddr, v6_only: bool) -> io::Result<TcpListener> {
    let bound = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(socket2::Protocol::TCP))?;
        // The address can be reused, so that a restart need not wait until connections of the
        // previous process time out.
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            // The default differs between systems.
            socket.set_only_v6(v6_only)?;
        }
        socket.bind(&address.into())?;
        socket.listen(backlog())?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    bound().map_err(|error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))
}
