//! A client on any transport: packets out, packets in. By default it answers pings by itself, and
//! nothing else.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::thread;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use super::websocket::{BINARY, CLOSE, TEXT, close_code};
use super::{Frame, Http, Websocket, frame};

/// Ways to a session. A test that applies to every transport runs for each row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Polling,
    Websocket,
    Upgraded,
    Pump,
    /// Starts with polling inside a host application, then upgrades there.
    PumpUpgraded,
}

impl Transport {
    pub(crate) const ALL: [Self; 5] = [Self::Polling, Self::Websocket, Self::Upgraded, Self::Pump, Self::PumpUpgraded];

    /// Transports that end as websockets.
    pub(crate) const WEBSOCKETS: [Self; 4] = [Self::Websocket, Self::Upgraded, Self::Pump, Self::PumpUpgraded];

    /// True if a host application owns the connections.
    pub(crate) fn is_hosted(self) -> bool {
        matches!(self, Self::Pump | Self::PumpUpgraded)
    }
}

/// Runs a test for every transport and names the one on which it failed.
pub(crate) fn on_every_transport(mut fact: impl FnMut(Transport)) {
    struct Named(Transport);
    impl Drop for Named {
        fn drop(&mut self) {
            if thread::panicking() {
                eprintln!("transport: {:?}", self.0);
            }
        }
    }
    for transport in Transport::ALL {
        let _named = Named(transport);
        fact(transport);
    }
}

/// An Engine.IO packet as received on either transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Packet {
    Text(String),
    Binary(Vec<u8>),
}

/// Signs by which a client notices the end of its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    /// A close packet, `1`, in a poll.
    ClosePacket,
    /// A refused poll: `Session ID unknown`.
    UnknownSession,
    CloseFrame(Option<u16>),
    /// The end of the connection (FIN) without a close frame.
    Fin,
    Reset,
}

#[derive(Debug)]
pub(crate) struct Client {
    address: SocketAddr,
    pub(crate) sid: String,
    wire: Wire,
    queue: VecDeque<Packet>,
    /// The test answers pings, and therefore receives them.
    pub(crate) is_silent: bool,
}

#[derive(Debug)]
enum Wire {
    Polling { gets: Http, posts: Http },
    Websocket(Websocket),
}

impl Client {
    pub(crate) fn open(address: SocketAddr, transport: Transport) -> Self {
        match transport {
            Transport::Polling => Self::open_polling(address),
            Transport::Websocket | Transport::Pump => {
                let websocket = Websocket::open(address, "/socket.io/?EIO=4&transport=websocket");
                Self::with_wire(address, Wire::Websocket(websocket))
            }
            Transport::Upgraded | Transport::PumpUpgraded => Self::open_polling(address).upgrade(),
        }
    }

    fn open_polling(address: SocketAddr) -> Self {
        let (gets, posts) = (Http::connect(address), Http::connect(address));
        Self::with_wire(address, Wire::Polling { gets, posts })
    }

    /// A websocket whose send buffer fills soon.
    pub(crate) fn open_with_small_buffer(address: SocketAddr) -> Self {
        let websocket = Websocket::open_with_small_buffer(address, "/socket.io/?EIO=4&transport=websocket");
        Self::with_wire(address, Wire::Websocket(websocket))
    }

    fn with_wire(address: SocketAddr, wire: Wire) -> Self {
        let mut client = Self { address, sid: String::new(), wire, queue: VecDeque::new(), is_silent: false };
        let open = client.recv_text();
        let open: Value = serde_json::from_str(open.strip_prefix('0').expect("an open packet")).expect("JSON");
        client.sid = open["sid"].as_str().expect("a sid").to_owned();
        client
    }

    pub(crate) fn is_polling(&self) -> bool {
        matches!(self.wire, Wire::Polling { .. })
    }

    pub(crate) fn poll_target(&self) -> String {
        poll_target(&self.sid)
    }

    pub(crate) fn upgrade_target(&self) -> String {
        format!("/socket.io/?EIO=4&transport=websocket&sid={}", self.sid)
    }

    /// Probes and upgrades. No poll is waiting, because polls wait only while a packet is expected.
    pub(crate) fn upgrade(mut self) -> Self {
        let candidate = self.probe();
        self.promote(candidate);
        self
    }

    /// First half of an upgrade: a probed candidate. Polling continues meanwhile.
    pub(crate) fn probe(&self) -> Websocket {
        let mut candidate = Websocket::open(self.address, &self.upgrade_target());
        candidate.send("2probe");
        assert_eq!(candidate.text(), "3probe");
        candidate
    }

    /// Second half: from here on the websocket is the transport. No poll may be waiting.
    pub(crate) fn promote(&mut self, mut candidate: Websocket) {
        candidate.send("5");
        self.wire = Wire::Websocket(candidate);
    }

    pub(crate) fn send(&mut self, packet: &str) {
        self.send_all(&[Packet::Text(packet.into())]);
    }

    /// Sends packets together: in one POST, in one write.
    pub(crate) fn send_all(&mut self, packets: &[Packet]) {
        match &mut self.wire {
            Wire::Polling { posts, .. } => {
                posts.reconnect_if_closed();
                let response = posts.post(&poll_target(&self.sid), payload(packets));
                assert_eq!(response.status_and_body(), (200, "ok"), "POST of {packets:?}");
            }
            Wire::Websocket(websocket) => websocket.write(&frames(packets)),
        }
    }

    pub(crate) fn recv(&mut self) -> Packet {
        loop {
            match self.queue.pop_front() {
                Some(Packet::Text(noop)) if noop == "6" => {}
                Some(Packet::Text(ping)) if ping == "2" && !self.is_silent => self.send("3"),
                Some(packet) => return packet,
                None => {
                    if let Err(ended) = self.fill() {
                        panic!("expected a packet, but the session has ended: {ended:?}");
                    }
                }
            }
        }
    }

    /// Reads the next packet, which must be text.
    pub(crate) fn recv_text(&mut self) -> String {
        match self.recv() {
            Packet::Text(text) => text,
            Packet::Binary(bytes) => panic!("expected text, got {bytes:?}"),
        }
    }

    /// Checks that the next packet is this one.
    #[track_caller]
    pub(crate) fn expect(&mut self, packet: &str) {
        assert_eq!(self.recv(), Packet::Text(packet.into()));
    }

    /// Checks that the next packet has these bytes.
    #[track_caller]
    pub(crate) fn expect_binary(&mut self, bytes: &[u8]) {
        assert_eq!(self.recv(), Packet::Binary(bytes.into()));
    }

    /// Connects to a namespace (`/name,` or empty); gives the data of the reply.
    #[track_caller]
    pub(crate) fn connect(&mut self, namespace: &str) -> Value {
        self.connect_with(namespace, "")
    }

    /// Connects to a namespace with credentials, a JSON object.
    #[track_caller]
    pub(crate) fn connect_with(&mut self, namespace: &str, auth: &str) -> Value {
        self.send(&format!("40{namespace}{auth}"));
        let reply = self.recv_text();
        let data = reply.strip_prefix(&format!("40{namespace}"));
        let data = data.unwrap_or_else(|| panic!("expected the reply to 40{namespace}, got {reply:?}"));
        serde_json::from_str(data).expect("a CONNECT reply is JSON")
    }

    /// Checks that the session is open and nothing is pending: the next packet is the answer to an
    /// echo.
    #[track_caller]
    pub(crate) fn expect_echo(&mut self) {
        self.send(r#"4277["echo","there?"]"#);
        self.expect(r#"4377["there?"]"#);
    }

    /// Checks that the session is open, where texts like these may be pending.
    #[track_caller]
    pub(crate) fn expect_echo_after(&mut self, expected: impl Fn(&str) -> bool) {
        self.send(r#"4277["echo","there?"]"#);
        loop {
            match self.recv_text() {
                answer if answer == r#"4377["there?"]"# => return,
                text => assert!(expected(&text), "{text}"),
            }
        }
    }

    /// Waits until the server has handled everything that was sent.
    pub(crate) fn wait_until_handled(&mut self) {
        match &mut self.wire {
            // A POST is answered when it has been handled.
            Wire::Polling { .. } => {}
            Wire::Websocket(websocket) => {
                let before = websocket.wait_until_handled();
                self.queue.extend(before.into_iter().map(|frame| packet(frame).expect("a packet")));
            }
        }
    }

    /// Expects the end of the session, preceded by pings at most.
    #[track_caller]
    pub(crate) fn expect_end(&mut self) -> Ended {
        self.expect_end_after(|_| false)
    }

    /// Expects the end of the session, preceded by pings and texts like these at most.
    #[track_caller]
    pub(crate) fn expect_end_after(&mut self, expected: impl Fn(&str) -> bool) -> Ended {
        loop {
            while let Some(packet) = self.queue.pop_front() {
                match packet {
                    Packet::Text(text) if text == "1" => return Ended::ClosePacket,
                    Packet::Text(text) if text == "2" || text == "6" || expected(&text) => {}
                    packet => panic!("expected the end of the session, got {packet:?}"),
                }
            }
            if let Err(ended) = self.fill() {
                return ended;
            }
        }
    }

    /// Reads more packets from the transport.
    fn fill(&mut self) -> Result<(), Ended> {
        match &mut self.wire {
            Wire::Polling { gets, .. } => {
                let target = if self.sid.is_empty() { HANDSHAKE.to_owned() } else { poll_target(&self.sid) };
                gets.reconnect_if_closed();
                let response = gets.get(&target);
                match response.status_and_body() {
                    (200, body) => self.queue.extend(packets(body)),
                    (400, r#"{"code":1,"message":"Session ID unknown"}"#) => return Err(Ended::UnknownSession),
                    other => panic!("a poll was answered {other:?}"),
                }
            }
            Wire::Websocket(websocket) => self.queue.push_back(packet(websocket.recv()).inspect_err(|_| {
                // The server closes its side after its close frame, and waits for ours.
                websocket.read_to_end();
            })?),
        }
        Ok(())
    }

    pub(crate) fn connections(self) -> (Http, Http) {
        match self.wire {
            Wire::Polling { gets, posts } => (gets, posts),
            Wire::Websocket(_) => panic!("not a polling client"),
        }
    }

    pub(crate) fn websocket(&mut self) -> &mut Websocket {
        match &mut self.wire {
            Wire::Websocket(websocket) => websocket,
            Wire::Polling { .. } => panic!("not a websocket client"),
        }
    }

    pub(crate) fn into_websocket(self) -> Websocket {
        match self.wire {
            Wire::Websocket(websocket) => websocket,
            Wire::Polling { .. } => panic!("not a websocket client"),
        }
    }
}

const HANDSHAKE: &str = "/socket.io/?EIO=4&transport=polling";

fn poll_target(sid: &str) -> String {
    format!("{HANDSHAKE}&sid={sid}")
}

fn payload(packets: &[Packet]) -> String {
    let written = packets.iter().map(|packet| match packet {
        Packet::Text(text) => text.clone(),
        Packet::Binary(bytes) => format!("b{}", BASE64_STANDARD.encode(bytes)),
    });
    written.collect::<Vec<_>>().join("\x1e")
}

fn frames(packets: &[Packet]) -> Vec<u8> {
    let written = packets.iter().map(|packet| match packet {
        Packet::Text(text) => frame(TEXT, text.as_bytes()),
        Packet::Binary(bytes) => frame(BINARY, bytes),
    });
    written.collect::<Vec<_>>().concat()
}

/// Packets in the body of a poll; there is at least one.
fn packets(body: &str) -> impl Iterator<Item = Packet> {
    assert!(!body.is_empty(), "a client decodes an empty poll body as an error");
    body.split('\x1e').map(|packet| match packet.strip_prefix('b') {
        Some(base64) => Packet::Binary(BASE64_STANDARD.decode(base64).expect("base64")),
        None => Packet::Text(packet.into()),
    })
}

fn packet(frame: Frame) -> Result<Packet, Ended> {
    match frame {
        Frame::Whole(TEXT, text) => Ok(Packet::Text(String::from_utf8(text).expect("text is UTF-8"))),
        Frame::Whole(BINARY, bytes) => Ok(Packet::Binary(bytes)),
        Frame::Whole(CLOSE, payload) => Err(Ended::CloseFrame(close_code(&payload))),
        Frame::Fin => Err(Ended::Fin),
        Frame::Reset => Err(Ended::Reset),
        other => panic!("unexpected frame {other:?}"),
    }
}
