//! `stentor journal`: what stands in a journal's folder, for people. Reads only, also while a server runs on the folder; it
//! refuses to mend anything.

use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::PathBuf;

use clap::{Arg, ArgMatches, Command, value_parser};
use stentor::{Fingerprint, JournalInspection, JournalOpenError, JournalReadError, Lsn, Offset};
use thiserror::Error;

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
pub(crate) enum JournalToolError {
    /// There is no journal, or it cannot be read.
    #[error(transparent)]
    Open(#[from] JournalOpenError),
    /// What stands before the damage was shown. The server's next start on the folder will begin a new epoch.
    #[error(transparent)]
    Damaged(#[from] JournalReadError),
    /// The output failed.
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
}

/// The command line of `journal`.
pub(crate) fn command() -> Command {
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
pub(crate) fn run(matches: &ArgMatches, out: &mut impl Write) -> Result<(), JournalToolError> {
    let Some((name, matches)) = matches.subcommand() else { return Ok(()) };
    let Some(folder) = matches.get_one::<PathBuf>("folder") else { return Ok(()) };
    let journal = JournalInspection::open(folder)?;
    let mut out = BufWriter::new(out);
    let outcome = match name {
        "stats" => stats(&journal, &mut out),
        _ => {
            let number = |name| matches.get_one::<u64>(name).copied();
            let limit = number("limit").and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
            dump(&journal, number("from").unwrap_or(0), limit, &mut out)
        }
    };
    match outcome.and_then(|()| Ok(out.flush()?)) {
        Err(JournalToolError::Write(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

fn stats(journal: &JournalInspection, out: &mut impl Write) -> Result<(), JournalToolError> {
    let stats = journal.stats();
    // As tokens begin.
    let token = Offset { epoch: stats.epoch, lsn: Lsn(0), fingerprint: Fingerprint::new(0) }.to_string();
    let records: u64 = stats.records.iter().map(|(_, count)| count).sum();
    writeln!(out, "epoch       {:.EPOCH_CHARS$}", token)?;
    writeln!(out, "state       {}", stats.state)?;
    writeln!(out, "lsn         {} to {}, all up to {0} is gone", stats.trimmed_to.0, stats.newest.0)?;
    writeln!(out, "segments    {}", stats.segments)?;
    writeln!(out, "bytes       {}", stats.bytes)?;
    writeln!(out, "records     {records}")?;
    for (kind, count) in stats.records {
        writeln!(out, "  {kind:<13}  {count}")?;
    }
    writeln!(
        out,
        "sessions    {} that may be recovered, windows aside; {} connected",
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
