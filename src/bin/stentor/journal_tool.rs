//! `stentor journal` prints the contents of a journal's folder as text. It only reads the folder,
//! and also works while a server uses the folder.

use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::PathBuf;

use clap::{Arg, ArgMatches, Command, value_parser};
use stentor::{Fingerprint, JournalInspection, JournalOpenError, JournalReadError, Lsn, Offset};
use thiserror::Error;

use super::data_dir::find_journal;

/// Number of characters of the epoch at the start of an offset.
const EPOCH_CHARS: usize = 8;

const EXAMPLES: &str = "\
Both commands only read and work while a server uses the folder. A dump contains the events that clients sent to each other; \
private ids of sessions are shortened.

Examples:
  stentor journal stats /var/lib/stentor/stentor-data
  stentor journal dump /var/lib/stentor/stentor-data --from 1048577 --limit 10
  stentor journal dump /var/lib/stentor/stentor-data | jq 'select(.kind == \"event\") | .packets'";

#[derive(Debug, Error)]
pub(crate) enum JournalToolError {
    /// The journal does not exist or cannot be opened.
    #[error(transparent)]
    Open(#[from] JournalOpenError),
    /// The journal is damaged. All records before the damage were printed. The next server that
    /// uses the folder starts a new epoch.
    #[error(transparent)]
    Damaged(#[from] JournalReadError),
    #[error("unknown command {0:?}")]
    UnknownCommand(String),
    /// The output could not be written.
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
}

pub(crate) fn command() -> Command {
    let folder = Arg::new("folder").value_name("DIR").required(true).value_parser(value_parser!(PathBuf));
    let folder = folder.help("Data folder of a server, or folder of a journal");
    let number = |name: &'static str| Arg::new(name).long(name).value_parser(value_parser!(u64));
    let from = number("from").value_name("LSN").default_value("0").help("First position to print");
    let limit = number("limit").value_name("N").help("Maximum number of records; all if omitted");
    let stats = Command::new("stats")
        .about("Print what a journal contains: positions, segments, records, sessions")
        .arg(folder.clone());
    let dump = Command::new("dump")
        .about("Print the records of a journal, one JSON object per line")
        .args([folder, from, limit]);
    Command::new("journal")
        .about("Inspect a journal on disk, also while a server uses it")
        .after_help(EXAMPLES)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([stats, dump])
}

/// Runs the command. A closed pipe (`| head`) is not an error.
pub(crate) fn run(matches: &ArgMatches, out: &mut impl Write) -> Result<(), JournalToolError> {
    let Some((name, matches)) = matches.subcommand() else { return Ok(()) };
    let Some(folder) = matches.get_one::<PathBuf>("folder") else { return Ok(()) };
    let journal = JournalInspection::open(find_journal(folder))?;
    let mut out = BufWriter::new(out);
    let outcome = match name {
        "stats" => stats(&journal, &mut out),
        "dump" => {
            let number = |name| matches.get_one::<u64>(name).copied();
            let limit = number("limit").and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
            dump(&journal, number("from").unwrap_or(0), limit, &mut out)
        }
        other => Err(JournalToolError::UnknownCommand(other.to_owned())),
    };
    match outcome.and_then(|()| Ok(out.flush()?)) {
        Err(JournalToolError::Write(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

fn stats(journal: &JournalInspection, out: &mut impl Write) -> Result<(), JournalToolError> {
    let stats = journal.stats();
    // This offset starts with the epoch in the form that clients receive.
    let token = Offset { epoch: stats.epoch, lsn: Lsn(0), fingerprint: Fingerprint::new(0) }.to_string();
    let records: u64 = stats.records.iter().map(|(_, count)| count).sum();
    writeln!(out, "epoch       {:.EPOCH_CHARS$}", token)?;
    writeln!(out, "state       {}", stats.state)?;
    writeln!(out, "lsn         {} to {}, records up to {0} are dropped", stats.trimmed_to.0, stats.newest.0)?;
    writeln!(out, "segments    {}", stats.segments)?;
    writeln!(out, "bytes       {}", stats.bytes)?;
    writeln!(out, "records     {records}")?;
    for (kind, count) in stats.records {
        writeln!(out, "  {kind:<13}  {count}")?;
    }
    writeln!(
        out,
        "sessions    {} recoverable, if their window has not passed; {} connected",
        stats.sessions, stats.connected
    )?;
    stats.damage.map_or(Ok(()), |damage| Err(damage.into()))
}

fn dump(journal: &JournalInspection, from: u64, limit: usize, out: &mut impl Write) -> Result<(), JournalToolError> {
    for record in journal.records(Lsn(from.saturating_sub(1))).take(limit) {
        serde_json::to_writer(&mut *out, &record?).map_err(io::Error::from)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}
