//! Reads and changes of an operator in a folder: what they find, and that reads leave no trace.

use std::fs;
use std::time::SystemTime;

use rusqlite::Connection;

use super::faults::DATABASE;
use super::*;
use crate::limits;
use crate::queue::edit::QueueEditor;
use crate::queue::inspect::{QueueInspection, QueueOpenError, QueueReadError};

const ROOT: NamespacePath = NamespacePath::root();

/// Names, sizes and times of the files of a folder.
fn files(folder: &Path) -> Vec<(String, u64, SystemTime)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| {
        let (entry, metadata) = entry.map(|entry| (entry.file_name(), entry.metadata().unwrap())).unwrap();
        (entry.to_string_lossy().into_owned(), metadata.len(), metadata.modified().unwrap())
    });
    let mut entries: Vec<_> = entries.collect();
    entries.sort();
    entries
}

/// Closes a store, and gives its folder. The writer is the last to close, so that no log is left.
fn closed(b: Bench) -> Scratch {
    let Bench { store, reader, scratch, .. } = b;
    drop(reader);
    drop(store);
    scratch.unwrap()
}

fn offsets(queue: &mut QueueInspection, name: &str) -> Vec<u64> {
    queue.pending(&ROOT, name).unwrap().map(|event| event.unwrap().offset.number).collect()
}

fn edit(scratch: &Scratch) -> QueueEditor {
    QueueEditor::open(scratch.path(), &limits::QueueLimits::default()).unwrap()
}

#[test]
fn an_inspection_of_an_unused_folder_leaves_no_trace() {
    let mut b = Bench::sqlite(StoreLimits::default());
    b.subscribe("s", &["a"]);
    b.publish(&["a"], "content");
    let scratch = closed(b);
    let before = files(scratch.path());
    assert!(!before.iter().any(|(name, ..)| name.ends_with("-wal")), "{before:?}");
    let mut queue = QueueInspection::open(scratch.path()).unwrap();
    assert_eq!(offsets(&mut queue, "s"), [1]);
    assert_eq!(queue.stats().unwrap().events, 1);
    assert_eq!(queue.check(|damage| panic!("{damage}")).unwrap().events, 1);
    assert_eq!(files(scratch.path()), before);
    drop(queue);
    assert_eq!(files(scratch.path()), before);
}

#[test]
fn an_inspection_reads_beside_a_server_and_after_one_was_killed() {
    let mut b = Bench::sqlite(StoreLimits::default());
    b.subscribe("s", &["a"]);
    let mut queue = QueueInspection::open(b.scratch.as_ref().unwrap().path()).unwrap();
    assert!(offsets(&mut queue, "s").is_empty());
    b.publish(&["a"], "content");
    assert_eq!(offsets(&mut queue, "s"), [1]);
    // A copy of the files of a running server is what a killed one leaves.
    let (killed, folder) = (Scratch::new(), b.scratch.as_ref().unwrap().path());
    fs::create_dir(killed.path()).unwrap();
    for (name, ..) in files(folder) {
        fs::copy(folder.join(&name), killed.path().join(&name)).unwrap();
    }
    let log = |folder: &Path| fs::read(folder.join("queue.sqlite3-wal")).unwrap();
    let before = log(killed.path());
    assert!(!before.is_empty());
    let mut queue = QueueInspection::open(killed.path()).unwrap();
    assert_eq!(offsets(&mut queue, "s"), [1]);
    drop(queue);
    assert_eq!(log(killed.path()), before);
}

#[test]
fn a_server_that_starts_during_an_inspection_is_reported() {
    let mut b = Bench::sqlite(StoreLimits::default());
    b.subscribe("s", &["a"]);
    let scratch = closed(b);
    let mut queue = QueueInspection::open(scratch.path()).unwrap();
    let mut store = open(scratch.path());
    let path = scratch.path().join(DATABASE);
    assert_eq!(queue.stats(), Err(QueueReadError::Changed { path: path.clone() }));
    store.commit(&[publish(&["a"], "content")], UnixMillis(1_000_000)).unwrap();
    drop(store);
    assert_eq!(queue.stats(), Err(QueueReadError::Changed { path }));
    assert_eq!(QueueInspection::open(scratch.path()).unwrap().stats().unwrap().subscribers, 1);
}

#[test]
fn the_folder_of_a_queue_is_found_by_its_data_folder() {
    let scratch = Scratch::new();
    drop(open(&scratch.path().join("queue")));
    assert_eq!(QueueInspection::open(scratch.path()).unwrap().stats().unwrap().events, 0);
    assert_eq!(QueueInspection::open(scratch.path().join("queue")).unwrap().stats().unwrap().files.len(), 1);
    let empty = Scratch::new();
    let absent = QueueOpenError::Absent { path: empty.path().to_owned() };
    assert_eq!(QueueInspection::open(empty.path()).unwrap_err(), absent);
    let refused = QueueEditor::open(empty.path(), &limits::QueueLimits::default()).unwrap_err();
    assert_eq!(refused, absent);
    assert!(!empty.path().exists());
    fs::create_dir(empty.path()).unwrap();
    let path = empty.path().join(DATABASE);
    fs::write(&path, "").unwrap();
    let incomplete = QueueOpenError::Incomplete { path: path.clone() };
    assert_eq!(QueueInspection::open(empty.path()).unwrap_err(), incomplete);
    fs::write(&path, "no database".repeat(1_000)).unwrap();
    let error = QueueInspection::open(empty.path()).unwrap_err().to_string();
    assert!(error.contains("found no SQLite database"), "{error}");
}

#[test]
fn subscribers_and_their_backlog_are_listed_page_by_page() {
    let mut b = Bench::sqlite(StoreLimits::default());
    for number in 0..130 {
        b.subscribe(&format!("s{number:03}"), &["a"]);
    }
    for _ in 0..600 {
        b.publish(&["a"], "content");
    }
    b.apply(ack("s001", &(1..=599).collect::<Vec<_>>()));
    b.apply(term("s002", 1));
    let scratch = closed(b);
    let mut queue = QueueInspection::open(scratch.path()).unwrap();
    let listed: Vec<_> = queue.subscribers(100).map(Result::unwrap).collect();
    assert_eq!(listed.len(), 130);
    assert!(listed.is_sorted_by_key(|subscriber| subscriber.name.clone()));
    let figures = |at: usize| (listed[at].pending, listed[at].is_capped, listed[at].dead_letters);
    assert_eq!((figures(0), figures(1), figures(2)), ((100, true, 0), (1, false, 0), (100, true, 1)));
    assert_eq!(offsets(&mut queue, "s000"), (1..=600).collect::<Vec<_>>());
    assert_eq!(queue.pending_up_to(&ROOT, "s002", queue.offset(10)), Ok(9));
    let rooms = queue.subscriptions(&ROOT, "s001", 5).unwrap();
    assert_eq!((rooms[0].room.as_str(), rooms[0].floor.number, rooms[0].pending), ("a", 599, 1));
    let dead: Vec<_> = queue.dead_letters(&ROOT, "s002").unwrap().map(Result::unwrap).collect();
    assert_eq!((dead[0].offset.number, dead[0].payload.as_ref()), (1, b"content".as_slice()));
    assert!(queue.subscriber(&ROOT, "unknown", 1).unwrap().is_none());
    assert!(matches!(queue.subscriber(&ROOT, "", 1), Err(QueueReadError::Name(_))));
}

#[test]
fn failed_deliveries_and_gaps_are_found() {
    let mut b = Bench::sqlite(StoreLimits::default());
    b.subscribe("s", &["a"]);
    for _ in 0..4 {
        b.publish(&["a"], "content");
    }
    let failed = |number| Change::DeliveryFailed {
        subscriber: key("s"),
        number,
        attempts: 3,
        alone: true,
        retry_at: UnixMillis(5_000),
    };
    b.commit(&[failed(3), failed(4)]);
    b.complete(&Change::PurgeSubscriber { subscriber: key("s"), up_to: 2 });
    let scratch = closed(b);
    let mut queue = QueueInspection::open(scratch.path()).unwrap();
    let found = queue.failed(&ROOT, "s", 1).unwrap();
    assert_eq!(
        found.iter().map(|event| (event.offset.number, event.attempts, event.alone)).collect::<Vec<_>>(),
        [(3, 3, true)]
    );
    let gaps: Vec<_> = queue.gaps(&ROOT, "s").unwrap().map(Result::unwrap).collect();
    assert_eq!((gaps.len(), gaps[0].from.number, gaps[0].to.number, gaps[0].reason), (1, 1, 2, "purged"));
}

#[test]
fn a_check_names_file_and_row_of_every_damage() {
    let mut b = Bench::sqlite(StoreLimits::default());
    b.subscribe("s", &["a"]);
    for _ in 0..1_100 {
        b.publish(&["a"], "content");
    }
    b.apply(term("s", 1));
    let scratch = closed(b);
    let database = Connection::open(scratch.path().join(DATABASE)).unwrap();
    database.execute("UPDATE event SET payload = x'636f6e74656e75' WHERE number = 1050", []).unwrap();
    database.execute("DELETE FROM event WHERE number = 3", []).unwrap();
    database.execute("UPDATE dead_letter SET reason = 'other'", []).unwrap();
    drop(database);
    let mut queue = QueueInspection::open(scratch.path()).unwrap();
    let mut found = Vec::new();
    let check = queue.check(|damage| found.push(damage.to_string())).unwrap();
    assert_eq!((check.events, check.dead_letters, check.damages), (1_098, 1, 3));
    let file = format!("queue file {}: table", scratch.path().join(DATABASE).display());
    assert!(found[0].starts_with(&format!("{file} event, row 1050: checksum is 0x")), "{found:?}");
    assert!(found[1].starts_with(&format!("{file} dead_letter, row 1 of subscriber 1: checksum is 0x")), "{found:?}");
    assert_eq!(found[2], format!("{file} event_room, row 3 of room 1: its row of the table event is missing"));
    let events: Vec<_> = queue.pending(&ROOT, "s").unwrap().collect();
    assert_eq!(events.len(), 1_099);
    assert!(
        matches!(&events[1], Err(QueueReadError::DamagedRow(error)) if error.contains("row 3: the row is missing"))
    );
    assert_eq!(events.iter().filter(|event| event.is_err()).count(), 2);
}

#[test]
fn a_check_of_damaged_pages_ends_and_names_the_file() {
    let mut b = Bench::sqlite(StoreLimits::default());
    b.subscribe("s", &["a"]);
    for _ in 0..200 {
        b.publish(&["a"], &"content".repeat(100));
    }
    let scratch = closed(b);
    let path = scratch.path().join(DATABASE);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 20 * 4_096].fill(0x5a);
    fs::write(&path, bytes).unwrap();
    let mut queue = QueueInspection::open(scratch.path()).unwrap();
    let mut found = Vec::new();
    let check = queue.check(|damage| found.push(damage.to_string())).unwrap();
    assert!(check.damages > 0 && found.len() as u64 == check.damages);
    let file = format!("queue file {}: ", path.display());
    assert!(found.iter().all(|damage| damage.starts_with(&file)), "{found:?}");
}

#[test]
fn an_editor_refuses_a_folder_in_use_and_blocks_a_server() {
    let b = Bench::sqlite(StoreLimits::default());
    let folder = b.scratch.as_ref().unwrap().path().to_owned();
    let error = QueueEditor::open(&folder, &limits::QueueLimits::default()).unwrap_err();
    let by = format!("process {}", std::process::id());
    assert_eq!(error, QueueOpenError::InUse { path: folder.clone(), by });
    let scratch = closed(b);
    let _editor = edit(&scratch);
    assert!(matches!(SqliteStore::open(options(&folder, StoreLimits::default())), Err(StoreError::Locked { .. })));
}

#[test]
fn an_operator_purges_replays_and_removes() {
    let mut b = Bench::sqlite(StoreLimits::default());
    b.subscribe("s", &["a", "b"]);
    b.subscribe("t", &["a"]);
    for _ in 0..4 {
        b.publish(&["a", "b"], "content");
    }
    b.apply(term("s", 1));
    let scratch = closed(b);
    let mut editor = edit(&scratch);
    assert_eq!(editor.replay_dead(&ROOT, "s").unwrap(), 1);
    assert_eq!(editor.replay_dead(&ROOT, "s").unwrap(), 0);
    let up_to = |number| QueueOffset { epoch: EPOCH, number };
    editor.purge_subscriber(&ROOT, "s", up_to(2)).unwrap();
    editor.purge_room(&ROOT, "a", up_to(3)).unwrap();
    let foreign = QueueOffset { epoch: Epoch::new(1, 1), number: 1 };
    let error = editor.purge_room(&ROOT, "a", foreign).unwrap_err().to_string();
    assert!(error.contains("belongs to another queue"), "{error}");
    assert!(editor.purge_subscriber(&ROOT, "unknown", up_to(2)).is_err());
    drop(editor);
    assert!(!files(scratch.path()).iter().any(|(name, ..)| name.ends_with("-wal")));
    let mut queue = QueueInspection::open(scratch.path()).unwrap();
    assert_eq!((offsets(&mut queue, "s"), offsets(&mut queue, "t")), (vec![3, 4, 5], vec![4]));
    assert_eq!(queue.room(&ROOT, "a", up_to(4)).unwrap().unwrap().events, 1);
    drop(queue);
    edit(&scratch).remove_subscriber(&ROOT, "s").unwrap();
    assert_eq!(edit(&scratch).remove_subscriber(&ROOT, "s").unwrap_err().to_string(), "subscriber does not exist");
}

#[test]
fn an_operator_replays_what_a_rule_retains_and_skips_nothing() {
    let rule =
        crate::queue::limits::RetentionRule { max_events: Some(100), ..crate::limits::RetentionRule::new("kept") };
    let mut b = Bench::sqlite(StoreLimits { retention: vec![rule], ..StoreLimits::default() });
    b.subscribe("s", &["kept", "freed"]);
    for _ in 0..3 {
        b.publish(&["kept"], "content");
        b.publish(&["freed"], "content");
    }
    b.apply(ack("s", &[1, 2, 3, 4, 5]));
    let limits = b.limits.clone();
    let scratch = closed(b);
    let mut editor = edit(&scratch);
    let after = |number| QueueOffset { epoch: EPOCH, number };
    let error = editor.replay_from(&ROOT, "s", after(6)).unwrap_err().to_string();
    assert!(error.contains("would skip event") && error.contains("(number 6)"), "{error}");
    assert!(editor.replay_from(&ROOT, "s", after(9)).unwrap_err().to_string().contains("is beyond the newest event"));
    editor.replay_from(&ROOT, "s", after(1)).unwrap();
    drop(editor);
    // The server frees nothing that is pending again, and keeps what its rule retains.
    let mut store = SqliteStore::open(options(scratch.path(), limits)).unwrap();
    while store.has_work() {
        store.commit(&[], UnixMillis(1_000_000)).unwrap();
    }
    let mut reader = store.reader().unwrap();
    assert_eq!(numbers(&reader.pending(&key("s"), 0, ALL).unwrap()), [3, 5, 6]);
    let room = |name| RoomName::parse(name).unwrap();
    assert_eq!(numbers(&reader.events(&ROOT, &[room("kept")], 0, ALL).unwrap()), [1, 3, 5]);
    assert_eq!(reader.gaps(&key("s"), 0, 99).unwrap().gaps, [gap(2, 4, None, GapReason::NotRetained)]);
}
