//! Failures of file operations that a test plans for its own thread.

use std::cell::Cell;
use std::io;

thread_local! {
    static LEFT: Cell<Option<usize>> = const { Cell::new(None) };
    static CANNOT_OPEN: Cell<bool> = const { Cell::new(false) };
}

/// Calls `act`. No file can be opened meanwhile.
pub(in crate::journal) fn without_descriptors<R>(act: impl FnOnce() -> R) -> R {
    CANNOT_OPEN.set(true);
    let outcome = act();
    CANNOT_OPEN.set(false);
    outcome
}

pub(super) fn open() -> io::Result<()> {
    if CANNOT_OPEN.get() { Err(io::Error::other("too many open files")) } else { Ok(()) }
}

/// Makes one operation fail, after `operations` successful ones.
pub(in crate::journal) fn fail_after(operations: usize) {
    LEFT.set(Some(operations));
}

/// Cancels a planned failure. Returns true if the failure has already happened.
pub(in crate::journal) fn disarm() -> bool {
    LEFT.replace(None).is_none()
}

pub(super) fn step() -> io::Result<()> {
    match LEFT.get() {
        None => Ok(()),
        Some(0) => {
            LEFT.set(None);
            Err(io::Error::other("planted"))
        }
        Some(left) => {
            LEFT.set(Some(left - 1));
            Ok(())
        }
    }
}
