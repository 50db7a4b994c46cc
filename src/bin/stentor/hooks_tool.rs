//! `stentor hooks test` sends a signed sample to the back end, shows the answer and checks it.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Instant;

use clap::{Arg, ArgMatches, Command};
use serde::Serialize;
use serde_json::value::RawValue;
use stentor::Args;
use thiserror::Error;

use super::config::{self, ConfigError};
use super::hooks::{
    Answer, ArgsFields, Body, ConnectBody, ConnectFields, EventBody, EventFields, Failure, Hook, HookClient, JoinBody,
    JoinFields, PublishBody, PublishFields, Request, next_id, read_answer, read_url,
};

/// Maximum number of bytes of an answer that are shown.
const SHOWN_BYTES_MAX: usize = 4_096;

const EXAMPLES: &str = "\
The sample is signed with hooks_key. The exit status is 0 if the answer has the right form, also if it refuses, and otherwise 1.

Examples:
  stentor hooks test connect --config stentor.toml
  stentor hooks test connect --auth '{\"name\": \"Ada\"}'
  stentor hooks test join --user 42 --room chat:7
  stentor hooks test publish --user 42 --room chat:7 --event message --args '[\"hello\"]'
  stentor hooks test event --event order:create --args '[{\"item\": 7}]'";

#[derive(Debug, Error)]
pub(crate) enum HookToolError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(
        "hooks_url and hooks_key are needed; set them in the file, in the environment, or with --hooks-url and --hooks-key"
    )]
    NotSet,
    #[error("{name}: {error}, expected {expected}")]
    Argument { name: &'static str, error: serde_json::Error, expected: &'static str },
    #[error("hooks cannot be asked: {0}")]
    Client(String),
    #[error("the hook was not answered: {0}")]
    Failed(String),
    #[error("the answer is wrong: {0}")]
    Wrong(String),
    #[error(transparent)]
    Write(#[from] io::Error),
}

pub(crate) fn command() -> Command {
    let text = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    let user = || text("user", "ID", "User of the client; anonymous if omitted");
    let room = || text("room", "ROOM", "Room of the sample").default_value("lobby");
    let event = || text("event", "NAME", "Name of the event").default_value("message");
    let args = || text("args", "JSON", "Arguments of the event, a JSON array").default_value("[\"hello\"]");
    let hook = |hook: Hook, about: &'static str| Command::new(hook.as_str()).about(about);
    let test = Command::new("test")
        .about("Send a signed sample to the back end, show the answer and check it")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([
            hook(Hook::Connect, "A client that connects")
                .args([user(), text("auth", "JSON", "What the client sends as auth").default_value("{}")]),
            hook(Hook::Join, "A client that joins a room").args([user(), room()]),
            hook(Hook::Publish, "A client that publishes to a room").args([user(), room(), event(), args()]),
            hook(Hook::Event, "A client that emits any other event").args([user(), event(), args()]),
        ]);
    let command = Command::new("hooks")
        .about("Test the back end that answers hooks")
        .after_help(EXAMPLES)
        .subcommand_required(true)
        .arg_required_else_help(true);
    config::some_flags(command.subcommand(test), &["hooks_url", "hooks_key", "hooks_timeout"])
}

/// Runs the command. Must be called outside of an actix system.
pub(crate) fn run(matches: &ArgMatches, out: &mut impl Write) -> Result<(), HookToolError> {
    let Some(("test", matches)) = matches.subcommand() else { return Ok(()) };
    let Some((name, matches)) = matches.subcommand() else { return Ok(()) };
    let Some(hook) = Hook::named(name) else { return Ok(()) };
    let settings = config::load(matches)?.config.hooks;
    let (Some(url), Some(key)) = (settings.url.as_deref().and_then(read_url), settings.key.clone()) else {
        return Err(HookToolError::NotSet);
    };
    let client = HookClient::new(&settings, url, key).map_err(HookToolError::Client)?;
    let text = |id: &str| matches.try_get_one::<String>(id).ok().flatten().map_or("", String::as_str);
    let user = Some(text("user")).filter(|user| !user.is_empty());
    match hook {
        Hook::Connect => {
            let auth = RawValue::from_string(text("auth").to_owned());
            let auth = auth.map_err(|error| wrong_argument("--auth", error, "JSON such as {\"name\": \"Ada\"}"))?;
            let fields = ConnectFields { auth: Some(auth), headers: BTreeMap::new(), recovering: false };
            test::<ConnectBody>(&client, hook, user, fields, out)
        }
        Hook::Join => test::<JoinBody>(&client, hook, user, JoinFields { room: text("room"), options: None }, out),
        Hook::Publish | Hook::Event => {
            let args = Args::parse(text("args"));
            let args = args.map_err(|error| wrong_argument("--args", error, "a JSON array such as [\"hello\"]"))?;
            let (event, args) = (text("event"), ArgsFields::new(&args));
            if hook == Hook::Event {
                return test::<EventBody>(&client, hook, user, EventFields { event, wants_ack: true, args }, out);
            }
            let rooms = &[text("room").to_owned()];
            test::<PublishBody>(&client, hook, user, PublishFields { rooms, event, durable: false, args }, out)
        }
    }
}

fn wrong_argument(name: &'static str, error: serde_json::Error, expected: &'static str) -> HookToolError {
    HookToolError::Argument { name, error, expected }
}

/// Sends a request, and prints the request, the answer and what it means.
fn test<T: Body>(
    client: &HookClient,
    hook: Hook,
    user: Option<&str>,
    fields: impl Serialize,
    out: &mut impl Write,
) -> Result<(), HookToolError> {
    let request = Request {
        hook,
        id: next_id(),
        namespace: "/",
        socket: "sample".to_owned(),
        address: Some(std::net::Ipv4Addr::LOCALHOST.into()),
        user,
        info: None,
        data: None,
        fields,
    };
    let body = serde_json::to_vec(&request).map_err(|error| HookToolError::Failed(error.to_string()))?;
    writeln!(out, "request  {}", String::from_utf8_lossy(&body))?;
    let sent = Instant::now();
    let answered = actix::System::new().block_on(client.exchange(hook, body, None));
    let text = answered.map_err(|failure| match failure {
        Failure::TooLarge | Failure::ContentType(_) => HookToolError::Wrong(failure.to_string()),
        failure => HookToolError::Failed(failure.to_string()),
    })?;
    let shown = text.get(..SHOWN_BYTES_MAX).unwrap_or(&text);
    writeln!(out, "answer   {} ({:.1?})", String::from_utf8_lossy(shown), sent.elapsed())?;
    match read_answer::<T>(&text).map_err(HookToolError::Wrong)? {
        Answer::Accepted(_) => writeln!(out, "accepted")?,
        Answer::Refused(refusal) => {
            writeln!(out, "refused  code={:?} message={:?}", refusal.code, refusal.message)?;
        }
        Answer::Disconnect => writeln!(out, "refused  the socket is disconnected")?,
    }
    Ok(())
}
