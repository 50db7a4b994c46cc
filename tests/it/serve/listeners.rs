//! Several addresses, unix sockets, sockets of systemd, and the internal listener.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::support::{Bridge, Client, DEADLINE, Http, Process, Transport, Websocket, address_of, eventually, stentor};

const WEBSOCKET: &str = "/socket.io/?EIO=4&transport=websocket";

/// Transports of a port of the server's own.
pub(super) const TRANSPORTS: [Transport; 3] = [Transport::Polling, Transport::Websocket, Transport::Upgraded];

fn socket_path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("stentor-it-{}-{name}.sock", std::process::id()))
}

/// Start of `stentor serve` that is refused; gives what it says.
pub(super) fn refused(flags: &[&str]) -> String {
    let output = stentor(&["serve", "--recovery", "off", "--anonymous", "true"]).args(flags).output().unwrap();
    assert!(!output.status.success(), "{flags:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn join(address: SocketAddr, transport: Transport) -> Client {
    let mut client = Client::open(address, transport);
    client.connect("");
    client.send(r#"420["join","lobby"]"#);
    assert!(client.recv_text().starts_with("430["));
    client
}

#[test]
fn clients_of_all_addresses_meet_in_one_room() {
    let path = socket_path("meet");
    let listen = format!("127.0.0.1:0,127.0.0.2:0,localhost:0,unix:{}", path.display());
    let process = Process::start(&["--listen", &listen]);
    let bridge = Bridge::unix(&path);
    let mut addresses: Vec<_> = process.urls.iter().filter_map(|url| address_of(url)).collect();
    assert!(addresses.len() >= 3 && addresses[1].ip().to_string() == "127.0.0.2", "{:?}", process.urls);
    assert_eq!(process.urls.last(), Some(&format!("unix:{}", path.display())));
    addresses.push(bridge.address);
    let transports = TRANSPORTS.into_iter().cycle();
    let mut clients: Vec<_> = addresses.iter().zip(transports).map(|(address, by)| join(*address, by)).collect();
    clients[0].send(r#"42["publish","lobby","message","all"]"#);
    for client in &mut clients[1..] {
        client.expect(r#"42["message","all"]"#);
    }
}

#[test]
fn an_unspecified_ipv6_address_serves_ipv4_without_v6only() {
    if TcpListener::bind("[::1]:0").is_err() {
        return;
    }
    let process = Process::start(&["--listen", "[::]:0"]);
    let port = process.address.port();
    assert_eq!(Http::connect(SocketAddr::from(([127, 0, 0, 1], port))).get("/healthz").head.status, 200);
    let process = Process::start(&["--listen", "[::]:0 v6only"]);
    let port = process.address.port();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    assert!(TcpStream::connect(("::1", port)).is_ok());
}

#[test]
fn a_unix_socket_serves_every_transport_and_its_file_is_removed() {
    let path = socket_path("every");
    let listen = format!("unix:{} mode=0600", path.display());
    let process = Process::start(&["--listen", &listen]);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let bridge = Bridge::unix(&path);
    for transport in TRANSPORTS {
        let mut client = join(bridge.address, transport);
        client.expect_echo();
        let large = "x".repeat(900_000);
        client.send(&format!(r#"421["echo","{large}"]"#));
        client.expect(&format!(r#"431["{large}"]"#));
    }
    let said = refused(&["--listen", &listen]);
    assert!(said.contains("a server listens on this socket"), "{said}");
    assert!(path.exists(), "the file belongs to the first server");
    process.stop();
    assert!(!path.exists());
}

#[test]
fn the_socket_of_a_killed_server_is_replaced() {
    let path = socket_path("killed");
    let listen = format!("unix:{}", path.display());
    drop(Process::start(&["--listen", &listen]));
    assert!(path.exists(), "a killed server removes nothing");
    let process = Process::start(&["--listen", &listen]);
    let bridge = Bridge::unix(&path);
    assert_eq!(Http::connect(bridge.address).get("/healthz").head.status, 200);
    process.stop();
}

#[test]
fn clients_of_a_unix_socket_have_an_address_only_by_a_trusted_proxy() {
    let path = socket_path("proxy");
    let listen = format!("unix:{}", path.display());
    let forwarded = [("X-Forwarded-For", "203.0.113.9")];
    let opens = || {
        let bridge = Bridge::unix(&path);
        let mut bridged = Http::connect(bridge.address);
        let statuses: Vec<_> = (0..2)
            .map(|_| bridged.request("GET", "/socket.io/?EIO=4&transport=polling", &forwarded, b"").head.status)
            .collect();
        statuses
    };
    let flags = ["--listen", listen.as_str(), "--sessions-per-address-max", "1"];
    let trusting = Process::start(&[&flags[..], &["--trusted-proxies", "unix"]].concat());
    assert_eq!(opens(), [200, 429]);
    trusting.stop();
    let plain = Process::start(&flags);
    assert_eq!(opens(), [200, 200], "limits per address do not apply");
    plain.stop();
}

#[test]
fn only_loopback_names_are_hosts_of_a_unix_socket() {
    let path = socket_path("host");
    let listen = format!("unix:{}", path.display());
    let _process = Process::start(&["--listen", &listen]);
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: hub.example\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 421"), "{answer}");
}

/// `stentor serve` with a socket that is passed as systemd passes it.
fn activated(socket: impl Into<OwnedFd>, flags: &str) -> Command {
    let script = format!(
        "exec 3<&0 0</dev/null; export LISTEN_FDS=1 LISTEN_PID=$$ LISTEN_FDNAMES=web; \
         exec \"$0\" serve --workers 1 --recovery off --anonymous true {flags}"
    );
    let program = stentor(&[]);
    let mut command = Command::new("sh");
    command.args(["-c", &script]).arg(program.get_program()).stdin(Stdio::from(socket.into()));
    command
}

#[test]
fn sockets_of_systemd_are_served() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let process = Process::run(&mut activated(socket, "--listen systemd:web \"$@\""));
    assert_eq!(process.urls, [format!("http://{address}")]);
    join(address, Transport::Upgraded).expect_echo();

    let path = socket_path("systemd");
    let socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let process = Process::run(&mut activated(socket, "--listen systemd \"$@\""));
    assert_eq!(process.urls, [format!("unix:{}", path.display())]);
    let bridge = Bridge::unix(&path);
    join(bridge.address, Transport::Websocket).expect_echo();
    process.stop();
    assert!(path.exists(), "the file belongs to systemd");
    fs::remove_file(&path).unwrap();
}

#[test]
fn a_missing_socket_of_systemd_is_an_error() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let output = activated(socket, "--listen systemd:other").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("systemd has passed no socket of the name \"other\""), "{said}");
    let said = refused(&["--listen", "systemd"]);
    assert!(said.contains("systemd has passed no socket (LISTEN_FDS)"), "{said}");
}

#[test]
fn an_internal_address_takes_over_api_and_metrics() {
    let process = Process::start(&["--internal-listen", "127.0.0.1:0", "--api-key", "0123456789abcdef"]);
    let internal = address_of(process.urls.last().unwrap()).unwrap();
    assert_ne!(internal, process.address);
    let status = |address: SocketAddr, target: &str| Http::connect(address).get(target).head.status;
    for (target, public, within) in [
        ("/healthz", 200, 200),
        ("/readyz", 200, 200),
        ("/metrics", 404, 200),
        ("/api/v1/rooms", 404, 401),
        ("/%61pi/v1/rooms", 404, 401),
        ("/api", 404, 401),
        ("/", 200, 404),
        ("/client/index.js", 200, 404),
        ("/socket.io/?EIO=4&transport=polling", 200, 404),
    ] {
        assert_eq!((status(process.address, target), status(internal, target)), (public, within), "{target}");
    }
    let refusal = Websocket::try_upgrade(Http::connect(internal), WEBSOCKET, &[]).map(drop).unwrap_err();
    assert!(refusal.starts_with(b"HTTP/1.1 404"), "{}", String::from_utf8_lossy(&refusal));
    join(process.address, Transport::Websocket).expect_echo();
    let metrics = Http::connect(internal).get("/metrics").body;
    assert!(metrics.contains("stentor_sessions_opened_total{transport=\"websocket\"} 1"), "{metrics}");
}

#[test]
fn addresses_that_cannot_be_bound_are_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let _server = Process::start(&["--listen", &taken.to_string()]);
    for (listen, words) in [
        (taken.to_string(), format!("cannot listen on {taken}: ")),
        ("192.0.2.1:1".into(), "cannot listen on 192.0.2.1:1: ".into()),
        ("unix:/no/such/folder/a.sock".into(), "cannot listen on unix:/no/such/folder/a.sock: ".into()),
        ("nothing.invalid:80".into(), "cannot listen on nothing.invalid:80: not resolved: ".into()),
        ("127.0.0.1".into(), "expected a list of addresses such as \"0.0.0.0:80\", \"[::]:443 tls\"".into()),
    ] {
        let said = refused(&["--listen", &listen]);
        assert!(said.contains(&words), "{listen}: {said}");
    }
    eventually("the first server still serves", || TcpStream::connect(taken).is_ok());
}
