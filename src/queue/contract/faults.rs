//! Crashes, a full disk, and folders that hold something else.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rusqlite::Connection;

use super::*;

pub(super) const DATABASE: &str = "queue.sqlite3";
const WAL: &str = "queue.sqlite3-wal";

/// All that readers see.
fn view(reader: &mut dyn QueueReader) -> String {
    let mut view = format!("{:?}\n", reader.totals().unwrap());
    for info in reader.subscribers(None, 99).unwrap() {
        let pending = reader.pending(&info.key, 0, ALL).unwrap();
        let gaps = reader.gaps(&info.key, 0, 99).unwrap();
        let dead = reader.dead_letters(&info.key, 0, ALL).unwrap();
        view.push_str(&format!("{info:?}\n{pending:?}\n{gaps:?}\n{dead:?}\n"));
    }
    view
}

/// Batches that use most kinds of changes.
pub(super) fn batches() -> Vec<Vec<Change>> {
    let mut batches = vec![vec![
        Change::CreateSubscriber { subscriber: key("s") },
        Change::CreateSubscriber { subscriber: key("t") },
        subscribe("s", "a", StartPosition::Now),
        subscribe("s", "b", StartPosition::Now),
        subscribe("t", "a", StartPosition::Now),
    ]];
    for number in 0..8_u64 {
        let head = number * 4;
        let mut batch = vec![
            publish(&["a"], "one"),
            publish_once(&number.to_string(), &["a", "b"], "two"),
            publish(&["b"], &"three".repeat(1_500)),
            publish(&["a"], "four"),
            Change::Revealed { up_to: head + 4 },
            ack("s", &[head + 1, head + 3]),
            ack_up_to("t", head),
        ];
        batch.push(match number {
            2 => term("s", 2),
            3 => unsubscribe("s", "b"),
            4 => Change::PurgeRoom { namespace: NamespacePath::root(), room: room("a"), up_to: 10 },
            5 => Change::ReplayDead { subscriber: key("s"), numbers: None },
            6 => ack_gap("s", gap(5, 9, Some(3), GapReason::Purged)),
            _ => Change::Expire { budget: 100 },
        });
        batches.push(batch);
    }
    batches
}

fn copy(from: &Path, to: &Path, wal_bytes: Option<u64>) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to).unwrap();
    fs::copy(from.join(DATABASE), to.join(DATABASE)).unwrap();
    let mut wal = fs::read(from.join(WAL)).unwrap_or_default();
    wal.truncate(wal_bytes.map_or(wal.len(), |bytes| bytes as usize));
    fs::write(to.join(WAL), wal).unwrap();
}

#[test]
fn a_crash_after_any_commit_loses_nothing() {
    let (scratch, crashed) = (Scratch::new(), Scratch::new());
    let mut store = open(scratch.path());
    let mut reader = store.reader().unwrap();
    for (number, batch) in batches().iter().enumerate() {
        store.commit(batch, UnixMillis(1_000)).unwrap();
        copy(scratch.path(), crashed.path(), None);
        let expected = view(&mut *reader);
        let mut found = open(crashed.path()).reader().unwrap();
        assert_eq!(view(&mut *found), expected, "after commit {number}");
        // Half of the commits lie in the database file, the others in the log.
        if number % 2 == 1 {
            store.maintain(true).unwrap();
        }
    }
}

#[test]
fn a_log_cut_anywhere_holds_the_commits_before_the_cut() {
    let (scratch, crashed) = (Scratch::new(), Scratch::new());
    let mut store = open(scratch.path());
    let mut reader = store.reader().unwrap();
    let wal_bytes = || fs::metadata(scratch.path().join(WAL)).unwrap().len();
    let mut commits = vec![(0, view(&mut *reader))];
    for batch in batches() {
        store.commit(&batch, UnixMillis(1_000)).unwrap();
        commits.push((wal_bytes(), view(&mut *reader)));
    }
    let frame = 4_096 + 24;
    let frames = (wal_bytes() - 32) / frame;
    assert!(frames > 40, "{frames} frames");
    for (cut, more) in (0..=frames).flat_map(|frames| [(32 + frames * frame, 0), (32 + frames * frame, 1_000)]) {
        let cut = cut + more;
        copy(scratch.path(), crashed.path(), Some(cut));
        let mut found = open(crashed.path()).reader().unwrap();
        let expected = commits.iter().rev().find(|(bytes, _)| *bytes <= cut).unwrap();
        assert_eq!(view(&mut *found), expected.1, "cut at byte {cut}");
    }
}

#[test]
fn a_full_disk_fails_the_commit_and_keeps_what_was_confirmed() {
    let scratch = Scratch::new();
    let bounded = SqliteOptions { pages_max: Some(120), ..options(scratch.path(), StoreLimits::default()) };
    let mut store = SqliteStore::open(bounded).unwrap();
    let now = UnixMillis(1);
    store.commit(&batches()[0], now).unwrap();
    let text = "x".repeat(10_000);
    let mut stored = 0;
    let error = loop {
        match store.commit(&[publish(&["a"], &text), publish(&["b"], &text)], now) {
            Ok(_) => stored += 2,
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, StoreError::Full { path, .. } if path.ends_with(DATABASE)), "{error}");
    assert!(error.to_string().ends_with("make room on the disk"), "{error}");
    assert!(stored > 10, "{stored}");
    assert_eq!(store.commit(&[], now), Err(StoreError::Failed));
    assert_eq!(store.maintain(true), Err(StoreError::Failed));
    drop(store);
    let mut store = open(scratch.path());
    assert_eq!(store.head().number, stored);
    assert_eq!(store.reader().unwrap().pending(&key("s"), 0, ALL).unwrap().events.len() as u64, stored);
    assert_eq!(receipt(store.commit(&[publish(&["a"], &text)], now).unwrap().remove(0)).offset.number, stored + 1);
}

pub(super) fn refused(folder: &Path) -> String {
    match SqliteStore::open(options(folder, StoreLimits::default())) {
        Ok(_) => panic!("opened"),
        Err(error) => error.to_string().replace(&folder.display().to_string(), "F"),
    }
}

#[test]
fn what_is_no_queue_is_not_opened() {
    let scratch = Scratch::new();
    let path = scratch.path();
    fs::write(path, "a file").unwrap();
    assert_eq!(refused(path), "queue folder F: it is a file; name a folder");
    fs::remove_file(path).unwrap();
    fs::create_dir(path).unwrap();
    fs::write(path.join("notes.txt"), "").unwrap();
    let error = refused(path);
    assert!(error.starts_with("queue folder F: it holds \"notes.txt\", which is no part of a queue;"), "{error}");
    fs::write(path.join(DATABASE), "no database ".repeat(500)).unwrap();
    let error = refused(path);
    assert!(
        error.starts_with("queue file F/queue.sqlite3: found no SQLite database, expected one of a queue;"),
        "{error}"
    );
    fs::remove_file(path.join(DATABASE)).unwrap();
    Connection::open(path.join(DATABASE)).unwrap().execute_batch("CREATE TABLE other (x)").unwrap();
    let error = refused(path);
    assert!(error.contains("application_id 0x0, expected 0x53745175; name another folder"), "{error}");
}

#[test]
fn a_newer_format_is_not_opened() {
    let scratch = Scratch::new();
    drop(open(scratch.path()));
    let database = Connection::open(scratch.path().join(DATABASE)).unwrap();
    database.execute_batch("PRAGMA user_version = 2").unwrap();
    drop(database);
    let error = refused(scratch.path());
    assert!(
        error.starts_with("queue file F/queue.sqlite3: found format 2, expected at most 1; run the newer"),
        "{error}"
    );
}

#[test]
fn two_stores_do_not_share_a_folder() {
    let scratch = Scratch::new();
    let store = open(scratch.path());
    let by = format!("queue folder F: in use by process {}; stop that, or name another folder", std::process::id());
    assert_eq!(refused(scratch.path()), by);
    drop(store);
    open(scratch.path());
}

#[test]
fn folder_and_files_are_private() {
    let scratch = Scratch::new();
    let mut store = open(scratch.path());
    store.commit(&batches()[0], UnixMillis(1)).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(scratch.path()), 0o700);
    let files: Vec<_> = fs::read_dir(scratch.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 4, "{files:?}");
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_refused() {
    // Nobody creates folders there, not even root.
    let error = SqliteStore::open(options(Path::new("/proc/stentor/queue"), StoreLimits::default())).err().unwrap();
    assert!(matches!(error, StoreError::Io { .. } | StoreError::NotPermitted { .. }), "{error}");
    let scratch = Scratch::new();
    drop(open(scratch.path()));
    fs::set_permissions(scratch.path().join(DATABASE), fs::Permissions::from_mode(0o400)).unwrap();
    match SqliteStore::open(options(scratch.path(), StoreLimits::default())) {
        Err(error) => assert!(matches!(error, StoreError::NotPermitted { .. }), "{error}"),
        // Root may write everywhere.
        Ok(_) => assert!(fs::write("/proc/self/comm", "t").is_ok()),
    }
}

#[test]
fn sqlite_is_new_enough_and_set_up_for_durability() {
    assert!(rusqlite::version_number() >= 3_051_003, "{}", rusqlite::version());
    let scratch = Scratch::new();
    let store = open(scratch.path());
    for (pragma, expected) in [("synchronous", 2), ("wal_autocheckpoint", 0), ("cell_size_check", 1), ("mmap_size", 0)]
    {
        assert_eq!(store.setting(pragma), expected, "{pragma}");
    }
}

#[test]
fn an_upkeep_moves_the_log_into_the_database_file() {
    let mut b = Bench::sqlite(StoreLimits::default());
    b.subscribe("s", &["a"]);
    let file = b.scratch.as_ref().unwrap().path().join(DATABASE);
    let before = fs::metadata(&file).unwrap().len();
    let text = "x".repeat(100_000);
    for _ in 0..20 {
        b.publish(&["a"], &text);
        b.store.maintain(false).unwrap();
    }
    assert_eq!(fs::metadata(&file).unwrap().len(), before, "not while little is in the log");
    b.store.maintain(true).unwrap();
    assert!(fs::metadata(&file).unwrap().len() > before + 2_000_000);
}

#[test]
fn a_reader_sees_whole_commits_while_another_thread_writes() {
    let scratch = Scratch::new();
    let mut store = open(scratch.path());
    store.commit(&batches()[0], UnixMillis(1)).unwrap();
    let mut reader = store.reader().unwrap();
    let writer = std::thread::spawn(move || {
        for _ in 0..100 {
            let batch: Vec<Change> = (0..10).map(|_| publish(&["a"], "x")).collect();
            store.commit(&batch, UnixMillis(1)).unwrap();
            store.maintain(true).unwrap();
        }
        store
    });
    let mut seen = 0;
    while seen < 1_000 {
        let read = numbers(&reader.pending(&key("s"), 0, ALL).unwrap());
        assert!(read.len().is_multiple_of(10) && read.len() >= seen, "{} events after {seen}", read.len());
        assert!(read.iter().copied().eq(1..=read.len() as u64));
        seen = read.len();
        assert!(
            !writer.is_finished()
                || seen == 1_000
                || numbers(&reader.pending(&key("s"), 0, ALL).unwrap()).len() == 1_000
        );
    }
    writer.join().unwrap();
}

#[test]
fn a_reader_that_stays_does_not_make_the_log_grow_for_ever() {
    let scratch = Scratch::new();
    let mut store = open(scratch.path());
    store.commit(&batches()[0], UnixMillis(1)).unwrap();
    let mut held = Connection::open(scratch.path().join(DATABASE)).unwrap();
    let text = "x".repeat(900_000);
    let wal_bytes = || fs::metadata(scratch.path().join(WAL)).unwrap().len();
    let fill = |store: &mut SqliteStore| {
        for _ in 0..20 {
            let (publish, free) = (publish(&["a"], &text), Change::Expire { budget: 9 });
            let head = store.head().number + 1;
            let changes = [publish, Change::Revealed { up_to: head }, ack("s", &[head]), ack("t", &[head]), free];
            store.commit(&changes, UnixMillis(1)).unwrap();
            store.maintain(false).unwrap();
        }
    };
    let snapshot = held.transaction().unwrap();
    let _: i64 = snapshot.query_row("SELECT head FROM queue", [], |row| row.get(0)).unwrap();
    for _ in 0..5 {
        fill(&mut store);
    }
    assert!(wal_bytes() > 80 << 20, "the reader holds {} bytes", wal_bytes());
    drop(snapshot);
    fill(&mut store);
    let bytes = wal_bytes();
    for _ in 0..5 {
        fill(&mut store);
    }
    assert_eq!(wal_bytes(), bytes);
}

#[test]
fn a_restored_copy_reuses_no_number_and_reports_a_gap() {
    let (scratch, backup) = (Scratch::new(), Scratch::new());
    let mut store = open(scratch.path());
    store.commit(&batches()[0], UnixMillis(1)).unwrap();
    store.commit(&[publish(&["a"], "1"), Change::Revealed { up_to: 1 }], UnixMillis(1)).unwrap();
    copy(scratch.path(), backup.path(), None);
    store.commit(&[publish(&["a"], "2"), publish(&["a"], "3")], UnixMillis(1)).unwrap();
    let head_min = Some(store.head());
    drop(store);
    let with_head = |folder: &Path| SqliteOptions { head_min, ..options(folder, StoreLimits::default()) };
    let mut store = SqliteStore::open(with_head(scratch.path())).unwrap();
    let mut reader = store.reader().unwrap();
    assert_eq!(reader.gaps(&key("s"), 0, 9).unwrap().gaps, [], "nothing is missing");
    drop((store, reader));
    store = SqliteStore::open(with_head(backup.path())).unwrap();
    drop(store);
    store = SqliteStore::open(with_head(backup.path())).unwrap();
    let published = store.commit(&[publish(&["a"], "4"), Change::Revealed { up_to: 4 }], UnixMillis(1)).unwrap();
    assert_eq!(receipt(published[0].clone()).offset.number, 4);
    reader = store.reader().unwrap();
    for name in ["s", "t"] {
        assert_eq!(numbers(&reader.pending(&key(name), 0, ALL).unwrap()), [1, 4]);
        assert_eq!(reader.gaps(&key(name), 0, 9).unwrap().gaps, [gap(2, 3, None, GapReason::Restored)]);
    }
    let late = [Change::CreateSubscriber { subscriber: key("late") }, subscribe("late", "c", after(0))];
    store.commit(&late, UnixMillis(1)).unwrap();
    assert_eq!(reader.gaps(&key("late"), 0, 9).unwrap().gaps, [gap(1, 3, None, GapReason::NotRetained)]);
    store.commit(&[ack_up_to("s", 4), ack_up_to("t", 4), Change::Expire { budget: 99 }], UnixMillis(1)).unwrap();
    assert_eq!(reader.totals().unwrap().events, 0);
}

#[test]
fn numbers_that_are_left_out_reveal_no_stored_event() {
    let scratch = Scratch::new();
    let mut store = SqliteStore::open(options(scratch.path(), StoreLimits::default())).unwrap();
    store.commit(&batches()[0], UnixMillis(1)).unwrap();
    store.commit(&[publish(&["a"], "1"), Change::Revealed { up_to: 1 }, publish(&["a"], "2")], UnixMillis(1)).unwrap();
    assert_eq!(store.leave_out_numbers(10).unwrap().number, 12);
    store.commit(&[publish(&["a"], "13")], UnixMillis(1)).unwrap();
    drop(store);
    let mut reader = open(scratch.path()).reader().unwrap();
    let revealed = reader.totals().unwrap().revealed;
    let unrevealed = reader.unrevealed(revealed, ALL).unwrap();
    assert_eq!(unrevealed.events.iter().map(|event| event.event.number).collect::<Vec<_>>(), [2, 13]);
    assert_eq!(reader.gaps(&key("s"), 0, 9).unwrap().gaps, [gap(3, 12, None, GapReason::Restored)]);
}

#[test]
fn a_writer_of_an_operator_does_not_end_the_store() {
    let scratch = Scratch::new();
    let mut store = open(scratch.path());
    store.commit(&batches()[0], UnixMillis(1)).unwrap();
    let operator = Connection::open(scratch.path().join(DATABASE)).unwrap();
    operator.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(store.commit(&[publish(&["a"], "x")], UnixMillis(1)).is_err());
    store.maintain(true).unwrap();
    operator.execute_batch("ROLLBACK").unwrap();
    assert_eq!(receipt(store.commit(&[publish(&["a"], "x")], UnixMillis(1)).unwrap().remove(0)).offset.number, 1);
}

#[test]
fn a_store_opens_beside_a_reader_of_an_older_state() {
    let scratch = Scratch::new();
    let mut store = open(scratch.path());
    store.commit(&batches()[0], UnixMillis(1)).unwrap();
    let held = Connection::open(scratch.path().join(DATABASE)).unwrap();
    held.execute_batch("BEGIN; SELECT head FROM queue").unwrap();
    store.commit(&batches()[1], UnixMillis(1)).unwrap();
    drop(store);
    assert_eq!(open(scratch.path()).head().number, 4);
}

#[test]
fn every_commit_is_counted() {
    both(|mut b| {
        b.subscribe("s", &["a"]);
        b.publish(&["a"], "x");
        let commits = b.store.commits();
        b.apply(ack("s", &[1]));
        let mut b = b.reopen();
        assert!(b.store.commits() > commits, "an acknowledgement too");
        let commits = b.store.commits();
        b.settle();
        b.apply(ack("s", &[1]));
        assert!(b.store.commits() > commits);
    });
}
