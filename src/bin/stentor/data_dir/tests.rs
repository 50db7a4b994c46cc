use super::*;

/// A path of its own, removed with what is there.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("stentor-data-dir-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }

    /// A data folder with these files, each of which contains its name.
    fn with(name: &str, files: &[&str]) -> Self {
        let scratch = Self::new(name);
        fs::create_dir(&scratch.0).unwrap();
        for file in files {
            scratch.write(file);
        }
        scratch
    }

    fn write(&self, file: &str) {
        let path = self.0.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, file.rsplit('/').next().unwrap()).unwrap();
    }

    fn open(&self) -> Result<DataDir, DataDirError> {
        DataDir::open(&self.0)
    }

    fn error(&self) -> String {
        self.open().unwrap_err().to_string()
    }

    /// Names in a folder below, in order. Each file still contains its name.
    fn files(&self, below: &str) -> Vec<String> {
        let folder = self.0.join(below);
        let mut names = names(&folder).unwrap();
        names.sort_unstable();
        for path in names.iter().map(|name| folder.join(name)).filter(|path| path.is_file()) {
            assert_eq!(fs::read_to_string(&path).unwrap(), path.file_name().unwrap().to_str().unwrap());
        }
        names
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const EARLIER: [&str; 5] =
    ["journal.header", "journal.lock", "segment-0000000001", "segment-0000000002", "segment.next.0000000003"];
const MOVED: [&str; 4] = ["journal.header", "segment-0000000001", "segment-0000000002", "segment.next.0000000003"];

#[test]
fn a_new_data_folder_is_created_and_private() {
    let scratch = Scratch::new("new");
    let path = scratch.0.join("a/b");
    drop(DataDir::open(&path).unwrap());
    assert_eq!(names(&path).unwrap(), [""; 0]);
    #[cfg(unix)]
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).unwrap().permissions()) & 0o777, 0o700);
}

#[test]
fn the_journal_of_an_earlier_version_is_moved() {
    let scratch = Scratch::with("moved", &EARLIER);
    scratch.write("notes.txt");
    drop(scratch.open().unwrap());
    assert_eq!((scratch.files(""), scratch.files("journal")), (owned(&["journal", "notes.txt"]), owned(&MOVED)));
    drop(scratch.open().unwrap());
    assert_eq!(scratch.files("journal"), MOVED);
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn a_move_interrupted_after_any_file_is_continued() {
    for moved in 0..=MOVED.len() {
        let scratch = Scratch::with("interrupted", &MOVED[moved..]);
        scratch.write("journal.lock");
        scratch.write("notes.txt");
        MOVED[..moved].iter().for_each(|file| scratch.write(&format!("journal/{file}")));
        drop(scratch.open().unwrap());
        assert_eq!((scratch.files(""), scratch.files("journal")), (owned(&["journal", "notes.txt"]), owned(&MOVED)));
    }
}

#[test]
fn the_header_is_moved_first_so_that_an_earlier_version_refuses() {
    let scratch = Scratch::with("order", &EARLIER);
    assert_eq!(earlier_files(&scratch.0).unwrap()[0], "journal.header");
    // A folder where the second file belongs ends the move there.
    fs::create_dir_all(scratch.0.join("journal/segment-0000000001/x")).unwrap();
    assert!(matches!(scratch.open(), Err(DataDirError::TwoJournals { .. })));
    assert_eq!(scratch.files("").len(), EARLIER.len() + 1);
}

#[test]
fn a_folder_with_other_files_is_refused_unchanged() {
    let scratch = Scratch::with("foreign", &["taxes.ods"]);
    let expected = ": it holds \"taxes.ods\", which is no part of a data folder; name an empty folder, or one that does not exist yet";
    assert!(scratch.error().ends_with(expected), "{}", scratch.error());
    assert_eq!(scratch.files(""), ["taxes.ods"]);
    scratch.write("queue/queue.sqlite3");
    scratch.open().unwrap();
}

#[test]
fn a_file_is_refused() {
    let scratch = Scratch::with("file", &["f"]);
    let error = DataDir::open(&scratch.0.join("f")).unwrap_err().to_string();
    assert!(error.ends_with("/f: it is a file; name a folder"), "{error}");
}

#[test]
fn two_journals_are_refused_unchanged() {
    let scratch = Scratch::with("two", &EARLIER);
    scratch.write("journal/journal.header");
    let expected = ": it holds \"journal.header\" of an earlier version, and \"journal/journal.header\" exists too; move one of these two journals away";
    assert!(scratch.error().ends_with(expected), "{}", scratch.error());
    assert_eq!((scratch.files("").len(), scratch.files("journal").len()), (EARLIER.len() + 1, 1));
}

#[test]
fn a_folder_in_use_is_refused_and_names_the_process() {
    let scratch = Scratch::with("used", &["journal/journal.header"]);
    fs::write(scratch.0.join("journal/journal.lock"), "process 7").unwrap();
    let first = scratch.open().unwrap();
    assert!(scratch.error().ends_with(": in use by process 7; stop that process, or name another folder"));
    drop(first);
    scratch.open().unwrap();
}

#[test]
fn a_running_process_of_an_earlier_version_keeps_its_folder() {
    let scratch = Scratch::with("running", &EARLIER);
    let lock = File::open(scratch.0.join("journal.lock")).unwrap();
    lock.lock().unwrap();
    assert!(scratch.error().contains(": in use by journal.lock; "), "{}", scratch.error());
    assert_eq!(scratch.files(""), EARLIER);
    drop(lock);
    drop(scratch.open().unwrap());
    assert_eq!(scratch.files("journal"), MOVED);
}

#[test]
fn of_two_starts_at_the_same_moment_one_moves_the_journal() {
    for _ in 0..50 {
        let scratch = Scratch::with("race", &EARLIER);
        let opened = std::thread::scope(|scope| {
            let starts = [(); 2].map(|()| scope.spawn(|| scratch.open()));
            starts.map(|start| start.join().unwrap())
        });
        assert!(opened.iter().any(Result::is_ok), "{opened:?}");
        let refused = opened.iter().filter_map(|start| start.as_ref().err());
        assert!(refused.into_iter().all(|error| matches!(error, DataDirError::Locked { .. })), "{opened:?}");
        assert_eq!((scratch.files(""), scratch.files("journal")), (owned(&["journal"]), owned(&MOVED)));
    }
}

#[cfg(unix)]
#[test]
fn symlinks_to_folders_are_followed() {
    let (scratch, elsewhere) = (Scratch::with("link", &EARLIER), Scratch::with("elsewhere", &[]));
    std::os::unix::fs::symlink(&elsewhere.0, scratch.0.join("journal")).unwrap();
    let link = elsewhere.0.with_extension("link");
    let _ = fs::remove_file(&link);
    std::os::unix::fs::symlink(&scratch.0, &link).unwrap();
    drop(DataDir::open(&link).unwrap());
    fs::remove_file(&link).unwrap();
    assert_eq!((scratch.files(""), elsewhere.files("")), (owned(&["journal"]), owned(&MOVED)));
}

#[cfg(unix)]
#[test]
fn a_dangling_symlink_is_an_error_that_names_it() {
    let scratch = Scratch::with("dangling", &EARLIER);
    std::os::unix::fs::symlink("/nowhere/journal", scratch.0.join("journal")).unwrap();
    assert!(scratch.error().contains("/journal: File exists"), "{}", scratch.error());
    assert_eq!(scratch.files("").len(), EARLIER.len() + 1);
}

#[cfg(target_os = "linux")]
#[test]
fn a_read_only_path_is_refused_with_the_remedy() {
    let error = DataDir::open(Path::new("/sys/kernel/stentor")).unwrap_err();
    assert!(matches!(error, DataDirError::NotPermitted { .. }), "{error}");
}

#[test]
fn the_journal_is_found_in_a_data_folder_and_in_its_own() {
    let scratch = Scratch::with("find", &["journal/journal.header"]);
    let journal = scratch.0.join("journal");
    assert_eq!((find_journal(&scratch.0), find_journal(&journal)), (journal.clone(), journal));
    let earlier = Scratch::with("find-earlier", &EARLIER);
    assert_eq!(find_journal(&earlier.0), earlier.0);
}
