//! The choice of clients to which recovery is offered.

use crate::messages::handshake::Handshake;

/// The clients that are recoverable. A recoverable client receives an offset token as the last
/// argument of each event. Every client can request recovery with `auth: { recovery: true }` or
/// `?recovery=1`, and decline it with `false` or `0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RecoveryClients {
    /// Clients that request recovery, and clients whose handshake headers identify them as
    /// JavaScript in a browser, Node, Bun or Deno. JavaScript listeners ignore an additional
    /// argument. In most other languages, a handler with a fixed number of arguments fails on it.
    #[default]
    Auto,
    /// All clients except those that decline recovery.
    All,
    /// Only clients that request recovery.
    Ask,
}

impl RecoveryClients {
    /// True if a client that neither requests nor declines recovery is recoverable.
    pub(crate) fn includes(self, handshake: &Handshake) -> bool {
        match self {
            Self::Auto => is_javascript(handshake),
            Self::All => true,
            Self::Ask => false,
        }
    }
}

/// First words of the user agents of JavaScript runtimes. They are sent by engine.io-client's
/// XMLHttpRequest in Node, and by `fetch` in each runtime.
const RUNTIMES: [&str; 5] = ["node-XMLHttpRequest", "node", "undici", "Bun", "Deno"];

/// The `Sec-WebSocket-Extensions` header of `ws`, the library that engine.io-client uses in Node.
/// `ws` sends neither a user agent nor an origin. No other known client that omits both of these
/// headers sends this value.
const WS_OFFER: &str = "permessage-deflate; client_max_window_bits";

/// True for a client in JavaScript, in a browser, Node, Bun or Deno. React Native is not
/// recognised, since its requests resemble those of Java and Swift clients. A program in another
/// language that was compiled for browsers is regarded as JavaScript.
fn is_javascript(handshake: &Handshake) -> bool {
    match handshake.header("user-agent") {
        // All browsers, and programs built on them, send this prefix. Qt sends it without the
        // parenthesis.
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

    /// Name, user agent, origin, and extensions header of a client.
    type Sent = (&'static str, Option<&'static str>, Option<&'static str>, Option<&'static str>);

    const ORIGIN: Option<&str> = Some("http://127.0.0.1:3000");
    const DEFLATE: Option<&str> = Some(WS_OFFER);

    const JAVASCRIPT: &[Sent] = &[
        ("Chrome, polling", Some(CHROME), None, None),
        ("Chrome, websocket", Some(CHROME), ORIGIN, DEFLATE),
        ("Firefox, websocket", Some(FIREFOX), ORIGIN, Some("permessage-deflate")),
        ("Safari, polling", Some(SAFARI), None, None),
        ("Safari, websocket", Some(SAFARI), ORIGIN, Some("permessage-deflate")),
        // The headers of the next three clients were captured from Node 20, engine.io-client 6.6,
        // ws 8.
        ("socket.io-client in Node, polling", Some("node-XMLHttpRequest"), None, None),
        ("socket.io-client in Node, websocket", None, None, DEFLATE),
        ("fetch in Node", Some("node"), None, None),
        ("fetch in Node 18", Some("undici"), None, None),
        ("WebSocket of Node 22", Some("undici"), None, DEFLATE),
        ("Bun", Some("Bun/1.2.4"), None, None),
        ("Deno", Some("Deno/2.1.4"), None, None),
    ];

    const OTHERS: &[Sent] = &[
        // The headers of the next two clients were captured from python-socketio 5.18.
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
