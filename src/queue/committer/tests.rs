//! The committer over stores that fail when a test says so, and crashes at planted points.

use std::process::Command;
use std::sync::mpsc::{Receiver, channel};

use super::*;
use crate::ids::NamespacePath;
use crate::queue::limits::StoreLimits;
use crate::queue::memory::MemoryStore;
use crate::queue::record::{QueueOffset, SubscriberKey, SubscriberName};
use crate::queue::sqlite::{SqliteOptions, SqliteStore, WORK_ROWS};

const DEADLINE: Duration = Duration::from_secs(20);
const EPOCH: Epoch = Epoch::new(1, 1);

/// Faults of a store that a test switches on.
#[derive(Default)]
struct Controls {
    fails: AtomicBool,
    opens: AtomicBool,
    /// A commit waits here for a permit.
    gate: AtomicUsize,
    batches: AtomicUsize,
    has_lost: AtomicBool,
    has_work: AtomicBool,
    /// Commits of changes fail, others do not.
    fails_with_changes: AtomicBool,
    panics: AtomicBool,
    is_busy: AtomicBool,
}

/// A store in memory that outlives being opened again.
struct Controlled {
    controls: Arc<Controls>,
    inner: Arc<std::sync::RwLock<MemoryStore>>,
}

impl QueueStore for Controlled {
    fn commit(&mut self, changes: &[Change], now: UnixMillis) -> Result<Vec<Outcome>, StoreError> {
        self.controls.batches.fetch_add(1, Ordering::SeqCst);
        while self.controls.gate.load(Ordering::SeqCst) > 0 {
            std::thread::yield_now();
        }
        if self.controls.is_busy.load(Ordering::SeqCst) {
            return Err(StoreError::Busy { path: "disk".into() });
        }
        assert!(!self.controls.panics.load(Ordering::SeqCst), "planted");
        let fails_with_changes = self.controls.fails_with_changes.load(Ordering::SeqCst);
        if self.controls.fails.load(Ordering::SeqCst) || fails_with_changes && !changes.is_empty() {
            return Err(StoreError::Full { path: "disk".into(), error: "full".into() });
        }
        self.inner.write().unwrap().commit(changes, now)
    }

    fn has_work(&self) -> bool {
        self.controls.has_work.load(Ordering::SeqCst)
    }

    fn maintain(&mut self, _is_idle: bool) -> Result<(), StoreError> {
        Ok(())
    }

    fn head(&self) -> QueueOffset {
        self.inner.read().unwrap().head()
    }

    fn commits(&self) -> u64 {
        let lost = u64::from(self.controls.has_lost.load(Ordering::SeqCst));
        self.inner.read().unwrap().commits() - lost
    }

    fn reader(&self) -> Result<Box<dyn QueueReader>, StoreError> {
        self.inner.read().unwrap().reader()
    }
}

fn start(options: CommitterOptions) -> (Committer, Arc<Controls>) {
    let controls = Arc::new(Controls::default());
    controls.opens.store(true, Ordering::SeqCst);
    let inner = Arc::new(std::sync::RwLock::new(MemoryStore::new(EPOCH, StoreLimits::default())));
    let shared = Arc::clone(&controls);
    let open: Open = Box::new(move || {
        if !shared.opens.load(Ordering::SeqCst) {
            return Err(StoreError::Full { path: "disk".into(), error: "still full".into() });
        }
        Ok(Box::new(Controlled { controls: Arc::clone(&shared), inner: Arc::clone(&inner) }))
    });
    let (committer, _) = Committer::start(options, open).unwrap();
    (committer, controls)
}

fn quick() -> CommitterOptions {
    let (retry_min, retry_max) = (Duration::from_millis(1), Duration::from_millis(4));
    CommitterOptions { retry_min, retry_max, ..CommitterOptions::default() }
}

fn publish() -> Change {
    let event = crate::queue::change::Publish {
        namespace: NamespacePath::root(),
        rooms: vec![crate::ids::RoomName::parse("a").unwrap()],
        payload: crate::queue::record::Payload { text: "x".into(), attachments: vec![] },
        origin: bytes::Bytes::new(),
        dedup: None,
        expires_at: None,
    };
    Change::Publish(Box::new(event))
}

/// Submits a change, whose result arrives at the receiver.
fn submit(committer: &Committer) -> Result<Receiver<CommitResult>, NotSubmitted> {
    let (sender, receiver) = channel();
    let complete: Completion = Box::new(move |result| sender.send(result).unwrap_or(()));
    committer.submit(publish(), complete).map(|()| receiver)
}

fn result(committer: &Committer) -> CommitResult {
    submit(committer).unwrap_or_else(|_| panic!("not submitted")).recv_timeout(DEADLINE).unwrap()
}

fn number(result: &CommitResult) -> Option<u64> {
    match result {
        CommitResult::Committed(Outcome::Published(receipt)) => Some(receipt.offset.number),
        _ => None,
    }
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn what_waits_while_a_commit_runs_is_the_next_batch() {
    let batches = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&batches);
    let on_batch = Box::new(move || {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    let (committer, controls) = start(CommitterOptions { batch_max: 40, on_batch, ..quick() });
    controls.gate.store(1, Ordering::SeqCst);
    let first = submit(&committer).ok().unwrap();
    wait_until("the first commit runs", || controls.batches.load(Ordering::SeqCst) == 1);
    let others: Vec<_> = (0..100).map(|_| submit(&committer).ok().unwrap()).collect();
    assert_eq!(committer.state().waiting(), 100);
    controls.gate.store(0, Ordering::SeqCst);
    let numbers: Vec<_> = std::iter::once(first)
        .chain(others)
        .map(|receiver| number(&receiver.recv_timeout(DEADLINE).unwrap()).unwrap())
        .collect();
    assert!(numbers.into_iter().eq(1..=101), "in the order of submission");
    wait_until("all batches were told", || batches.load(Ordering::SeqCst) == 4);
    let state = committer.state();
    assert_eq!((state.commits(), state.changes(), state.waiting(), state.failures()), (4, 101, 0, 0));
}

#[test]
fn a_batch_is_bounded_in_bytes() {
    let (committer, controls) = start(CommitterOptions { batch_bytes_max: publish().bytes() * 3, ..quick() });
    controls.gate.store(1, Ordering::SeqCst);
    let first = submit(&committer).ok().unwrap();
    wait_until("the first commit runs", || controls.batches.load(Ordering::SeqCst) == 1);
    let others: Vec<_> = (0..9).map(|_| submit(&committer).ok().unwrap()).collect();
    controls.gate.store(0, Ordering::SeqCst);
    for receiver in std::iter::once(first).chain(others) {
        receiver.recv_timeout(DEADLINE).unwrap();
    }
    wait_until("all commits were counted", || committer.state().commits() == 4);
}

#[test]
fn too_many_waiting_changes_are_not_accepted() {
    for options in [
        CommitterOptions { waiting_max: 3, ..quick() },
        CommitterOptions { waiting_bytes_max: publish().bytes() * 3, ..quick() },
    ] {
        let (committer, controls) = start(options);
        controls.gate.store(1, Ordering::SeqCst);
        let mut receivers = vec![submit(&committer).ok().unwrap()];
        wait_until("the first commit runs", || controls.batches.load(Ordering::SeqCst) == 1);
        receivers.extend((0..3).map(|_| submit(&committer).ok().unwrap()));
        let (sender, receiver) = channel();
        let complete: Completion = Box::new(move |result| sender.send(result).unwrap_or(()));
        let refused = committer.submit(publish(), complete).err().unwrap();
        assert!(matches!(refused, NotSubmitted::Full(..)));
        refused.into_completion()(CommitResult::Unavailable);
        assert_eq!(receiver.try_recv(), Ok(CommitResult::Unavailable));
        controls.gate.store(0, Ordering::SeqCst);
        for receiver in receivers {
            assert!(number(&receiver.recv_timeout(DEADLINE).unwrap()).is_some());
        }
        assert!(number(&result(&committer)).is_some(), "there is room again");
    }
}

#[test]
fn a_failed_store_refuses_until_it_was_opened_again() {
    let (committer, controls) = start(quick());
    assert_eq!(number(&result(&committer)), Some(1));
    controls.opens.store(false, Ordering::SeqCst);
    controls.fails.store(true, Ordering::SeqCst);
    assert_eq!(result(&committer), CommitResult::Indeterminate);
    assert!(!committer.state().is_available());
    assert_eq!(result(&committer), CommitResult::Unavailable);
    controls.fails.store(false, Ordering::SeqCst);
    wait_until("several attempts failed", || committer.state().failures() > 3);
    assert_eq!(result(&committer), CommitResult::Unavailable);
    controls.opens.store(true, Ordering::SeqCst);
    wait_until("it is available again", || committer.state().is_available());
    assert_eq!(number(&result(&committer)), Some(2));
}

#[test]
fn a_store_that_lost_a_confirmed_commit_stays_refused() {
    let (committer, controls) = start(quick());
    assert_eq!(number(&result(&committer)), Some(1));
    controls.has_lost.store(true, Ordering::SeqCst);
    controls.fails.store(true, Ordering::SeqCst);
    assert_eq!(result(&committer), CommitResult::Indeterminate);
    controls.fails.store(false, Ordering::SeqCst);
    wait_until("several attempts failed", || committer.state().failures() > 3);
    assert_eq!(result(&committer), CommitResult::Unavailable);
    controls.has_lost.store(false, Ordering::SeqCst);
    wait_until("it is available again", || committer.state().is_available());
}

#[test]
fn dropping_a_committer_commits_what_waits() {
    let (committer, controls) = start(quick());
    controls.gate.store(1, Ordering::SeqCst);
    let receivers: Vec<_> = (0..5).map(|_| submit(&committer).ok().unwrap()).collect();
    controls.gate.store(0, Ordering::SeqCst);
    drop(committer);
    for receiver in receivers {
        assert!(number(&receiver.try_recv().unwrap()).is_some());
    }
}

#[test]
fn closing_commits_what_waits_and_refuses_later_changes() {
    let (committer, _) = start(quick());
    let waiting: Vec<_> = (0..10).map(|_| submit(&committer).unwrap_or_else(|_| panic!("not submitted"))).collect();
    committer.close();
    for result in waiting {
        assert!(number(&result.try_recv().unwrap()).is_some());
    }
    assert!(matches!(submit(&committer), Err(NotSubmitted::Closed(_))));
}

#[test]
fn a_change_behind_the_end_is_unavailable() {
    // In an earlier version, its publisher was told that it may be stored.
    let (committer, controls) = start(quick());
    controls.gate.store(1, Ordering::SeqCst);
    let first = submit(&committer).unwrap_or_else(|_| panic!("not submitted"));
    let end = Submitted { change: None, bytes: 0, complete: Box::new(drop) };
    assert!(committer.sender.as_ref().unwrap().send(end).is_ok());
    let second = submit(&committer).unwrap_or_else(|_| panic!("not submitted"));
    controls.gate.store(0, Ordering::SeqCst);
    assert!(number(&first.recv_timeout(DEADLINE).unwrap()).is_some());
    assert_eq!(second.recv_timeout(DEADLINE).unwrap(), CommitResult::Unavailable);
}

#[test]
fn closing_a_committer_of_a_failed_store_does_not_wait_for_it() {
    let (committer, controls) = start(CommitterOptions { retry_min: DEADLINE * 10, ..quick() });
    controls.fails.store(true, Ordering::SeqCst);
    assert_eq!(result(&committer), CommitResult::Indeterminate);
    committer.close();
    committer.close();
}

#[test]
fn dropping_a_committer_of_a_failed_store_ends_it() {
    let (committer, controls) = start(CommitterOptions { retry_min: DEADLINE * 10, ..quick() });
    controls.fails.store(true, Ordering::SeqCst);
    assert_eq!(result(&committer), CommitResult::Indeterminate);
    drop(committer);
}

fn sqlite_committer(folder: &std::path::Path) -> Committer {
    let folder = folder.to_owned();
    let open: Open = Box::new(move || {
        let limits = StoreLimits::default();
        let folder = folder.clone();
        let options =
            SqliteOptions { folder, epoch: EPOCH, limits, head_min: None, work_rows: WORK_ROWS, pages_max: None };
        SqliteStore::open(options).map(|store| Box::new(store) as Box<dyn QueueStore>)
    });
    Committer::start(quick(), open).unwrap().0
}

fn scratch(name: &str) -> std::path::PathBuf {
    let path = std::env::temp_dir().join(format!("stentor-committer-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    path
}

#[test]
fn a_committer_runs_on_a_store_in_a_folder_and_continues_its_work() {
    let folder = scratch("folder");
    let committer = sqlite_committer(&folder);
    let subscriber = SubscriberKey { namespace: NamespacePath::root(), name: SubscriberName::parse("s").unwrap() };
    let (sender, receiver) = channel();
    for change in [
        Change::CreateSubscriber { subscriber: subscriber.clone() },
        Change::RemoveSubscriber { subscriber },
        publish(),
        Change::Revealed { up_to: 1 },
    ] {
        let sender = sender.clone();
        let complete: Completion = Box::new(move |result| sender.send(result).unwrap_or(()));
        assert!(committer.submit(change, complete).is_ok());
    }
    for _ in 0..4 {
        assert!(matches!(receiver.recv_timeout(DEADLINE).unwrap(), CommitResult::Committed(_)));
    }
    drop(committer);
    std::fs::remove_dir_all(folder).unwrap();
}

/// The test process runs this test again as a child that crashes.
#[test]
fn a_crash_before_a_commit_stores_nothing_and_one_after_it_all() {
    if let Ok(folder) = std::env::var("STENTOR_QUEUE_CRASH_FOLDER") {
        let committer = sqlite_committer(folder.as_ref());
        result(&committer);
        unreachable!("the committer has aborted the process");
    }
    for (point, stored) in [("before_commit", 0), ("after_commit", 1)] {
        let folder = scratch(point);
        let test = "queue::committer::tests::a_crash_before_a_commit_stores_nothing_and_one_after_it_all";
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test])
            .env("STENTOR_QUEUE_CRASH_FOLDER", &folder)
            .env("STENTOR_QUEUE_CRASH", point)
            .output()
            .unwrap()
            .status;
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(6), "{status}");
        let limits = StoreLimits::default();
        let (path, head_min) = (folder.clone(), None);
        let options =
            SqliteOptions { folder: path, epoch: EPOCH, limits, head_min, work_rows: WORK_ROWS, pages_max: None };
        assert_eq!(SqliteStore::open(options).unwrap().head().number, stored, "{point}");
        std::fs::remove_dir_all(folder).unwrap();
    }
}

#[test]
fn a_store_that_opens_but_cannot_commit_stays_unavailable() {
    let (committer, controls) = start(quick());
    controls.fails.store(true, Ordering::SeqCst);
    assert_eq!(result(&committer), CommitResult::Indeterminate);
    std::thread::sleep(Duration::from_millis(100));
    assert!(!committer.state().is_available());
    controls.fails.store(false, Ordering::SeqCst);
    wait_until("it is available again", || committer.state().is_available());
}

#[test]
fn a_store_that_fails_with_changes_is_opened_less_and_less_often() {
    let (committer, controls) = start(CommitterOptions { retry_max: Duration::from_millis(200), ..quick() });
    controls.fails_with_changes.store(true, Ordering::SeqCst);
    let begun = Instant::now();
    for _ in 0..8 {
        assert_eq!(result(&committer), CommitResult::Indeterminate);
        wait_until("it is available again", || committer.state().is_available());
    }
    assert!(begun.elapsed() > Duration::from_millis(200), "{:?}", begun.elapsed());
    controls.fails_with_changes.store(false, Ordering::SeqCst);
    assert!(number(&result(&committer)).is_some());
}

#[test]
fn a_committer_that_panicked_is_not_available() {
    let (committer, controls) = start(quick());
    controls.panics.store(true, Ordering::SeqCst);
    let _receiver = submit(&committer);
    wait_until("its end is noticed", || !committer.state().is_available());
    wait_until("it accepts nothing", || matches!(submit(&committer), Err(NotSubmitted::Closed(_))));
}

#[test]
fn dropping_a_committer_does_not_wait_for_leftover_work() {
    let (committer, controls) = start(quick());
    controls.has_work.store(true, Ordering::SeqCst);
    assert!(number(&result(&committer)).is_some());
    let dropping = std::thread::spawn(move || drop(committer));
    std::thread::sleep(Duration::from_millis(500));
    let is_finished = dropping.is_finished();
    controls.has_work.store(false, Ordering::SeqCst);
    dropping.join().unwrap();
    assert!(is_finished);
}

#[test]
fn a_store_is_opened_again_while_changes_arrive() {
    let on_batch = Box::new(|| std::thread::sleep(Duration::from_millis(1)));
    let (committer, controls) = start(CommitterOptions { on_batch, ..quick() });
    controls.fails.store(true, Ordering::SeqCst);
    assert_eq!(result(&committer), CommitResult::Indeterminate);
    controls.fails.store(false, Ordering::SeqCst);
    let begun = Instant::now();
    while !committer.state().is_available() && begun.elapsed() < Duration::from_secs(2) {
        let _ = submit(&committer);
    }
    assert!(committer.state().is_available());
}

#[test]
fn a_busy_store_refuses_changes_and_is_not_opened_again() {
    let (committer, controls) = start(quick());
    controls.is_busy.store(true, Ordering::SeqCst);
    controls.opens.store(false, Ordering::SeqCst);
    assert_eq!(result(&committer), CommitResult::Unavailable);
    assert!(!committer.state().is_available());
    controls.is_busy.store(false, Ordering::SeqCst);
    wait_until("it is available again", || committer.state().is_available());
    assert_eq!(number(&result(&committer)), Some(1));
}

#[test]
fn changes_that_write_much_count_for_a_batch() {
    let subscriber = SubscriberKey { namespace: NamespacePath::root(), name: SubscriberName::parse("s").unwrap() };
    let term = Change::Term { subscriber: subscriber.clone(), number: 1, attempts: None, reason: String::new() };
    let replay = Change::ReplayDead { subscriber, numbers: Some(vec![1]) };
    let CommitterOptions { batch_bytes_max, .. } = CommitterOptions::default();
    assert!(term.bytes() * 16 >= batch_bytes_max && replay.bytes() >= batch_bytes_max);
    let Change::Publish(mut many) = publish() else { panic!() };
    many.rooms = (0..1_024).map(|n| crate::ids::RoomName::parse(&n.to_string()).unwrap()).collect();
    assert!(Change::Publish(many).bytes() >= batch_bytes_max, "it writes a row a room");
}
