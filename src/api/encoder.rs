//! The encoding of outgoing events and acks.

use super::args::{OutgoingArgs, ToArgs};
use super::error::EmitError;
use crate::ids::NamespacePath;
use crate::protocol::draft::Draft;
use crate::protocol::encoded::Message;
use crate::protocol::socketio::{Parser, RESERVED_EVENTS};
use crate::queue::record::Payload;

/// A server's settings for outgoing packets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Encoder {
    pub(crate) parser: Parser,
    /// True if events are numbered and carry offset tokens.
    pub(crate) recovery: bool,
    /// True if the ack of an event carries an error when no handler ran for the event.
    pub(crate) ack_errors: bool,
}

impl Encoder {
    /// Encodes an event once, with room for an offset token if `token_hole` is set and recovery is
    /// on.
    pub(crate) fn event(
        self,
        namespace: &NamespacePath,
        name: &str,
        data: &impl ToArgs,
        token_hole: bool,
    ) -> Result<Draft, EmitError> {
        if RESERVED_EVENTS.contains(&name) {
            return Err(EmitError::ReservedName(name.into()));
        }
        let args = self.encode(data)?;
        let hole = token_hole && self.recovery;
        Ok(Draft::event(self.parser, namespace.clone(), name, args.json(), args.attachments.to_vec(), hole))
    }

    /// Encodes a durable event for the members of its rooms, and as it is stored.
    pub(crate) fn durable_event(
        self,
        namespace: &NamespacePath,
        name: &str,
        data: &impl ToArgs,
    ) -> Result<(Draft, Payload), EmitError> {
        if RESERVED_EVENTS.contains(&name) {
            return Err(EmitError::ReservedName(name.into()));
        }
        let args = self.encode(data)?;
        let attachments = args.attachments.to_vec();
        let payload = Payload::of_event(name, args.json(), attachments.clone());
        if payload.event().is_none() {
            // No packet could be made of what is stored, so no subscriber would receive it.
            return Err(EmitError::Data(serde::ser::Error::custom("arguments are no valid JSON, or nested too deep")));
        }
        let draft = Draft::event(self.parser, namespace.clone(), name, args.json(), attachments, self.recovery);
        Ok((draft, payload))
    }

    /// Encodes the acknowledgement with the given ack id.
    pub(crate) fn ack(self, namespace: &NamespacePath, id: u64, data: &impl ToArgs) -> Result<Message, EmitError> {
        let args = self.encode(data)?;
        Ok(Draft::ack(self.parser, namespace.clone(), id, args.json(), args.attachments.to_vec()))
    }

    /// Converts `data` to arguments. Fails if the arguments have more attachments than the
    /// JavaScript parser accepts.
    fn encode(self, data: &impl ToArgs) -> Result<OutgoingArgs<'_>, EmitError> {
        let args = data.to_args()?;
        let (count, limit) = (args.attachments.len(), self.parser.attachments_max());
        if count > limit {
            return Err(EmitError::TooManyAttachments { count, limit });
        }
        Ok(args)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::socketio::packet::Args;

    #[test]
    fn a_durable_event_that_no_packet_can_hold_is_refused() {
        // In an earlier version, it was stored, and no subscriber received it.
        let encoder = Encoder { parser: Parser::Json, recovery: false, ack_errors: false };
        let durable = |json: String| {
            encoder.durable_event(&NamespacePath::root(), "e", &Args::from_elements([json])).map(|(_, payload)| payload)
        };
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(durable(nested(100)).is_ok_and(|payload| payload.event().is_some()));
        for json in [nested(200), "{".into(), "1 2".into()] {
            assert!(matches!(durable(json.clone()), Err(EmitError::Data(_))), "{json}");
        }
    }
}
