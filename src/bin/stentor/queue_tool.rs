//! `stentor queue` shows and changes the queue in a data folder. What only reads works while a
//! server uses the folder.

mod changes;
mod client;
mod error;
mod json;
mod remote;
mod text;

use std::io::{BufWriter, ErrorKind, Write};

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command, value_parser};
use stentor::{InspectedSubscriber, NamespacePath, QueueInspection, QueueOffset, QueueReadError};

use self::changes::{Change, Folder};
use self::client::Client;
pub(crate) use self::error::QueueToolError;
use super::config;
use super::signature;

type Result<T> = std::result::Result<T, QueueToolError>;

/// Pending events that are counted for each subscriber of a list, and each room of a subscriber.
const COUNT_MAX: usize = 1_000;

/// Failed deliveries, and gaps, that `show` prints.
const SHOWN_MAX: usize = 20;

const EXAMPLES: &str = "\
ls, show, peek, dead, stats and check only read, and work while a server uses the folder. restored needs a folder that no server uses; \
replay, purge and rm too, or with --url and the server's API key a running server; without --yes they print what they would do. ls, show and dead \
take --url as well, and then print the JSON of the server. Events are shown with what clients sent in them.

Examples:
  stentor queue ls --data-dir /var/lib/stentor/stentor-data
  stentor queue show kitchen-3
  stentor queue peek kitchen-3 --limit 10 | jq .payload
  stentor queue replay kitchen-3 --dead --yes
  STENTOR_API_KEY=… stentor queue rm kitchen-3 --url http://127.0.0.1:3000 --yes
  stentor queue check || echo damaged";

pub(crate) fn command() -> Command {
    let name = || Arg::new("name").value_name("NAME").required(true).help("Name of the subscriber");
    let limit = || {
        let limit = Arg::new("limit").long("limit").value_name("N").value_parser(value_parser!(u64));
        limit.help("Maximum number of lines; all if omitted")
    };
    let yes = || {
        Arg::new("yes")
            .long("yes")
            .action(ArgAction::SetTrue)
            .help("Change the queue, not only print what would change")
    };
    let url = Arg::new("url").long("url").value_name("URL").global(true).help_heading("Basics");
    let url = url.help("Server whose HTTP API is used instead of the folder, such as http://127.0.0.1:3000");
    let ls = Command::new("ls").about("List the subscribers: state, pending events, dead letters");
    let show =
        Command::new("show").about("Show a subscriber: rooms, what blocks it and since when, failed deliveries, gaps");
    let peek = Command::new("peek").about("Print pending events of a subscriber, one JSON object per line");
    let dead = Command::new("dead").about("Print dead letters of a subscriber, one JSON object per line");
    let stats = Command::new("stats").about("Print totals, offsets and sizes of files");
    let check = Command::new("check")
        .about("Check the file and the checksum of every row; the exit status is 1 if anything is damaged");
    let replay = Command::new("replay").about("Deliver dead letters, or stored events, to a subscriber again").args([
        name(),
        Arg::new("dead").long("dead").action(ArgAction::SetTrue).help("Deliver all dead letters again"),
        Arg::new("from")
            .long("from")
            .value_name("OFFSET")
            .allow_hyphen_values(true)
            .help("Deliver the stored events after this offset or number again"),
        yes(),
    ]);
    let replay = replay.group(ArgGroup::new("kind").args(["dead", "from"]).required(true));
    let purge = Command::new("purge")
        .about("Remove pending events of a subscriber, or events of a room; subscribers receive a gap")
        .args([
            name().required(false),
            Arg::new("room").long("room").value_name("ROOM").help("Room whose events are removed"),
            Arg::new("up-to")
                .long("up-to")
                .value_name("OFFSET")
                .allow_hyphen_values(true)
                .help("Offset or number of the last event to remove; all if omitted"),
            yes(),
        ]);
    let purge = purge.group(ArgGroup::new("what").args(["name", "room"]).required(true));
    let rm = Command::new("rm").about("Remove a subscriber with all that is pending for it").args([name(), yes()]);
    let restored = Command::new("restored")
        .about("Leave out offsets that events may have had which a restored copy lacks; subscribers receive a gap")
        .arg(yes());
    let sign = Command::new("sign").about("Print the signature of a subscriber's name by subscriber_key").arg(name());
    let command = Command::new("queue")
        .about("Inspect and change the queue on disk")
        .after_help(EXAMPLES)
        .subcommand_required(true)
        .arg_required_else_help(true);
    let namespace = Arg::new("namespace").long("namespace").value_name("NAMESPACE").global(true).default_value("/");
    let command = command.arg(url).arg(namespace.help("Namespace of the subscriber or room").help_heading("Basics"));
    let command = config::some_flags(command, &["data_dir", "subscriber_key", "api_key"]);
    command
        .subcommands([ls, show.arg(name()), peek.args([name(), limit()]), dead.args([name(), limit()])])
        .subcommands([stats, check, replay, purge, rm, restored, sign])
}

/// Subscriber or room of a command.
struct Subject<'a> {
    namespace: NamespacePath,
    name: Option<&'a str>,
}

/// Runs the command. A closed pipe (`| head`) is not an error.
pub(crate) fn run(matches: &ArgMatches, out: &mut impl Write) -> Result<()> {
    let Some((command, matches)) = matches.subcommand() else { return Ok(()) };
    let config = config::load(matches)?.config;
    let namespace = matches.get_one::<String>("namespace").map_or("/", String::as_str);
    let namespace = NamespacePath::parse(namespace).map_err(|error| QueueToolError::Wrong(error.to_string()))?;
    let text = |id| matches.try_get_one::<String>(id).ok().flatten().map(String::as_str);
    let subject = Subject { namespace, name: text("name") };
    let mut out = BufWriter::new(out);
    let outcome = match (text("url"), command, subject.name) {
        (Some(_), "restored", _) => Err(QueueToolError::Wrong(
            "restored needs the folder, while no server uses it; expected --data-dir in place of --url".to_owned(),
        )),
        (Some(url), ..) => Client::new(url, config.api_key.as_ref())
            .and_then(|client| remote::run(&client, command, matches, &subject, &mut out)),
        (None, "sign", Some(name)) => sign(&config, &subject.namespace, name, &mut out),
        (None, "replay" | "purge" | "rm" | "restored", _) => {
            let folder = Folder { path: config.data_dir, limits: config.limits.queue };
            change(&folder, command, matches, &subject, &mut out)
        }
        (None, command, name) => {
            let mut queue = QueueInspection::open(&config.data_dir)?;
            let limit = matches.try_get_one::<u64>("limit").ok().flatten();
            let limit = limit.and_then(|limit| usize::try_from(*limit).ok()).unwrap_or(usize::MAX);
            match (command, name) {
                ("ls", _) => ls(&mut queue, &mut out),
                ("show", Some(name)) => show(&mut queue, &subject.namespace, name, &mut out),
                ("peek", Some(name)) => {
                    find(&mut queue, &subject.namespace, name)?;
                    let events = queue.pending(&subject.namespace, name)?;
                    json::print(events.take(limit).map(|event| event.map(|event| json::event(&event))), &mut out)
                }
                ("dead", Some(name)) => {
                    find(&mut queue, &subject.namespace, name)?;
                    let letters = queue.dead_letters(&subject.namespace, name)?;
                    json::print(letters.take(limit).map(|dead| dead.map(|dead| json::dead_letter(&dead))), &mut out)
                }
                ("stats", _) => Ok(text::stats(&queue.stats()?, &mut out)?),
                ("check", _) => check(&mut queue, &mut out),
                (other, _) => Err(unknown(other)),
            }
        }
    };
    let flushed = out.flush().map_err(QueueToolError::from);
    match outcome.and(flushed) {
        Err(QueueToolError::Write(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

fn unknown(command: &str) -> QueueToolError {
    QueueToolError::Wrong(format!("unknown command {command:?}"))
}

fn sign(config: &config::Config, namespace: &NamespacePath, name: &str, out: &mut impl Write) -> Result<()> {
    let Some(key) = &config.subscriber_key else { return Err(QueueToolError::NoKey) };
    if name.is_empty() || name.len() > 256 || name.chars().any(char::is_control) {
        return Err(QueueToolError::Wrong(format!(
            "subscriber name {name:?}: expected 1 to 256 bytes without control characters"
        )));
    }
    Ok(writeln!(out, "{}", signature::sign(key, namespace.as_str(), name))?)
}

fn ls(queue: &mut QueueInspection, out: &mut impl Write) -> Result<()> {
    text::heading(out)?;
    for subscriber in queue.subscribers(COUNT_MAX) {
        text::row(&subscriber?, out)?;
    }
    Ok(())
}

/// A subscriber that exists, expired or not.
fn find(queue: &mut QueueInspection, namespace: &NamespacePath, name: &str) -> Result<InspectedSubscriber> {
    let found = queue.subscriber(namespace, name, COUNT_MAX)?;
    found.ok_or_else(|| QueueToolError::Unknown { name: name.to_owned(), namespace: namespace.to_string() })
}

fn show(queue: &mut QueueInspection, namespace: &NamespacePath, name: &str, out: &mut impl Write) -> Result<()> {
    text::subscriber(&find(queue, namespace, name)?, out)?;
    match queue.pending(namespace, name)?.next() {
        Some(Ok(event)) => text::blocking(&event, out)?,
        Some(Err(QueueReadError::DamagedRow(error))) => writeln!(out, "blocked by    {error}")?,
        Some(Err(error)) => return Err(error.into()),
        None => {}
    }
    for room in queue.subscriptions(namespace, name, COUNT_MAX)? {
        text::subscription(&room, out)?;
    }
    let failed = queue.failed(namespace, name, SHOWN_MAX + 1)?;
    for event in failed.iter().take(SHOWN_MAX) {
        text::failed(event, out)?;
    }
    text::rest(failed.len(), SHOWN_MAX, "failed", out)?;
    let mut shown = 0;
    for gap in queue.gaps(namespace, name)?.take(SHOWN_MAX + 1) {
        let gap = gap?;
        shown += 1;
        if shown <= SHOWN_MAX {
            text::gap(&gap, out)?;
        }
    }
    Ok(text::rest(shown, SHOWN_MAX, "gap", out)?)
}

fn check(queue: &mut QueueInspection, out: &mut impl Write) -> Result<()> {
    let mut written = Ok(());
    let check = queue.check(|damage| {
        if written.is_ok() {
            written = writeln!(out, "{damage}");
        }
    })?;
    written?;
    let (events, dead_letters) = (text::plural(check.events, "event"), text::plural(check.dead_letters, "dead letter"));
    writeln!(out, "checked {events} and {dead_letters}")?;
    out.flush()?;
    if check.damages == 0 { Ok(()) } else { Err(QueueToolError::Damages(check.damages)) }
}

/// Prints what a command changes, and changes it with `--yes`.
fn change(
    folder: &Folder,
    command: &str,
    matches: &ArgMatches,
    subject: &Subject<'_>,
    out: &mut impl Write,
) -> Result<()> {
    let mut queue = QueueInspection::open(&folder.path)?;
    let offset = |id: &str| {
        let text = matches.try_get_one::<String>(id).ok().flatten();
        text.map(|text| read_offset(text, &queue)).transpose()
    };
    let room = matches.try_get_one::<String>("room").ok().flatten();
    let name = subject.name.unwrap_or_default();
    let change = match (command, room) {
        ("replay", _) => match offset("from")? {
            Some(after) => Change::ReplayFrom { name, after },
            None => Change::ReplayDead { name },
        },
        ("purge", Some(room)) => Change::PurgeRoom { room, up_to: offset("up-to")? },
        ("purge", None) => Change::PurgeSubscriber { name, up_to: offset("up-to")? },
        ("restored", _) => Change::Restored,
        ("rm", _) => Change::Remove { name },
        (other, _) => return Err(unknown(other)),
    };
    let effect = change.describe(&mut queue, &subject.namespace)?;
    // The folder is opened for changes next.
    drop(queue);
    if !matches.get_flag("yes") {
        return Ok(writeln!(out, "would {effect}\nnothing was changed; add --yes to do so")?);
    }
    folder.apply(&change, &subject.namespace)?;
    Ok(writeln!(out, "done: {effect}")?)
}

/// Reads an offset, or the number of an event.
fn read_offset(text: &str, queue: &QueueInspection) -> Result<QueueOffset> {
    match QueueOffset::parse(text) {
        _ if is_number(text) => Ok(queue.offset(text.parse().unwrap_or(u64::MAX))),
        Ok(offset) => Ok(offset),
        Err(error) => Err(QueueToolError::Wrong(format!("{text:?}: {error}, and not the number of an event"))),
    }
}

/// True for the number of an event. An offset has more characters.
fn is_number(text: &str) -> bool {
    text.len() < 17 && !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}
