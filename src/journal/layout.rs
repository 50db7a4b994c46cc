//! File names, format and number encoding shared by the files of a journal's folder.

use super::codec;

/// Format of new folders, which is also the newest format that can be opened.
pub(super) const FORMAT: u32 = codec::VERSION as u32;

pub(super) const SEGMENT: &str = "segment-";
pub(super) const SPARE: &str = "segment.next";

pub(super) fn spare_name(number: u64) -> String {
    format!("{SPARE}.{number:010}")
}

pub(super) fn segment_name(sequence: u64) -> String {
    format!("{SEGMENT}{sequence:010}")
}

/// Reads the little-endian number that begins at byte `at`. Panics if `bytes` is too short.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// Reads the little-endian number that begins at byte `at`. Panics if `bytes` is too short.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
