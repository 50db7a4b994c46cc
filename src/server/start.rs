//! Start of a hub with its journal, queue, thread and server sender.

use std::sync::{Arc, mpsc};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix::{Actor, Arbiter, ArbiterHandle};
use tokio::sync::broadcast;

use super::builder::BuildError;
use super::queue::QueueKind;
use super::recovery::JournalKind;
use crate::hub::journal_writer::JournalWriter;
use crate::hub::publishing::{HubQueue, Reports, found_events, reveal_stored};
use crate::hub::{Hub, HubAddress, Stores};
use crate::ids::{Epoch, Lsn, QueueOffset};
use crate::journal::Journal;
use crate::journal::file::{FileJournal, FileOptions, Start};
use crate::journal::folder::BootId;
use crate::journal::memory::MemoryJournal;
use crate::limits::Limits;
use crate::messages::room_change::RoomChange;
use crate::messages::session::SessionLink;
use crate::messages::subscribers::SubscribersLink;
use crate::metrics::Metrics;
use crate::protocol::socketio::Parser;
use crate::queue::change::ROOM_BYTES;
use crate::queue::committer::{CommitterOptions, Open};
use crate::queue::limits::StoreLimits;
use crate::queue::memory::MemoryStore;
use crate::queue::record::{ROOMS_MAX, Totals};
use crate::queue::service::QueueService;
use crate::queue::sqlite::{SqliteOptions, SqliteStore, WORK_ROWS};
use crate::queue::store::{QueueReader, StoreError};
use crate::state::budget::Budgets;
use crate::subscribers::{self, Subscribers};
use crate::worker::per_thread::WorkerFactory;
use crate::worker::server_sender::ServerSender;

/// Time limit for the hub's thread to start.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// Logs the limits that are computed from the available memory.
pub(super) fn log_budgets(limits: &Limits) {
    let bytes = |bound: Option<usize>| bound.unwrap_or_default();
    log::info!(
        "memory budgets memory={} outboxes={} incoming={} rooms={} journal={} sessions={} http_connections={}",
        bytes(limits.memory.bytes_max),
        bytes(limits.memory.outboxes_bytes_max),
        bytes(limits.memory.incoming_bytes_max),
        bytes(limits.memory.rooms_bytes_max),
        limits.journal.bytes_max,
        limits.sessions.max,
        limits.http.connections_max
    );
}

/// The settings of a hub.
pub(super) struct HubSettings<'a> {
    pub(super) limits: &'a Limits,
    pub(super) journal_kind: &'a JournalKind,
    pub(super) queue_kind: &'a QueueKind,
    pub(super) parser: Parser,
}

pub(super) struct StartedHub {
    pub(super) thread: ArbiterHandle,
    pub(super) address: HubAddress,
    /// `None` while the queue is off.
    pub(super) queue: Option<Arc<QueueService>>,
    /// Address of the delivery to subscribers. `None` while the queue is off.
    pub(super) subscribers: Option<SubscribersLink>,
}

pub(super) fn start_hub(
    settings: HubSettings<'_>,
    metrics: Arc<Metrics>,
    budgets: Arc<Budgets>,
    room_changes: broadcast::Sender<RoomChange>,
) -> Result<StartedHub, BuildError> {
    let HubSettings { limits, journal_kind, parser, .. } = settings;
    let of_subscribers = (subscribers::Settings::new(limits, parser), metrics.clone());
    let writer = open_journal(limits, journal_kind)?.map(|OpenedJournal { journal, seed, stored }| {
        let mut writer = JournalWriter::open(journal, seed, limits, metrics.clone())
            .map_err(|error| BuildError::JournalRead(error.to_string()))?;
        if let Some(stored) = stored {
            writer.carry_stored(stored);
        }
        Ok::<_, BuildError>(writer)
    });
    let mut writer = writer.transpose()?;
    if let Some(writer) = &writer {
        let (bytes, bytes_max) = writer.session_bytes();
        log::info!(
            "recovery starts sessions={} bytes={bytes} bytes_max={bytes_max} sessions_max={} (of 200 bytes)",
            writer.sessions(),
            (bytes_max / 200).min(limits.recovery.sessions_max)
        );
    }
    let opened = open_queue(&settings, writer.as_mut(), metrics.clone())?;
    let (hub_queue, reader) = opened.unzip();
    let queue = hub_queue.as_ref().map(|queue| queue.service.clone());
    let stores = Stores { writer, queue: hub_queue, metrics, budgets };
    let thread = Arbiter::new().handle();
    let limits = limits.clone();
    let hub = Hub::start_in_arbiter(&thread, move |_| Hub::new(limits, stores, room_changes));
    let address = HubAddress { commands: hub.clone().recipient(), control: hub.recipient() };
    let subscribers = queue.clone().zip(reader).map(|(queue, reader)| start_subscribers(queue, reader, of_subscribers));
    Ok(StartedHub { thread, address, queue, subscribers })
}

/// Starts the delivery to subscribers, on an arbiter of its own.
fn start_subscribers(
    queue: Arc<QueueService>,
    reader: Box<dyn QueueReader>,
    (settings, metrics): (subscribers::Settings, Arc<Metrics>),
) -> SubscribersLink {
    let link = SubscribersLink::new();
    let opened = link.clone();
    Subscribers::start_in_arbiter(&Arbiter::new().handle(), move |_| {
        Subscribers::new(queue, reader, opened, settings, metrics)
    });
    link
}

/// A running queue, and a reader of its store.
type OpenQueue = (HubQueue, Box<dyn QueueReader>);

/// Opens the queue, and reveals what was stored and not revealed before. Returns also a reader of
/// the store.
fn open_queue(
    settings: &HubSettings<'_>,
    writer: Option<&mut JournalWriter>,
    metrics: Arc<Metrics>,
) -> Result<Option<OpenQueue>, BuildError> {
    let HubSettings { limits, queue_kind, parser, .. } = *settings;
    let mut random = [0; 2];
    getrandom::fill(&mut random)?;
    let epoch = epoch_now(random);
    let queue_limits = StoreLimits::from(&limits.queue);
    let open: Open = match queue_kind {
        QueueKind::Off => return Ok(None),
        QueueKind::Memory => {
            let limits = queue_limits.clone();
            Box::new(move || Ok(Box::new(MemoryStore::new(epoch, limits.clone()))))
        }
        QueueKind::Folder(folder) => {
            let options = SqliteOptions {
                folder: folder.clone(),
                epoch,
                limits: queue_limits.clone(),
                head_min: writer.as_ref().and_then(|writer| writer.newest_stored()),
                work_rows: WORK_ROWS,
                pages_max: None,
            };
            // The lock is kept while the store has failed, so that nobody else opens it.
            let mut locked = None;
            Box::new(move || Ok(Box::new(SqliteStore::open_locked(options.clone(), &mut locked)?)))
        }
    };
    let failed = |error: StoreError| BuildError::Queue(error.to_string());
    let reports = Arc::<Reports>::default();
    let defaults = CommitterOptions::from(&limits.queue);
    let options = CommitterOptions {
        // An event of any admitted size can wait.
        waiting_bytes_max: defaults.waiting_bytes_max.max(2 * (queue_limits.event_bytes_max + ROOMS_MAX * ROOM_BYTES)),
        on_start: Box::new(lower_priority),
        on_found: found_events(reports.clone()),
        on_commit: Box::new(move |changes, took| metrics.commits.record(changes, took)),
        ..defaults
    };
    let (service, mut reader) = QueueService::start(options, queue_limits, open).map_err(failed)?;
    let Totals { head, events, bytes, subscribers, dead_letters, .. } = reader.totals().map_err(failed)?;
    log::info!(
        "queue starts head={} events={events} bytes={bytes} subscribers={subscribers} dead_letters={dead_letters}",
        head.number
    );
    let revealed_before_start = reveal_stored(writer, &service, &mut *reader, parser).map_err(failed)?;
    Ok(Some((HubQueue { service: Arc::new(service), reports, parser, revealed_before_start }, reader)))
}

/// Priority of the thread that commits, as `nice` counts it: beside a thread that serves clients
/// it gets about a tenth of a busy core. Commits then become fewer and larger.
#[cfg(target_os = "linux")]
const COMMITTER_NICE: i32 = 10;

/// Lowers the priority of this thread, where threads have priorities of their own.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), COMMITTER_NICE) {
        log::warn!("queue commits with the priority of a thread that serves connections error=\"{error}\"");
    }
}

/// A new epoch. The time only sorts epochs. A wrong clock is harmless, since the random bits
/// distinguish the epochs.
fn epoch_now(random: [u8; 2]) -> Epoch {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Epoch::new(seconds as u32, u16::from_le_bytes(random))
}

struct OpenedJournal {
    journal: Box<dyn Journal>,
    /// Seed of fingerprints.
    seed: u64,
    /// Position in the queue that a discarded journal said.
    stored: Option<QueueOffset>,
}

fn open_journal(limits: &Limits, journal_kind: &JournalKind) -> Result<Option<OpenedJournal>, BuildError> {
    let mut random = [0; 10];
    getrandom::fill(&mut random)?;
    let seed = u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|at| random[at]));
    let epoch = epoch_now([random[8], random[9]]);
    let mut stored = None;
    let journal: Box<dyn Journal> = match journal_kind {
        JournalKind::Off => return Ok(None),
        JournalKind::Memory => {
            Box::new(MemoryJournal::new(epoch, Lsn(0), limits.journal.records_max, limits.journal.bytes_max))
        }
        JournalKind::Folder(folder) => {
            let journal = FileJournal::open(folder, FileOptions::new(epoch, BootId::of_this_machine(), limits))?;
            match journal.start() {
                Start::New => log::info!("journal created folder={}", folder.display()),
                Start::Continued { records, cut } => {
                    log::info!("journal opened folder={} records={records} bytes_cut={cut}", folder.display());
                }
                Start::Discarded { reason } => log::warn!(
                    "journal discarded, no session can be recovered folder={} reason=\"{reason}\"",
                    folder.display()
                ),
            }
            stored = journal.discarded_stored();
            Box::new(journal)
        }
    };
    Ok(Some(OpenedJournal { journal, seed, stored }))
}

/// The limits of the sender of durable publishes outside of sessions. Its commands wait for
/// commits, so its credit must cover the events of many commits.
pub(super) fn for_durable(limits: &Limits) -> Limits {
    let mut limits = limits.clone();
    limits.hub.credit_commands = limits.hub.credit_commands.max(1_024);
    limits.hub.credit_bytes = limits.hub.credit_bytes.max(8 << 20);
    limits
}

/// Opens the server sender on the hub's thread, as a worker without sessions.
pub(super) fn open_server_sender(
    hub: &StartedHub,
    workers: &WorkerFactory,
    limits: &Limits,
    metrics: &Metrics,
) -> Result<SessionLink, BuildError> {
    let (sender, opened) = mpsc::channel();
    let (id, commands, limits, metrics) =
        (workers.next_id(), hub.address.commands.clone(), limits.clone(), metrics.new_worker());
    let budgets = workers.budgets().clone();
    let spawned =
        hub.thread.spawn_fn(move || drop(sender.send(ServerSender::open(id, commands, limits, budgets, metrics))));
    if !spawned {
        return Err(BuildError::Hub);
    }
    opened.recv_timeout(START_TIMEOUT).map_err(|_| BuildError::Hub)
}
