//! Queues on disk that `stentor serve` cannot use: it does not start, and says what to do.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::read::GzDecoder;

use crate::support::{Process, stentor};

/// Positions in the header of an SQLite file.
const USER_VERSION: usize = 60;
const APPLICATION_ID: usize = 68;

/// A data folder, removed with the value.
struct Data(PathBuf);

impl Data {
    /// A folder whose queue is this file.
    fn with(name: &str, database: &[u8]) -> Self {
        let data = Self(std::env::temp_dir().join(format!("stentor-it-queue-{}-{name}", std::process::id())));
        let _ = fs::remove_dir_all(&data.0);
        fs::create_dir_all(data.0.join("queue")).unwrap();
        fs::write(data.database(), database).unwrap();
        data
    }

    fn database(&self) -> PathBuf {
        self.0.join("queue/queue.sqlite3")
    }

    fn serve(&self) -> Command {
        self.serve_with_recovery("off")
    }

    fn serve_with_recovery(&self, recovery: &str) -> Command {
        let mut command =
            stentor(&["serve", "--recovery", recovery, "--queue", "disk", "--workers", "2", "--data-dir"]);
        command.arg(&self.0);
        command
    }

    /// Standard error of a start that fails.
    fn refused(&self) -> String {
        refused(&mut self.serve())
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn refused(command: &mut Command) -> String {
    let output = command.args(["--port", "0", "--log-level", "error"]).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{error}");
    error
}

/// A queue with events, of another server.
fn queue() -> Vec<u8> {
    let mut database = Vec::new();
    GzDecoder::new(&include_bytes!("queue.sqlite3.gz")[..]).read_to_end(&mut database).unwrap();
    database
}

fn queue_with(position: usize, number: u32) -> Vec<u8> {
    let mut database = queue();
    database[position..position + 4].copy_from_slice(&number.to_be_bytes());
    database
}

fn message(path: &Path, error: &str) -> String {
    format!(
        "stentor: queue: queue file {}: {error}\nstentor: set data_dir (--data-dir), or queue to \"memory\" or \"off\"\n",
        path.display()
    )
}

#[test]
fn files_that_are_no_queue_are_refused_unchanged_with_the_remedy() {
    let text = b"no database, but longer than a header of one ".repeat(100);
    for (name, database, error) in [
        (
            "newer",
            queue_with(USER_VERSION, 99),
            "found format 99, expected at most 1; run the newer program that wrote it, or name another folder",
        ),
        (
            "foreign",
            queue_with(APPLICATION_ID, 0x0f05_5112),
            "found an SQLite database with application_id 0xf055112, expected 0x53745175; name another folder",
        ),
        ("text", text, "found no SQLite database, expected one of a queue; restore the file, or name another folder"),
    ] {
        let data = Data::with(name, &database);
        assert_eq!(data.refused(), message(&data.database(), error));
        assert!(fs::read(data.database()).unwrap() == database, "{name}: the file was changed");
    }
}

#[test]
fn a_damaged_queue_is_refused_with_the_remedy() {
    let mut database = queue();
    database.truncate(database.len() / 2);
    let data = Data::with("damaged", &database);
    let error = data.refused();
    assert!(
        error.contains("damaged (") && error.contains("restore it from a backup, or move the folder away"),
        "{error}"
    );
}

#[test]
fn a_folder_of_other_files_is_refused_with_the_remedy() {
    let data = Data::with("other", b"");
    fs::rename(data.database(), data.0.join("queue/photo.jpeg")).unwrap();
    let error = data.refused();
    assert!(error.contains("it holds \"photo.jpeg\", which is no part of a queue; name an empty folder"), "{error}");
}

#[test]
fn a_queue_in_use_is_refused_with_the_process_that_uses_it() {
    let data = Data::with("in-use", &queue());
    let first = Process::run(&mut data.serve());
    let error = data.refused();
    assert!(
        error.contains("in use by process ") && error.contains("stop that process, or name another folder"),
        "{error}"
    );
    first.stop();
}

#[cfg(unix)]
#[test]
fn a_queue_that_its_user_cannot_write_is_refused_with_the_remedy() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    use std::os::unix::process::CommandExt;
    let data = Data::with("read-only", &queue());
    let mut command = data.serve();
    if fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0) {
        // Permissions do not bind root.
        for path in [data.0.clone(), data.0.join("queue")] {
            chown(path, Some(65_534), None).unwrap();
        }
        command.uid(65_534);
    }
    fs::set_permissions(data.database(), fs::Permissions::from_mode(0o444)).unwrap();
    let error = refused(&mut command);
    assert!(error.contains("queue.sqlite3: not permitted ("), "{error}");
    assert!(error.contains("the user of this process must be able to read and write there"), "{error}");
}

/// Needs Linux and a mount namespace, otherwise nothing is tested.
#[cfg(target_os = "linux")]
#[test]
fn a_full_and_a_read_only_file_system_are_refused_with_the_remedy() {
    let in_namespace = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c", script]);
        command
    };
    let data = Data::with("small", &queue());
    let mount = "mount -t tmpfs -o size=1m none";
    if !in_namespace(&format!("{mount} \"$0\"")).arg(&data.0).status().is_ok_and(|status| status.success()) {
        return eprintln!("skipped: a file system of its own cannot be mounted here");
    }
    // The name of the first file that could not be written depends on the free space.
    for (change, remedy) in [
        ("cat /dev/zero > \"$0/other\" 2> /dev/null", "make room on the disk"),
        ("mount -o remount,ro \"$0\"", "the user of this process must be able to read and write there"),
    ] {
        let script =
            format!("cp -r \"$0\" \"$0.copy\"; {mount} \"$0\"; mv \"$0.copy/queue\" \"$0\"; {change}; exec \"$@\"");
        let serve = data.serve();
        let mut command = in_namespace(&script);
        command.arg(&data.0).arg(serve.get_program()).args(serve.get_args());
        let error = refused(&mut command);
        fs::remove_dir(format!("{}.copy", data.0.display())).unwrap();
        assert!(
            error.contains(&data.0.join("queue/queue.").display().to_string()) && error.contains(remedy),
            "{error}"
        );
    }
}

/// As after a move to another machine, with or without the journal of the server there.
#[test]
fn a_queue_of_another_server_continues_with_its_own_offsets() {
    let data = Data::with("moved", &queue());
    let peek = || {
        let output = stentor(&["queue", "peek", "kitchen-3", "--data-dir"]).arg(&data.0).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let before = peek();
    assert_eq!(before.lines().count(), 3);
    for recovery in ["disk", "off"] {
        let serving = Process::run(&mut data.serve_with_recovery(recovery));
        assert_eq!(peek(), before);
        serving.stop();
    }
}
