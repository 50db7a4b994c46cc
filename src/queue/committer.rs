//! The thread that owns the store and commits in groups.
//!
//! A batch is what waited while the last commit ran; nothing waits for a batch to fill. The
//! committer fails closed: after an error of the store the changes of that commit are indeterminate
//! and all later ones unavailable, until the store was opened again and found to have everything
//! that was confirmed.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::change::{Change, Outcome};
use super::record::{QueueOffset, UnixMillis};
use super::store::{QueueReader, QueueStore, StoreError, UnrevealedEvent, for_each_unrevealed};
use crate::ids::Epoch;
use crate::limits::QueueLimits;

/// Result of a change, for its publisher or subscriber.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CommitResult {
    /// Applied and durable, or refused.
    Committed(Outcome),
    /// The commit failed; the change may be stored or not. Publish again under the same `dedup_id`.
    Indeterminate,
    /// The store has failed; the change is not stored.
    Unavailable,
}

/// Receives the result, on the committer's thread: it must not block. Dropped uncalled if the
/// committer has panicked, or if the change was submitted in the moment in which the committer
/// ended. The receiver cannot tell these, so the change counts as indeterminate.
pub(crate) type Completion = Box<dyn FnOnce(CommitResult) + Send>;

/// Opens the store, at the start and after each failure.
pub(crate) type Open = Box<dyn FnMut() -> Result<Box<dyn QueueStore>, StoreError> + Send>;

pub(crate) struct CommitterOptions {
    /// Changes that may wait, and bytes of them.
    pub waiting_max: usize,
    pub waiting_bytes_max: usize,
    /// Changes of one commit, and bytes past which a commit takes no further change.
    pub batch_max: usize,
    pub batch_bytes_max: usize,
    /// Pauses between attempts to open a failed store.
    pub retry_min: Duration,
    pub retry_max: Duration,
    /// Called once, on the committer's thread.
    pub on_start: Box<dyn FnMut() + Send>,
    /// Receives events that a failed commit has stored nevertheless, in order, when the store was
    /// opened again: after the results of that commit, before those of any later one.
    pub on_found: Box<dyn FnMut(UnrevealedEvent) + Send>,
    /// Receives a new reader after each reopening of the store, whose file may be another one.
    pub on_reopened: Box<dyn FnMut(Box<dyn QueueReader>) + Send>,
    /// Called after each commit of changes with their number and the time that the commit took.
    pub on_commit: Box<dyn FnMut(usize, Duration) + Send>,
    /// Called after the results of a batch were given, so that their receiver is woken once.
    pub on_batch: Box<dyn FnMut() + Send>,
    pub clock: fn() -> UnixMillis,
}

impl Default for CommitterOptions {
    fn default() -> Self {
        let limits = QueueLimits::default();
        Self {
            waiting_max: limits.waiting_max,
            waiting_bytes_max: limits.waiting_bytes_max,
            batch_max: limits.batch_max,
            batch_bytes_max: limits.batch_bytes_max,
            retry_min: Duration::from_millis(100),
            retry_max: Duration::from_secs(30),
            on_start: Box::new(|| {}),
            on_found: Box::new(|_| {}),
            on_reopened: Box::new(drop),
            on_commit: Box::new(|_, _| {}),
            on_batch: Box::new(|| {}),
            clock: unix_millis,
        }
    }
}

/// Time by the clock of the machine.
pub(crate) fn unix_millis() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(since.as_millis() as u64)
}

/// State of a committer, readable from any thread.
#[derive(Debug, Default)]
pub(crate) struct CommitterState {
    has_failed: AtomicBool,
    waiting: AtomicUsize,
    waiting_bytes: AtomicUsize,
    commits: AtomicU64,
    changes: AtomicU64,
    failures: AtomicU64,
    events: AtomicU64,
    bytes: AtomicU64,
}

impl CommitterState {
    /// True while changes can be committed, for `/readyz`.
    pub(crate) fn is_available(&self) -> bool {
        !self.has_failed.load(Ordering::Acquire)
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Number and bytes of the stored events and dead letters.
    pub(crate) fn sizes(&self) -> (u64, u64) {
        (self.events.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    fn set_sizes(&self, (events, bytes): (u64, u64)) {
        self.events.store(events, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(crate) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// Changes of successful commits.
    #[cfg(test)]
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// Failed commits and failed attempts to open the store again.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }
}

/// A change that the committer did not accept, and why.
pub(crate) enum NotSubmitted {
    /// Too many changes wait; nothing was stored.
    Full(Change, Completion),
    /// The committer has ended.
    Closed(Completion),
}

impl NotSubmitted {
    /// The completion of the change, which was not called.
    pub(crate) fn into_completion(self) -> Completion {
        match self {
            Self::Full(_, complete) | Self::Closed(complete) => complete,
        }
    }
}

struct Submitted {
    /// `None` ends the committer.
    change: Option<Change>,
    bytes: usize,
    complete: Completion,
}

/// Handle of the committer's thread. Dropping it commits what waits and ends the thread.
pub(crate) struct Committer {
    sender: Option<SyncSender<Submitted>>,
    state: Arc<CommitterState>,
    waiting_bytes_max: usize,
    thread: Option<JoinHandle<()>>,
}

impl Committer {
    /// Opens the store and starts the thread. The reader may move to another one.
    pub(crate) fn start(options: CommitterOptions, mut open: Open) -> Result<(Self, Box<dyn QueueReader>), StoreError> {
        let store = open()?;
        let reader = store.reader()?;
        let (sender, receiver) = sync_channel(options.waiting_max);
        let state = Arc::new(CommitterState::default());
        state.set_sizes(store.sizes());
        let waiting_bytes_max = options.waiting_bytes_max;
        let (QueueOffset { epoch, number: head }, confirmed, pause) =
            (store.head(), store.commits(), options.retry_min);
        let mut worker = Worker {
            options,
            open,
            receiver,
            state: Arc::clone(&state),
            epoch,
            confirmed,
            head,
            store: Some(store),
            pause,
            ending: None,
        };
        let thread = std::thread::Builder::new()
            .name("stentor-queue".to_owned())
            .spawn(move || worker.run())
            .map_err(|error| StoreError::Io { path: "thread".into(), error: error.to_string() })?;
        let committer = Self { sender: Some(sender), state, waiting_bytes_max, thread: Some(thread) };
        Ok((committer, reader))
    }

    /// Submits a change. Changes are committed in the order in which they were submitted.
    pub(crate) fn submit(&self, change: Change, complete: Completion) -> Result<(), NotSubmitted> {
        let Some(sender) = &self.sender else { return Err(NotSubmitted::Closed(complete)) };
        let bytes = change.bytes();
        let state = &self.state;
        if state.waiting_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > self.waiting_bytes_max {
            state.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(NotSubmitted::Full(change, complete));
        }
        state.waiting.fetch_add(1, Ordering::Relaxed);
        sender.try_send(Submitted { change: Some(change), bytes, complete }).map_err(|error| {
            state.waiting.fetch_sub(1, Ordering::Relaxed);
            state.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            match error {
                TrySendError::Full(Submitted { change: Some(change), complete, .. }) => {
                    NotSubmitted::Full(change, complete)
                }
                TrySendError::Full(Submitted { complete, .. })
                | TrySendError::Disconnected(Submitted { complete, .. }) => NotSubmitted::Closed(complete),
            }
        })
    }

    /// Commits what was submitted and ends the thread. Blocks until the store is closed.
    pub(crate) fn close(&self) {
        let (ended, end) = sync_channel::<()>(0);
        let complete = Box::new(move |_| drop(ended));
        if let Some(sender) = &self.sender
            && sender.send(Submitted { change: None, bytes: 0, complete }).is_ok()
        {
            // Returns when the thread drops the other side.
            let _ = end.recv();
        }
    }

    pub(crate) fn state(&self) -> &Arc<CommitterState> {
        &self.state
    }
}

impl fmt::Debug for Committer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Committer").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.sender = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("queue committer ended by a panic");
        }
    }
}

/// Idle time after which maintenance runs.
const IDLE: Duration = Duration::from_millis(500);

struct Worker {
    options: CommitterOptions,
    open: Open,
    receiver: Receiver<Submitted>,
    state: Arc<CommitterState>,
    epoch: Epoch,
    /// Commits that were confirmed.
    confirmed: u64,
    /// The newest event of the confirmed commits.
    head: u64,
    /// None while it has failed.
    store: Option<Box<dyn QueueStore>>,
    /// Pause before the store is opened again. It grows until changes were committed.
    pause: Duration,
    /// Set when the committer is to end. Dropped after the store was closed.
    ending: Option<Completion>,
}

/// Marks the queue as failed when the thread ends, also by a panic.
struct EndGuard(Arc<CommitterState>);

impl Drop for EndGuard {
    fn drop(&mut self) {
        self.0.has_failed.store(true, Ordering::Release);
    }
}

impl Worker {
    fn run(&mut self) {
        let _guard = EndGuard(Arc::clone(&self.state));
        (self.options.on_start)();
        self.commit_until_end();
        // Closing may take time, in which further changes are submitted.
        self.store = None;
        while let Ok(Submitted { change, bytes, complete }) = self.receiver.try_recv() {
            if change.is_some() {
                self.forget_waiting(bytes);
                complete(CommitResult::Unavailable);
            }
        }
        (self.options.on_batch)();
    }

    fn commit_until_end(&mut self) {
        loop {
            if self.store.is_none() && !self.reopen() {
                return;
            }
            let Some(store) = &mut self.store else { continue };
            let has_work = store.has_work();
            let received = self.receiver.recv_timeout(if has_work { Duration::ZERO } else { IDLE });
            let is_idle = match received {
                Ok(first) => {
                    let batch = self.fill(first);
                    if !batch.is_empty() {
                        self.commit(batch);
                    }
                    if self.ending.is_some() {
                        return;
                    }
                    false
                }
                // A store that was busy is tried again.
                Err(RecvTimeoutError::Timeout) if has_work || !self.state.is_available() => {
                    self.commit(Vec::new());
                    false
                }
                Err(RecvTimeoutError::Timeout) => true,
                // Work that is left is continued after the next start.
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if let Some(Err(error)) = self.store.as_mut().map(|store| store.maintain(is_idle)) {
                self.fail(&error);
            }
        }
    }

    /// Takes what waits, up to the bounds of a batch.
    fn fill(&mut self, first: Submitted) -> Vec<(Change, Completion)> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let mut next = Some(first);
        while let Some(Submitted { change, bytes: change_bytes, complete }) = next {
            let Some(change) = change else {
                self.ending = Some(complete);
                break;
            };
            bytes += change_bytes;
            self.forget_waiting(change_bytes);
            batch.push((change, complete));
            let is_full = batch.len() >= self.options.batch_max || bytes >= self.options.batch_bytes_max;
            next = if is_full { None } else { self.receiver.try_recv().ok() };
        }
        batch
    }

    fn forget_waiting(&self, bytes: usize) {
        self.state.waiting.fetch_sub(1, Ordering::Relaxed);
        self.state.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn commit(&mut self, batch: Vec<(Change, Completion)>) {
        let Some(store) = &mut self.store else { return };
        let (changes, completions): (Vec<Change>, Vec<Completion>) = batch.into_iter().unzip();
        let begin = Instant::now();
        match store.commit(&changes, (self.options.clock)()) {
            Ok(outcomes) => {
                self.state.set_sizes(store.sizes());
                (self.confirmed, self.head) = (store.commits(), store.head().number);
                self.state.has_failed.store(false, Ordering::Release);
                if !changes.is_empty() {
                    (self.options.on_commit)(changes.len(), begin.elapsed());
                    self.pause = self.options.retry_min;
                }
                self.state.commits.fetch_add(1, Ordering::Relaxed);
                self.state.changes.fetch_add(changes.len() as u64, Ordering::Relaxed);
                for (complete, outcome) in completions.into_iter().zip(outcomes) {
                    complete(CommitResult::Committed(outcome));
                }
            }
            Err(error @ StoreError::Busy { .. }) => {
                log::error!("queue refuses durable events error=\"{error}\"");
                self.state.failures.fetch_add(1, Ordering::Relaxed);
                self.state.has_failed.store(true, Ordering::Release);
                for complete in completions {
                    complete(CommitResult::Unavailable);
                }
            }
            Err(error) => {
                self.fail(&error);
                for complete in completions {
                    complete(CommitResult::Indeterminate);
                }
            }
        }
        if !changes.is_empty() {
            (self.options.on_batch)();
        }
    }

    fn fail(&mut self, error: &StoreError) {
        log::error!("queue failed, durable events are refused until it is opened again error=\"{error}\"");
        self.state.failures.fetch_add(1, Ordering::Relaxed);
        self.state.has_failed.store(true, Ordering::Release);
        self.store = None;
    }

    /// Opens the store again, and answers changes until that succeeds. False if the committer ends
    /// before.
    fn reopen(&mut self) -> bool {
        loop {
            if !self.refuse_until(Instant::now() + self.pause) {
                return false;
            }
            self.pause = (self.pause * 2).min(self.options.retry_max);
            match self.try_open().and_then(|store| Ok((store.reader()?, store))) {
                Ok((reader, store)) => {
                    log::info!("queue opened again head={}", store.head().number);
                    (self.confirmed, self.head) = (store.commits(), store.head().number);
                    self.store = Some(store);
                    (self.options.on_reopened)(reader);
                    self.state.has_failed.store(false, Ordering::Release);
                    return true;
                }
                Err(error) => {
                    self.state.failures.fetch_add(1, Ordering::Relaxed);
                    log::error!("queue not opened, the next attempt follows pause={:?} error=\"{error}\"", self.pause);
                }
            }
        }
    }

    fn try_open(&mut self) -> Result<Box<dyn QueueStore>, StoreError> {
        let mut store = (self.open)()?;
        let found = if store.head().epoch == self.epoch { store.commits() } else { 0 };
        if found < self.confirmed {
            return Err(StoreError::Lost { path: "queue".into(), found, expected: self.confirmed });
        }
        // A store that cannot write may still be opened.
        store.commit(&[], (self.options.clock)())?;
        for event in read_after(&*store, self.head)? {
            (self.options.on_found)(event);
        }
        Ok(store)
    }

    /// Answers changes as unavailable until a time. False if no further change can come.
    fn refuse_until(&mut self, until: Instant) -> bool {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            match self.receiver.recv_timeout(left) {
                Ok(Submitted { change: None, complete, .. }) => {
                    self.ending = Some(complete);
                    return false;
                }
                Ok(Submitted { bytes, complete, .. }) => {
                    self.forget_waiting(bytes);
                    complete(CommitResult::Unavailable);
                    (self.options.on_batch)();
                }
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }
}

/// Reads the events after a number, which are those of one commit.
fn read_after(store: &dyn QueueStore, head: u64) -> Result<Vec<UnrevealedEvent>, StoreError> {
    let mut events = Vec::new();
    for_each_unrevealed(&mut *store.reader()?, head, |event| events.push(event))?;
    Ok(events)
}

#[cfg(test)]
mod tests;
