//! The directory of sessions, which all workers share. Its methods return owned links and permits,
//! never guards of the maps.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use crate::ids::SessionId;
use crate::limits::Limits;
use crate::live::Live;
use crate::messages::session::SessionLink;
use crate::state::rate::{Meter, Rates};

/// Minimum number of new meters between two sweeps.
const SWEEP_MIN: usize = 1_024;

/// Links to all sessions. Sessions add and remove their own entries.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    /// Limits of new sessions. Of the limits of the server, only those on the number of sessions
    /// and on rates can change.
    pub(crate) limits: Live<Limits>,
    sessions: DashMap<SessionId, SessionLink>,
    /// Permits of live sessions and of handshakes in progress.
    permits: AtomicUsize,
    /// Number of permits of each client prefix. A prefix without permits is removed.
    by_prefix: DashMap<ClientPrefix, usize>,
    /// Rate meters of client prefixes, if rates of addresses are limited. A full meter has the same
    /// effect as no meter, so a sweep removes it.
    meters: DashMap<ClientPrefix, Meter>,
    /// Number of meters that can be added before the next sweep. A sweep reads all meters.
    until_sweep: AtomicUsize,
}

/// The addresses that count as one client: one IPv4 address, or one /64 of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ClientPrefix {
    V4(u32),
    V6([u8; 8]),
}

impl From<IpAddr> for ClientPrefix {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

/// The limit that a handshake has reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionLimit {
    /// The maximum number of sessions.
    Server,
    /// The maximum number of sessions of the client's prefix.
    Address,
}

impl Directory {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits: Live::new(limits), ..Self::default() }
    }

    /// Replaces the limits of new sessions. Addresses are metered by the new rates immediately.
    pub(crate) fn set_limits(&self, limits: Limits) {
        self.limits.set(limits);
        self.meters.clear();
    }

    pub(crate) fn find(&self, id: &SessionId) -> Option<SessionLink> {
        self.sessions.get(id).map(|entry| entry.value().clone())
    }

    pub(crate) fn links(&self) -> Vec<SessionLink> {
        self.sessions.iter().map(|entry| entry.value().clone()).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Calls `change` with the meter of a client address. The meter is independent of the sessions
    /// of the address. Returns `None` if the address has no meter and there are already
    /// `meters_max` ([`limits.rates.addresses_max`](crate::limits::RateLimits::addresses_max)).
    /// Only the limits of the session itself then apply.
    pub(crate) fn with_meter<T>(
        &self,
        address: IpAddr,
        rates: Rates,
        now: Instant,
        meters_max: usize,
        change: impl FnOnce(&mut Meter) -> T,
    ) -> Option<T> {
        let prefix = ClientPrefix::from(address);
        if let Some(mut meter) = self.meters.get_mut(&prefix) {
            return Some(change(&mut meter));
        }
        if self.until_sweep.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err() {
            self.meters.retain(|_, meter| !meter.is_full(now));
            self.until_sweep.store(self.meters.len().max(SWEEP_MIN), Ordering::Relaxed);
        }
        if self.meters.len() >= meters_max {
            return None;
        }
        Some(change(&mut self.meters.entry(prefix).or_insert_with(|| Meter::new(rates, now))))
    }

    /// Reserves a permit for one more session of this address.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        address: Option<IpAddr>,
        limits: &Limits,
    ) -> Result<SessionPermit, SessionLimit> {
        // A refusal drops the permit, which undoes the counts.
        let mut permit = SessionPermit { directory: self.clone(), prefix: None };
        if self.permits.fetch_add(1, Ordering::Relaxed) >= limits.sessions.max {
            return Err(SessionLimit::Server);
        }
        if let (Some(address), Some(max)) = (address, limits.sessions.per_address_max) {
            let prefix = address.into();
            match self.by_prefix.entry(prefix) {
                Entry::Occupied(entry) if *entry.get() >= max => return Err(SessionLimit::Address),
                Entry::Vacant(_) if max == 0 => return Err(SessionLimit::Address),
                entry => *entry.or_default() += 1,
            }
            permit.prefix = Some(prefix);
        }
        Ok(permit)
    }
}

/// Permit for one session within the limits. It is reserved before the session is created, and
/// released when dropped.
#[derive(Debug)]
pub(crate) struct SessionPermit {
    directory: Arc<Directory>,
    prefix: Option<ClientPrefix>,
}

impl SessionPermit {
    pub(super) fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    pub(super) fn enter(&self, id: SessionId, link: SessionLink) {
        self.directory.sessions.insert(id, link);
    }

    pub(super) fn leave(self, id: &SessionId) {
        self.directory.sessions.remove(id);
    }
}

impl Drop for SessionPermit {
    fn drop(&mut self) {
        self.directory.permits.fetch_sub(1, Ordering::Relaxed);
        if let Some(prefix) = self.prefix {
            self.directory.by_prefix.remove_if_mut(&prefix, |_, count| {
                *count -= 1;
                *count == 0
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::*;
    use crate::state::rate::Cost;

    fn reserve(directory: &Arc<Directory>, address: &str, max: usize) -> Result<SessionPermit, SessionLimit> {
        let limits = Limits::with(|limits| {
            limits.sessions.per_address_max = Some(max);
            limits.sessions.max = 5;
        });
        directory.reserve(Some(address.parse().unwrap()), &limits)
    }

    #[test]
    fn permits_are_counted_by_address_and_in_total() {
        let directory = Arc::new(Directory::default());
        let first = reserve(&directory, "192.0.2.1", 2).unwrap();
        let second = reserve(&directory, "::ffff:192.0.2.1", 2).unwrap();
        assert_eq!(reserve(&directory, "192.0.2.1", 2).unwrap_err(), SessionLimit::Address);
        let _others = ["192.0.2.2", "2001:db8::1"].map(|address| reserve(&directory, address, 2).unwrap());
        let _fifth = directory.reserve(None, &Limits::with(|limits| limits.sessions.max = 5)).unwrap();
        assert_eq!(reserve(&directory, "192.0.2.3", 2).unwrap_err(), SessionLimit::Server);

        drop(first);
        let _third = reserve(&directory, "192.0.2.1", 2).unwrap();
        drop(second);
        assert_eq!(reserve(&directory, "192.0.2.1", 1).unwrap_err(), SessionLimit::Address);
    }

    #[test]
    fn a_64_bit_prefix_of_ipv6_is_one_client() {
        let directory = Arc::new(Directory::default());
        let _permit = reserve(&directory, "2001:db8:0:1::1", 1).unwrap();
        assert_eq!(reserve(&directory, "2001:db8:0:1:ffff::2", 1).unwrap_err(), SessionLimit::Address);
        assert!(reserve(&directory, "2001:db8:0:2::1", 1).is_ok());
    }

    #[test]
    fn addresses_without_sessions_take_no_memory() {
        let directory = Arc::new(Directory::default());
        drop(reserve(&directory, "192.0.2.1", 1).unwrap());
        assert_eq!(reserve(&directory, "192.0.2.1", 0).unwrap_err(), SessionLimit::Address);
        assert!(directory.by_prefix.is_empty());
        assert_eq!(directory.permits.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_meter_is_shared_by_a_prefix_and_removed_when_full() {
        let (directory, start) = (Directory::default(), Instant::now());
        let rates = Rates { events: NonZeroU32::new(1), ..Rates::default() };
        let admits = |address: &str, now: Instant| {
            directory.with_meter(address.parse().unwrap(), rates, now, usize::MAX, |meter| {
                let admits = meter.admits(Cost::Event, now);
                meter.take(Cost::Event);
                admits
            })
        };
        assert_eq!(["2001:db8::1", "2001:db8::2"].map(|address| admits(address, start)), [Some(true); 2]);
        assert_eq!(admits("2001:db8::3", start), Some(false));
        assert_eq!(admits("2001:db8:0:1::1", start), Some(true));

        let later = start + Duration::from_secs(60);
        (0..=SWEEP_MIN as u32 + 1).for_each(|n| {
            admits(&Ipv4Addr::from_bits(n).to_string(), later);
        });
        assert!(directory.meters.len() <= SWEEP_MIN + 2, "{}", directory.meters.len());
        assert!(!directory.meters.contains_key(&"2001:db8::1".parse::<IpAddr>().unwrap().into()));
    }

    #[test]
    fn the_number_of_meters_is_limited() {
        let (directory, now) = (Directory::default(), Instant::now());
        let rates = Rates { events: NonZeroU32::new(1), ..Rates::default() };
        let with = |n: u32| directory.with_meter(Ipv4Addr::from_bits(n).into(), rates, now, 2, |_| ());
        assert_eq!([1, 2, 3, 1].map(with), [Some(()), Some(()), None, Some(())]);
        assert_eq!(directory.meters.len(), 2);
    }
}
