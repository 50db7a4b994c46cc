//! The 100-byte argument of every measured event: who sent it and its number, at fixed places, so that whoever receives
//! it checks it whole without a JSON parser.

const BYTES: usize = 100;
/// Two digits sender, eight digits sequence number.
const SENDER: usize = 2;
const DIGITS: usize = 10;
const FILLER: [u8; BYTES - DIGITS] = [b'x'; BYTES - DIGITS];

pub(crate) fn write(sender: usize, sequence: u32) -> [u8; BYTES] {
    let mut payload = [b'x'; BYTES];
    write_digits(&mut payload[..SENDER], sender as u32);
    write_digits(&mut payload[SENDER..DIGITS], sequence);
    payload
}

/// Sender and sequence number of the payload that `text` begins with, and what follows it.
pub(crate) fn read(text: &[u8]) -> Option<(usize, u32, &[u8])> {
    let (digits, rest) = text.split_first_chunk::<DIGITS>()?;
    let rest = rest.strip_prefix(&FILLER)?;
    let (sender, sequence) = digits.split_at(SENDER);
    Some((read_digits(sender)? as usize, read_digits(sequence)?, rest))
}

/// None if `digits` are none, or more than a u32 holds.
pub(crate) fn read_digits(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u32, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u32::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

fn write_digits(place: &mut [u8], mut number: u32) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}
