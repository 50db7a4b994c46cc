//! The process of `stentor serve`: file descriptors, signals, standard output.

use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Frame, Http, Process, Transport, Websocket, eventually, stentor};

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";
const WEBSOCKET: &str = "/socket.io/?EIO=4&transport=websocket";

fn with_descriptors(count: u32, flags: &[&str]) -> Process {
    let mut command = Command::new("sh");
    let script = format!("ulimit -n {count} && exec \"$0\" \"$@\"");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_stentor"), "serve", "--workers", "2", "--recovery", "off"]);
    Process::run(command.args(flags))
}

fn log_of(child: &mut Child) -> String {
    let mut log = String::new();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    log
}

#[test]
fn connections_are_bounded_by_the_limit_on_open_files() {
    let process = with_descriptors(256, &[]);
    process.expect_log("limits open_files=256 open_files_before=256");
    let silent: Vec<_> = (0..100).map(|_| process.http()).collect();
    for _ in 0..5 {
        assert_eq!(process.http().get("/healthz").status_and_body(), (200, "ok"));
    }
    let mut websocket = Websocket::try_upgrade(process.http(), WEBSOCKET, &[]).expect("a websocket");
    assert!(matches!(websocket.recv(), Frame::Whole(0x81, _)));
    drop(silent);
    let mut sessions = Vec::new();
    let refused = loop {
        match Websocket::try_upgrade(process.http(), WEBSOCKET, &[]) {
            Ok(websocket) => sessions.push(websocket),
            Err(refused) => break String::from_utf8(refused).unwrap(),
        }
        assert!(sessions.len() < 256);
    };
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert_eq!(
        process.http().get("/readyz").status_and_body(),
        (503, "server has as many sessions as sessions_max allows")
    );
    assert_eq!(process.http().get("/healthz").status_and_body(), (200, "ok"));
    let log = process.stop();
    assert!(!log.contains("accept failed"), "{log}");
}

#[test]
fn the_soft_limit_on_open_files_is_raised_to_the_hard_one() {
    let mut command = Command::new("sh");
    let script = "ulimit -Sn 128 && ulimit -Hn 512 && exec \"$0\" \"$@\"";
    let process =
        Process::run(command.args(["-c", script, env!("CARGO_BIN_EXE_stentor"), "serve", "--recovery", "off"]));
    process.expect_log("limits open_files=512 open_files_before=128");
}

#[test]
fn a_limit_that_was_set_is_not_lowered_silently() {
    let process = with_descriptors(512, &["--sessions-max", "60000"]);
    process.expect_log("WARN  stentor] sessions_max lowered to fit the limit on open files set=60000 now=");
    let sessions = process.metric("stentor_sessions_max");
    let log = process.stop();
    assert!(sessions < 512 && !log.contains("http_connections_max lowered"), "{sessions} {log}");
}

#[test]
fn strangers_behind_a_proxy_are_no_subscribers_by_default() {
    let process = Process::start(&["--log-level", "info", "--trusted-proxies", "127.0.0.1", "--queue", "memory"]);
    process.expect_log("queue storage=memory subscribers=off reason=\"trusted_proxies is set\"");
}

#[test]
fn the_log_ends_when_the_stop_is_complete() {
    let process = Process::start(&["--log-level", "info", "--drain", "10m"]);
    let _clients = [process.join(Transport::Websocket), process.join(Transport::Polling)];
    process.signal(Signal::TERM);
    eventually("new sessions are refused", || Websocket::try_upgrade(process.http(), WEBSOCKET, &[]).is_err());
    // The second signal.
    let log = process.stop();
    let last = log.lines().last().unwrap();
    assert!(last.contains("INFO  stentor::server::listener] server stopped took="), "{log}");
    // Each client that returns too early is refused, which is no news.
    assert!(!log.contains("Server is closing"), "{log}");
}

#[test]
fn sighup_without_a_configuration_file_does_not_end_the_process() {
    let mut process = Process::start(&["--log-level", "info"]);
    let mut client = process.join(Transport::Websocket);
    process.signal(Signal::HUP);
    process.expect_log("configuration reloaded changed=[] needs_restart=[]");
    client.expect_echo();
    client.send("1");
    process.expect_healthy();
}

#[test]
fn a_closed_stdout_does_not_end_the_process() {
    // An open port is the only sign that the server runs and handles signals.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut child = stentor(&["serve", "--port", &address.port().to_string(), "--recovery", "off"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let log = BufReader::new(child.stderr.take().unwrap()).lines();
    eventually("the server listens", || TcpStream::connect(address).is_ok());
    assert_eq!(Http::connect(address).get("/healthz").status_and_body(), (200, "ok"));
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let rest: Vec<_> = log.map_while(Result::ok).collect();
    assert!(child.wait().unwrap().success(), "{rest:?}");
    assert!(rest.iter().all(|line| !line.contains("panicked")), "{rest:?}");
}

#[test]
fn malformed_requests_are_logged_once_a_second_with_their_count() {
    let process = Process::start(&["--log-level", "info"]);
    for _ in 0..200 {
        let mut http = process.http();
        http.write(b"G\r\n\r\n");
        http.rest();
    }
    process.expect_log("request malformed address=127.0.0.1:");
    let log = process.stop();
    let lines = log.lines().filter(|line| line.contains("malformed")).count();
    let foreign = log.lines().filter(|line| line.contains("actix_http")).count();
    assert!(lines < 100 && foreign < 100, "{log}");
}

#[test]
fn an_unread_log_delays_neither_serving_nor_shutdown() {
    let mut child = stentor(&["serve", "--port", "0", "--recovery", "off", "--log-level", "trace,actix_http=trace"])
        .args(["--workers", "2"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    let address = first.trim().strip_prefix("stentor listens on http://").unwrap().parse().unwrap();
    // More lines than several pipes hold.
    for _ in 0..1_000 {
        assert_eq!(Http::connect(address).get("/healthz").status_and_body(), (200, "ok"));
    }
    assert!(Http::connect(address).get(POLLING).head.status == 200);
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    eventually("the process ends", || child.try_wait().unwrap().is_some());
    assert!(child.wait().unwrap().success());
    assert!(!log_of(&mut child).is_empty());
}

#[test]
fn foreign_origins_and_hosts_are_refused_by_default() {
    let process = Process::start(&["--log-level", "info"]);
    let own = format!("http://{}", process.address);
    let asked = |origin: &str, host: &str| {
        let mut http = process.http();
        let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        http.write(format!("GET {WEBSOCKET} HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\n{upgrade}\r\n").as_bytes());
        http.head().status
    };
    let host = process.address.to_string();
    assert_eq!(asked(&own, &host), 101);
    assert_eq!(asked("http://evil.example", &host), 400);
    process.expect_log("websocket refused reason=\"Origin not allowed; add it to cors_origins");
    assert_eq!(asked("http://evil.example", "evil.example"), 421);
    process.expect_log("its Host is not in allowed_hosts host=\"evil.example\"");

    let open = Process::start(&["--origins-guard", "false", "--allowed-hosts", "*"]);
    assert!(Websocket::try_upgrade(open.http(), WEBSOCKET, &[("Origin", "http://evil.example")]).is_ok());
}

#[test]
fn pages_of_listed_origins_may_import_client_files() {
    let process = Process::start(&["--cors-origins", "https://page.example"]);
    let allowed = |target: &str, origin: &str| {
        let head = process.http().request("GET", target, &[("Origin", origin)], b"").head;
        assert_eq!(head.status, 200);
        head.header("access-control-allow-origin").map(str::to_owned)
    };
    assert_eq!(allowed("/client/index.js", "https://page.example").as_deref(), Some("https://page.example"));
    assert_eq!(allowed("/client/index.js", "https://evil.example"), None);
    assert_eq!(allowed("/index.html", "https://page.example"), None);
}

#[test]
fn a_server_for_other_machines_starts_only_if_it_knows_its_clients() {
    let output = stentor(&["serve", "--host", "0.0.0.0", "--port", "0"]).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{error}");
    assert!(error.contains("anonymous = (not set): expected true if every client may connect, or a key"), "{error}");
    assert!(error.contains("since host is not a loopback address"), "{error}");
    let mut open = stentor(&["serve", "--host", "0.0.0.0", "--anonymous", "true"]);
    let process = Process::run(&mut open);
    process.expect_log("access anonymous=true join_default=deny publish_default=deny user_rooms=true");
}

#[test]
fn invalid_settings_are_refused_with_the_valid_ones() {
    for (flags, said) in [
        (["--journal-segments-max", "1"], "expected a number of files, at least 2"),
        (["--journal-segment-bytes", "1KiB"], "expected a size such as \"32MiB\", \"1GB\" or 1000000, from \"1MiB\""),
        (["--http-keep-alive", "10ms"], "from \"1s\""),
        (["--allowed-hosts", "http://a.example"], "expected a list of names or addresses without ports"),
    ] {
        let output = stentor(&["config", "check", flags[0], flags[1]]).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && error.contains(said), "{flags:?}: {error}");
    }
    let output =
        stentor(&["config", "check", "--journal-segment-bytes", "64MiB"]).env("STENTOR_FOO", "1").output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains("journal_segment_bytes = \"64MiB\"  # flag"));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said, "stentor: unknown environment variable STENTOR_FOO (ignored)\n");
}
