//! The actor with a store in memory that can fail, and sessions that record what they receive. The
//! tests take its turns and let time pass.

mod bounds;
mod crossings;
mod dead_letters;
mod failures;
mod store;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use actix::{Actor, Context, Handler, System};
use bytes::Bytes;
use tokio::sync::{Notify, oneshot};

use self::store::Failing;
use super::*;
use crate::ids::QueueOffset;
use crate::messages::attachment::{EventAnswer, SubscriberError, SubscriberReply};
use crate::messages::session::SessionLink;
use crate::messages::socket::tests::socket;
use crate::messages::subscribers::{PullAnswer, RoomQuery, StoredEventsPage, SubscriberRequest};
use crate::queue::change::{Outcome, Publish, Refusal, StartPosition};
use crate::queue::committer::CommitterOptions;
use crate::queue::limits::StoreLimits;
use crate::queue::record::{Payload, SubscriberName};
use crate::queue::service::RevealedEvent;

/// Deadline of any expected event. Only a failing test waits for all of it.
const DEADLINE: Duration = Duration::from_secs(20);

type Log = Rc<RefCell<Vec<String>>>;

type RoomAnswer = oneshot::Receiver<Result<StoredEventsPage, SubscriberError>>;

/// A session that records the updates of its attachments.
struct Recorder(Log);

impl Actor for Recorder {
    type Context = Context<Self>;
}

impl Handler<SessionCommand> for Recorder {
    type Result = ();

    fn handle(&mut self, command: SessionCommand, _: &mut Context<Self>) {
        let SessionCommand::Attachment { update, .. } = command else { return };
        let mut log = self.0.borrow_mut();
        match update {
            AttachmentUpdate::Packets(packets) => log.extend(packets.iter().map(|packet| packet.text().to_string())),
            AttachmentUpdate::Join(rooms) => log.push(format!("join {}", rooms.len())),
            AttachmentUpdate::JoinNew { room, .. } => log.push(format!("join new {room}")),
            AttachmentUpdate::Leave(room) => log.push(format!("leave {room}")),
            AttachmentUpdate::Ended(packet) => {
                log.push(format!("ended {}", packet.map_or(String::new(), |packet| packet.text().to_string())));
            }
        }
    }
}

/// An attached socket.
struct Client {
    id: AttachmentId,
    log: Log,
}

impl Client {
    /// Events that were received, as numbers, with `+` if redelivered.
    fn events(&self) -> Vec<String> {
        let event = |packet: &String| {
            let json = &packet[packet.find('[')?..];
            let json: serde_json::Value = serde_json::from_str(json).ok()?;
            let meta = json.as_array()?.last()?;
            let number = QueueOffset::parse(meta.get("offset")?.as_str()?).ok()?.number;
            Some(format!("{number}{}", if meta.get("redelivered").is_some() { "+" } else { "" }))
        };
        self.log.borrow().iter().filter_map(event).collect()
    }

    fn last(&self) -> String {
        self.log.borrow().last().cloned().unwrap_or_default()
    }
}

struct Rig {
    actor: Subscribers,
    store: Failing,
    woken: Arc<Notify>,
}

impl Rig {
    fn new(change: impl FnOnce(&mut Limits)) -> Self {
        let mut limits = Limits::default();
        change(&mut limits);
        let store = Failing::new(StoreLimits::from(&limits.queue));
        let options = CommitterOptions {
            retry_min: Duration::from_millis(1),
            retry_max: Duration::from_millis(1),
            ..CommitterOptions::default()
        };
        let (queue, reader) = QueueService::start(options, StoreLimits::from(&limits.queue), store.open()).unwrap();
        let settings = Settings::new(&limits, Parser::Json);
        let woken = Arc::new(Notify::new());
        let actor = Subscribers::new(Arc::new(queue), reader, SubscribersLink::new(), settings, Arc::default());
        let wake = || {
            let woken = woken.clone();
            move || woken.notify_one()
        };
        actor.link.wake_with(wake());
        actor.results.wake_with(wake());
        Self { store, woken, actor }
    }

    /// Takes turns until a fact holds.
    async fn until(&mut self, what: &'static str, mut fact: impl FnMut(&mut Self) -> bool) {
        loop {
            while self.actor.turn().is_some_and(|at| at <= self.actor.clock.now()) {}
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
            if fact(self) {
                return;
            }
            tokio::time::timeout(DEADLINE, self.woken.notified()).await.unwrap_or_else(|_| panic!("{what}"));
        }
    }

    /// Takes turns until every commit and read has ended.
    async fn settle(&mut self) {
        self.until("no commit is outstanding", |rig| rig.actor.committing == 0).await;
    }

    async fn pass(&mut self, duration: Duration) {
        self.actor.clock.pass(duration);
        self.settle().await;
    }

    async fn request<T>(
        &mut self,
        name: &str,
        request: impl FnOnce(SubscriberReply<T>) -> SubscriberRequest,
    ) -> Result<T, SubscriberError> {
        let (reply, mut answer) = oneshot::channel();
        self.actor.link.post(SubscriberCommand::Request { key: key(name), request: request(reply) });
        let mut found = None;
        self.until("an answer", |_| {
            found = answer.try_recv().ok();
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    async fn subscribe(&mut self, name: &str, room: &str) {
        self.request(name, SubscriberRequest::Create).await.unwrap();
        let room = RoomName::parse(room).unwrap();
        self.request(name, |reply| SubscriberRequest::Subscribe { room, from: StartPosition::Now, reply })
            .await
            .unwrap();
    }

    fn attach(&mut self, name: &str) -> (Client, oneshot::Receiver<Result<(), SubscriberError>>) {
        let log = Log::default();
        let link = SessionLink::new(Recorder(log.clone()).start().recipient());
        let (id, (done, attached)) = (AttachmentId::next(), oneshot::channel());
        let socket = SocketRef { info: socket(1), link };
        let unhandled = Arc::new(AtomicUsize::new(0));
        self.actor.link.post(SubscriberCommand::Attach { id, key: key(name), socket, unhandled, done });
        (Client { id, log }, attached)
    }

    async fn attached(&mut self, name: &str) -> Client {
        let (client, mut attached) = self.attach(name);
        self.until("attached", |_| attached.try_recv().is_ok()).await;
        self.settle().await;
        client
    }

    /// Commits an event, and passes it to the live feed if `is_fed`.
    async fn publish(&mut self, room: &str, is_fed: bool) -> u64 {
        self.publish_until(&[room], is_fed, None).await
    }

    async fn publish_until(&mut self, rooms: &[&str], is_fed: bool, expires_at: Option<UnixMillis>) -> u64 {
        let rooms: Vec<RoomName> = rooms.iter().map(|room| RoomName::parse(room).unwrap()).collect();
        let payload = Payload { text: Bytes::from_static(br#"["e"]"#), attachments: Vec::new() };
        let publish = Publish {
            namespace: NamespacePath::root(),
            rooms: rooms.clone(),
            payload: payload.clone(),
            origin: Bytes::new(),
            dedup: None,
            expires_at,
        };
        let result = self.commit(Change::Publish(Box::new(publish))).await;
        let CommitResult::Committed(Outcome::Published(receipt)) = result else { panic!("{result:?}") };
        if is_fed {
            self.feed_event(receipt.offset, &rooms, payload, expires_at);
        }
        self.settle().await;
        receipt.offset.number
    }

    fn feed_event(&self, offset: QueueOffset, rooms: &[RoomName], payload: Payload, expires_at: Option<UnixMillis>) {
        self.actor.queue.feed(RevealedEvent {
            offset,
            namespace: NamespacePath::root(),
            rooms: rooms.iter().cloned().collect(),
            payload: Arc::new(payload),
            published_at: UnixMillis(0),
            expires_at,
        });
    }

    async fn commit(&self, change: Change) -> CommitResult {
        let (sender, done) = oneshot::channel();
        let complete: Completion = Box::new(move |result| drop(sender.send(result)));
        assert!(self.actor.queue.submit(change, complete).is_ok());
        tokio::time::timeout(DEADLINE, done).await.unwrap().unwrap()
    }

    fn answer(&mut self, client: &Client, number: u64, answer: EventAnswer) {
        if let Some(Outlet::Socket { unhandled, .. }) = self.actor.active.get(&client.id).map(|active| &active.outlet) {
            unhandled.fetch_add(1, Ordering::Relaxed);
        }
        self.actor.link.post(SubscriberCommand::Answered { id: client.id, number, answer });
    }

    async fn ack(&mut self, client: &Client, number: u64) {
        self.answer(client, number, EventAnswer::Ack);
        self.settle().await;
    }

    /// Reads stored events of rooms, without a wait.
    fn read_rooms(&self, rooms: &[&str], limit: usize) -> RoomAnswer {
        self.read_rooms_of(None, rooms, limit, Duration::ZERO)
    }

    /// Reads stored events of rooms for the client of a session.
    fn read_rooms_of(&self, session: Option<&SessionLink>, rooms: &[&str], limit: usize, wait: Duration) -> RoomAnswer {
        let (reply, answer) = oneshot::channel();
        let rooms = rooms.iter().map(|room| RoomName::parse(room).unwrap()).collect();
        let query = RoomQuery { namespace: NamespacePath::root(), rooms, after: None, limit };
        self.actor.link.post(SubscriberCommand::ReadRooms { query, wait, session: session.cloned(), reply });
        answer
    }

    fn pending(&mut self, name: &str) -> u64 {
        self.actor.reader.backlog(&key(name), 100).unwrap().events
    }
}

fn key(name: &str) -> SubscriberKey {
    SubscriberKey { namespace: NamespacePath::root(), name: SubscriberName::parse(name).unwrap() }
}

fn run(test: impl Future<Output = ()>) {
    System::new().block_on(test);
}

#[test]
fn live_events_are_sent_once_and_acks_of_a_turn_are_one_change() {
    run(async {
        let mut rig = Rig::new(|_| {});
        rig.subscribe("s", "a").await;
        let client = rig.attached("s").await;
        assert!(client.log.borrow()[0].starts_with("join 1"));
        for _ in 0..3 {
            rig.publish("a", true).await;
        }
        assert_eq!(client.events(), ["1", "2", "3"]);
        let before = rig.store.changes();
        for number in 1..=3 {
            rig.answer(&client, number, EventAnswer::Ack);
        }
        rig.settle().await;
        assert_eq!((rig.pending("s"), rig.store.changes() - before), (0, 1));
        assert!(rig.actor.active[&client.id].delivery.oldest_in_flight().is_none());
    });
}

#[test]
fn an_event_that_the_feed_has_left_out_is_read_from_the_store() {
    run(async {
        let mut rig = Rig::new(|_| {});
        rig.subscribe("s", "a").await;
        let client = rig.attached("s").await;
        rig.publish("a", false).await;
        assert!(client.events().is_empty());
        rig.actor.live.push_back(Live::LeftOut);
        rig.settle().await;
        rig.publish("a", true).await;
        assert_eq!(client.events(), ["1", "2"]);
    });
}

#[test]
fn an_attachment_dropped_before_its_commit_is_not_active() {
    run(async {
        let mut rig = Rig::new(|_| {});
        rig.subscribe("s", "a").await;
        rig.publish("a", true).await;
        let (client, _attached) = rig.attach("s");
        rig.actor.link.post(SubscriberCommand::Detach { id: client.id });
        rig.settle().await;
        assert!(rig.actor.active.is_empty() && rig.actor.attaching.is_empty() && rig.actor.by_key.is_empty());
        let client = rig.attached("s").await;
        assert_eq!(client.events().len(), 1);
        rig.ack(&client, 1).await;
        rig.actor.link.post(SubscriberCommand::Detach { id: client.id });
        rig.settle().await;
        assert!(rig.actor.by_room.is_empty() && rig.actor.deadlines.is_empty());
    });
}

#[test]
fn attaching_while_another_socket_is_active_waits_for_its_commits() {
    run(async {
        let mut rig = Rig::new(|_| {});
        rig.subscribe("s", "a").await;
        let first = rig.attached("s").await;
        rig.publish("a", true).await;
        rig.publish("a", true).await;
        rig.answer(&first, 1, EventAnswer::Ack);
        let second = rig.attached("s").await;
        assert!(first.last().contains("stentor:evicted"), "{}", first.last());
        assert_eq!(second.events(), ["2+"], "the ack of the first socket was committed before");
        rig.ack(&second, 2).await;
        assert_eq!(rig.pending("s"), 0);
    });
}

#[test]
fn an_end_stored_after_a_newer_attach_does_not_detach_it() {
    run(async {
        let mut rig = Rig::new(|_| {});
        rig.subscribe("s", "a").await;
        let first = rig.attached("s").await;
        rig.publish("a", true).await;
        // The commit of the second attach is under way when the first socket goes.
        let (second, _attached) = rig.attach("s");
        rig.actor.turn();
        rig.actor.link.post(SubscriberCommand::Detach { id: first.id });
        rig.settle().await;
        assert_eq!(second.events(), ["1+"]);
        // A crash now must find the subscriber attached.
        let (sender, committed) = oneshot::channel();
        let complete: Completion = Box::new(move |result| drop(sender.send(result)));
        let change = Change::Attach { subscriber: key("s"), create: false };
        assert!(rig.actor.queue.submit(change, complete).is_ok());
        let result = committed.await.unwrap();
        assert!(matches!(result, CommitResult::Committed(Outcome::Attached { sent_up_to: None, .. })), "{result:?}");
    });
}

#[test]
fn answers_before_the_attachment_is_active_leave_its_bound_as_it_was() {
    run(async {
        let mut rig = Rig::new(|_| {});
        rig.subscribe("s", "a").await;
        let log = Log::default();
        let link = SessionLink::new(Recorder(log.clone()).start().recipient());
        let (id, (done, _attached)) = (AttachmentId::next(), oneshot::channel());
        let unhandled = Arc::new(AtomicUsize::new(1));
        let socket = SocketRef { info: socket(1), link };
        let attach = SubscriberCommand::Attach { id, key: key("s"), socket, unhandled: unhandled.clone(), done };
        rig.actor.link.post(attach);
        rig.actor.link.post(SubscriberCommand::Answered { id, number: 1, answer: EventAnswer::Ack });
        rig.settle().await;
        assert_eq!(unhandled.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn a_pull_whose_caller_has_gone_returns_its_events() {
    run(async {
        let mut rig = Rig::new(|_| {});
        rig.subscribe("s", "a").await;
        let (reply, caller) = oneshot::channel();
        let request = SubscriberRequest::Pull { limit: 1, wait: Duration::from_secs(60), reply };
        rig.actor.link.post(SubscriberCommand::Request { key: key("s"), request });
        rig.settle().await;
        drop(caller);
        rig.publish("a", true).await;
        let wait = Duration::ZERO;
        let pulled = rig.request("s", |reply| SubscriberRequest::Pull { limit: 9, wait, reply }).await.unwrap();
        assert_eq!(pulled.events.len(), 1);
        rig.pass(Duration::from_secs(31)).await;
        let pulled = rig.request("s", |reply| SubscriberRequest::Pull { limit: 9, wait, reply }).await;
        assert!(pulled.unwrap().events.is_empty(), "its back-off is not over");
        rig.pass(Duration::from_secs(2)).await;
        let pulled = rig.request("s", |reply| SubscriberRequest::Pull { limit: 9, wait, reply }).await.unwrap();
        assert!(pulled.events[0].redelivered);
    });
}

#[test]
fn closing_stores_what_attached_subscribers_may_have_received() {
    run(async {
        let mut rig = Rig::new(|_| {});
        rig.subscribe("s", "a").await;
        let _client = rig.attached("s").await;
        rig.publish("a", true).await;
        let (done, mut closed) = oneshot::channel();
        rig.actor.link.post(SubscriberCommand::Close(done));
        rig.until("closed", |_| closed.try_recv().is_ok()).await;
        rig.publish("a", false).await;
        let client = rig.attached("s").await;
        assert_eq!(client.events(), ["1+", "2"]);
    });
}

#[test]
fn an_attached_subscriber_is_touched_every_eighth_of_its_expiry() {
    run(async {
        let expiry = Duration::from_secs(8 * 3600);
        let mut rig = Rig::new(|limits| limits.queue.subscriber_expiry = expiry);
        rig.subscribe("s", "a").await;
        let client = rig.attached("s").await;
        for touches in 0..3 {
            assert_eq!(rig.store.touches(), touches);
            rig.pass(expiry / 8).await;
        }
        rig.publish("a", true).await;
        assert_eq!(client.events().len(), 1);
    });
}
