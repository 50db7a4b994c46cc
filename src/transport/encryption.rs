//! TLS of a websocket, between its frames and its socket.
//!
//! The session drives the state machine of rustls itself: a websocket keeps no buffers beside it,
//! and its two halves share it without a task between them.

#[cfg(feature = "tls")]
mod rustls_connection {
    use std::cell::RefCell;
    use std::io::{self, Read, Write};

    use tokio_rustls::rustls::ServerConnection;

    use super::super::network_stream::PlainStream;
    use crate::state::outbox::Outbox;

    /// Maximum number of bytes that are encrypted and not yet written: one record of TLS. While
    /// they wait for the socket, the other packets stay in the outbox, where its limits apply.
    const ENCRYPTED_BYTES: usize = 16 << 10;

    /// Maximum number of frames in one record.
    const FRAMES_PER_RECORD: usize = 64;

    /// State of an encrypted connection after its handshake.
    pub(crate) struct Encryption(RefCell<ServerConnection>);

    /// The socket as rustls uses it.
    struct Wire<'a>(&'a PlainStream);

    impl Read for Wire<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.try_read(buffer)
        }
    }

    impl Write for Wire<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.try_write(bytes)
        }

        fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
            self.0.try_write_vectored(slices)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Encryption {
        pub(crate) fn new(mut connection: ServerConnection) -> Self {
            connection.set_buffer_limit(Some(ENCRYPTED_BYTES));
            Self(RefCell::new(connection))
        }

        /// Reads decrypted bytes, with at most one read from the socket. If the bytes that have
        /// arrived complete no record, the error is `Interrupted`.
        pub(crate) fn try_read(&self, stream: &PlainStream, buffer: &mut [u8]) -> io::Result<usize> {
            let mut connection = self.0.borrow_mut();
            match decrypted(&mut connection, buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
            connection.read_tls(&mut Wire(stream))?;
            connection.process_new_packets().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            match decrypted(&mut connection, buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::ErrorKind::Interrupted.into()),
                read => read,
            }
        }

        /// Encrypts and writes the packets of an outbox until the outbox is empty and all bytes are
        /// written.
        pub(crate) fn write_frames(&self, stream: &PlainStream, outbox: &mut Outbox) -> io::Result<()> {
            self.flush(stream)?;
            while !outbox.is_empty() {
                let encrypted = self.0.borrow_mut().writer().write_vectored(&outbox.gather(FRAMES_PER_RECORD))?;
                if encrypted == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                outbox.consume(encrypted);
                self.flush(stream)?;
            }
            Ok(())
        }

        /// Writes the bytes that are encrypted.
        pub(crate) fn flush(&self, stream: &PlainStream) -> io::Result<()> {
            let mut connection = self.0.borrow_mut();
            while connection.wants_write() {
                if connection.write_tls(&mut Wire(stream))? == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
            }
            Ok(())
        }

        /// Announces the end of what this side sends. The peer needs the announcement only to tell
        /// the end from a cut, so it is not awaited.
        pub(crate) fn close(&self, stream: &PlainStream) {
            self.0.borrow_mut().send_close_notify();
            let _ = self.flush(stream);
        }
    }

    /// Reads decrypted bytes. An end without announcement is an end as well, since many clients
    /// announce none.
    fn decrypted(connection: &mut ServerConnection, buffer: &mut [u8]) -> io::Result<usize> {
        match connection.reader().read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            read => read,
        }
    }
}

#[cfg(not(feature = "tls"))]
mod rustls_connection {
    use std::io;

    use super::super::network_stream::PlainStream;
    use crate::state::outbox::Outbox;

    /// Without the feature `tls` there are no encrypted connections.
    pub(crate) enum Encryption {}

    impl Encryption {
        pub(crate) fn try_read(&self, _: &PlainStream, _: &mut [u8]) -> io::Result<usize> {
            match *self {}
        }

        pub(crate) fn write_frames(&self, _: &PlainStream, _: &mut Outbox) -> io::Result<()> {
            match *self {}
        }

        pub(crate) fn flush(&self, _: &PlainStream) -> io::Result<()> {
            match *self {}
        }

        pub(crate) fn close(&self, _: &PlainStream) {
            match *self {}
        }
    }
}

pub(crate) use self::rustls_connection::Encryption;
