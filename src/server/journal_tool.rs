//! `stentor journal`: what stands in a journal's folder, for people. Reads only, also while a server runs on the folder; it
//! refuses to mend anything.

use std::collections::HashMap;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::PathBuf;

use clap::{Arg, ArgMatches, Command, value_parser};
use serde::Serialize;
use thiserror::Error;

use crate::ids::{Fingerprint, Lsn, Offset};
use crate::journal::inspect::Inspection;
use crate::journal::{EventRecord, GiveUpReason, JournalError, OpenError, Record, RecordBody, RoomSpan, SessionRecord};
use crate::protocol::encoded::EncodedFrame;

/// Characters of a token that are the epoch's.
const EPOCH_CHARS: usize = 8;

const EXAMPLES: &str = "\
Both read only, and need not stop the server that writes there: they show the journal as of now. What is dumped holds what clients \
said to each other; the private ids of sessions are shortened.

Examples:
  stentor journal stats /var/lib/stentor/journal
  stentor journal dump /var/lib/stentor/journal --from 1048577 --limit 10
  stentor journal dump /var/lib/stentor/journal | jq 'select(.kind == \"event\") | .packets'";

/// Why nothing, or not all, was shown.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum JournalToolError {
    /// There is no journal, or it cannot be read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// What stands before the damage was shown. The server's next start on the folder will begin a new epoch.
    #[error("{0}")]
    Damaged(String),
    /// The output failed.
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
}

impl From<JournalError> for JournalToolError {
    fn from(error: JournalError) -> Self {
        Self::Damaged(error.to_string())
    }
}

/// The command line of `journal`.
pub fn command() -> Command {
    let folder = Arg::new("folder").value_name("DIR").required(true).value_parser(value_parser!(PathBuf));
    let folder = folder.help("The journal's folder");
    let number = |name: &'static str| Arg::new(name).long(name).value_parser(value_parser!(u64));
    let from = number("from").value_name("LSN").default_value("0").help("First position to show");
    let limit = number("limit").value_name("N").help("Records to show; all of them if left out");
    let stats = Command::new("stats").about("Print how much of what a journal holds").arg(folder.clone());
    let dump =
        Command::new("dump").about("Print a journal's records, one JSON object a line").args([folder, from, limit]);
    Command::new("journal")
        .about("Look into a journal on disk, also while a server runs on it")
        .after_help(EXAMPLES)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([stats, dump])
}

/// Does what the command line says. A reader that has seen enough (`| head`) is no failure.
pub fn run(matches: &ArgMatches, out: &mut impl Write) -> Result<(), JournalToolError> {
    let Some((name, matches)) = matches.subcommand() else { return Ok(()) };
    let Some(folder) = matches.get_one::<PathBuf>("folder") else { return Ok(()) };
    let journal = Inspection::open(folder)?;
    let mut out = BufWriter::new(out);
    let outcome = match name {
        "stats" => stats(&journal, &mut out),
        _ => {
            let number = |name| matches.get_one::<u64>(name).copied();
            dump(&journal, number("from").unwrap_or(0), number("limit").unwrap_or(u64::MAX), &mut out)
        }
    };
    match outcome.and_then(|()| Ok(out.flush()?)) {
        Err(JournalToolError::Write(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

fn stats(journal: &Inspection, out: &mut impl Write) -> Result<(), JournalToolError> {
    let mut kinds = KINDS.map(|kind| (kind, 0u64));
    // Sockets that may be claimed, and whether they have a connection.
    let mut sessions = HashMap::new();
    let (mut records, mut newest) = (0u64, journal.trimmed_to());
    let mut damage = None;
    for record in journal.records(Lsn(0)) {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                damage = Some(error);
                break;
            }
        };
        records += 1;
        newest = record.lsn;
        let kind = kind(&record.body);
        kinds.iter_mut().filter(|(name, _)| *name == kind).for_each(|(_, count)| *count += 1);
        match record.body {
            RecordBody::Connect { socket, .. } => drop(sessions.insert(socket, true)),
            RecordBody::Session(session) => drop(sessions.insert(session.socket, session.connected)),
            RecordBody::Disconnect { socket, forever: true, .. } => drop(sessions.remove(&socket)),
            RecordBody::Disconnect { socket, forever: false, .. } => drop(sessions.insert(socket, false)),
            RecordBody::Resumed { socket, .. } => {
                if let Some(connected) = sessions.get_mut(&socket) {
                    *connected = true;
                }
            }
            RecordBody::ProcessEnded { .. } => sessions.values_mut().for_each(|connected| *connected = false),
            RecordBody::GivenUp { socket, .. } => drop(sessions.remove(&socket)),
            RecordBody::Event(_)
            | RecordBody::Join { .. }
            | RecordBody::Leave { .. }
            | RecordBody::Data { .. }
            | RecordBody::Expired { .. } => {}
        }
    }
    let (segments, bytes) = journal.files().fold((0, 0), |(count, sum), (_, bytes)| (count + 1, sum + bytes));
    let connected = sessions.values().filter(|connected| **connected).count();
    writeln!(out, "epoch       {}", epoch(journal))?;
    writeln!(out, "state       {}", journal.state())?;
    writeln!(out, "lsn         {} to {}, all up to {0} is gone", journal.trimmed_to().0, newest.0)?;
    writeln!(out, "segments    {segments}")?;
    writeln!(out, "bytes       {bytes}")?;
    writeln!(out, "records     {records}")?;
    for (kind, count) in kinds {
        writeln!(out, "  {kind:<13}  {count}")?;
    }
    writeln!(out, "sessions    {} that may be recovered, windows aside; {connected} connected", sessions.len())?;
    damage.map_or(Ok(()), |error| Err(error.into()))
}

/// As tokens begin.
fn epoch(journal: &Inspection) -> String {
    let offset = Offset { epoch: journal.epoch(), lsn: Lsn(0), fingerprint: Fingerprint::new(0) };
    offset.to_string().chars().take(EPOCH_CHARS).collect()
}

fn dump(journal: &Inspection, from: u64, limit: u64, out: &mut impl Write) -> Result<(), JournalToolError> {
    let mut left = limit;
    for record in journal.records(Lsn(from.saturating_sub(1))) {
        if left == 0 {
            break;
        }
        left -= 1;
        let record = record?;
        let Record { lsn, fingerprint, .. } = record;
        let offset = Offset { epoch: journal.epoch(), lsn, fingerprint };
        let line =
            Line { lsn: lsn.0, offset: offset.to_string(), kind: kind(&record.body), entry: shown(&record.body) };
        serde_json::to_writer(&mut *out, &line).map_err(io::Error::from)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

const KINDS: [&str; 11] = [
    "event",
    "connect",
    "join",
    "leave",
    "data",
    "disconnect",
    "session",
    "resumed",
    "process_ended",
    "given_up",
    "expired",
];

fn kind(entry: &RecordBody) -> &'static str {
    match entry {
        RecordBody::Event(_) => "event",
        RecordBody::Connect { .. } => "connect",
        RecordBody::Join { .. } => "join",
        RecordBody::Leave { .. } => "leave",
        RecordBody::Data { .. } => "data",
        RecordBody::Disconnect { .. } => "disconnect",
        RecordBody::Session(_) => "session",
        RecordBody::Resumed { .. } => "resumed",
        RecordBody::ProcessEnded { .. } => "process_ended",
        RecordBody::GivenUp { .. } => "given_up",
        RecordBody::Expired { .. } => "expired",
    }
}

/// A record as it is dumped.
#[derive(Serialize)]
struct Line<'a> {
    lsn: u64,
    offset: String,
    kind: &'static str,
    #[serde(flatten)]
    entry: Shown<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Shown<'a> {
    Event {
        namespace: &'a str,
        rooms: Vec<&'a str>,
        except: Vec<&'a str>,
        exclude: Option<String>,
        packets: Vec<Packet<'a>>,
    },
    Connect {
        pid: String,
        socket: String,
        namespace: &'a str,
        at_unix_ms: u64,
    },
    Room {
        socket: String,
        room: &'a str,
    },
    Data {
        socket: String,
        data: Option<&'a str>,
    },
    Disconnect {
        socket: String,
        forever: bool,
        at_unix_ms: u64,
    },
    Resumed {
        socket: String,
        position: u64,
        at_unix_ms: u64,
    },
    ProcessEnded {
        at_unix_ms: u64,
    },
    GiveUpReason {
        socket: String,
        reason: &'static str,
    },
    Expired {
        until_unix_ms: u64,
    },
    Session {
        pid: String,
        socket: String,
        namespace: &'a str,
        rooms: Vec<Span<'a>>,
        data: Option<&'a str>,
        connected: bool,
        at_unix_ms: u64,
        position: u64,
    },
}

#[derive(Serialize)]
struct Span<'a> {
    room: &'a str,
    joined: u64,
    left: Option<u64>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Packet<'a> {
    Text(&'a str),
    Binary { binary_bytes: usize },
}

fn shown(entry: &RecordBody) -> Shown<'_> {
    match entry {
        RecordBody::Event(event) => {
            let EventRecord { namespace, rooms, except, exclude, message } = &**event;
            Shown::Event {
                namespace: namespace.as_str(),
                rooms: rooms.iter().map(|room| room.as_str()).collect(),
                except: except.iter().map(|room| room.as_str()).collect(),
                exclude: exclude.map(|socket| socket.to_string()),
                packets: message.packets().map(packet).collect(),
            }
        }
        // Anyone who knows a pid may claim the session, so only its beginning is shown.
        RecordBody::Connect { pid, socket, namespace, at_unix_ms } => Shown::Connect {
            pid: format!("{pid:?}"),
            socket: socket.to_string(),
            namespace: namespace.as_str(),
            at_unix_ms: *at_unix_ms,
        },
        RecordBody::Join { socket, room } | RecordBody::Leave { socket, room } => {
            Shown::Room { socket: socket.to_string(), room: room.as_str() }
        }
        RecordBody::Data { socket, data } => Shown::Data { socket: socket.to_string(), data: data.as_deref() },
        RecordBody::Disconnect { socket, forever, at_unix_ms } => {
            Shown::Disconnect { socket: socket.to_string(), forever: *forever, at_unix_ms: *at_unix_ms }
        }
        RecordBody::Session(session) => shown_session(session),
        RecordBody::Resumed { socket, position, at_unix_ms } => {
            Shown::Resumed { socket: socket.to_string(), position: position.0, at_unix_ms: *at_unix_ms }
        }
        RecordBody::ProcessEnded { at_unix_ms } => Shown::ProcessEnded { at_unix_ms: *at_unix_ms },
        RecordBody::GivenUp { socket, why } => Shown::GiveUpReason {
            socket: socket.to_string(),
            reason: match why {
                GiveUpReason::TooLarge => "too_large",
                GiveUpReason::NoRoom => "no_room",
            },
        },
        RecordBody::Expired { until_unix_ms } => Shown::Expired { until_unix_ms: *until_unix_ms },
    }
}

fn shown_session(session: &SessionRecord) -> Shown<'_> {
    let rooms = session.rooms.iter().map(|RoomSpan { room, joined, left }| Span {
        room: room.as_str(),
        joined: joined.0,
        left: left.map(|left| left.0),
    });
    Shown::Session {
        pid: format!("{:?}", session.pid),
        socket: session.socket.to_string(),
        namespace: session.namespace.as_str(),
        rooms: rooms.collect(),
        data: session.data.as_deref(),
        connected: session.connected,
        at_unix_ms: session.at_unix_ms,
        position: session.position.0,
    }
}

fn packet(packet: &EncodedFrame) -> Packet<'_> {
    match std::str::from_utf8(packet.body()) {
        Ok(text) if !packet.is_binary() => Packet::Text(text),
        _ => Packet::Binary { binary_bytes: packet.body().len() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Epoch, NamespacePath, PrivateId, RoomName, SocketId};
    use crate::journal::Journal;
    use crate::journal::contract::scratch::Scratch;
    use crate::journal::file::{FileJournal, FileOptions};
    use crate::journal::folder::BootId;
    use crate::limits::Limits;
    use crate::protocol::encoded::Message;

    fn journal(scratch: &Scratch) -> FileJournal {
        let options = FileOptions::new(Epoch::new(1, 1), BootId::new(1), &Limits::default());
        let mut journal = FileJournal::open(&scratch.0, options).unwrap();
        let (pid, socket) = (PrivateId::from_random([9; 15]), SocketId::from_random([1; 15]));
        let (namespace, room) = (NamespacePath::root(), RoomName::parse("lobby").unwrap());
        let message = Message::from(EncodedFrame::text(r#"42["message","hi"]"#));
        let rooms = [room.clone()].into_iter().collect();
        let other = SocketId::from_random([2; 15]);
        let event = EventRecord {
            namespace: namespace.clone(),
            rooms,
            except: [].into_iter().collect(),
            exclude: Some(socket),
            message,
        };
        let session = SessionRecord {
            pid,
            socket,
            namespace: namespace.clone(),
            rooms: vec![RoomSpan { room: room.clone(), joined: Lsn(2), left: None }],
            data: Some("7".into()),
            connected: false,
            at_unix_ms: 5,
            position: Lsn(3),
            last_event: Lsn(3),
            last_ack_event: Lsn(0),
        };
        let entries = [
            RecordBody::Connect { pid, socket, namespace: namespace.clone(), at_unix_ms: 4 },
            RecordBody::Join { socket, room },
            RecordBody::Event(event.into()),
            RecordBody::Connect { pid, socket: other, namespace, at_unix_ms: 4 },
            RecordBody::Disconnect { socket: other, forever: true, at_unix_ms: 4 },
            RecordBody::Session(session.into()),
        ];
        for (lsn, entry) in (1..).zip(entries) {
            journal.append(Record { lsn: Lsn(lsn), fingerprint: Fingerprint::new(0), body: entry }).unwrap();
        }
        journal.flush().unwrap();
        journal
    }

    fn run_on(scratch: &Scratch, args: &[&str]) -> Result<String, JournalToolError> {
        let mut out = Vec::new();
        let folder = scratch.0.to_str().unwrap();
        let args = [&["journal", args[0], folder], &args[1..]].concat();
        run(&command().get_matches_from(args), &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_dump_is_one_json_object_a_record_while_its_server_runs() {
        let scratch = Scratch::new();
        let _journal = journal(&scratch);
        let dump = run_on(&scratch, &["dump"]).unwrap();
        let lines: Vec<_> = dump.lines().collect();
        let token = |lsn: u64| Offset { epoch: Epoch::new(1, 1), lsn: Lsn(lsn), fingerprint: Fingerprint::new(0) };
        assert_eq!(lines.len(), 6);
        assert_eq!(
            lines[2],
            format!(
                r#"{{"lsn":3,"offset":"{}","kind":"event","namespace":"/","rooms":["lobby"],"except":[],"exclude":"{}","packets":["42[\"message\",\"hi\"]"]}}"#,
                token(3),
                SocketId::from_random([1; 15]),
            )
        );
        assert!(lines[0].contains(r#""pid":"CQkJCQ…""#), "{}", lines[0]);
        assert!(!dump.contains(&PrivateId::from_random([9; 15]).to_string()), "a pid is a secret");
        assert!(lines[5].contains(r#""rooms":[{"room":"lobby","joined":2,"left":null}],"data":"7""#), "{}", lines[5]);
    }

    #[test]
    fn a_record_that_its_server_is_writing_is_not_shown_yet() {
        let scratch = Scratch::new();
        let _journal = journal(&scratch);
        let path = scratch.0.join("segment-0000000001");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert_eq!(run_on(&scratch, &["dump"]).unwrap().lines().count(), 5);
        assert!(run_on(&scratch, &["stats"]).unwrap().contains("lsn         0 to 5,"));
    }

    #[test]
    fn a_dump_begins_and_ends_where_it_is_asked_to() {
        let scratch = Scratch::new();
        drop(journal(&scratch));
        let dump = run_on(&scratch, &["dump", "--from", "2", "--limit", "2"]).unwrap();
        let lsns: Vec<_> = dump.lines().map(|line| line.split(',').next().unwrap()).collect();
        assert_eq!(lsns, [r#"{"lsn":2"#, r#"{"lsn":3"#]);
    }

    #[test]
    fn stats_count_what_there_is() {
        let scratch = Scratch::new();
        let open = journal(&scratch);
        let stats = run_on(&scratch, &["stats"]).unwrap();
        let line = |name: &str| {
            let line = stats.lines().find(|line| line.trim_start().starts_with(name)).unwrap_or_default();
            line.trim_start()[name.len()..].trim_start().to_owned()
        };
        assert_eq!(line("lsn"), "0 to 6, all up to 0 is gone");
        assert_eq!(
            (line("segments"), line("records"), line("connect"), line("event")),
            ("1".into(), "6".into(), "2".into(), "1".into())
        );
        assert_eq!(line("disconnect"), "1");
        assert_eq!(line("sessions"), "1 that may be recovered, windows aside; 0 connected");
        assert!(line("state").starts_with("open"), "{stats}");
        drop(open);
        assert!(run_on(&scratch, &["stats"]).unwrap().contains("state       closed\n"));
    }

    #[test]
    fn what_cannot_be_read_is_an_error_after_what_can() {
        let scratch = Scratch::new();
        let absent = run_on(&scratch, &["stats"]).unwrap_err().to_string();
        assert!(absent.ends_with(": there is no journal in it"), "{absent}");
        drop(journal(&scratch));
        let path = scratch.0.join("segment-0000000001");
        let mut bytes = std::fs::read(&path).unwrap();
        let end = bytes.len() - 1;
        bytes[end] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let mut out = Vec::new();
        let matches = command().get_matches_from(["journal", "dump", scratch.0.to_str().unwrap()]);
        let error = run(&matches, &mut out).unwrap_err().to_string();
        assert!(error.contains("is damaged at byte") && error.contains("segment-0000000001"), "{error}");
        assert_eq!(String::from_utf8(out).unwrap().lines().count(), 5);
    }
}
