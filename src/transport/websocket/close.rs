//! Close frames: codes and reasons.

use std::cell::Cell;

use crate::messages::sink::CloseReason;
use crate::protocol::encoded::EncodedFrame;
use crate::protocol::reason::DisconnectReason;

pub(super) const NORMAL: u16 = 1000;
pub(super) const GOING_AWAY: u16 = 1001;
pub(super) const PROTOCOL_ERROR: u16 = 1002;
pub(super) const INVALID_DATA: u16 = 1007;
pub(super) const POLICY_VIOLATION: u16 = 1008;
pub(super) const TOO_LARGE: u16 = 1009;
pub(super) const TRY_AGAIN_LATER: u16 = 1013;

/// Code and reason that the reading half has determined for the close frame. Boxed, since most
/// connections have no such value.
pub(super) type SharedCloseInfo = Cell<Option<Box<CloseInfo>>>;

pub(super) struct CloseInfo {
    pub(super) code: u16,
    /// A more specific reason, which replaces the session's reason.
    pub(super) why: Option<String>,
}

/// Close frame for `close_reason`, unless the reading half has determined another code.
pub(super) fn close_frame(close_info: Option<Box<CloseInfo>>, close_reason: CloseReason) -> EncodedFrame {
    let (code, text) = match close_reason {
        CloseReason::OutboxFull => (POLICY_VIOLATION, "outbox full"),
        CloseReason::Ended(reason @ DisconnectReason::ServerShuttingDown) => (GOING_AWAY, reason.as_str()),
        CloseReason::Ended(reason @ DisconnectReason::ParseError) => (PROTOCOL_ERROR, reason.as_str()),
        CloseReason::Ended(reason) => (NORMAL, reason.as_str()),
    };
    match close_info.as_deref() {
        Some(CloseInfo { code, why }) => EncodedFrame::websocket_close(*code, why.as_deref().unwrap_or(text)),
        None => EncodedFrame::websocket_close(code, text),
    }
}
