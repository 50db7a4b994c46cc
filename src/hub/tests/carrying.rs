//! Sessions that are written again as the ring turns.

use super::*;
use crate::log::contract::scratch::Scratch;
use crate::log::file::{FileJournal, FileOptions};
use crate::log::folder::BootId;

fn ring(scratch: &Scratch, segments_max: usize, segment_bytes: usize) -> History {
    let limits =
        Limits { journal_segments_max: segments_max, journal_segment_bytes: segment_bytes, ..Limits::default() };
    let options = FileOptions::new(Epoch::new(1, 1), BootId::new(7), &limits);
    let journal = FileJournal::open(&scratch.0, options).unwrap();
    History::open(Box::new(journal), 7, &limits, Arc::default()).unwrap()
}

fn connect(history: &mut History, n: u32) {
    let mut bytes = [0; 15];
    bytes[..4].copy_from_slice(&n.to_le_bytes());
    let (pid, socket) = (PrivateId::from_random(bytes), SocketId::from_random(bytes));
    let offset = history.next();
    history.journal(offset, Entry::Connect { pid, socket, namespace: NamespacePath::root(), at_unix_ms: 0 });
}

fn emit(history: &mut History) {
    let body = format!("\"{}\"", "x".repeat(1_000));
    let draft = Draft::event(Parser::Json, NamespacePath::root(), "e", &body, Vec::new(), false);
    let offset = history.next();
    let event = crate::log::EventEntry {
        namespace: NamespacePath::root(),
        rooms: SmallVec::from_elem(room("a"), 1),
        except: SmallVec::new(),
        exclude: None,
        message: draft.seal(None, None),
    };
    history.journal(offset, Entry::Event(event.into()));
}

#[test]
fn many_sessions_are_written_again_as_the_ring_turns() {
    // Each was written from within the writing of the one before, and the thread ran out of stack.
    let scratch = Scratch::new();
    let mut history = ring(&scratch, 4, 4 << 20);
    (0..20_000).for_each(|n| connect(&mut history, n));
    for turn in 0..20_000 {
        emit(&mut history);
        if turn % 32 == 0 {
            history.flush();
        }
    }
    drop(history);
    assert_eq!(ring(&scratch, 4, 4 << 20).sessions(), 20_000);
}

#[test]
fn sessions_that_the_ring_has_no_room_for_do_not_stop_the_hub() {
    let scratch = Scratch::new();
    let mut history = ring(&scratch, 2, 16 << 10);
    (0..500).for_each(|n| connect(&mut history, n));
    (0..20).for_each(|_| emit(&mut history));
    assert_eq!(history.sessions(), 500, "those of this life can go on, whatever the files have room for");
}
