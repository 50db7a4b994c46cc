//! Errors of opening, reading and changing the folder of a queue.

use std::path::PathBuf;

use thiserror::Error;

use crate::queue::change::Refusal;
use crate::queue::store::StoreError;

/// The reason why the folder of a queue was not opened.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum QueueOpenError {
    /// Name the data folder of a server, or the folder of its queue.
    #[error("folder {}: there is no queue in it; name the data folder of a server that has queue = \"disk\"", path.display())]
    Absent {
        /// Path of the folder.
        path: PathBuf,
    },
    /// Wait until the server has started for the first time.
    #[error("queue file {}: the queue is not complete yet; start the server again, or name another folder", path.display())]
    Incomplete {
        /// Path of the database.
        path: PathBuf,
    },
    /// Run the program as the user of the server.
    #[error("queue file {}: not permitted ({error}); run this as the user of the server, who owns the folder", path.display())]
    NotPermitted {
        /// The database, or the folder.
        path: PathBuf,
        /// Error of the system.
        error: String,
    },
    /// Stop the other process, or give the command to it.
    #[error("queue folder {}: in use by {by}", path.display())]
    InUse {
        /// Path of the folder.
        path: PathBuf,
        /// The process, as far as it is known.
        by: String,
    },
    /// The file is damaged, is no queue, or was written by a newer version. The text says what to
    /// do.
    #[error("{0}")]
    Unusable(String),
}

/// The reason why a queue cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum QueueReadError {
    /// A server has begun to use the folder during the read: open the queue again.
    #[error("queue file {}: a server has begun to use it meanwhile; repeat the command", path.display())]
    Changed {
        /// Path of the database.
        path: PathBuf,
    },
    /// An event or dead letter whose stored bytes are not those that were written. Others can be
    /// read.
    #[error("{0}")]
    DamagedRow(String),
    /// The name cannot be that of a subscriber or a room.
    #[error("{0}")]
    Name(String),
    /// The file cannot be read. The text says what to do.
    #[error("{0}")]
    Unreadable(String),
}

/// The reason why a queue was not changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum QueueChangeError {
    /// The queue is unchanged. The text says what was expected.
    #[error("{0}")]
    Refused(String),
    /// The change may be stored or not: open the queue again and look.
    #[error("{0}")]
    Failed(String),
    /// The queue cannot be read.
    #[error(transparent)]
    Read(#[from] QueueReadError),
}

impl From<StoreError> for QueueOpenError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Locked { path, by } => Self::InUse { path, by },
            StoreError::NotPermitted { path, error } => Self::NotPermitted { path, error },
            error => Self::Unusable(error.to_string()),
        }
    }
}

impl From<StoreError> for QueueReadError {
    fn from(error: StoreError) -> Self {
        Self::Unreadable(error.to_string())
    }
}

impl From<StoreError> for QueueChangeError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Busy { .. } => Self::Refused(error.to_string()),
            error => Self::Failed(error.to_string()),
        }
    }
}

impl From<Refusal> for QueueChangeError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal.to_string())
    }
}
