//! A hub inside a host application: the application's own routes and websockets next to the hub's,
//! in one server.

use std::sync::Mutex;
use std::time::Duration;

use actix::{Actor, ActorContext, StreamHandler};
use actix_web::web::{self, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use actix_web_actors::ws::{Message, ProtocolError, WebsocketContext, WsResponseBuilder};
use stentor::{BuildError, Queue, Server};

use crate::support::{
    Client, DEADLINE, Ended, Host, HostSettings, Http, Hub, Transport, Websocket, report_channel, report_disconnects,
};

/// A websocket of the application, which echoes text.
struct Echo;

impl Actor for Echo {
    type Context = WebsocketContext<Self>;
}

impl StreamHandler<Result<Message, ProtocolError>> for Echo {
    fn handle(&mut self, message: Result<Message, ProtocolError>, ctx: &mut Self::Context) {
        match message {
            Ok(Message::Text(text)) => ctx.text(text),
            _ => ctx.stop(),
        }
    }
}

async fn echo(request: HttpRequest, payload: Payload) -> actix_web::Result<HttpResponse> {
    WsResponseBuilder::new(Echo, &request, payload).start()
}

/// Routes of the application.
fn own(config: &mut ServiceConfig) {
    config.route("/", web::get().to(|| async { "the application's own" })).route("/ws", web::get().to(echo));
}

fn close(hub: &Hub) {
    let io = hub.io.clone();
    actix::System::new().block_on(async move { io.close().await });
}

#[test]
fn an_application_outlives_the_hub_in_one_server() {
    let (reporter, reports) = report_channel();
    let hub = Hub::on_workers(2, |builder| builder, |io| report_disconnects(io, &reporter));
    let settings = HostSettings { workers: 2, linger: Duration::from_secs(1), ..HostSettings::default() };
    let host = {
        let io = hub.io.clone();
        Host::start(settings, move |config| {
            config.configure(io.routes("/socket.io")).configure(own);
        })
    };
    let page = |mut http: Http| assert_eq!(http.get("/").status_and_body(), (200, "the application's own"));
    let mut echoes = Websocket::open(host.address, "/ws");
    let mut echo = |said: &str| {
        echoes.send(said);
        assert_eq!(echoes.text(), said);
    };
    page(Http::connect(host.address));
    echo("before");

    // Two connections each, for two workers, also on the hub's own port.
    let ways = [Transport::Polling, Transport::Pump, Transport::PumpUpgraded];
    let mut clients: Vec<_> = ways.iter().cycle().take(6).map(|way| Client::open(host.address, *way)).collect();
    clients.extend(Transport::ALL.map(|way| hub.open(way)));
    for client in &mut clients {
        client.connect("");
        client.expect_echo();
    }
    let io = hub.io.clone();
    actix::System::new().block_on(async move { io.emit("news", "for all").await }).unwrap();
    for client in &mut clients {
        client.expect(r#"42["news","for all"]"#);
    }
    echo("meanwhile");

    close(&hub);
    assert_eq!(reports.take(clients.len()), vec!["server shutting down"; clients.len()]);
    assert_eq!(hub.io.sessions(), 0);
    for mut client in clients {
        let polls = client.is_polling();
        match client.expect_end() {
            Ended::ClosePacket | Ended::UnknownSession if polls => {}
            Ended::CloseFrame(Some(1001)) if !polls => {}
            ended => panic!("{ended:?}, polls: {polls}"),
        }
    }
    echo("after");
    page(Http::connect(host.address));
    let refused = Websocket::try_upgrade(Http::connect(host.address), "/socket.io/?EIO=4&transport=websocket", &[]);
    assert!(String::from_utf8(refused.unwrap_err()).unwrap().starts_with("HTTP/1.1 503 "), "the hub has closed");
}

#[test]
fn routes_match_scope_and_path_with_and_without_a_trailing_slash() {
    let hub = Hub::plain();
    for path in ["/hub", "/hub/"] {
        let io = hub.io.clone();
        let host = Host::start(HostSettings::default(), move |config| {
            config.service(web::scope("/realtime").configure(io.routes(path))).configure(own);
        });
        for path in ["/realtime/hub", "/realtime/hub/"] {
            let polled = Http::connect(host.address).get(&format!("{path}?EIO=4&transport=polling"));
            assert_eq!(polled.head.status, 200, "{path}");
            let mut websocket = Websocket::open(host.address, &format!("{path}?EIO=4&transport=websocket"));
            assert!(websocket.text().starts_with("0{"), "{path}");
        }
        for path in ["/hub/", "/realtime/", "/realtime/hub/x", "/realtime/hubx", "/socket.io/"] {
            let polled = Http::connect(host.address).get(&format!("{path}?EIO=4&transport=polling"));
            assert_eq!(polled.head.status, 404, "{path}");
        }
    }
}

#[test]
fn a_session_opened_on_one_port_can_be_upgraded_on_the_other() {
    let hub = Hub::plain();
    for (begun, upgraded) in [(hub.address, hub.host.address), (hub.host.address, hub.address)] {
        let mut client = Client::open(begun, Transport::Polling);
        client.connect("");
        let mut candidate = Websocket::open(upgraded, &client.upgrade_target());
        candidate.send("2probe");
        assert_eq!(candidate.text(), "3probe");
        client.promote(candidate);
        client.expect_echo();
    }
}

static WARNINGS: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Log;

impl log::Log for Log {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            WARNINGS.lock().unwrap().push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

#[test]
fn without_on_connect_one_warning_names_the_remedy() {
    log::set_boxed_logger(Box::new(Log)).expect("no other test logs");
    log::set_max_level(log::LevelFilter::Warn);
    let hub = Hub::plain();
    // An application with `on_connect` logs no warning, whatever the order of tests.
    hub.join(Transport::Pump).expect_echo();
    let io = hub.io.clone();
    let host = Host::start(HostSettings { prepared: false, ..HostSettings::default() }, move |config| {
        config.configure(io.routes("/socket.io"));
    });
    let warned = || {
        let warnings = WARNINGS.lock().unwrap();
        warnings.iter().filter(|warning| warning.contains(".on_connect(stentor::on_connect)")).count()
    };
    assert_eq!(warned(), 0);
    for transport in [Transport::Pump, Transport::Polling, Transport::PumpUpgraded] {
        let mut client = Client::open(host.address, transport);
        client.connect("");
        client.expect_echo();
        assert_eq!(warned(), 1);
    }
}

#[test]
fn a_program_on_plain_tokio_spawns_a_server() {
    let (sender, bound) = std::sync::mpsc::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        assert!(matches!(Server::builder().build(), Err(BuildError::NoSystem)));
        assert!(matches!(Server::builder().path("x").spawn(|_| async { Ok(()) }), Err(BuildError::Path(_))));
        let io = Server::builder().spawn(move |io| async move {
            let listener = io.bind("127.0.0.1:0")?.disable_signals();
            sender.send(listener.local_addr()?).unwrap();
            listener.run().await
        });
        let io = io.unwrap();
        let mut client = Client::open(bound.recv_timeout(DEADLINE).unwrap(), Transport::Websocket);
        client.connect("");
        io.emit("clock", 7).await.unwrap();
        client.expect(r#"42["clock",7]"#);
        io.close().await;
    });
}

#[test]
fn a_spawned_server_closes_when_its_port_cannot_be_served() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let builder = Server::builder().queue(Queue::memory());
        let io = builder.spawn(|_| async { Err(std::io::Error::other("address in use")) }).unwrap();
        let closed = async { while io.to("a").durable().emit_confirmed("clock", 7).await.is_ok() {} };
        tokio::time::timeout(DEADLINE, closed).await.expect("the queue is closed");
    });
}
