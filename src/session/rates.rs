//! Rate limits of a client. Events above the limits are refused, and reading is paused if the
//! client continues to send. Reading is also paused for a client whose joins are refused
//! repeatedly.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Session;
use super::directory::Directory;
use crate::api::error::ConnectError;
use crate::api::error_answer::ErrorAnswer;
use crate::ids::{NamespacePath, SocketId};
use crate::limits::Limits;
use crate::messages::event::DirectPacket;
use crate::state::rate::{Cost, Meter, Rates};
use crate::state::rooms::MembershipError;
use crate::state::session::ClientEvent;

/// Minimum interval between two `stentor:error` events for events without an ack.
const NOTICE_EVERY: Duration = Duration::from_secs(1);

/// Maximum number of refused joins per second. Bursts of up to twice this number are allowed.
/// Beyond that, reading is paused, since each refused join costs the hub a look-up and an answer.
const REFUSED_JOINS_PER_SECOND: NonZeroU32 = NonZeroU32::new(50).unwrap();

const RATE_LIMITED: &str = "rate_limited";

/// The rate limiter of one session, for all its namespaces together. The meter of the client's
/// address is stored in the directory and outlives the session.
pub(super) struct RateLimiter {
    meter: Meter,
    /// Limits of the session.
    rates: Rates,
    /// Address of the client, the limits of an address, and the directory that stores the meter.
    /// `None` if addresses are not limited, or the address is unknown.
    address: Option<(IpAddr, Rates, Arc<Directory>)>,
    /// Error message if the bytes of the current packet exceed a limit.
    exceeded: Option<String>,
    refused_joins: Meter,
    paused_until: Option<Instant>,
    joins_paused_until: Option<Instant>,
    noticed: Option<Instant>,
}

impl RateLimiter {
    /// Creates the limiter of a session whose client has the address `address`. Returns `None` if
    /// no rate is limited.
    pub(super) fn new(
        limits: &Limits,
        address: Option<IpAddr>,
        directory: &Arc<Directory>,
        now: Instant,
    ) -> Option<Box<Self>> {
        let (session, of_address) = (Rates::of_session(&limits.rates), Rates::of_address(&limits.rates));
        let is_limited = session.limit_packets() || of_address.limit_packets();
        let address =
            address.filter(|_| of_address.limit_packets()).map(|address| (address, of_address, directory.clone()));
        is_limited.then(|| Self::with_rates(session, address, now))
    }

    /// Creates a limiter that limits refused joins only.
    fn unlimited(now: Instant) -> Box<Self> {
        Self::with_rates(Rates::default(), None, now)
    }

    fn with_rates(session: Rates, address: Option<(IpAddr, Rates, Arc<Directory>)>, now: Instant) -> Box<Self> {
        let refused_joins = Rates { events: Some(REFUSED_JOINS_PER_SECOND), ..Rates::default() };
        Box::new(Self {
            meter: Meter::new(session, now),
            rates: session,
            address,
            exceeded: None,
            refused_joins: Meter::new(refused_joins, now),
            paused_until: None,
            joins_paused_until: None,
            noticed: None,
        })
    }

    /// Charges an event or bytes. If a limit is exceeded, charges only a refusal, and returns a
    /// message that names the limit.
    fn charge(&mut self, cost: Cost, now: Instant, limits: &Limits) -> Result<(), String> {
        let own_admits = self.meter.admits(cost, now);
        let of_address = self.address.as_ref().and_then(|(address, rates, directory)| {
            directory.with_meter(*address, *rates, now, limits.rates.addresses_max, |meter| {
                let admits = meter.admits(cost, now);
                if !admits {
                    self.paused_until = later(self.paused_until, now, meter.refuse(cost));
                } else if own_admits {
                    meter.take(cost);
                }
                admits
            })
        });
        if !own_admits {
            self.paused_until = later(self.paused_until, now, self.meter.refuse(cost));
        } else if of_address != Some(false) {
            self.meter.take(cost);
            return Ok(());
        }
        let of_address = self.address.as_ref().filter(|_| own_admits).map(|(_, rates, _)| *rates);
        let rates = of_address.unwrap_or(self.rates);
        let (rate, what) = match cost {
            Cost::Event | Cost::Connect => (rates.events, "events"),
            Cost::Bytes(_) => (rates.bytes, "bytes"),
        };
        let of = if of_address.is_some() { " from one address" } else { "" };
        Err(format!("more than {} {what} per second{of}; slow down", rate.map_or(0, |rate| rate.get())))
    }

    /// Returns whether the client may receive another notice about an exceeded limit. If so, the
    /// notice counts as sent.
    fn may_notify(&mut self, now: Instant) -> bool {
        let may = self.noticed.is_none_or(|last| now.saturating_duration_since(last) >= NOTICE_EVERY);
        self.noticed = if may { Some(now) } else { self.noticed };
        may
    }
}

/// Returns the later of `until` and the end of a pause that begins now. A pause of zero is ignored.
fn later(until: Option<Instant>, now: Instant, pause: Duration) -> Option<Instant> {
    until.max((!pause.is_zero()).then(|| now + pause))
}

impl Session {
    pub(super) fn charge_bytes(&mut self, bytes: usize, now: Instant) {
        if let Some(rates) = &mut self.rates {
            rates.exceeded = rates.charge(Cost::Bytes(bytes), now, &self.core.limits).err();
        }
    }

    /// Charges an event, a CONNECT or a DISCONNECT. Call [`Self::charge_bytes`] for its packet
    /// first.
    pub(super) fn charge_event(&mut self) -> Result<(), String> {
        let Some(rates) = &mut self.rates else { return Ok(()) };
        let charged = rates.charge(Cost::Event, Instant::now(), &self.core.limits);
        let charged = rates.exceeded.take().map_or(charged, Err);
        if charged.is_err() {
            self.outbox.worker.metrics().rate_limited.add(1);
        }
        charged
    }

    pub(super) fn log_refused_join(&self, refusal: MembershipError, now: Instant) {
        let worker = &self.outbox.worker;
        if let Some(skipped) = worker.log_throttles().join_refused.is_due(now) {
            let reason = match refusal {
                MembershipError::BudgetSpent => "all rooms together take rooms_bytes_max",
                MembershipError::ForeignRoom => "the room is another socket's own",
                _ => "the socket has rooms_per_socket_max rooms or room_bytes_per_socket_max bytes of names",
            };
            log::warn!("join refused sid={:?} skipped={skipped} reason=\"{reason}\"", self.guard.id);
        }
    }

    /// Logs and counts a join that the hub refused because of the limits on rooms.
    pub(super) fn on_join_refused(&mut self, refusal: MembershipError, now: Instant) {
        self.log_refused_join(refusal, now);
        // The client is not charged, since other clients may have used up the budget.
        if refusal == MembershipError::BudgetSpent {
            return;
        }
        let rates = self.rates.get_or_insert_with(|| RateLimiter::unlimited(now));
        rates.refused_joins.admits(Cost::Event, now);
        let pause = rates.refused_joins.refuse(Cost::Event);
        rates.joins_paused_until = later(rates.joins_paused_until, now, pause);
    }

    /// The time until which rate limits pause reading.
    pub(super) fn paused_until(&self) -> Option<Instant> {
        self.rates.as_ref().and_then(|rates| rates.paused_until.max(rates.joins_paused_until))
    }

    /// The reason why rate limits pause reading now. `None` if reading is not paused by rate
    /// limits.
    pub(super) fn paused_for(&mut self) -> Option<&'static str> {
        let rates = self.rates.as_mut()?;
        let now = Instant::now();
        for until in [&mut rates.paused_until, &mut rates.joins_paused_until] {
            *until = until.filter(|until| *until > now);
        }
        let above_rate = rates.paused_until.map(|_| "packets above its rate");
        above_rate.or_else(|| rates.joins_paused_until.map(|_| "joins that are refused"))
    }

    /// Refuses a CONNECT that exceeds a rate limit. The client may retry.
    pub(super) fn refuse_fast_connect(&mut self, namespace: &NamespacePath, message: String) {
        let data = serde_json::json!({ "code": RATE_LIMITED, "message": message, "temporary": true });
        self.refuse_connect(namespace, false, &ConnectError::new(RATE_LIMITED).with_data(data));
    }

    /// Refuses an event that exceeds a rate limit. The client receives the error in the ack or, if
    /// it requested no ack, as a `stentor:error` event, at most once a second.
    pub(super) fn refuse_fast_event(&mut self, socket: SocketId, event: &ClientEvent, message: String) {
        if event.ack.is_none() && !self.rates.as_mut().is_some_and(|rates| rates.may_notify(Instant::now())) {
            return;
        }
        let Some(session_socket) = self.find_socket(socket) else { return };
        let (encoder, info, refused) =
            (self.core.encoder, session_socket.socket.info(), ErrorAnswer::new(RATE_LIMITED, message));
        let packet = match event.ack {
            Some(id) => encoder.ack(&info.namespace, id, &refused).map(DirectPacket::Sealed),
            None => encoder
                .event(&info.namespace, "stentor:error", &refused, info.is_recoverable())
                .map(|draft| DirectPacket::Unnumbered { draft, volatile: false }),
        };
        // Encoding cannot fail, since the error consists of two strings.
        if let Ok(packet) = packet {
            self.credit_window.push(Instant::now, packet);
        }
    }
}
