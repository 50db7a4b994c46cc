//! The data folder of `stentor serve`: a journal of an earlier version, and folders that are
//! refused.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::{Process, Transport, stentor};

/// A path of its own, removed with what is there.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("stentor-it-data-{}-{name}", std::process::id())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn serve(data: &Path) -> Command {
    let mut command = stentor(&["serve", "--workers", "2", "--recovery-clients", "all", "--data-dir"]);
    command.arg(data);
    command
}

fn stats(folder: &Path) -> String {
    let Output { status, stdout, stderr } = stentor(&["journal", "stats"]).arg(folder).output().unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

fn refused(command: &mut Command) -> String {
    let output = command.args(["--port", "0"]).output().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

/// A folder as an earlier version left it, and the stats of its journal.
fn earlier(data: &Path) -> String {
    let serving = Process::run(&mut serve(data));
    let mut client = serving.join(Transport::Websocket);
    client.send(r#"421["join","lobby"]"#);
    assert!(client.recv_text().starts_with("431["));
    serving.stop();
    let journal = data.join("journal");
    for entry in fs::read_dir(&journal).unwrap().map(Result::unwrap) {
        fs::rename(entry.path(), data.join(entry.file_name())).unwrap();
    }
    fs::remove_dir(journal).unwrap();
    stats(data)
}

#[test]
fn a_journal_of_an_earlier_version_is_moved_and_continues() {
    let data = Scratch::new("earlier");
    let before = earlier(&data.0);
    assert!(before.contains("connect        1"), "{before}");
    let serving = Process::run(&mut serve(&data.0));
    let after = stats(&data.0);
    assert_eq!(stats(&data.0.join("journal")), after);
    drop(serving.join(Transport::Websocket));
    let log = serving.stop();
    assert!(log.contains("journal of an earlier version moved to="), "{log}");
    assert_eq!(before.lines().next(), after.lines().next());
    assert!(after.contains("connect        1"), "{after}");
    let mut names: Vec<_> = fs::read_dir(&data.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["journal", "queue"]);
}

#[test]
fn two_journals_are_refused_with_the_remedy() {
    let data = Scratch::new("two");
    earlier(&data.0);
    fs::create_dir(data.0.join("journal")).unwrap();
    fs::copy(data.0.join("journal.header"), data.0.join("journal/journal.header")).unwrap();
    let error = refused(&mut serve(&data.0));
    assert!(error.contains("move one of these two journals away\n"), "{error}");
}

#[test]
fn of_two_servers_that_start_together_one_serves() {
    let data = Scratch::new("together");
    earlier(&data.0);
    let mut other = serve(&data.0).args(["--port", "0"]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let first = std::panic::catch_unwind(|| Process::run(&mut serve(&data.0)));
    if let Ok(serving) = first {
        let mut error = String::new();
        std::io::Read::read_to_string(&mut other.stderr.take().unwrap(), &mut error).unwrap();
        assert!(error.contains("in use by") && !other.wait().unwrap().success(), "{error}");
        drop(serving);
    } else {
        other.kill().unwrap();
        other.wait().unwrap();
    }
    assert!(stats(&data.0).contains("connect        1"));
}

#[cfg(unix)]
#[test]
fn a_folder_that_its_user_cannot_write_is_refused_unchanged() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    let data = Scratch::new("read-only");
    earlier(&data.0);
    let is_root = fs::metadata("/proc/self").map(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    fs::set_permissions(&data.0, fs::Permissions::from_mode(0o555)).unwrap();
    let mut command = serve(&data.0);
    if is_root.unwrap_or(false) {
        // Permissions do not bind root.
        command.uid(65_534);
    }
    let error = refused(&mut command);
    fs::set_permissions(&data.0, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(error.contains("not permitted (Permission denied"), "{error}");
    assert!(stats(&data.0).contains("connect        1"));
}
