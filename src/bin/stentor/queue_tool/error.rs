//! Errors of `stentor queue`.

use std::io;

use stentor::{QueueChangeError, QueueOpenError, QueueReadError};
use thiserror::Error;

use super::super::config::ConfigError;

#[derive(Debug, Error)]
pub(crate) enum QueueToolError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{0}; give the command to that server with --url, or stop it first")]
    InUse(QueueOpenError),
    #[error(transparent)]
    Open(QueueOpenError),
    #[error(transparent)]
    Read(#[from] QueueReadError),
    #[error(transparent)]
    Change(#[from] QueueChangeError),
    #[error("subscriber {name:?} does not exist in namespace {namespace}; `stentor queue ls` lists all")]
    Unknown { name: String, namespace: String },
    #[error("subscriber {name:?} of namespace {namespace} has expired; nothing is stored for it")]
    Expired { name: String, namespace: String },
    #[error("room {room:?} of namespace {namespace} has no events and no subscribers")]
    UnknownRoom { room: String, namespace: String },
    #[error("{0}")]
    Wrong(String),
    #[error("subscriber_key is not set; set it in the file, as STENTOR_SUBSCRIBER_KEY, or with --subscriber-key")]
    NoKey,
    #[error("api_key of the server is not set; set it in the file, as STENTOR_API_KEY, or with --api-key")]
    NoApiKey,
    #[error("{command} does not take --url; run it on the machine of the server, with --data-dir")]
    NotRemote { command: String },
    #[error("server {address}: {error}")]
    Unreachable { address: String, error: io::Error },
    #[error("server {address}: unexpected response status={status}; is it the HTTP API of stentor?")]
    Unexpected { address: String, status: u16 },
    #[error("server refused the request status={status}: {message}")]
    Refused { status: u16, message: String },
    /// All damage was printed.
    #[error("damage found count={0}; restore the file from a backup")]
    Damages(u64),
    /// The other rows were printed.
    #[error("damaged rows not printed count={0}; `stentor queue check` lists all damage")]
    DamagedRows(u64),
    /// The output could not be written.
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
}

impl From<QueueOpenError> for QueueToolError {
    fn from(error: QueueOpenError) -> Self {
        match error {
            error @ QueueOpenError::InUse { .. } => Self::InUse(error),
            error => Self::Open(error),
        }
    }
}
