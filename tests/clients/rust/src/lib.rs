//! rust_socketio against the real binary with recovery on, which this client does not know.
#![cfg(test)]

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use rust_socketio::client::Client;
use rust_socketio::{ClientBuilder, Event, Payload, RawClient, TransportType};
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_secs(20);

/// `stentor serve` on its own port; killed when dropped.
struct Hub {
    port: u16,
    data: PathBuf,
    process: Child,
}

impl Hub {
    fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let data = std::env::temp_dir().join(format!("stentor-rust-client-{port}"));
        let process = serve(port, &data);
        Self { port, data, process }
    }

    /// Kills the process and starts another one on the same port.
    fn restart(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.process = serve(self.port, &self.data);
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.data);
    }
}

fn serve(port: u16, data: &PathBuf) -> Child {
    let binary = std::env::var_os("STENTOR_BIN").map(PathBuf::from);
    let binary =
        binary.unwrap_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../target/debug/stentor")));
    let mut command = Command::new(&binary);
    command.args(["serve", "--port", &port.to_string(), "--ping-interval", "1s", "--ping-timeout", "5s"]);
    command.args(["--recovery", "disk", "--data-dir"]).arg(data);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut process = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", binary.display()));
    let start = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert_eq!(process.try_wait().unwrap(), None, "the hub ended before it listened");
        assert!(start.elapsed() < DEADLINE, "the hub does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    process
}

/// A client and the events that it receives.
struct Heard {
    client: Client,
    connects: Receiver<()>,
    news: Receiver<Vec<Value>>,
}

impl Heard {
    fn connect(hub: &Hub, transport: TransportType) -> Self {
        let (on_connect, connects) = mpsc::channel();
        let (on_news, news) = mpsc::channel();
        let client = ClientBuilder::new(format!("http://127.0.0.1:{}/socket.io/", hub.port))
            .transport_type(transport)
            .reconnect_delay(100, 500)
            .on(Event::Connect, move |_, _| on_connect.send(()).unwrap_or(()))
            .on("news", move |payload, _| drop(on_news.send(values(payload))))
            .connect()
            .expect("the client connects");
        Self { client, connects, news }
    }

    /// Emits; gives the first argument of the ack.
    fn ask(&self, event: &str, args: Vec<Value>) -> Value {
        let (answer, answers) = mpsc::channel();
        let callback = move |payload: Payload, _: RawClient| drop(answer.send(values(payload)));
        self.client.emit_with_ack(event, Payload::Text(args), DEADLINE, callback).expect("the event is sent");
        let answer = answers.recv_timeout(DEADLINE).expect("an ack comes");
        // This client passes all arguments of an ack in one array.
        match answer.as_slice() {
            [Value::Array(args)] => args[0].clone(),
            _ => panic!("{answer:?}"),
        }
    }

    fn hears_its_own(&self, text: &str) {
        self.connects.recv_timeout(DEADLINE).expect("it connects");
        assert_eq!(self.ask("echo", vec![json!(text)]), json!(text));
        assert_eq!(self.ask("join", vec![json!("lobby")])["room"], json!("lobby"));
        self.ask("publish", vec![json!("lobby"), json!("news"), json!(text), json!({ "n": 1 })]);
        // Exactly the event's arguments: an offset would be a third.
        assert_eq!(self.news.recv_timeout(DEADLINE).expect("the event comes"), [json!(text), json!({ "n": 1 })]);
    }
}

fn values(payload: Payload) -> Vec<Value> {
    match payload {
        Payload::Text(values) => values,
        other => panic!("{other:?}"),
    }
}

fn a_client_hears_events_without_tokens_before_and_after_a_kill(transport: TransportType) {
    let mut hub = Hub::start();
    let heard = Heard::connect(&hub, transport);
    heard.hears_its_own("before");
    hub.restart();
    heard.hears_its_own("after");
    heard.client.disconnect().expect("it disconnects");
}

#[test]
fn polling() {
    a_client_hears_events_without_tokens_before_and_after_a_kill(TransportType::Polling);
}

#[test]
fn websocket() {
    a_client_hears_events_without_tokens_before_and_after_a_kill(TransportType::Websocket);
}

#[test]
fn upgraded() {
    a_client_hears_events_without_tokens_before_and_after_a_kill(TransportType::WebsocketUpgrade);
}

#[test]
fn default_transport() {
    a_client_hears_events_without_tokens_before_and_after_a_kill(TransportType::Any);
}
