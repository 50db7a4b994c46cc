//! Connections of the server's own ports: TCP or a unix socket, plain or encrypted.

use std::io::{self, Read};
#[cfg(unix)]
use std::os::unix::net::UnixStream as StdUnixStream;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
#[cfg(feature = "tls")]
use tokio_rustls::server::TlsStream;

use super::encryption::Encryption;

/// A connection without encryption.
pub(crate) enum PlainStream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

/// A connection that is registered with no reactor, on its way to another thread.
pub(crate) enum DetachedStream {
    Tcp(std::net::TcpStream),
    #[cfg(unix)]
    Unix(StdUnixStream),
}

/// Calls the same method for each kind of stream.
macro_rules! each {
    ($stream:expr, $one:ident => $call:expr) => {
        match $stream {
            PlainStream::Tcp($one) => $call,
            #[cfg(unix)]
            PlainStream::Unix($one) => $call,
        }
    };
}

impl PlainStream {
    pub(crate) fn detach(self) -> io::Result<DetachedStream> {
        match self {
            Self::Tcp(stream) => stream.into_std().map(DetachedStream::Tcp),
            #[cfg(unix)]
            Self::Unix(stream) => stream.into_std().map(DetachedStream::Unix),
        }
    }

    /// The socket, for its options.
    pub(crate) fn socket(&self) -> SockRef<'_> {
        each!(self, stream => SockRef::from(stream))
    }

    /// Sets TCP_NODELAY. A unix socket has no such delay.
    pub(crate) fn set_nodelay(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_nodelay(true),
            #[cfg(unix)]
            Self::Unix(_) => Ok(()),
        }
    }

    /// Reads available bytes. A short read means that the socket is drained, so its readiness is
    /// cleared without another read. `tokio::io::AsyncRead` relies on edge-triggered readiness in
    /// the same way.
    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut read = Err(io::ErrorKind::WouldBlock.into());
        let mut read_once = || {
            let bytes = (&*self.socket()).read(buffer)?;
            let is_all = bytes > 0 && bytes < buffer.len() && cfg!(any(target_os = "linux", target_os = "android"));
            read = Ok(bytes);
            if is_all { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        };
        let drained = each!(self, stream => stream.try_io(Interest::READABLE, &mut read_once));
        match (read, drained) {
            (Err(_), Err(error)) => Err(error),
            (read, _) => read,
        }
    }

    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        each!(self, stream => stream.try_write(bytes))
    }

    pub(crate) fn try_write_vectored(&self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        each!(self, stream => stream.try_write_vectored(slices))
    }

    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_read_ready(cx))
    }

    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_write_ready(cx))
    }

    /// Returns whether the peer has closed its side, by the readiness of the last event, without a
    /// system call.
    pub(crate) fn is_read_closed(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let ready = each!(self, stream => pin!(stream.ready(Interest::READABLE)).poll(&mut cx));
        matches!(ready, Poll::Ready(Ok(ready)) if ready.is_read_closed())
    }
}

impl DetachedStream {
    /// Registers the stream with the reactor of the current thread.
    pub(crate) fn attach(self) -> io::Result<PlainStream> {
        match self {
            Self::Tcp(stream) => TcpStream::from_std(stream).map(PlainStream::Tcp),
            #[cfg(unix)]
            Self::Unix(stream) => UnixStream::from_std(stream).map(PlainStream::Unix),
        }
    }
}

impl AsyncRead for PlainStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for PlainStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(cx))
    }
}

/// A connection for HTTP. The encrypted one is boxed, so that a plain one stays small.
pub(crate) enum NetworkStream {
    Plain(PlainStream),
    #[cfg(feature = "tls")]
    Tls(Box<TlsStream<PlainStream>>),
}

/// Marker of an encrypted connection of a server's own port, in the data of the connection.
pub(crate) struct IsEncrypted;

impl NetworkStream {
    pub(crate) fn is_encrypted(&self) -> bool {
        !matches!(self, Self::Plain(_))
    }

    /// Returns the socket, and the state of the encryption.
    pub(crate) fn into_parts(self) -> (PlainStream, Option<Box<Encryption>>) {
        match self {
            Self::Plain(stream) => (stream, None),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => {
                let (stream, connection) = stream.into_inner();
                (stream, Some(Box::new(Encryption::new(connection))))
            }
        }
    }
}

/// Calls the same method for a plain and an encrypted stream.
macro_rules! either {
    ($stream:expr, $one:ident => $call:expr) => {
        match $stream.get_mut() {
            NetworkStream::Plain($one) => $call,
            #[cfg(feature = "tls")]
            NetworkStream::Tls($one) => $call,
        }
    };
}

impl AsyncRead for NetworkStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for NetworkStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_connection_is_no_larger_than_its_socket_and_a_tag() {
        // Each idle websocket has one of these.
        assert!(size_of::<PlainStream>() <= size_of::<TcpStream>() + size_of::<usize>());
        assert!(size_of::<NetworkStream>() <= size_of::<PlainStream>() + size_of::<usize>());
    }
}
