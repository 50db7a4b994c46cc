//! Durable events: commit, reveal, answers, and what a crash leaves.

use std::sync::RwLock;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use bytes::Bytes;

use super::*;
use crate::hub::publishing::{HubQueue, Reports, found_events, reveal_stored};
use crate::ids::QueueOffset;
use crate::journal::contract::scratch::Scratch;
use crate::journal::file::{FileJournal, FileOptions};
use crate::journal::folder::BootId;
use crate::messages::event::DurableEmit;
use crate::queue::change::{Change, Dedup, Outcome, Publish};
use crate::queue::committer::CommitterOptions;
use crate::queue::limits::StoreLimits;
use crate::queue::memory::MemoryStore;
use crate::queue::record::{ContentHash, Payload, UnixMillis};
use crate::queue::service::{Live, QueueService};
use crate::queue::store::{QueueReader, QueueStore, StoreError};

const EPOCH: Epoch = Epoch::new(7, 7);

/// Controls of a store. A commit of changes waits for a permit.
#[derive(Clone)]
struct Gate {
    permits: mpsc::Sender<Permit>,
    is_gated: Arc<AtomicBool>,
}

enum Permit {
    Commit,
    /// The commit stores its changes and reports a failure.
    FailAfterwards,
}

impl Gate {
    fn let_commit(&self, commits: usize) {
        (0..commits).for_each(|_| self.permits.send(Permit::Commit).unwrap());
    }
}

/// A store in memory that commits when it is permitted to, and that outlives being opened again.
struct GatedStore {
    inner: Arc<RwLock<MemoryStore>>,
    permits: Arc<std::sync::Mutex<mpsc::Receiver<Permit>>>,
    gate: Arc<AtomicBool>,
}

impl QueueStore for GatedStore {
    fn commit(&mut self, changes: &[Change], now: UnixMillis) -> Result<Vec<Outcome>, StoreError> {
        let is_gated = changes.iter().any(|change| matches!(change, Change::Publish(_)));
        let permit = if is_gated && self.gate.load(Ordering::SeqCst) {
            self.permits.lock().unwrap().recv().unwrap_or(Permit::Commit)
        } else {
            Permit::Commit
        };
        let outcomes = self.inner.write().unwrap().commit(changes, now)?;
        match permit {
            Permit::Commit => Ok(outcomes),
            Permit::FailAfterwards => Err(StoreError::Failed),
        }
    }
    fn has_work(&self) -> bool {
        false
    }
    fn maintain(&mut self, _: bool) -> Result<(), StoreError> {
        Ok(())
    }
    fn head(&self) -> QueueOffset {
        self.inner.read().unwrap().head()
    }
    fn commits(&self) -> u64 {
        self.inner.read().unwrap().commits()
    }
    fn reader(&self) -> Result<Box<dyn QueueReader>, StoreError> {
        self.inner.read().unwrap().reader()
    }
}

/// A hub with a queue whose commits wait for permits, if `is_gated`.
struct QueueRig {
    rig: Rig,
    gate: Gate,
    service: Arc<QueueService>,
    reader: Box<dyn QueueReader>,
}

fn memory() -> Arc<RwLock<MemoryStore>> {
    Arc::new(RwLock::new(MemoryStore::new(EPOCH, StoreLimits::default())))
}

fn options(reports: &Arc<Reports>) -> CommitterOptions {
    CommitterOptions {
        // A permit is for one event.
        batch_max: 1,
        retry_min: Duration::from_millis(1),
        on_found: found_events(reports.clone()),
        ..CommitterOptions::default()
    }
}

impl QueueRig {
    fn new(is_gated: bool, writer: Option<JournalWriter>) -> Self {
        Self::on(memory(), is_gated, writer)
    }

    fn on(inner: Arc<RwLock<MemoryStore>>, is_gated: bool, writer: Option<JournalWriter>) -> Self {
        Self::with_limits(Limits::default(), inner, is_gated, writer)
    }

    fn with_limits(
        limits: Limits,
        inner: Arc<RwLock<MemoryStore>>,
        is_gated: bool,
        mut writer: Option<JournalWriter>,
    ) -> Self {
        let (permits, receiver) = mpsc::channel();
        let (permits_of_store, gate) = (Arc::new(std::sync::Mutex::new(receiver)), Arc::new(AtomicBool::new(is_gated)));
        let gated = gate.clone();
        let open = Box::new(move || {
            let (inner, permits, gate) = (inner.clone(), permits_of_store.clone(), gated.clone());
            Ok(Box::new(GatedStore { inner, permits, gate }) as Box<dyn QueueStore>)
        });
        let reports = Arc::<Reports>::default();
        let (service, mut reader) = QueueService::start(options(&reports), StoreLimits::default(), open).unwrap();
        let revealed_before_start = reveal_stored(writer.as_mut(), &service, &mut *reader, Parser::Json).unwrap();
        service.want_live(true);
        let service = Arc::new(service);
        let queue = HubQueue { service: service.clone(), reports, parser: Parser::Json, revealed_before_start };
        let rig = Rig::new(limits, Stores { writer, queue: Some(queue), ..Stores::default() });
        Self { rig, gate: Gate { permits, is_gated: gate }, service, reader }
    }

    fn publish(&mut self, event: &str, dedup_id: Option<&str>) {
        self.publish_to(&["a"], event, dedup_id);
    }

    fn publish_to(&mut self, rooms: &[&str], event: &str, dedup_id: Option<&str>) {
        let from = self.rig.from();
        let emit = durable(rooms, event, dedup_id, None);
        self.rig.tell(OrderedCommand::Publish { from, emit: Box::new(emit) });
    }

    /// The lines up to one that begins with `last`.
    async fn until(&self, last: &str) -> Vec<String> {
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut lines = Vec::new();
        while !lines.iter().any(|line: &String| line.starts_with(last)) {
            assert!(Instant::now() < deadline, "no {last:?} in {lines:?}");
            tokio::time::sleep(Duration::from_millis(1)).await;
            lines.extend(self.rig.lines.try_iter());
        }
        lines
    }

    /// Waits until so many changes are committed. The first one is that of the start.
    async fn until_committed(&self, changes: u64) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.service.state().changes() < changes {
            assert!(Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn until_notified(&mut self, revealed: u64) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.reader.totals().unwrap().revealed != revealed {
            assert!(Instant::now() < deadline, "{:?}", self.reader.totals());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn fed(&self) -> Vec<u64> {
        let numbers = self.service.live().take().into_iter().map(|live| match live {
            Live::Event(event) => event.offset.number,
            Live::LeftOut => 0,
        });
        numbers.collect()
    }
}

fn durable(rooms: &[&str], event: &str, dedup_id: Option<&str>, exclude: Option<SocketId>) -> DurableEmit {
    let rooms: Vec<RoomName> = rooms.iter().map(|name| room(name)).collect();
    let payload = Payload::of_event(event, "", Vec::new());
    let dedup = dedup_id
        .map(|id| Dedup { id: Bytes::copy_from_slice(id.as_bytes()), content: ContentHash::of(&rooms, &payload) });
    let draft = Draft::event(Parser::Json, NamespacePath::root(), event, "", Vec::new(), true);
    let (namespace, origin) = (NamespacePath::root(), Bytes::new());
    let publish = Box::new(Publish { namespace, rooms, payload, origin, dedup, expires_at: None });
    DurableEmit { publish, draft, exclude }
}

/// The events of deliveries, without tokens.
fn events(lines: &[String]) -> Vec<String> {
    let delivered = lines.iter().filter_map(|line| line.strip_prefix("deliver 42[\""));
    delivered.map(|event| event.split('"').next().unwrap().to_owned()).collect()
}

#[test]
fn a_durable_event_is_sent_after_its_commit_and_delays_no_other() {
    run(async {
        let mut q = QueueRig::new(true, writer(journal()));
        q.rig.connect(1);
        q.rig.join(1, "a");
        q.rig.received().await;
        q.publish("stored", None);
        q.rig.emit("a", "plain", Grade::Plain);
        q.rig.join(1, "b");
        let lines = q.rig.received().await;
        assert_eq!(events(&lines), ["plain"], "{lines:?}");
        assert!(lines.contains(&"answer 4 emitted".into()) && lines.contains(&"answer 5 joined 1".into()), "{lines:?}");
        q.gate.let_commit(1);
        let lines = q.until("answer 3").await;
        assert_eq!((events(&lines), &*lines[1]), (vec!["stored".into()], "answer 3 stored 1 for 0"));
        assert_eq!(q.fed(), [1]);
        q.until_notified(1).await;
    });
}

#[test]
fn a_duplicate_is_answered_and_not_sent_again() {
    run(async {
        let mut q = QueueRig::new(false, None);
        q.rig.connect(1);
        q.rig.join(1, "a");
        q.publish("x", Some("id"));
        q.until("answer 3 stored 1 for 0").await;
        q.publish("x", Some("id"));
        assert_eq!(q.until("answer 4").await, ["answer 4 stored 1 again for 0"]);
        q.publish("other", Some("id"));
        assert_eq!(q.until("answer 5").await, ["answer 5 refused Refused(Conflict { first: 1 })"]);
        assert_eq!(q.fed(), [1]);
    });
}

#[test]
fn bad_publishes_are_refused_before_they_are_stored() {
    run(async {
        let journal = TestJournal { record_bytes_max: Some(10_000), ..TestJournal::new(journal()) };
        let mut q = QueueRig::new(true, writer(journal));
        q.until_committed(1).await;
        let many: Vec<String> = (0..1_025).map(|n| n.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        q.publish_to(&[], "x", None);
        q.publish_to(&many, "x", None);
        q.publish(&"x".repeat(9_900), None);
        q.publish("x", Some(&"i".repeat(129)));
        q.publish("x", Some(""));
        let refused = [
            "answer 1 refused Refused(Rooms { rooms: 0 })",
            "answer 2 refused Refused(Rooms { rooms: 1025 })",
            "answer 3 refused Refused(TooLarge { bytes: 10040, limit: 10000 })",
            "answer 4 refused Refused(DedupId { bytes: 129 })",
            "answer 5 refused Refused(DedupId { bytes: 0 })",
        ];
        assert_eq!(q.rig.received().await, refused);
        assert_eq!(q.service.state().waiting(), 0, "nothing was submitted");
    });
}

#[test]
fn a_publish_without_queue_is_refused() {
    run(async {
        let mut rig = Rig::new(Limits::default(), Stores::default());
        let (from, emit) = (rig.from(), Box::new(durable(&["a"], "x", None, None)));
        rig.tell(OrderedCommand::Publish { from, emit });
        assert_eq!(rig.received().await, ["answer 1 refused QueueOff"]);
    });
}

#[test]
fn publishes_beyond_the_bound_are_overloaded() {
    run(async {
        let mut q = QueueRig::new(true, None);
        for _ in 0..4_096 {
            q.publish("x", None);
            q.rig.received().await;
        }
        q.publish("x", None);
        let expected =
            "answer 4097 refused Refused(Overloaded { what: \"unrevealed_events\", found: 4096, limit: 4096 })";
        assert_eq!(q.rig.received().await, [expected]);
        q.gate.is_gated.store(false, Ordering::SeqCst);
        q.gate.let_commit(4_096);
        q.until("answer 4096 stored 4096").await;
        q.publish("x", None);
        q.until("answer 4098 stored 4097").await;
    });
}

#[test]
fn an_event_of_a_failed_commit_is_revealed_when_the_store_has_it() {
    run(async {
        let mut q = QueueRig::new(true, writer(journal()));
        q.rig.connect(1);
        q.rig.join(1, "a");
        q.publish("first", Some("1"));
        q.gate.permits.send(Permit::FailAfterwards).unwrap();
        let lines = q.until("deliver 42[\"first\"").await;
        assert!(lines.contains(&"answer 3 refused Indeterminate".into()), "{lines:?}");
        q.gate.let_commit(2);
        q.publish("first", Some("1"));
        q.publish("second", None);
        let lines = q.until("answer 5").await;
        assert!(lines.contains(&"answer 4 stored 1 again for 0".into()), "{lines:?}");
        assert_eq!(events(&lines), ["second"]);
        assert_eq!(q.fed(), [1, 2]);
    });
}

#[test]
fn a_member_that_subscribes_receives_what_was_stored_before() {
    // In an earlier version, an event that was stored before the subscription and revealed after it
    // reached the socket neither as a member nor as a subscriber.
    run(async {
        let limits = Limits::with(|limits| limits.hub.worker_bytes_max = 100);
        let mut q = QueueRig::with_limits(limits, memory(), true, None);
        q.rig.connect(1);
        q.rig.join(1, "a");
        q.publish("before", None);
        q.publish("after", None);
        // The worker has a backlog from now on, so nothing is revealed.
        q.rig.emit("a", &"x".repeat(1_000), Grade::Plain);
        q.rig.received().await;
        q.gate.let_commit(2);
        q.until_committed(3).await;
        assert_eq!(events(&q.rig.received().await), [""; 0]);
        q.rig.join_durable_after(1, "a", 1);
        let lines = q.rig.received().await;
        assert_eq!(events(&lines), ["before"], "{lines:?}");
        q.rig.tell(ImmediateCommand::Consumed { bytes: 100_000, replayed: 0 });
        q.until("answer 4 stored 2").await;
        assert_eq!(q.fed(), [1, 2]);
    });
}

#[test]
fn what_was_not_revealed_is_journalled_at_the_next_start_once() {
    run(async {
        let store = memory();
        let publish = |event: &str| {
            let mut emit = durable(&["a"], event, None, None);
            emit.publish.origin = crate::queue::origin::Origin { exclude: Some(socket(9)) }.encode();
            Change::Publish(emit.publish)
        };
        let now = UnixMillis(1);
        store.write().unwrap().commit(&[publish("one"), publish("two"), publish("three")], now).unwrap();
        store.write().unwrap().commit(&[Change::Revealed { up_to: 1 }], now).unwrap();
        let (appended, journalled) = mpsc::channel();
        let observed = |appended: mpsc::Sender<_>| {
            TestJournal::observed(move |record: &Record| {
                if let RecordBody::Event(event) = &record.body {
                    let (number, text) = (event.stored.unwrap().number, event.message.text()[..6].to_owned());
                    let _ = appended.send((number, text, event.exclude));
                }
            })
        };
        // The journal knows of an event that the queue was not notified of.
        let mut known = writer(observed(appended.clone()));
        let offset = known.as_mut().unwrap().next_offset();
        let (target, message) =
            (Target { exclude: Some(socket(9)), ..Target::default() }, EncodedFrame::text("42[\"two\"]"));
        let stored = Some(QueueOffset { epoch: EPOCH, number: 2 });
        let record = crate::hub::ordering::event_record(&NamespacePath::root(), &target, &message.into(), stored);
        known.as_mut().unwrap().journal(offset, record);
        let mut q = QueueRig::on(store.clone(), false, known);
        assert_eq!(
            journalled.try_iter().collect::<Vec<_>>(),
            [(2, "42[\"tw".into(), Some(socket(9))), (3, "42[\"th".into(), Some(socket(9)))]
        );
        assert_eq!(q.reader.totals().unwrap().revealed, 3);
        drop(q);
        q = QueueRig::on(store, false, writer(observed(appended)));
        assert_eq!(journalled.try_iter().next(), None);
        q.publish("four", None);
        q.until("answer 1 stored 4").await;
    });
}

#[test]
fn a_closing_hub_reveals_what_was_committed() {
    run(async {
        let (appended, journalled) = mpsc::channel();
        let journal = TestJournal::observed(move |record: &Record| {
            if let RecordBody::Event(event) = &record.body {
                let _ = appended.send(event.stored.unwrap().number);
            }
        });
        let mut q = QueueRig::new(true, writer(journal));
        for _ in 0..3 {
            q.publish("x", None);
        }
        q.rig.received().await;
        q.gate.let_commit(3);
        q.service.close();
        let (done, closed) = tokio::sync::oneshot::channel();
        assert!(q.rig.hub.try_send(HubControl::Close(done)).is_ok());
        closed.await.unwrap();
        assert_eq!(journalled.try_iter().collect::<Vec<_>>(), [1, 2, 3]);
        q.publish("x", None);
        assert_eq!(q.until("answer 4").await.last().unwrap(), "answer 4 refused Unavailable");
    });
}

#[test]
fn sessions_are_carried_forward_while_a_durable_event_is_under_way() {
    // In an earlier design, an event got its LSN before its commit, and no session was rewritten
    // while an event waited: the next start knew none of them.
    run(async {
        let scratch = Scratch::new();
        let limits = Limits::with(|limits| {
            limits.journal.segments_max = 4;
            limits.journal.segment_bytes = 64 << 10;
        });
        let open = || {
            let options = FileOptions::new(Epoch::new(1, 1), BootId::new(7), &limits);
            let journal = FileJournal::open(&scratch.0, options).unwrap();
            JournalWriter::open(Box::new(journal), 7, &limits, Arc::default()).unwrap()
        };
        let mut q = QueueRig::on(memory(), true, Some(open()));
        for n in 0..50 {
            q.rig.connect(n);
            q.rig.join(n, "quiet");
            q.rig.received().await;
        }
        let event = "x".repeat(1_000);
        q.publish(&event, None);
        for n in 1..=1_000 {
            q.publish(&event, None);
            q.gate.let_commit(1);
            q.until(&format!("answer {} stored {n} ", 100 + n)).await;
        }
        assert_eq!(q.reader.totals().unwrap().head.number, 1_000, "one event was always under way");
        let (done, closed) = tokio::sync::oneshot::channel();
        assert!(q.rig.hub.try_send(HubControl::Close(done)).is_ok());
        closed.await.unwrap();
        let writer = open();
        assert_eq!(writer.sessions(), 50);
        assert_eq!(writer.newest_stored(), Some(QueueOffset { epoch: EPOCH, number: 1_000 }));
    });
}
