//! Commands that a running server carries out, through its HTTP API.

use std::io::Write;

use clap::ArgMatches;
use serde_json::{Value, json};
use stentor::QueueOffset;

use super::client::{Client, encode};
use super::text::{escaped, plural};
use super::{QueueToolError, Result, Subject, is_number};

pub(super) fn run(
    client: &Client,
    command: &str,
    matches: &ArgMatches,
    subject: &Subject<'_>,
    out: &mut impl Write,
) -> Result<()> {
    let text = |id| matches.try_get_one::<String>(id).ok().flatten().map(String::as_str);
    let namespace = encode(subject.namespace.as_str());
    let query = format!("namespace={namespace}");
    let name = match (command, subject.name) {
        ("ls", _) => return list(client, "subscribers", &query, ("subscribers", u64::MAX), out),
        ("show" | "dead" | "replay" | "purge" | "rm", Some(name)) => name,
        ("purge", None) => return Err(QueueToolError::NotRemote { command: "purge --room".into() }),
        _ => return Err(QueueToolError::NotRemote { command: command.into() }),
    };
    let path = format!("subscribers/{}", encode(name));
    if command == "dead" {
        let limit = matches.try_get_one("limit").ok().flatten().copied().unwrap_or(u64::MAX);
        return list(client, &format!("{path}/dead"), &query, ("events", limit), out);
    }
    let found = client.request("GET", &format!("{path}?{query}"), None)?;
    let (events, dead_letters) = (count(&found, "events"), count(&found, "dead_letters"));
    let events = plural(events, if found["events_capped"] == true { "or more pending event" } else { "pending event" });
    let of = format!("subscriber {} of namespace {}", escaped(name), subject.namespace);
    let (effect, method, target, body) = match (command, text("from")) {
        ("show", _) => return Ok(writeln!(out, "{found:#}")?),
        ("rm", _) => {
            let effect = format!("remove {of} with {events} and {}", plural(dead_letters, "dead letter"));
            (effect, "DELETE", path, None)
        }
        ("purge", _) => {
            let up_to = up_to(text("up-to"), &found)?;
            let is_all = up_to.to_string() == found["head"].as_str().unwrap_or_default();
            let removed = if is_all {
                format!("all {events} of {of}, up to")
            } else {
                format!("those of the {events} of {of} that are not newer than")
            };
            let effect = format!("remove {removed} offset {up_to} (number {}); it receives a gap", up_to.number);
            (effect, "POST", format!("{path}/purge"), Some(json!({"up_to": up_to.to_string()})))
        }
        (_, None) => {
            let effect = format!("deliver {} to {of} again", plural(dead_letters, "dead letter"));
            (effect, "POST", format!("{path}/dead/replay"), Some(json!({})))
        }
        (_, Some(_)) => return Err(QueueToolError::NotRemote { command: "replay --from".into() }),
    };
    if !matches.get_flag("yes") {
        return Ok(writeln!(out, "would {effect}\nnothing was changed; add --yes to do so")?);
    }
    client.request(method, &format!("{target}?{query}"), body.as_ref())?;
    Ok(writeln!(out, "done: {effect}")?)
}

/// Prints the entries of all pages, at most so many, one JSON object per line.
fn list(client: &Client, path: &str, query: &str, (field, mut left): (&str, u64), out: &mut impl Write) -> Result<()> {
    let mut after = String::new();
    loop {
        let page = client.request("GET", &format!("{path}?{query}{after}"), None)?;
        for entry in page[field].as_array().into_iter().flatten() {
            if left == 0 {
                return Ok(());
            }
            left -= 1;
            writeln!(out, "{entry}")?;
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={}", encode(next)),
            None => return Ok(()),
        }
    }
}

fn count(found: &Value, field: &str) -> u64 {
    found[field].as_u64().unwrap_or(0)
}

/// The offset that was given, or the event of that number, or the newest event.
fn up_to(given: Option<&str>, found: &Value) -> Result<QueueOffset> {
    let wrong = |text: &str, error| QueueToolError::Wrong(format!("{text:?}: {error}"));
    let head = found["head"].as_str().unwrap_or_default();
    let head = QueueOffset::parse(head).map_err(|error| wrong(head, error))?;
    match given {
        None => Ok(head),
        Some(number) if is_number(number) => {
            Ok(QueueOffset { epoch: head.epoch, number: number.parse().unwrap_or(u64::MAX).min(head.number) })
        }
        Some(offset) => QueueOffset::parse(offset).map_err(|error| wrong(offset, error)),
    }
}
