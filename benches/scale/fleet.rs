//! A server in this process, its threads, and its clients.

use std::cell::Cell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use actix::ArbiterHandle;
use actix_http::RequestHead;
use actix_http::header::{COOKIE, HeaderMap, HeaderName, HeaderValue};
use stentor::bench_support::line::{self, Client};
use stentor::{EmitError, Event, Limits, Recovery, Server};
use tokio::sync::oneshot;

use crate::Failure;
use crate::client::{self, Listener, Publisher, Tally};
use crate::meter::{self, CpuUsage, Times};

/// Maximum number of connecting sessions per thread, so that a handshake is measured among others
/// and not behind a queue.
const ARRIVING_MAX: u64 = 1_024;

/// Time without progress after which the run fails.
const STALL: Duration = Duration::from_secs(30);

/// Interval between two checks of the counters.
const LOOK: Duration = Duration::from_millis(1);

/// Request headers of a browser behind a login, without cookies; the hub stores them.
const HEADERS: [(&str, &str); 10] = [
    ("host", "127.0.0.1:3000"),
    ("connection", "Upgrade"),
    ("pragma", "no-cache"),
    ("cache-control", "no-cache"),
    (
        "user-agent",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
    ),
    ("upgrade", "websocket"),
    ("origin", "http://127.0.0.1:3000"),
    ("sec-websocket-version", "13"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("accept-language", "de-AT,de;q=0.9,en-GB;q=0.8,en;q=0.7"),
];

thread_local! {
    /// Counters of the clients of this thread.
    static TALLY: Cell<Option<&'static Tally>> = const { Cell::new(None) };
}

/// Rooms that the client of a number joins.
pub(crate) type Rooms = Arc<dyn Fn(usize) -> Vec<String> + Send + Sync>;

/// An event in flight to the hub.
type Emit = Pin<Box<dyn Future<Output = Result<(), EmitError>>>>;

pub(crate) struct Fleet {
    pub(crate) io: Server,
    pub(crate) workers: Vec<Worker>,
    opened: usize,
    phase: u16,
}

pub(crate) struct Worker {
    thread: ArbiterHandle,
    /// The kernel's name of the thread.
    pub(crate) id: i32,
    tally: &'static Tally,
}

#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) ready: u64,
    pub(crate) pings: u64,
    pub(crate) events: u64,
    pub(crate) listeners: u64,
    disorder: u64,
    strange: u64,
}

impl Fleet {
    /// A server with this many workers and no clients.
    pub(crate) async fn start(
        workers: usize,
        recovery: Recovery,
        ping_interval: Duration,
        rooms: Rooms,
    ) -> Result<Self, Failure> {
        let limits = Limits::with(|limits| {
            limits.sessions.ping_interval = ping_interval;
            limits.sessions.max = usize::MAX;
        });
        let io = Server::builder().recovery(recovery).limits(limits).build()?;
        io.of("/")
            .on("publish", |socket, event: Event<(String, String)>| async move {
                let (room, text) = event.data;
                socket.namespace().to(room).emit("news", text).await?;
                Ok(())
            })
            .on_connection(move |socket| {
                let rooms = rooms.clone();
                async move {
                    let number = socket.handshake().query_value("n").and_then(|number| number.parse().ok());
                    for room in rooms(number.unwrap_or_default()) {
                        socket.join(room).await?;
                    }
                    TALLY.get().expect("sessions are on threads with a tally").ready.add();
                    Ok(())
                }
            });
        let mut threads = Vec::new();
        for thread in line::threads(&io, workers) {
            let tally: &'static Tally = Box::leak(Box::default());
            let id = on(&thread, move || async move {
                TALLY.set(Some(tally));
                Ok(meter::thread())
            });
            let id = id.await?;
            threads.push(Worker { thread, id, tally });
        }
        Ok(Self { io, workers: threads, opened: 0, phase: 0 })
    }

    pub(crate) fn sessions(&self) -> usize {
        self.opened
    }

    pub(crate) fn counts(&self) -> Counts {
        self.workers.iter().map(|worker| worker.tally).fold(Counts::default(), |sum, tally| Counts {
            ready: sum.ready + tally.ready.get(),
            pings: sum.pings + tally.pings.get(),
            events: sum.events + tally.events.get(),
            listeners: sum.listeners + tally.listeners.get(),
            disorder: sum.disorder + tally.disorder.get(),
            strange: sum.strange + tally.strange.get(),
        })
    }

    /// Nanoseconds of CPU of the threads of sessions. They include the hub's part if it shares the
    /// thread of the only worker.
    pub(crate) fn on_workers(&self, spent: &CpuUsage) -> u64 {
        self.workers.iter().map(|worker| spent.of(worker.id).ran).sum()
    }

    /// Opens listeners until there are `sessions`, distributed over all threads; returns when each
    /// is in its rooms.
    pub(crate) async fn grow(&mut self, sessions: usize) -> Result<(), Failure> {
        self.open(sessions, |_, tally| Listener::new(tally)).await
    }

    /// Opens a publisher in each of the rooms, with this many events in flight.
    pub(crate) async fn publishers(&mut self, rooms: Vec<String>, window: u32) -> Result<(), Failure> {
        let first = self.opened;
        let publisher = move |number: usize, tally| Publisher::new(tally, rooms[number - first].clone(), window);
        let sessions = first + 4;
        self.open(sessions, publisher).await
    }

    async fn open<C: Client>(
        &mut self,
        sessions: usize,
        client: impl Fn(usize, &'static Tally) -> C + Clone + Send + 'static,
    ) -> Result<(), Failure> {
        let mut opening = Vec::new();
        for (nth, worker) in self.workers.iter().enumerate() {
            let (io, tally, client) = (self.io.clone(), worker.tally, client.clone());
            let numbers = (self.opened..sessions).skip(nth).step_by(self.workers.len());
            opening.push(on(&worker.thread, move || async move {
                let mut head = RequestHead::default();
                head.headers = headers();
                let mut to_be_ready = tally.ready.get();
                for number in numbers {
                    head.uri = format!("/socket.io/?EIO=4&transport=websocket&n={number}").parse()?;
                    head.headers.insert(COOKIE, cookies(number).parse()?);
                    line::connect(&io, &head, client(number, tally)).await?;
                    to_be_ready += 1;
                    while to_be_ready - tally.ready.get() >= ARRIVING_MAX {
                        tokio::time::sleep(LOOK).await;
                    }
                }
                Ok(())
            }));
        }
        for opened in opening {
            opened.await?;
        }
        self.opened = sessions;
        self.wait("sessions in their rooms", sessions as u64, |counts| counts.ready).await
    }

    /// Waits until a counter has reached a number; fails when it does not grow.
    pub(crate) async fn wait(&self, what: &str, wanted: u64, count: impl Fn(&Counts) -> u64) -> Result<(), Failure> {
        let (mut last, mut changed) = (count(&self.counts()), Instant::now());
        while last < wanted {
            tokio::time::sleep(LOOK).await;
            let now = count(&self.counts());
            if now != last {
                (last, changed) = (now, Instant::now());
            } else if changed.elapsed() > STALL {
                return Err(format!("{what}: {last} of {wanted}, and no more for {STALL:?}").into());
            }
        }
        Ok(())
    }

    /// Emits this many events to each room in turn from outside of all sessions, with a limited
    /// number in flight, and waits until each member has received all events of its room.
    pub(crate) async fn broadcast(
        &mut self,
        rooms: &[String],
        members: usize,
        broadcasts: usize,
        window: usize,
    ) -> Result<Measured, Failure> {
        let phase = self.next_phase();
        let (before, times, begun) = (self.counts(), Times::now()?, Instant::now());
        let mut under_way: VecDeque<Emit> = VecDeque::new();
        for (number, room) in (0..broadcasts).flat_map(|number| rooms.iter().map(move |room| (number, room))) {
            if under_way.len() >= window
                && let Some(emit) = under_way.pop_front()
            {
                emit.await?;
            }
            let mut emit: Emit = Box::pin(self.io.to(room).emit("news", client::payload(phase, number as u32)));
            match std::future::poll_fn(|cx| Poll::Ready(emit.as_mut().poll(cx))).await {
                Poll::Ready(done) => done?,
                Poll::Pending => under_way.push_back(emit),
            }
        }
        for emit in under_way {
            emit.await?;
        }
        self.wait_until_received(&before, rooms.len() * members, broadcasts).await?;
        Ok(Measured { spent: Times::now()?.since(&times), took: begun.elapsed() })
    }

    /// Makes every publisher publish this many events, and waits until each member of its room has
    /// received them.
    pub(crate) async fn publish(&mut self, rooms: usize, members: usize, events: usize) -> Result<Measured, Failure> {
        let phase = self.next_phase();
        let (before, times, begun) = (self.counts(), Times::now()?, Instant::now());
        self.io.to("publishers").emit("go", client::payload(phase, events as u32)).await?;
        self.wait_until_received(&before, rooms * members, events).await?;
        Ok(Measured { spent: Times::now()?.since(&times), took: begun.elapsed() })
    }

    fn next_phase(&mut self) -> u16 {
        self.phase += 1;
        self.phase
    }

    /// Waits until `members` clients have received `events` each, and checks that nothing else was
    /// received.
    async fn wait_until_received(&self, before: &Counts, members: usize, events: usize) -> Result<(), Failure> {
        let wanted = (members * events) as u64;
        self.wait("deliveries", before.events + wanted, |counts| counts.events).await?;
        let after = self.counts();
        let (received, listeners) = (after.events - before.events, after.listeners - before.listeners);
        let (disorder, strange) = (after.disorder - before.disorder, after.strange - before.strange);
        if (received, listeners, disorder, strange) != (wanted, members as u64, 0, 0) {
            return Err(format!(
                "expected {events} events to each of {members} members, {wanted} in all: {listeners} received {received}, \
                 {disorder} of them out of order, and {strange} other packets"
            )
            .into());
        }
        Ok(())
    }
}

/// Elapsed time and CPU time.
#[derive(Default)]
pub(crate) struct Measured {
    pub(crate) spent: CpuUsage,
    pub(crate) took: Duration,
}

/// They differ between sessions, so that sharing them saves nothing.
fn cookies(number: usize) -> String {
    let session = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!(
        "session={session:016x}{number:016x}; _ga=GA1.1.{number:010}.1760000000; \
         csrftoken={session:016X}{session:016x}; theme=dark; consent=analytics%3Afalse%2Cads%3Afalse"
    )
}

fn headers() -> HeaderMap {
    let pairs = HEADERS.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    pairs.collect()
}

fn on<T, F, Fut>(thread: &ArbiterHandle, task: F) -> impl Future<Output = Result<T, Failure>> + use<T, F, Fut>
where
    T: Send + 'static,
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<T, Failure>> + 'static,
{
    let (done, outcome) = oneshot::channel();
    thread.spawn_fn(move || {
        actix::spawn(async move {
            // The receiver is missing only if the run has failed already.
            let _ = done.send(task().await.map_err(|failure| failure.to_string()));
        });
    });
    async move { Ok(outcome.await.map_err(|_| "a thread of sessions has ended")??) }
}
