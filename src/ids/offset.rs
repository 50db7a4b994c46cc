//! Positions in the journal, and the tokens that represent them to clients.

use std::fmt;

use super::IdError;

/// Log sequence number: the position of a record in the hub's order. LSNs increase with gaps, are
/// below 2^51, and are never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Exclusive upper bound of all LSNs. Ack ids derived from LSNs are four times as large, and
    /// must be exact in JavaScript numbers (2^53).
    pub const END: u64 = 1 << 51;

    /// The next number.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// Returns the preceding number. A read of the journal after the preceding number includes the
    /// record with this number.
    #[must_use]
    pub(crate) const fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

/// Number of 48 bits that identifies one run of the journal. A journal has no records for offsets
/// of another epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(u64);

impl Epoch {
    /// Creates an epoch from the time of its start and 16 random bits. The time makes later epochs
    /// greater, and the random bits distinguish epochs that start in the same second.
    pub const fn new(unix_seconds: u32, random: u16) -> Self {
        Self((unix_seconds as u64) << 16 | random as u64)
    }

    pub(crate) const fn to_bits(self) -> u64 {
        self.0
    }

    /// Creates an epoch from the low 48 bits of `bits`.
    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits & 0xffff_ffff_ffff)
    }
}

/// The 24 random bits of a record, which prevent clients from guessing an offset by counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(u32);

impl Fingerprint {
    /// Creates a fingerprint from the low 24 bits of `random`.
    pub const fn new(random: u32) -> Self {
        Self(random & 0x00ff_ffff)
    }

    pub(crate) const fn to_bits(self) -> u32 {
        self.0
    }
}

/// Number of characters of an offset token on the wire.
pub(crate) const OFFSET_CHARS: usize = 21;

const EPOCH_CHARS: usize = 8;
const LSN_CHARS: usize = 9;
const FINGERPRINT_CHARS: usize = 4;

/// The characters are URL-safe and in ASCII order, so that tokens sort like their numbers.
const OFFSET_ALPHABET: &[u8; 64] = b"-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz";

/// A client's position in the journal: epoch, LSN, and fingerprint of the record, in 21 characters.
///
/// The token is opaque to clients, URL-safe, and of fixed length. Tokens of one epoch sort by LSN.
/// A token alone gives no access to anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Offset {
    /// Epoch of the journal.
    pub epoch: Epoch,
    /// Position in the journal.
    pub lsn: Lsn,
    /// Random bits of the record.
    pub fingerprint: Fingerprint,
}

impl Offset {
    /// The token as text.
    pub fn encode(&self) -> [u8; OFFSET_CHARS] {
        let mut token = [0; OFFSET_CHARS];
        write_digits(&mut token[..EPOCH_CHARS], self.epoch.0);
        write_digits(&mut token[EPOCH_CHARS..EPOCH_CHARS + LSN_CHARS], self.lsn.0);
        write_digits(&mut token[EPOCH_CHARS + LSN_CHARS..], u64::from(self.fingerprint.0));
        token
    }

    /// Parses a token. A record with this offset need not exist.
    pub fn parse(token: &str) -> Result<Self, IdError> {
        let token = token.as_bytes();
        if token.len() != OFFSET_CHARS {
            return Err(IdError::NotAnOffset);
        }
        let epoch = read_digits(&token[..EPOCH_CHARS])?;
        let lsn = read_digits(&token[EPOCH_CHARS..EPOCH_CHARS + LSN_CHARS])?;
        let fingerprint = read_digits(&token[OFFSET_CHARS - FINGERPRINT_CHARS..])?;
        if lsn >= Lsn::END {
            return Err(IdError::NotAnOffset);
        }
        Ok(Self { epoch: Epoch(epoch), lsn: Lsn(lsn), fingerprint: Fingerprint(fingerprint as u32) })
    }
}

/// Number of characters of an offset of the queue on the wire.
pub(crate) const QUEUE_OFFSET_CHARS: usize = EPOCH_CHARS + LSN_CHARS;

/// Position of a durable event in the queue: the epoch of the queue and the number of the event, in
/// 17 characters.
///
/// Numbers increase from 1 within an epoch and are never reused. The token is opaque to clients,
/// URL-safe, and of fixed length. It differs in length from the token of the journal ([`Offset`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueOffset {
    /// Epoch of the queue.
    pub epoch: Epoch,
    /// Number of the event.
    pub number: u64,
}

impl QueueOffset {
    /// Parses a token. An event with this offset need not exist.
    pub fn parse(token: &str) -> Result<Self, IdError> {
        let token = token.as_bytes();
        if token.len() != QUEUE_OFFSET_CHARS {
            return Err(IdError::NotAQueueOffset);
        }
        let digits = |digits| read_digits(digits).map_err(|_| IdError::NotAQueueOffset);
        let (epoch, number) = (digits(&token[..EPOCH_CHARS])?, digits(&token[EPOCH_CHARS..])?);
        if number >= Lsn::END {
            return Err(IdError::NotAQueueOffset);
        }
        Ok(Self { epoch: Epoch(epoch), number })
    }
}

impl fmt::Display for QueueOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut token = [0; QUEUE_OFFSET_CHARS];
        write_digits(&mut token[..EPOCH_CHARS], self.epoch.0);
        write_digits(&mut token[EPOCH_CHARS..], self.number);
        f.write_str(std::str::from_utf8(&token).unwrap_or(""))
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.encode()).unwrap_or(""))
    }
}

fn write_digits(out: &mut [u8], mut value: u64) {
    for digit in out.iter_mut().rev() {
        *digit = OFFSET_ALPHABET[(value & 63) as usize];
        value >>= 6;
    }
}

fn read_digits(digits: &[u8]) -> Result<u64, IdError> {
    digits.iter().try_fold(0, |value, digit| {
        let position = OFFSET_ALPHABET.binary_search(digit).map_err(|_| IdError::NotAnOffset)?;
        Ok(value << 6 | position as u64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn offset(lsn: u64, random: u32) -> Offset {
        Offset { epoch: Epoch::new(1_700_000_000, 7), lsn: Lsn(lsn), fingerprint: Fingerprint::new(random) }
    }

    proptest! {
        #[test]
        fn an_offset_survives_its_token(lsn in 0..Lsn::END, random: u32) {
            let token = offset(lsn, random).to_string();
            prop_assert_eq!(token.len(), OFFSET_CHARS);
            prop_assert_eq!(Offset::parse(&token), Ok(offset(lsn, random)));
        }

        #[test]
        fn tokens_of_one_epoch_sort_by_lsn(a in 0..Lsn::END, b in 0..Lsn::END, x: u32, y: u32) {
            prop_assume!(a != b);
            prop_assert_eq!(offset(a, x).to_string() < offset(b, y).to_string(), a < b);
        }

        #[test]
        fn an_offset_of_the_queue_survives_its_token(number in 0..Lsn::END) {
            let offset = QueueOffset { epoch: Epoch::new(1_700_000_000, 7), number };
            let token = offset.to_string();
            prop_assert_eq!(token.len(), QUEUE_OFFSET_CHARS);
            prop_assert_eq!(QueueOffset::parse(&token), Ok(offset));
            prop_assert_eq!(Offset::parse(&token), Err(IdError::NotAnOffset));
        }

        #[test]
        fn any_text_is_an_offset_or_an_error(text in ".{0,40}") {
            let _ = (Offset::parse(&text), QueueOffset::parse(&text));
        }
    }
}
