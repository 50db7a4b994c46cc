//! A websocket from the client's side: masked frames out, unmasked frames in. It answers nothing by
//! itself.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use super::{DEADLINE, Head, Http};

/// Key and accept value of RFC 6455, section 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// First bytes of unfragmented frames.
pub(crate) const TEXT: u8 = 0x81;
pub(crate) const BINARY: u8 = 0x82;
pub(crate) const CLOSE: u8 = 0x88;
pub(crate) const PING: u8 = 0x89;
pub(crate) const PONG: u8 = 0x8a;

/// A masked frame of a client.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = header(first, payload.len(), 0x80);
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// Header of a frame, without the masking key.
pub(crate) fn header(first: u8, length: usize, masked: u8) -> Vec<u8> {
    let mut header = vec![first];
    match length {
        0..=125 => header.push(masked | length as u8),
        126..=0xffff => {
            header.push(masked | 126);
            header.extend((length as u16).to_be_bytes());
        }
        _ => {
            header.push(masked | 127);
            header.extend((length as u64).to_be_bytes());
        }
    }
    header
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// A whole frame: its first byte and its payload.
    Whole(u8, Vec<u8>),
    /// The server ended its side by a FIN.
    Fin,
    /// The server reset the connection.
    Reset,
}

#[derive(Debug)]
pub(crate) struct Websocket {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Websocket {
    pub(crate) fn open(address: SocketAddr, target: &str) -> Self {
        match Self::try_upgrade(Http::connect(address), target, &[]) {
            Ok(websocket) => websocket,
            Err(refused) => panic!("upgrade of {target} refused: {:?}", String::from_utf8_lossy(&refused)),
        }
    }

    /// Opens one whose send buffer fills after a few kilobytes. A smaller buffer would hold less
    /// than one event, and the kernel would then send a piece on each window probe, five per
    /// second.
    pub(crate) fn open_with_small_buffer(address: SocketAddr, target: &str) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(8 << 10).unwrap();
        socket.connect_timeout(&address.into(), DEADLINE).expect("the hub listens");
        let http = Http::from_stream(socket.into());
        Self::try_upgrade(http, target, &[]).expect("the upgrade is accepted")
    }

    /// Requests the upgrade; a refusal gives the whole response. A header of this list replaces the
    /// usual one; an empty value omits it.
    pub(crate) fn try_upgrade(mut http: Http, target: &str, changed: &[(&str, &str)]) -> Result<Self, Vec<u8>> {
        let usual = [
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", KEY),
        ];
        let headers = usual.map(|(name, value)| {
            let changed = changed.iter().find(|(other, _)| *other == name);
            (name, changed.map_or(value, |(_, value)| *value))
        });
        let added = changed.iter().filter(|(name, _)| usual.iter().all(|(other, _)| name != other));
        let headers: Vec<_> = headers.iter().chain(added).filter(|(_, value)| !value.is_empty()).copied().collect();
        http.write_head("GET", target, &headers, None);
        let head = http.head();
        if head.status != 101 {
            return Err([head.raw.into_bytes(), http.rest()].concat());
        }
        Self::check(&head);
        Ok(Self::from_http(http))
    }

    pub(crate) fn from_http(http: Http) -> Self {
        let (stream, buffer) = http.into_parts();
        Self { stream, buffer }
    }

    fn check(head: &Head) {
        assert_eq!(head.header("sec-websocket-accept"), Some(ACCEPT), "{head:?}");
        assert_eq!(head.header("sec-websocket-extensions"), None, "no protocol was offered: {head:?}");
    }

    pub(crate) fn send(&mut self, packet: &str) {
        self.write(&frame(TEXT, packet.as_bytes()));
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.try_write(bytes).expect("the hub reads");
    }

    /// Writes to a connection that the server may have closed.
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// A second handle of the same connection, for writing from another thread.
    pub(crate) fn writer(&self) -> Self {
        Self { stream: self.stream.try_clone().unwrap(), buffer: Vec::new() }
    }

    /// Reads the next frame or the end of the connection.
    pub(crate) fn recv(&mut self) -> Frame {
        loop {
            if let Some(frame) = self.take() {
                return frame;
            }
            let mut chunk = [0; 64 << 10];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Frame::Fin,
                Ok(count) => self.buffer.extend(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Frame::Reset,
                Err(error) => panic!("{error}, with {} bytes of an unfinished frame", self.buffer.len()),
            }
        }
    }

    fn take(&mut self) -> Option<Frame> {
        let (first, second) = (*self.buffer.first()?, *self.buffer.get(1)?);
        assert_eq!(second & 0x80, 0, "servers do not mask");
        let (start, length) = match second {
            126 => (4, u64::from(u16::from_be_bytes(self.buffer.get(2..4)?.try_into().ok()?))),
            127 => (10, u64::from_be_bytes(self.buffer.get(2..10)?.try_into().ok()?)),
            short => (2, u64::from(short)),
        };
        let end = start + length as usize;
        let payload = self.buffer.get(start..end)?.to_vec();
        self.buffer.drain(..end);
        Some(Frame::Whole(first, payload))
    }

    /// Reads the next frame, which must be text.
    pub(crate) fn text(&mut self) -> String {
        match self.recv() {
            Frame::Whole(TEXT, payload) => String::from_utf8(payload).expect("text is UTF-8"),
            other => panic!("expected text, got {other:?}"),
        }
    }

    /// Waits until the server has read everything that was sent; gives the frames received
    /// meanwhile.
    pub(crate) fn wait_until_handled(&mut self) -> Vec<Frame> {
        self.write(&frame(PING, b"settled?"));
        let mut before = Vec::new();
        loop {
            match self.recv() {
                Frame::Whole(PONG, payload) if payload == b"settled?" => return before,
                frame @ Frame::Whole(..) => before.push(frame),
                ended => panic!("{ended:?} after {before:?}"),
            }
        }
    }

    /// True if the server has reset the connection by now; readable bytes stay.
    pub(crate) fn was_reset(&self) -> bool {
        self.stream.take_error().unwrap().is_some_and(|error| error.kind() == ErrorKind::ConnectionReset)
    }

    /// Ends the connection by a FIN, without a close frame.
    pub(crate) fn send_fin(self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    pub(crate) fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Reads until the server has ended the connection; gives the code of its close frame and the
    /// kind of end.
    pub(crate) fn read_to_end(&mut self) -> (Option<u16>, Frame) {
        let mut code = None;
        loop {
            match self.recv() {
                Frame::Whole(CLOSE, payload) => code = close_code(&payload),
                Frame::Whole(..) => {}
                ended => return (code, ended),
            }
        }
    }
}

/// Code and reason in the payload of a close frame.
pub(crate) fn close_code(payload: &[u8]) -> Option<u16> {
    payload.first_chunk().map(|code| u16::from_be_bytes(*code))
}
