//! Clients in other languages, byte for byte: request headers, order of query parameters, CONNECT
//! packets, upgrades. The bytes follow the source of the named versions.

use std::net::SocketAddr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use stentor::{Args, Event, Recovery, Server};

use crate::support::{Frame, Http, Hub, Websocket, frame};

#[derive(Debug, Clone, Copy)]
struct Profile {
    name: &'static str,
    /// Queries and headers of its polls; empty if it uses only websockets. `{host}` stands for the
    /// server's address.
    polling: Option<Polling>,
    /// Query of a websocket; the session id of an upgrade is appended.
    websocket: &'static str,
    upgrade: &'static str,
    /// CONNECT to `/`, without and with credentials.
    connects: &'static [&'static str],
    /// CONNECT to `/chat`, without and with credentials.
    chat: &'static [&'static str],
    leaves_chat: &'static str,
    /// Packets that it sends over the websocket after `5` and before any Socket.IO packet.
    behind_upgrade: &'static [&'static str],
}

#[derive(Debug, Clone, Copy)]
struct Polling {
    query: &'static str,
    get: &'static str,
    post: &'static str,
    base64: fn(&[u8]) -> String,
}

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

const PROFILES: [Profile; 4] = [
    // socket.io-client-java 2.1.2, engine.io-client-java 2.1.0, okhttp 3.12.12. The query is a
    // `HashMap`; binary uses Android's `Base64.DEFAULT`, which ends each line, including the last,
    // with a line feed.
    Profile {
        name: "Java",
        polling: Some(Polling {
            query: "EIO=4&transport=polling",
            get: "Accept: */*\r\nHost: {host}\r\nConnection: Keep-Alive\r\nAccept-Encoding: gzip\r\nUser-Agent: okhttp/3.12.12\r\n",
            post: "Accept: */*\r\nContent-Type: text/plain;charset=UTF-8\r\nHost: {host}\r\nConnection: Keep-Alive\r\nAccept-Encoding: gzip\r\nUser-Agent: okhttp/3.12.12\r\n",
            base64: base64_lines,
        }),
        websocket: "EIO=4&transport=websocket",
        upgrade: "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nHost: {host}\r\nAccept-Encoding: gzip\r\nUser-Agent: okhttp/3.12.12\r\n",
        connects: &["40", r#"40{"token":"t"}"#],
        chat: &["40/chat,", r#"40/chat,{"token":"t"}"#],
        leaves_chat: "41/chat,",
        behind_upgrade: &[],
    },
    // socket.io-client-swift 16.1.1, Starscream 4.0.8, whose Origin has the websocket's scheme. It
    // always writes the namespace, even `/`. A noop that it could not post follows the upgrade.
    Profile {
        name: "Swift",
        polling: Some(Polling {
            query: "transport=polling&b64=1&EIO=4",
            get: "Host: {host}\r\nAccept: */*\r\nAccept-Language: en-US,en;q=0.9\r\nConnection: keep-alive\r\nAccept-Encoding: gzip, deflate\r\nUser-Agent: App/1 CFNetwork/3826.500.131 Darwin/24.5.0\r\n",
            post: "Host: {host}\r\nContent-Type: text/plain; charset=UTF-8\r\nAccept: */*\r\nAccept-Language: en-US,en;q=0.9\r\nConnection: keep-alive\r\nAccept-Encoding: gzip, deflate\r\nUser-Agent: App/1 CFNetwork/3826.500.131 Darwin/24.5.0\r\n",
            base64: |data| BASE64_STANDARD.encode(data),
        }),
        websocket: "transport=websocket&EIO=4",
        upgrade: "Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nOrigin: ws://{host}\r\nHost: {host}\r\n",
        connects: &["40/,", r#"40/,{"token":"t"}"#],
        chat: &["40/chat,", r#"40/chat,{"token":"t"}"#],
        leaves_chat: "41/chat,",
        behind_upgrade: &["6"],
    },
    // socket_io_client 3.1.6 on dart:io, which has only websockets. Its GET declares an empty body.
    Profile {
        name: "Dart",
        polling: None,
        websocket: "EIO=4&transport=websocket",
        upgrade: "user-agent: Dart/3.8 (dart:io)\r\nconnection: Upgrade\r\ncache-control: no-cache\r\naccept-encoding: gzip\r\ncontent-length: 0\r\nsec-websocket-version: 13\r\nhost: {host}\r\nsec-websocket-extensions: permessage-deflate; client_max_window_bits\r\nupgrade: websocket\r\n",
        connects: &["40", r#"40{"token":"t"}"#],
        chat: &["40/chat,", r#"40/chat,{"token":"t"}"#],
        leaves_chat: "41/chat,",
        behind_upgrade: &[],
    },
    // socket.io-client-cpp 3.1.0 (main of 2025-05), websocketpp 0.8.2. A namespace without data has
    // no comma.
    Profile {
        name: "C++",
        polling: None,
        websocket: "EIO=4&transport=websocket&t=1764354321",
        upgrade: "Connection: Upgrade\r\nHost: {host}\r\nSec-WebSocket-Version: 13\r\nUpgrade: websocket\r\nUser-Agent: WebSocket++/0.8.2\r\n",
        connects: &["40", r#"40{"token":"t"}"#],
        chat: &["40/chat", r#"40/chat,{"token":"t"}"#],
        leaves_chat: "41/chat",
        behind_upgrade: &[],
    },
];

/// Base64 in lines of 76 characters, each ended by a line feed.
fn base64_lines(data: &[u8]) -> String {
    let whole = BASE64_STANDARD.encode(data);
    whole.as_bytes().chunks(76).map(|line| format!("{}\n", str::from_utf8(line).unwrap())).collect()
}

struct OtherClient {
    address: SocketAddr,
    profile: Profile,
    wire: Wire,
}

enum Wire {
    Polling { sid: String, gets: Http, posts: Http, waiting: Vec<String> },
    Websocket(Websocket),
}

impl OtherClient {
    fn websocket(address: SocketAddr, profile: Profile) -> Self {
        let mut websocket = open_websocket(address, profile, "");
        let open = websocket.text();
        assert!(open.starts_with(r#"0{"sid":""#), "{open}");
        Self { address, profile, wire: Wire::Websocket(websocket) }
    }

    fn polling(address: SocketAddr, profile: Profile) -> Self {
        let (gets, posts) = (Http::connect(address), Http::connect(address));
        let wire = Wire::Polling { sid: String::new(), gets, posts, waiting: Vec::new() };
        let mut client = Self { address, profile, wire };
        let open = client.recv();
        let open: serde_json::Value = serde_json::from_str(&open[1..]).expect("JSON");
        assert_eq!(open["upgrades"], serde_json::json!(["websocket"]));
        let Wire::Polling { sid, .. } = &mut client.wire else { unreachable!() };
        *sid = open["sid"].as_str().expect("a sid").to_owned();
        client
    }

    /// Upgrades while a poll waits, as all of these clients do.
    fn upgrade(&mut self) {
        let Wire::Polling { sid, gets, .. } = &mut self.wire else { panic!("a websocket") };
        write_poll(gets, self.address, self.profile.polling.unwrap(), sid);
        gets.wait_until_polling();
        let mut candidate = open_websocket(self.address, self.profile, &format!("&sid={sid}"));
        candidate.send("2probe");
        assert_eq!(candidate.text(), "3probe");
        assert_eq!(gets.response().status_and_body(), (200, "6"));
        candidate.send("5");
        for packet in self.profile.behind_upgrade {
            candidate.send(packet);
        }
        self.wire = Wire::Websocket(candidate);
    }

    fn send(&mut self, packet: &str) {
        match &mut self.wire {
            Wire::Websocket(websocket) => websocket.send(packet),
            Wire::Polling { sid, posts, .. } => {
                let polling = self.profile.polling.unwrap();
                let headers = polling.post.replace("{host}", &self.address.to_string());
                let head = format!("POST /socket.io/?{}&sid={sid} HTTP/1.1\r\n{headers}", polling.query);
                posts.write(format!("{head}Content-Length: {}\r\n\r\n{packet}", packet.len()).as_bytes());
                assert_eq!(posts.response().status_and_body(), (200, "ok"), "{packet}");
            }
        }
    }

    fn send_binary(&mut self, packet: &str, attachment: &[u8]) {
        if let Wire::Websocket(websocket) = &mut self.wire {
            websocket.send(packet);
            websocket.write(&frame(0x82, attachment));
        } else {
            let base64 = self.profile.polling.unwrap().base64;
            self.send(&format!("{packet}\u{1e}b{}", base64(attachment)));
        }
    }

    fn recv(&mut self) -> String {
        match &mut self.wire {
            Wire::Websocket(websocket) => websocket.text(),
            Wire::Polling { sid, gets, waiting, .. } => {
                if waiting.is_empty() {
                    write_poll(gets, self.address, self.profile.polling.unwrap(), sid);
                    let response = gets.response();
                    assert_eq!(response.head.status, 200, "{response:?}");
                    waiting.extend(response.body.split('\u{1e}').map(str::to_owned));
                }
                waiting.remove(0)
            }
        }
    }

    #[track_caller]
    fn expect(&mut self, packet: &str) {
        assert_eq!(self.recv(), packet, "{}", self.profile.name);
    }

    #[track_caller]
    fn expect_binary(&mut self, bytes: &[u8]) {
        let Wire::Websocket(websocket) = &mut self.wire else {
            return self.expect(&format!("b{}", BASE64_STANDARD.encode(bytes)));
        };
        assert_eq!(websocket.recv(), Frame::Whole(0x82, bytes.to_vec()));
    }

    /// Runs the steps of an ordinary application.
    fn run_session(&mut self, connect: &str, chat: &str) {
        self.send(connect);
        self.expect_reply("40{");
        self.exchange_events("");
        // Swift's dictionaries have no order.
        self.send_binary(r#"451-1["echo",{"num":0,"_placeholder":true}]"#, &[7; 100]);
        self.expect(r#"461-1[{"num":0,"_placeholder":true}]"#);
        self.expect_binary(&[7; 100]);

        self.send(chat);
        self.expect_reply("40/chat,{");
        self.exchange_events("/chat,");
        self.send(self.profile.leaves_chat);
        self.exchange_events("");
        self.send("1");
    }

    #[track_caller]
    fn expect_reply(&mut self, prefix: &str) {
        let reply = self.recv();
        assert!(reply.starts_with(prefix) && !reply.contains("pid"), "{}: {reply}", self.profile.name);
    }

    /// Acks in both directions, and an event that has only its own arguments.
    #[track_caller]
    fn exchange_events(&mut self, namespace: &str) {
        self.send(&format!(r#"42{namespace}0["echo","hé"]"#));
        self.expect(&format!(r#"43{namespace}0["hé"]"#));
        self.send(&format!(r#"42{namespace}["news",1,{{"a":null}}]"#));
        self.expect(&format!(r#"42{namespace}["news",1,{{"a":null}}]"#));
        self.send(&format!(r#"42{namespace}["ask"]"#));
        let question = self.recv();
        let id = question.strip_prefix(&format!("42{namespace}")).and_then(|rest| rest.strip_suffix(r#"["question"]"#));
        self.send(&format!(r#"43{namespace}{}["answer"]"#, id.expect("an ack id, and no token")));
        self.expect(&format!(r#"42{namespace}["answered","answer"]"#));
    }
}

fn open_websocket(address: SocketAddr, profile: Profile, sid: &str) -> Websocket {
    let mut http = Http::connect(address);
    let headers = profile.upgrade.replace("{host}", &address.to_string());
    http.write(format!("GET /socket.io/?{}{sid} HTTP/1.1\r\n{headers}{KEY}\r\n", profile.websocket).as_bytes());
    let head = http.head();
    assert_eq!(head.status, 101, "{}: {head:?}", profile.name);
    Websocket::from_http(http)
}

fn write_poll(gets: &mut Http, address: SocketAddr, polling: Polling, sid: &str) {
    let headers = polling.get.replace("{host}", &address.to_string());
    let sid = if sid.is_empty() { String::new() } else { format!("&sid={sid}") };
    gets.write(format!("GET /socket.io/?{}{sid} HTTP/1.1\r\n{headers}\r\n", polling.query).as_bytes());
}

/// A hub with recovery for JavaScript clients only, which checks origins.
fn hub() -> Hub {
    let build = |builder: stentor::Builder| builder.recovery(Recovery::memory()).guard_origins();
    Hub::start(build, |io: &Server| {
        for path in ["/", "/chat"] {
            io.of(path)
                .on("echo", |_, event: Event<Args>| async move {
                    event.ack.send(&event.data)?;
                    Ok(())
                })
                .on("news", |socket, event: Event<Args>| async move {
                    socket.all().to(socket.id().to_string()).emit("news", event.data).await?;
                    Ok(())
                })
                .on("ask", |socket, _: Event<()>| async move {
                    let answer: String = socket.emit_with_ack("question", ()).await?;
                    socket.emit("answered", answer).await?;
                    Ok(())
                });
        }
    })
}

/// Runs a test for every client, on the hub's own port and inside a host application.
fn on_every_profile(fact: impl Fn(SocketAddr, Profile)) {
    let hub = hub();
    for profile in PROFILES {
        for address in [hub.address, hub.host.address] {
            fact(address, profile);
        }
    }
    hub.expect_healthy();
}

#[test]
fn websocket_clients_in_other_languages_work_and_get_no_offsets() {
    on_every_profile(|address, profile| {
        for (connect, chat) in profile.connects.iter().zip(profile.chat) {
            OtherClient::websocket(address, profile).run_session(connect, chat);
        }
    });
}

#[test]
fn polling_clients_in_other_languages_work_and_get_no_offsets() {
    on_every_profile(|address, profile| {
        for (connect, chat) in profile.connects.iter().zip(profile.chat).filter(|_| profile.polling.is_some()) {
            OtherClient::polling(address, profile).run_session(connect, chat);
        }
    });
}

#[test]
fn upgrading_clients_in_other_languages_work_and_get_no_offsets() {
    on_every_profile(|address, profile| {
        for (connect, chat) in profile.connects.iter().zip(profile.chat).filter(|_| profile.polling.is_some()) {
            let mut client = OtherClient::polling(address, profile);
            client.upgrade();
            client.run_session(connect, chat);

            // The client sends CONNECT while the candidate opens: over polling if that is faster.
            let mut client = OtherClient::polling(address, profile);
            client.send(connect);
            client.expect_reply("40{");
            client.upgrade();
            client.exchange_events("");
        }
    });
}
