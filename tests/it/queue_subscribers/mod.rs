//! Subscribers of the queue over real connections.

mod attaching;
mod bad_input;
mod pulling;
mod recovery;
mod restart;
mod retries;

use std::time::Duration;

use serde_json::{Value, json};
use stentor::{Args, Builder, Event, HandlerError, Limits, Queue, QueueOffset, Server, Socket, Stored, Subscriber};

use crate::support::{Client, DEADLINE, Hub, Packet, Transport, run};

/// A hub with a queue in memory, whose clients become subscribers by `auth.subscriber`.
fn hub(change: impl FnOnce(&mut Limits)) -> Hub {
    let mut limits = Limits::default();
    change(&mut limits);
    Hub::start(|builder| builder.queue(Queue::memory()).limits(limits), register)
}

fn hub_with(build: impl FnOnce(Builder) -> Builder) -> Hub {
    Hub::start(|builder| build(builder.queue(Queue::memory())), register)
}

fn register(io: &Server) {
    io.of("/")
        .on_connection(|socket| async move { attach(&socket).await })
        .on("subscribe", |socket, event: Event<(String, String)>| async move {
            let (name, room) = event.data;
            let result = socket.subscribe_as(name).await?.subscribe(room).await;
            event.ack.send(result.map_or_else(|error| error.to_string(), |()| "ok".to_owned()))?;
            Ok(())
        })
        .on("attach", |socket, event: Event<String>| async move {
            let result = socket.subscribe_as(event.data).await.map(drop);
            event.ack.send(result.map_or_else(|error| error.to_string(), |()| "ok".to_owned()))?;
            Ok(())
        })
        .on("join", |socket, event: Event<String>| async move {
            socket.join(&event.data).await?;
            event.ack.send("ok")?;
            Ok(())
        })
        .on("rooms", |socket, event: Event<Args>| async move {
            event.ack.send(socket.rooms().await?)?;
            Ok(())
        });
}

async fn attach(socket: &Socket) -> Result<(), HandlerError> {
    if let Some(name) = socket.auth::<Value>().ok().and_then(|auth| auth["subscriber"].as_str().map(ToOwned::to_owned))
    {
        socket.subscribe_as(name).await?;
    }
    Ok(())
}

fn publish(hub: &Hub, room: &str, data: u64) -> Stored {
    run(hub.io.of("/").all().to(room).durable().emit_confirmed("order", data)).expect("the event is stored")
}

fn publish_all(hub: &Hub, room: &str, data: std::ops::RangeInclusive<u64>) {
    for data in data {
        publish(hub, room, data);
    }
}

/// A handle for code without a socket, of a subscriber of these rooms.
fn subscriber(hub: &Hub, name: &str, rooms: &[&str]) -> Subscriber {
    run(async {
        let subscriber = hub.io.of("/").subscriber(name).await.expect("the subscriber is created");
        for room in rooms {
            subscriber.subscribe(room).await.expect("it subscribes");
        }
        subscriber
    })
}

/// A durable event as a client receives it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Received {
    ack: u64,
    data: u64,
    offset: String,
    room: String,
    redelivered: bool,
}

/// A client that is a subscriber.
struct Attached {
    client: Client,
    attached: Value,
}

impl Attached {
    #[track_caller]
    fn open(hub: &Hub, transport: Transport, name: &str) -> Self {
        Self::connect(hub.open(transport), &json!({ "subscriber": name }))
    }

    #[track_caller]
    fn connect(mut client: Client, auth: &Value) -> Self {
        client.connect_with("", &auth.to_string());
        let attached = notice(&mut client, "stentor:attached");
        Self { client, attached }
    }

    #[track_caller]
    fn recv(&mut self) -> Received {
        let packet = self.client.recv_text();
        parse(&packet).unwrap_or_else(|| panic!("expected a durable event, got {packet}"))
    }

    #[track_caller]
    fn recv_data(&mut self, data: u64) -> Received {
        let received = self.recv();
        assert_eq!(received.data, data, "{received:?}");
        received
    }

    fn ack(&mut self, event: &Received) {
        self.answer(event, "");
    }

    fn answer(&mut self, event: &Received, answer: &str) {
        self.client.send(&format!("43{}[{answer}]", event.ack));
    }

    /// Checks that nothing is pending on the connection.
    #[track_caller]
    fn expect_nothing(&mut self) {
        self.client.expect_echo();
    }

    /// Ends the session.
    fn leave(mut self) {
        self.client.send("1");
    }

    fn subscribe(&mut self, name: &str, room: &str) {
        self.client.send(&format!(r#"421["subscribe","{name}","{room}"]"#));
        self.client.expect(r#"431["ok"]"#);
    }
}

#[track_caller]
fn notice(client: &mut Client, name: &str) -> Value {
    let packet = client.recv_text();
    let json: Value = serde_json::from_str(packet.strip_prefix("42").expect("an event")).expect("JSON");
    assert_eq!(json[0], name, "{packet}");
    json[1].clone()
}

fn parse(packet: &str) -> Option<Received> {
    let packet = packet.strip_prefix("42")?;
    let at = packet.find('[')?;
    let json: Value = serde_json::from_str(&packet[at..]).ok()?;
    let meta = json.as_array()?.last()?;
    Some(Received {
        ack: packet[..at].parse().ok()?,
        data: json[1].as_u64()?,
        offset: meta["offset"].as_str()?.to_owned(),
        room: meta["room"].as_str()?.to_owned(),
        redelivered: meta.get("redelivered").is_some(),
    })
}

/// Waits until a subscriber has so many pending events.
#[track_caller]
fn wait_for_pending(subscriber: &Subscriber, count: u64) {
    let mut found = None;
    crate::support::eventually(&format!("{count} pending events of {}", subscriber.name()), || {
        found = run(subscriber.info()).ok().map(|info| info.pending);
        found == Some(count)
    });
}

fn offset(event: &Received) -> QueueOffset {
    QueueOffset::parse(&event.offset).expect("an offset")
}

/// Times of retries so short that a test waits for the event itself.
fn fast(limits: &mut Limits) {
    limits.queue.back_off = vec![Duration::from_millis(20)];
    limits.queue.ack_wait = Duration::from_millis(150);
}
