//! `stentor queue` on a folder that no server uses.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use flate2::read::GzDecoder;
use serde_json::{Value, json};

use crate::support::stentor;

/// A queue of format 1 with the subscribers kitchen-3 (3 pending events, of which one has failed, a
/// dead letter, a gap), bar (3 pending) and old (expired).
const QUEUE: &[u8] = include_bytes!("queue.sqlite3.gz");

/// A data folder with that queue, removed with the value.
struct Data(PathBuf);

impl Data {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let data = Self(std::env::temp_dir().join(format!("stentor-queue-tool-{}-{number}", std::process::id())));
        let mut database = Vec::new();
        GzDecoder::new(QUEUE).read_to_end(&mut database).unwrap();
        fs::create_dir_all(data.0.join("queue")).unwrap();
        fs::write(data.database(), database).unwrap();
        data
    }

    fn database(&self) -> PathBuf {
        self.0.join("queue/queue.sqlite3")
    }

    /// Exit status, standard output and standard error of `stentor queue`.
    fn queue(&self, arguments: &str) -> (bool, String, String) {
        queue(&self.0, arguments)
    }

    /// Output of a command that succeeds.
    fn shown(&self, arguments: &str) -> String {
        let (ok, out, error) = self.queue(arguments);
        assert!(ok && error.is_empty(), "{arguments}: {out}{error}");
        out
    }

    /// Error of a command that fails.
    fn refused(&self, arguments: &str) -> String {
        let (ok, out, error) = self.queue(arguments);
        assert!(!ok && out.is_empty(), "{arguments}: {out}");
        error
    }

    fn lines(&self, arguments: &str) -> Vec<Value> {
        self.shown(arguments).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Numbers of the pending events of a subscriber.
    fn pending(&self, name: &str) -> Vec<u64> {
        self.lines(&format!("peek {name}")).iter().map(|event| event["number"].as_u64().unwrap()).collect()
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn queue(data: &Path, arguments: &str) -> (bool, String, String) {
    let mut tool = stentor(&["queue"]);
    let output = tool.args(arguments.split(' ')).arg("--data-dir").arg(data).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[test]
fn subscribers_and_their_events_are_shown() {
    let data = Data::new();
    let list: Vec<Vec<String>> =
        data.shown("ls").lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect();
    assert_eq!(list[0][..6], ["NAME", "NAMESPACE", "STATE", "PENDING", "OLDEST", "DEAD"]);
    assert_eq!(list[1][..6], ["bar", "/", "active", "3", "2026-09-21T14:13:20Z", "0"]);
    assert_eq!(list[2][..6], ["kitchen-3", "/", "active", "3", "2026-09-21T14:13:20Z", "1"]);
    assert_eq!(list[3][..6], ["old", "/", "expired", "0", "-", "0"]);
    let shown = data.shown("show kitchen-3");
    for part in [
        "pending       3, the oldest since 2026-09-21T14:13:20Z",
        "(number 4) of room \"orders\", published 2026-09-21T14:13:20Z, 3 failed deliveries, next not before 2026-09-21T14:14:20Z, alone",
        "room        \"orders\": 3 pending, floor OKEl---6--------0 (number 1)",
        "(numbers 2 to 3), 2 events: purged",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    // A room name is shown without characters that a terminal would act on.
    assert!(data.shown("show bar").contains("room        \"bell\\n\": 1 pending"));
    assert!(data.shown("stats").contains("events        4\n"), "{}", data.shown("stats"));
    assert_eq!(data.shown("check"), "checked 4 events and 1 dead letter\n");
}

#[test]
fn events_and_dead_letters_are_lines_of_json() {
    let data = Data::new();
    let events = data.lines("peek bar");
    assert_eq!(events[0]["payload"], json!(["order", {"id": 4}]));
    assert_eq!((&events[2]["room"], &events[2]["attachment_bytes"]), (&json!("bell\n"), &json!([5])));
    assert_eq!(data.lines("peek bar --limit 1").len(), 1);
    let dead = data.lines("dead kitchen-3");
    assert_eq!((dead.len(), &dead[0]["reason"], &dead[0]["payload"][1]["id"]), (1, &json!("poison"), &json!(1)));
}

#[test]
fn a_change_is_a_dry_run_unless_it_is_confirmed() {
    let data = Data::new();
    let dry = data.shown("replay kitchen-3 --dead");
    let hint = "nothing was changed; add --yes to do so\n";
    assert_eq!(dry, format!("would deliver 1 dead letter to subscriber \"kitchen-3\" of namespace / again\n{hint}"));
    assert_eq!(data.pending("kitchen-3"), [4, 5, 6]);
    assert!(data.shown("replay kitchen-3 --dead --yes").starts_with("done: deliver 1 dead letter "));
    assert_eq!(data.pending("kitchen-3"), [4, 5, 6, 8]);
    assert_eq!(
        data.shown("purge kitchen-3 --up-to 5 --yes"),
        "done: remove 2 pending events of subscriber \"kitchen-3\" of namespace /, up to offset OKEl---6--------4 (number 5); it receives a gap\n"
    );
    assert_eq!(data.pending("kitchen-3"), [6, 8]);
    let offset = data.lines("peek bar")[1]["offset"].as_str().unwrap().to_owned();
    // Event 5 is handled by both, and stored until a server opens the queue with its rules.
    assert!(
        data.shown(&format!("purge --room orders --up-to {offset}")).contains(&format!(
            "remove 3 events of room \"orders\" of namespace /, up to offset {offset} (number 6); "
        ))
    );
    assert!(data.shown("purge --room orders --yes").contains("those of its 2 subscribers that did not handle them"));
    assert_eq!((data.pending("kitchen-3"), data.pending("bar")), (vec![8], vec![7]));
    assert!(
        data.shown("rm bar").starts_with("would remove subscriber \"bar\" of namespace / with 1 pending event and 0")
    );
    data.shown("rm bar --yes");
    assert!(!data.shown("ls").contains("bar"));
    assert_eq!(data.shown("check"), "checked 2 events and 0 dead letters\n");
}

#[test]
fn stored_events_are_replayed_and_none_is_skipped() {
    let data = Data::new();
    assert!(data.refused("replay bar --from 5").contains("would skip event OKEl---6--------3 (number 4)"));
    assert!(data.shown("replay bar --from 3").starts_with("would deliver 4 stored events after OKEl---6--------2 "));
    data.shown("replay bar --from 3 --yes");
    assert_eq!(data.pending("bar"), [4, 5, 6, 7]);
}

#[test]
fn a_restored_copy_continues_with_offsets_that_were_never_given() {
    let data = Data::new();
    let dry = data.shown("restored");
    assert!(dry.starts_with("would leave out offsets after OKEl---6--------6, since events may"), "{dry}");
    assert!(!data.shown("show bar").contains("restored"));
    assert!(data.refused("restored --url http://127.0.0.1:9").contains("restored needs the folder"));
    data.shown("restored --yes");
    assert!(data.shown("show bar").contains("(numbers 8 to 1073741831): restored"), "{}", data.shown("show bar"));
    assert_eq!(data.pending("bar"), [4, 6, 7]);
    data.shown("replay kitchen-3 --dead --yes");
    assert_eq!(data.pending("kitchen-3"), [4, 5, 6, 1_073_741_832]);
    assert_eq!(data.shown("check"), "checked 5 events and 0 dead letters\n");
}

#[test]
fn a_change_by_root_leaves_the_folder_to_its_owner() {
    use std::os::unix::fs::{MetadataExt, chown};
    const OWNER: u32 = 65_534;
    let data = Data::new();
    let folder = data.0.join("queue");
    let owned = [&data.0, &folder, &data.database()].map(|path| chown(path, Some(OWNER), Some(OWNER)));
    if owned.iter().any(Result::is_err) {
        return eprintln!("skipped: only root may give files to another user");
    }
    data.shown("restored --yes");
    let files = fs::read_dir(&folder).unwrap().map(Result::unwrap);
    let mut owners: Vec<_> =
        files.map(|file| (file.file_name().into_string().unwrap(), file.metadata().unwrap().uid())).collect();
    owners.sort();
    assert_eq!(owners, [("queue.lock".into(), OWNER), ("queue.sqlite3".into(), OWNER)]);
}

#[test]
fn what_does_not_exist_is_refused_with_the_remedy() {
    let data = Data::new();
    let unknown = "subscriber \"x\" does not exist in namespace /; `stentor queue ls` lists all\n";
    for command in ["show x", "peek x", "dead x", "rm x", "purge x", "replay x --dead"] {
        assert!(data.refused(command).ends_with(unknown), "{command}");
    }
    for (command, error) in [
        ("rm old --yes", "subscriber \"old\" of namespace / has expired; nothing is stored for it\n"),
        ("purge --room x", "room \"x\" of namespace / has no events and no subscribers\n"),
        ("purge bar --up-to x", "and not the number of an event\n"),
        (
            "purge bar --up-to ---------------1-",
            "belongs to another queue; the newest of this one is OKEl---6--------6\n",
        ),
        ("replay bar --from 8", "is beyond the newest event OKEl---6--------6\n"),
        ("show bar --namespace x", "namespace \"x\" does not begin with \"/\"\n"),
    ] {
        assert!(data.refused(command).ends_with(error), "{command}: {}", data.refused(command));
    }
    let (ok, _, error) = queue(Path::new("/nowhere"), "ls");
    assert!(
        !ok && error.starts_with("stentor: folder /nowhere: there is no queue in it; name the data folder"),
        "{error}"
    );
}

#[test]
fn a_folder_in_use_is_read_and_not_changed() {
    let data = Data::new();
    // The lock of a server.
    let lock = data.0.join("queue/queue.lock");
    fs::write(&lock, "process 7").unwrap();
    let lock = File::open(lock).unwrap();
    lock.lock().unwrap();
    assert!(data.shown("rm bar").starts_with("would remove"));
    let error = data.refused("rm bar --yes");
    assert!(
        error.ends_with("in use by process 7; give the command to that server with --url, or stop it first\n"),
        "{error}"
    );
    drop(lock);
    data.shown("rm bar --yes");
}

#[test]
fn damage_is_named_and_the_exit_status_says_so() {
    let data = Data::new();
    let mut bytes = fs::read(data.database()).unwrap();
    let content = b"[\"order\",{\"id\":5}]";
    let at = bytes.windows(content.len()).position(|window| window == content).unwrap();
    bytes[at + 15] = b'9';
    fs::write(data.database(), bytes).unwrap();
    let (ok, out, error) = data.queue("check");
    let damage = format!("queue file {}: table event, row 5: checksum is 0x", data.database().display());
    assert!(!ok && out.starts_with(&damage), "{out}");
    assert_eq!(error, "stentor: damage found count=1; restore the file from a backup\n");
    let (ok, out, error) = data.queue("peek kitchen-3");
    assert!(!ok && out.lines().count() == 2, "{out}");
    assert_eq!(error, "stentor: damaged rows not printed count=1; `stentor queue check` lists all damage\n");
}

#[test]
fn a_name_is_signed_by_the_key_of_the_configuration() {
    let sign = |key: Option<&str>, name: &str| {
        let mut tool = stentor(&["queue", "sign", name]);
        tool.envs(key.map(|key| ("STENTOR_SUBSCRIBER_KEY", key)));
        let output = tool.output().unwrap();
        (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let key = Some("0123456789abcdef");
    assert_eq!(sign(key, "kitchen-3"), (true, "5jIW0D8q5NUYGlugYH_CaHr6WWe8NChqstHAnAlqkpY\n".into()));
    let (ok, error) = sign(key, "");
    assert!(!ok && error.contains("expected 1 to 256 bytes"), "{error}");
    let (ok, error) = sign(None, "kitchen-3");
    assert!(!ok && error.starts_with("stentor: subscriber_key is not set; set it in the file"), "{error}");
}
