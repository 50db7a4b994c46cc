//! Errors of opening folders that are locked, foreign, unreadable or of a newer format.

use std::fs;
use std::io::{Seek, SeekFrom, Write};

use super::*;
use crate::journal::codec;
use crate::journal::contract::records::event;
use crate::journal::contract::scratch::Scratch;
use crate::journal::file::{FileJournal, FileOptions};
use crate::journal::{Journal, segment};

fn options() -> FileOptions {
    FileOptions {
        epoch: Epoch::new(1, 1),
        boot: BootId::new(1),
        segments_max: 4,
        segment_bytes: 1 << 20,
        records_max: 4,
        bytes_max: 1 << 20,
    }
}

fn open(scratch: &Scratch) -> FileJournal {
    FileJournal::open(&scratch.0, options()).unwrap()
}

fn write_at(path: &Path, bytes: &[u8], at: u64) {
    let mut file = OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(bytes).unwrap();
}

#[test]
fn two_processes_cannot_share_a_folder() {
    let scratch = Scratch::new();
    let journal = open(&scratch);
    let error = FileJournal::open(&scratch.0, options()).unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }));
    let by = format!("in use by process {}; stop that process, or name another folder", std::process::id());
    assert!(error.to_string().ends_with(&by), "{error}");
    drop(journal);
    open(&scratch);
}

#[test]
fn an_error_says_what_is_wrong_with_a_folder() {
    type Prepare = fn(&Scratch);
    let cases: [(Prepare, &str); 5] = [
        (
            |scratch| {
                fs::create_dir(&scratch.0).unwrap();
                fs::write(scratch.0.join("taxes.ods"), "").unwrap();
            },
            ": it holds \"taxes.ods\", which is no part of a journal; name an empty folder, or one that does not exist yet",
        ),
        (|scratch| fs::write(&scratch.0, "").unwrap(), ": it is a file; name a folder"),
        (
            |scratch| {
                drop(open(scratch));
                // The header of a later format may have another length, but its checksum is at the
                // end too.
                let mut header = [&MAGIC[..], &9u32.to_le_bytes(), b"something new"].concat();
                header.extend_from_slice(&crc32fast::hash(&header).to_le_bytes());
                fs::write(scratch.0.join("journal.header"), header).unwrap();
            },
            "/journal.header: format 9 is newer than 5, which this program knows; run the newer program, or move the folder \
             away and lose what it holds",
        ),
        (
            |scratch| {
                let mut journal = open(scratch);
                journal.append(event(1, 20)).unwrap();
                drop(journal);
                let bytes = newer_record();
                let path = segments(&scratch.0).unwrap().remove(0).1;
                write_at(&path, &bytes, segment::HEADER_BYTES as u64);
            },
            "/segment-0000000001: format 6 is newer than 5, which this program knows; run the newer program, or move the \
             folder away and lose what it holds",
        ),
        (
            |scratch| {
                drop(open(scratch));
                fs::remove_file(scratch.0.join("journal.lock")).unwrap();
                fs::create_dir(scratch.0.join("journal.lock")).unwrap();
            },
            "/journal.lock: Is a directory (os error 21)",
        ),
    ];
    for (prepare, expected) in cases {
        let scratch = Scratch::new();
        prepare(&scratch);
        let error = FileJournal::open(&scratch.0, options()).unwrap_err().to_string();
        assert!(error.contains(&*scratch.0.to_string_lossy()) && error.ends_with(expected), "{error}");
    }
}

/// An encoded record with the format version of a later program.
fn newer_record() -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode(&event(1, 20), &mut bytes);
    bytes[0] = codec::VERSION + 1;
    let sum = crc32fast::hash(&bytes[..17]);
    bytes[17..21].copy_from_slice(&sum.to_le_bytes());
    bytes
}

#[test]
fn a_foreign_folder_is_left_unchanged() {
    let scratch = Scratch::new();
    fs::create_dir(&scratch.0).unwrap();
    fs::write(scratch.0.join("taxes.ods"), "").unwrap();
    assert!(matches!(FileJournal::open(&scratch.0, options()), Err(OpenError::Foreign { .. })));
    assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 1);
}

#[test]
fn errors_of_the_file_system_are_distinguished() {
    let text = |kind: ErrorKind| OpenError::at(Path::new("/data/j"), kind.into()).to_string();
    assert!(
        text(ErrorKind::PermissionDenied).ends_with("the user of this process must be able to read and write there")
    );
    assert!(text(ErrorKind::ReadOnlyFilesystem).starts_with("journal file /data/j: not permitted (read-only"));
    assert!(text(ErrorKind::StorageFull).ends_with("make room, or name a folder on another disk"));
    assert_eq!(text(ErrorKind::TimedOut), "journal file /data/j: timed out");
}

#[test]
#[cfg(target_os = "linux")]
fn a_read_only_path_is_reported() {
    // Even root cannot create files in `/proc` and `/sys`.
    let error = FileJournal::open(Path::new("/proc/stentor/journal"), options()).unwrap_err();
    assert!(error.to_string().starts_with("journal file /proc/stentor/journal: "), "{error}");
    let error = FileJournal::open(Path::new("/sys/kernel/stentor"), options()).unwrap_err();
    assert!(matches!(error, OpenError::NotPermitted { .. }), "{error}");
}

#[test]
#[cfg(unix)]
fn files_are_readable_by_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new();
    let _journal = open(&scratch);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&scratch.0), 0o700);
    for entry in fs::read_dir(&scratch.0).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}
