//! The string argument of every measured event: sender and number at fixed positions, and filler up
//! to the requested length, so that receivers check it completely without a JSON parser.

/// Maximum: the longest frame minus the bytes around a payload.
pub(crate) const BYTES_MAX: usize = 60_000;
const SENDER: usize = 2;
pub(crate) const DIGITS: usize = 10;
static FILLER: [u8; BYTES_MAX] = [b'x'; BYTES_MAX];

/// Appends `bytes` bytes of payload.
pub(crate) fn push(out: &mut Vec<u8>, bytes: usize, sender: usize, sequence: u32) {
    let start = out.len();
    out.extend_from_slice(&FILLER[..bytes]);
    write_digits(&mut out[start..start + SENDER], sender as u32);
    write_digits(&mut out[start + SENDER..start + DIGITS], sequence);
}

/// Sender and sequence number of the payload of `bytes` bytes at the start of `text`, and the rest
/// of the text.
pub(crate) fn read(text: &[u8], bytes: usize) -> Option<(usize, u32, &[u8])> {
    let (digits, rest) = text.split_first_chunk::<DIGITS>()?;
    let rest = rest.strip_prefix(&FILLER[..bytes - DIGITS])?;
    let (sender, sequence) = digits.split_at(SENDER);
    Some((read_digits(sender)? as usize, read_digits(sequence)?, rest))
}

/// None if `digits` has other characters, or exceeds a u32.
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
