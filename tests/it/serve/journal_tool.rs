//! `stentor journal` on the folder of a running server.

use crate::support::{Client, Process, Transport, stentor};

/// A server whose journal has six records: a connect, a join and four events.
fn serving() -> (Process, Client) {
    let serving = Process::start(&["--recovery", "disk", "--recovery-clients", "all"]);
    let mut client = serving.join(Transport::Websocket);
    client.send(r#"421["join","lobby"]"#);
    assert!(client.recv_text().starts_with(r#"431[{"room":"lobby""#));
    for nth in 0..4 {
        client.send(&format!(r#"422["publish","lobby","news",{nth}]"#));
        assert!(client.recv_text().starts_with(&format!(r#"42["news",{nth},"#)));
        assert!(client.recv_text().starts_with("432["));
    }
    (serving, client)
}

/// Exit status, standard output and standard error of `stentor journal`.
fn journal(serving: &Process, args: &[&str]) -> (bool, String, String) {
    let (command, options) = args.split_first().unwrap();
    let mut tool = stentor(&["journal", command]);
    let output = tool.arg(serving.data()).args(options).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_dump_has_the_requested_range() {
    let (serving, _client) = serving();
    let (ok, dump, _) = journal(&serving, &["dump", "--from", "2", "--limit", "2"]);
    let lsns: Vec<_> = dump.lines().map(|line| line.split(',').next().unwrap()).collect();
    assert!(ok);
    assert_eq!(lsns, [r#"{"lsn":2"#, r#"{"lsn":3"#]);
    let (_, dump, _) = journal(&serving, &["dump"]);
    let lines: Vec<serde_json::Value> = dump.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<_> = lines.iter().map(|line| line["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["connect", "join", "event", "event", "event", "event"]);
}

#[test]
fn stats_count_records_by_kind() {
    let (serving, _client) = serving();
    let (ok, stats, _) = journal(&serving, &["stats"]);
    let line = |name: &str| {
        let line = stats.lines().find(|line| line.trim_start().starts_with(name)).unwrap_or_default();
        line.trim_start()[name.len()..].trim_start().to_owned()
    };
    assert!(ok && line("state").starts_with("open"), "{stats}");
    assert_eq!(line("epoch").len(), 8);
    assert_eq!(line("lsn"), "0 to 6, records up to 0 are dropped");
    assert_eq!(
        (line("segments"), line("records"), line("connect"), line("event")),
        ("1".into(), "6".into(), "1".into(), "4".into())
    );
    assert_eq!(line("disconnect"), "0");
    assert_eq!(line("sessions"), "1 recoverable, if their window has not passed; 1 connected");
}

#[test]
fn an_unreadable_record_is_an_error_after_the_readable_ones() {
    let (serving, _client) = serving();
    let path = serving.data().join("journal/segment-0000000001");
    let mut bytes = std::fs::read(&path).unwrap();
    let end = bytes.len() - 1;
    bytes[end] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let (ok, dump, error) = journal(&serving, &["dump"]);
    assert!(!ok && error.contains("is damaged at byte") && error.contains("segment-0000000001"), "{error}");
    assert_eq!(dump.lines().count(), 5);
    let (ok, stats, error) = journal(&serving, &["stats"]);
    assert!(!ok && stats.contains("lsn         0 to 5,") && error.contains("is damaged"), "{stats}{error}");
}
