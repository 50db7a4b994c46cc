//! To which clients recovery is offered.

use crate::messages::handshake::Handshake;

/// Which clients are recoverable, and so get an offset token as the last argument of each event, unless they say
/// otherwise: with `auth: { recovery: true }` or `?recovery=1` a client asks for it, with `false` or `0` it declines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RecoveryClients {
    /// Those that are recognised as JavaScript's, in a browser or in Node, by the headers of their handshake, and those that ask.
    /// Listeners in JavaScript ignore a further argument; in most other languages a handler of fixed arity fails on it.
    #[default]
    Auto,
    /// All that do not decline.
    All,
    /// Those that ask.
    Ask,
}

impl RecoveryClients {
    /// Whether a client is recoverable that says nothing about it.
    pub(crate) fn includes(self, handshake: &Handshake) -> bool {
        match self {
            Self::Auto => is_javascript(handshake),
            Self::All => true,
            Self::Ask => false,
        }
    }
}

/// First words of the user agents of JavaScript's runtimes: engine.io-client's XMLHttpRequest in Node, and each `fetch`.
const RUNTIMES: [&str; 5] = ["node-XMLHttpRequest", "node", "undici", "Bun", "Deno"];

/// What `ws` offers, which engine.io-client uses in Node. It sends neither a user agent nor an origin, and of the known clients
/// that send neither no other one offers this.
const WS_OFFER: &str = "permessage-deflate; client_max_window_bits";

/// Whether a client is JavaScript in a browser or in Node. It errs towards no: React Native, whose requests look like those
/// of Java and Swift, is not recognised, and a program of another language compiled for browsers cannot be told apart.
fn is_javascript(handshake: &Handshake) -> bool {
    match handshake.header("user-agent") {
        // All browsers, and what is built on them. Without the parenthesis it is Qt's.
        Some(agent) if agent.starts_with("Mozilla/5.0 (") => !agent.contains("PowerShell"),
        Some(agent) => agent.split('/').next().is_some_and(|name| RUNTIMES.contains(&name)),
        None => handshake.header("origin").is_none() && handshake.header("sec-websocket-extensions") == Some(WS_OFFER),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::messages::handshake::Arrival;

    const CHROME: &str =
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36";
    const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
    const SAFARI: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1";

    /// What each client sends that tells it from others: user agent, origin, offered extensions.
    type Sent = (&'static str, Option<&'static str>, Option<&'static str>, Option<&'static str>);

    const ORIGIN: Option<&str> = Some("http://127.0.0.1:3000");
    const DEFLATE: Option<&str> = Some(WS_OFFER);

    const JAVASCRIPT: &[Sent] = &[
        ("Chrome, polling", Some(CHROME), None, None),
        ("Chrome, websocket", Some(CHROME), ORIGIN, DEFLATE),
        ("Firefox, websocket", Some(FIREFOX), ORIGIN, Some("permessage-deflate")),
        ("Safari, polling", Some(SAFARI), None, None),
        ("Safari, websocket", Some(SAFARI), ORIGIN, Some("permessage-deflate")),
        // The next three were captured: Node 20, engine.io-client 6.6, ws 8.
        ("socket.io-client in Node, polling", Some("node-XMLHttpRequest"), None, None),
        ("socket.io-client in Node, websocket", None, None, DEFLATE),
        ("fetch in Node", Some("node"), None, None),
        ("fetch in Node 18", Some("undici"), None, None),
        ("WebSocket of Node 22", Some("undici"), None, DEFLATE),
        ("Bun", Some("Bun/1.2.4"), None, None),
        ("Deno", Some("Deno/2.1.4"), None, None),
    ];

    const OTHERS: &[Sent] = &[
        // The next two were captured: python-socketio 5.18.
        ("python-socketio, polling", Some("python-requests/2.34.2"), None, None),
        ("python-socketio, websocket", None, ORIGIN, None),
        ("python-socketio with aiohttp", Some("Python/3.13 aiohttp/3.12.0"), None, None),
        ("websockets in Python", Some("Python/3.13 websockets/15.0"), None, DEFLATE),
        ("rust_socketio (reqwest, tungstenite)", None, None, None),
        ("Dart, dart:io", Some("Dart/3.8 (dart:io)"), None, DEFLATE),
        ("Java, okhttp", Some("okhttp/4.12.0"), None, Some("permessage-deflate")),
        ("React Native on Android, okhttp", Some("okhttp/4.9.2"), ORIGIN, Some("permessage-deflate")),
        ("Swift, URLSession", Some("App/1 CFNetwork/3826.500.131 Darwin/24.5.0"), None, Some("permessage-deflate")),
        (
            "Swift, Starscream",
            None,
            Some("ws://127.0.0.1:3000"),
            Some("permessage-deflate; client_max_window_bits; server_max_window_bits=15"),
        ),
        ("C++, websocketpp", Some("WebSocket++/0.8.2"), None, None),
        ("C++, Qt", Some("Mozilla/5.0"), None, None),
        ("C#, ClientWebSocket", None, None, None),
        ("Go", Some("Go-http-client/1.1"), None, None),
        (
            "PowerShell",
            Some("Mozilla/5.0 (Windows NT; Windows NT 10.0; en-US) WindowsPowerShell/5.1.22621"),
            None,
            None,
        ),
        ("curl", Some("curl/8.14.1"), None, None),
    ];

    fn handshake(&(_, agent, origin, extensions): &Sent) -> Handshake {
        let headers = [("user-agent", agent), ("origin", origin), ("sec-websocket-extensions", extensions)];
        let headers = headers.into_iter().filter_map(|(name, value)| Some((name, value?.as_bytes())));
        let arrival = Arrival { at: SystemTime::UNIX_EPOCH, address: None, secure: false };
        Handshake::new("/socket.io/?EIO=4", headers, arrival)
    }

    #[test]
    fn clients_in_javascript_are_distinguished_from_all_others() {
        for sent in JAVASCRIPT {
            assert!(RecoveryClients::Auto.includes(&handshake(sent)), "{}", sent.0);
        }
        for sent in OTHERS {
            assert!(!RecoveryClients::Auto.includes(&handshake(sent)), "{}", sent.0);
        }
        for sent in [JAVASCRIPT, OTHERS].concat() {
            assert!(RecoveryClients::All.includes(&handshake(&sent)));
            assert!(!RecoveryClients::Ask.includes(&handshake(&sent)));
        }
    }
}
