//! Damaged, truncated and missing files, found at a start or while a journal is in use.

use std::os::unix::fs::FileExt;

use super::*;

#[test]
fn a_flipped_bit_anywhere_begins_a_new_epoch() {
    let scratch = Scratch::new();
    let mut journal = FileJournal::open(&scratch.0, three_records_a_segment()).unwrap();
    append(&mut journal, 1..=4);
    let old = offset(&journal, 4);
    journal.kill(0);
    let images: Vec<_> = files(&scratch).into_iter().map(|path| (fs::read(&path).unwrap(), path)).collect();
    assert_eq!(images.len(), 2);
    let header = fs::read(scratch.0.join("journal.header")).unwrap();
    for (image, path) in &images {
        for at in 0..image.len() {
            fs::write(scratch.0.join("journal.header"), &header).unwrap();
            for path in files(&scratch) {
                fs::remove_file(path).unwrap();
            }
            for (image, path) in &images {
                fs::write(path, image).unwrap();
            }
            let mut damaged = image.clone();
            damaged[at] ^= 1 << (at % 8);
            fs::write(path, &damaged).unwrap();
            let journal = FileJournal::open(&scratch.0, three_records_a_segment())
                .unwrap_or_else(|error| panic!("byte {at} of {}: {error}", path.display()));
            assert_discarded(&journal, old);
            journal.kill(0);
        }
    }
}

#[test]
fn a_header_that_is_damaged_or_missing_discards_the_journal() {
    // In an earlier version, a flipped bit of the format number counted as a newer format, and
    // every later start failed.
    let scratch = Scratch::new();
    let mut journal = open(&scratch);
    append(&mut journal, 1..=3);
    let old = offset(&journal, 3);
    drop(journal);
    let segment = files(&scratch).pop().unwrap();
    let path = scratch.0.join("journal.header");
    let (header, records) = (fs::read(&path).unwrap(), fs::read(&segment).unwrap());
    let restore = |header: Option<&[u8]>| {
        files(&scratch).iter().for_each(|file| fs::remove_file(file).unwrap());
        fs::write(&segment, &records).unwrap();
        match header {
            Some(header) => fs::write(&path, header).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
    };
    for at in 0..header.len() {
        let mut damaged = header.clone();
        damaged[at] ^= 0x40;
        restore(Some(&damaged));
        assert_discarded(&open(&scratch), old);
        restore(Some(&header[..at]));
        assert_discarded(&open(&scratch), old);
    }
    restore(Some(&[&header[..], b"more"].concat()));
    assert_discarded(&open(&scratch), old);
    restore(None);
    let journal = open(&scratch);
    assert_discarded(&journal, old);
    let epoch = journal.epoch();
    drop(journal);
    assert_eq!(open(&scratch).epoch(), epoch, "only the first start discards");
}

#[test]
fn a_truncated_or_missing_older_segment_begins_a_new_epoch() {
    type Harm = fn(&[PathBuf]);
    let harms: [(&str, Harm); 4] = [
        ("cut to nothing", |files| OpenOptions::new().write(true).open(&files[1]).unwrap().set_len(9).unwrap()),
        ("cut", |files| OpenOptions::new().write(true).open(&files[1]).unwrap().set_len(900).unwrap()),
        ("cut between records", |files| {
            let length = (segment::HEADER_BYTES + 4 * record_bytes()) as u64;
            OpenOptions::new().write(true).open(&files[1]).unwrap().set_len(length).unwrap();
        }),
        ("missing", |files| fs::remove_file(&files[1]).unwrap()),
    ];
    for (name, harm) in harms {
        let scratch = Scratch::new();
        let mut journal = FileJournal::open(&scratch.0, few_records_a_segment()).unwrap();
        append(&mut journal, 1..=30);
        let old = offset(&journal, 30);
        journal.kill(0);
        assert!(files(&scratch).len() > 2, "{name}");
        harm(&files(&scratch));
        assert_discarded(&FileJournal::open(&scratch.0, few_records_a_segment()).unwrap(), old);
    }
}

#[test]
fn a_record_out_of_order_begins_a_new_epoch() {
    let scratch = Scratch::new();
    let mut journal = open(&scratch);
    append(&mut journal, 1..=3);
    let old = offset(&journal, 3);
    journal.kill(0);
    let mut bytes = fs::read(&files(&scratch)[0]).unwrap();
    codec::encode(&event(3, 20), &mut bytes);
    fs::write(&files(&scratch)[0], bytes).unwrap();
    assert_discarded(&open(&scratch), old);
}

#[test]
fn a_closed_journal_whose_end_is_missing_is_discarded() {
    for harm in ["cut", "cut between records", "newest missing", "all missing"] {
        let scratch = Scratch::new();
        let mut journal = FileJournal::open(&scratch.0, few_records_a_segment()).unwrap();
        append(&mut journal, 1..=12);
        let old = offset(&journal, 12);
        drop(journal);
        let files = files(&scratch);
        let newest = files.last().unwrap();
        let length = fs::metadata(newest).unwrap().len();
        let cut_to = |length| OpenOptions::new().write(true).open(newest).unwrap().set_len(length).unwrap();
        match harm {
            "cut" => cut_to(length - 1),
            "cut between records" => cut_to(length - record_bytes() as u64),
            "newest missing" => fs::remove_file(newest).unwrap(),
            _ => files.iter().for_each(|file| fs::remove_file(file).unwrap()),
        }
        assert_discarded(&FileJournal::open(&scratch.0, few_records_a_segment()).unwrap(), old);
    }
}

#[test]
fn a_missing_oldest_segment_counts_as_trimmed() {
    let scratch = Scratch::new();
    let mut journal = FileJournal::open(&scratch.0, few_records_a_segment()).unwrap();
    append(&mut journal, 1..=12);
    journal.kill(0);
    fs::remove_file(&files(&scratch)[0]).unwrap();
    let journal = FileJournal::open(&scratch.0, few_records_a_segment()).unwrap();
    let first = lsns(&journal)[0];
    assert_eq!(journal.trimmed_to(), Lsn(first - 1));
    assert!(journal.read(Lsn(0), 1, 1).unwrap().trimmed);
}

#[test]
#[cfg(target_os = "linux")]
fn a_failed_write_ends_the_journal_and_its_epoch() {
    let scratch = Scratch::new();
    let mut journal = open(&scratch);
    append(&mut journal, 1..=3);
    let old = offset(&journal, 3);
    journal.append(event(4, 20)).unwrap();
    journal.write_to(OpenOptions::new().append(true).open("/dev/full").unwrap());
    let failed = journal.flush().unwrap_err();
    assert!(matches!(&failed, JournalError::Io { kind: ErrorKind::StorageFull, .. }), "{failed}");
    assert!(failed.to_string().contains("segment-0000000001"), "{failed}");
    assert_eq!(journal.append(event(5, 20)), Err(failed.clone()));
    assert_eq!((journal.flush(), journal.close()), (Err(failed.clone()), Err(failed)));
    assert_eq!(journal.head(), Lsn(3));
    assert!(!journal.knows(&offset(&journal, 4)));
    let in_memory = journal.read(Lsn(0), 99, usize::MAX).map(|chunk| chunk.records.len());
    assert_eq!(in_memory, Ok(3), "unwritten records are removed from memory too");
    drop(journal);
    assert_discarded(
        &FileJournal::open(&scratch.0, FileOptions { epoch: Epoch::new(3, 3), ..options() }).unwrap(),
        old,
    );
}

#[test]
fn damage_of_a_journal_in_use_is_an_error() {
    let scratch = Scratch::new();
    let mut journal = open(&scratch);
    append(&mut journal, 1..=20);
    let file = OpenOptions::new().write(true).open(&files(&scratch)[0]).unwrap();
    file.write_all_at(b"\xff\xff\xff", segment::HEADER_BYTES as u64 + 100).unwrap();
    let error = journal.read(Lsn(0), 99, usize::MAX).unwrap_err();
    assert!(matches!(&error, JournalError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("segment-0000000001 is damaged at byte 1"), "{error}");
    assert!(journal.read(Lsn(18), 99, usize::MAX).is_ok(), "records in memory can still be read");
}
