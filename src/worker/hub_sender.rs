//! FIFO queue of a worker's commands to the hub, sent as one message per turn.

use std::sync::Arc;

use actix::Recipient;
use actix::dev::SendError;

use crate::ids::WorkerId;
use crate::messages::hub::{HubBatch, HubCommand};
use crate::metrics::WorkerMetrics;

/// Commands of the current turn. The credit of the sessions bounds the number of commands. Commands
/// stay queued while the hub's mailbox is full.
pub(super) struct HubSender {
    worker: WorkerId,
    hub: Recipient<HubBatch>,
    pending: Vec<HubCommand>,
    metrics: Arc<WorkerMetrics>,
}

impl HubSender {
    pub(super) fn new(worker: WorkerId, hub: Recipient<HubBatch>, metrics: Arc<WorkerMetrics>) -> Self {
        Self { worker, hub, pending: Vec::new(), metrics }
    }

    pub(super) fn push(&mut self, command: HubCommand) {
        self.pending.push(command);
    }

    /// Sends the queued commands. If the hub's mailbox is full, the commands stay queued, and false
    /// is returned.
    pub(super) fn flush(&mut self) -> bool {
        if self.pending.is_empty() {
            return true;
        }
        let commands = std::mem::take(&mut self.pending);
        let count = commands.len() as u64;
        match self.hub.try_send(HubBatch { worker: self.worker, commands }) {
            Ok(()) => {
                self.metrics.commands_sent.add(count);
                true
            }
            Err(SendError::Full(batch)) => {
                self.pending = batch.commands;
                false
            }
            // The hub stops only during shutdown, since a panic of the hub aborts the process.
            Err(SendError::Closed(batch)) => {
                log::debug!(
                    "hub has stopped, commands dropped worker={} count={}",
                    self.worker.0,
                    batch.commands.len()
                );
                true
            }
        }
    }
}
