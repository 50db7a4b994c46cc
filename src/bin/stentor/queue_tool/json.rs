//! Events and dead letters as lines of JSON.

use std::io::{self, Write};
use std::time::SystemTime;

use serde::Serialize;
use serde_json::value::RawValue;
use stentor::{InspectedDeadLetter, InspectedEvent, QueueReadError};

use super::text::time;
use super::{QueueToolError, Result};

/// An event or a dead letter. Fields that it does not have are omitted.
#[derive(Serialize)]
pub(super) struct Line {
    offset: String,
    number: u64,
    room: String,
    published_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dead_at: Option<String>,
    attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_at: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    alone: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    replay_of: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    payload: Payload,
    /// Sizes of binary attachments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attachment_bytes: Vec<usize>,
}

/// A payload that is no JSON is shown as text.
#[derive(Serialize)]
#[serde(untagged)]
enum Payload {
    Json(Box<RawValue>),
    Text(String),
}

impl Payload {
    fn new(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes).into_owned();
        // Spaces between tokens may be line breaks.
        let is_line = !text.contains(['\n', '\r']);
        match serde_json::from_str::<Box<RawValue>>(&text) {
            Ok(json) if is_line => Self::Json(json),
            _ => Self::Text(text),
        }
    }
}

pub(super) fn event(event: &InspectedEvent) -> Line {
    Line {
        offset: event.offset.to_string(),
        number: event.offset.number,
        room: event.room.clone(),
        published_at: time(event.published_at),
        expires_at: event.expires_at.map(time),
        dead_at: None,
        attempts: event.attempts,
        retry_at: event.retry_at.filter(|at| *at > SystemTime::UNIX_EPOCH).map(time),
        alone: event.alone,
        replay_of: event.replay_of.map(|offset| offset.to_string()),
        reason: None,
        payload: Payload::new(&event.payload),
        attachment_bytes: event.attachments.iter().map(|bytes| bytes.len()).collect(),
    }
}

pub(super) fn dead_letter(dead: &InspectedDeadLetter) -> Line {
    Line {
        offset: dead.offset.to_string(),
        number: dead.offset.number,
        room: dead.room.clone(),
        published_at: time(dead.published_at),
        expires_at: None,
        dead_at: Some(time(dead.dead_at)),
        attempts: dead.attempts,
        retry_at: None,
        alone: false,
        replay_of: None,
        reason: Some(dead.reason.clone()),
        payload: Payload::new(&dead.payload),
        attachment_bytes: dead.attachments.iter().map(|bytes| bytes.len()).collect(),
    }
}

/// Prints lines. Damaged rows are counted and reported after the others.
pub(super) fn print(
    lines: impl Iterator<Item = std::result::Result<Line, QueueReadError>>,
    out: &mut impl Write,
) -> Result<()> {
    let mut damaged = 0;
    for line in lines {
        match line {
            Ok(line) => {
                serde_json::to_writer(&mut *out, &line).map_err(io::Error::from)?;
                out.write_all(b"\n")?;
            }
            Err(QueueReadError::DamagedRow(_)) => damaged += 1,
            Err(error) => return Err(error.into()),
        }
    }
    if damaged == 0 { Ok(()) } else { Err(QueueToolError::DamagedRows(damaged)) }
}
