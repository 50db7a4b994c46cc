//! `stentor token` writes and checks the tokens by which clients connect, with the key of the
//! server's configuration.

use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Arg, ArgAction, ArgMatches, Command};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Map, Value, json};
use stentor::{Auth, Identity, IdentityError, RoomPattern, TokenError};
use thiserror::Error;

use super::config::{self, Config, ConfigError, TokenSettingError};

/// Settings that the commands have flags for.
const FLAGS: [&str; 9] = [
    "token_hmac_key",
    "token_hmac_key_previous",
    "token_public_key_file",
    "token_jwks_url",
    "token_issuer",
    "token_audience",
    "token_user_claim",
    "token_claims",
    "token_leeway",
];

/// Longest life of a token. A token cannot be withdrawn before its expiry.
const TTL_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Bytes that are read of a token on stdin. A server accepts fewer.
const TOKEN_BYTES_MAX: u64 = 64 << 10;

const EXAMPLES: &str = "\
Both commands take the key from where `stentor serve` has it: the environment, the file or flags. In an application, write tokens with a \
JWT library; this command is for trying out, and for scripts.

Examples:
  export STENTOR_TOKEN_HMAC_KEY=$(openssl rand -hex 32)
  stentor token gen --user 42 --join 'chat:*' --publish 'chat:*' --ttl 1h
  stentor token gen --user 42 --room chat:7 --room-publish
  stentor token gen --user 42 | stentor token check -";

#[derive(Debug, Error)]
pub(crate) enum TokenToolError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Setting(#[from] TokenSettingError),
    #[error(
        "no key of tokens: expected token_hmac_key (STENTOR_TOKEN_HMAC_KEY), or for check token_public_key_file or token_jwks_url"
    )]
    NoKey,
    #[error("tokens of token_public_key_file and token_jwks_url are signed by their issuer: gen needs token_hmac_key")]
    NotTheIssuer,
    /// An argument is wrong. The text is the cause.
    #[error("{0}")]
    Wrong(String),
    #[error("--user: {0}")]
    User(#[from] IdentityError),
    /// The server would refuse the token.
    #[error("refused, code {}: {}", .0.code(), .0)]
    Refused(#[from] TokenError),
    #[error("token is not signed: {0}")]
    NotSigned(#[from] jsonwebtoken::errors::Error),
    #[error("cannot read the token: {0}")]
    Read(io::Error),
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
}

type Result<T> = std::result::Result<T, TokenToolError>;

fn list(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).action(ArgAction::Append).help(help)
}

fn text(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

pub(crate) fn command() -> Command {
    let patterns = [
        list("join", "PATTERN", "Rooms that the client may join, such as chat:*; can be repeated"),
        list("publish", "PATTERN", "Rooms to which the client may publish; can be repeated"),
        list("members", "PATTERN", "Rooms whose members the client may list; can be repeated"),
        list("rooms", "ROOM", "Room that the server joins for the client; can be repeated"),
        list("namespaces", "PATTERN", "Namespaces to which the client may connect, all if omitted; can be repeated"),
        text("info", "JSON", "Anything about the user, such as {\"name\":\"Ada\"}"),
    ];
    let of_connection = patterns.map(|arg| arg.conflicts_with("room"));
    let generate = Command::new("gen")
        .about("Print a token for a user, signed by token_hmac_key")
        .arg(text("user", "ID", "Id of the user").required(true))
        .args(of_connection)
        .arg(text("room", "ROOM", "Makes a token for one join of this room instead of one for a connection"))
        .arg(
            Arg::new("room-publish")
                .long("room-publish")
                .action(ArgAction::SetTrue)
                .requires("room")
                .help("Permits to publish to the room"),
        )
        .arg(text("namespace", "PATH", "Namespace of the room, / if omitted").requires("room"))
        .arg(text("ttl", "DURATION", "Time until the token expires, such as 1h").default_value("1h"));
    let check = Command::new("check")
        .about("Check a token as the server would, and print what it permits; the exit status is 1 if it is refused")
        .arg(Arg::new("token").value_name("JWT").required(true).help("Token, or - to read it from stdin"))
        .arg(text("room", "ROOM", "Checks a token for the join of this room").requires("user"))
        .arg(text("namespace", "PATH", "Namespace of the room, / if omitted").requires("room"))
        .arg(text("user", "ID", "User of the token for a room").requires("room"));
    let command = Command::new("token")
        .about("Print and check the tokens by which clients connect")
        .after_help(EXAMPLES)
        .subcommand_required(true)
        .arg_required_else_help(true);
    config::some_flags(command, &FLAGS).subcommands([generate, check])
}

/// Runs the command. A closed pipe (`| head`) is not an error.
pub(crate) async fn run(matches: &ArgMatches, out: &mut impl Write) -> Result<()> {
    let Some((name, matches)) = matches.subcommand() else { return Ok(()) };
    let config = config::load(matches)?.config;
    let outcome = match name {
        "gen" => {
            let token = generate(&config, matches, SystemTime::now())?;
            writeln!(out, "{token}")
        }
        _ => {
            let auth = config.auth()?.ok_or(TokenToolError::NoKey)?;
            let report = check(&auth, matches).await?;
            write!(out, "{report}")
        }
    };
    match outcome {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        outcome => Ok(outcome?),
    }
}

fn argument<'a>(matches: &'a ArgMatches, name: &str) -> Option<&'a str> {
    matches.get_one::<String>(name).map(String::as_str)
}

fn arguments(matches: &ArgMatches, name: &str) -> Vec<String> {
    matches.get_many::<String>(name).into_iter().flatten().cloned().collect()
}

/// Signs a token with the claims of the arguments.
fn generate(config: &Config, matches: &ArgMatches, now: SystemTime) -> Result<String> {
    let settings = &config.tokens;
    let key = match &settings.hmac_key {
        Some(key) => EncodingKey::from_secret(key.as_ref())?,
        None if settings.is_set() => return Err(TokenToolError::NotTheIssuer),
        None => return Err(TokenToolError::NoKey),
    };
    // Settings and arguments are checked as the server checks them.
    config.auth()?;
    let user = argument(matches, "user").unwrap_or_default();
    let mut identity = Identity::of_user(user)?;
    let ttl = argument(matches, "ttl").unwrap_or_default();
    let expected = || TokenToolError::Wrong(format!("--ttl {ttl:?}: expected a duration such as \"1h\", up to a year"));
    let ttl = humantime::parse_duration(ttl).ok().filter(|ttl| (1..=TTL_MAX.as_secs()).contains(&ttl.as_secs()));
    let ttl = ttl.ok_or_else(expected)?.as_secs();
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();

    let mut claims = Map::new();
    claims.insert(settings.user_claim.clone(), user.into());
    claims.insert("iat".into(), now.into());
    claims.insert("exp".into(), (now + ttl).into());
    if let Some(issuer) = &settings.issuer {
        claims.insert("iss".into(), issuer.clone().into());
    }
    if let Some(audience) = &settings.audience {
        claims.insert("aud".into(), audience.clone().into());
    }
    match argument(matches, "room") {
        Some(room) => {
            identity.set_rooms([room]).map_err(|error| TokenToolError::Wrong(format!("--room {room:?}: {error}")))?;
            claims.insert("room".into(), room.into());
            claims.insert("publish".into(), matches.get_flag("room-publish").into());
            if let Some(namespace) = argument(matches, "namespace") {
                claims.insert("namespace".into(), namespace.into());
            }
        }
        None => {
            claims.insert(settings.claims.clone(), permissions(matches, &mut identity)?);
            if let Some(info) = argument(matches, "info") {
                let wrong = |error| TokenToolError::Wrong(format!("--info {info:?}: expected JSON, but {error}"));
                claims.insert("info".into(), serde_json::from_str(info).map_err(wrong)?);
            }
        }
    }
    Ok(encode(&Header::new(Algorithm::HS256), &claims, &key)?)
}

/// The claim of permissions, without what is not given.
fn permissions(matches: &ArgMatches, identity: &mut Identity) -> Result<Value> {
    let mut claim = Map::new();
    for name in ["join", "publish", "members", "namespaces"] {
        let patterns = arguments(matches, name);
        for pattern in &patterns {
            RoomPattern::new(pattern.as_str())
                .map_err(|error| TokenToolError::Wrong(format!("--{name} {pattern:?}: {error}")))?;
        }
        if !patterns.is_empty() {
            claim.insert(name.into(), json!(patterns));
        }
    }
    let rooms = arguments(matches, "rooms");
    identity.set_rooms(&rooms).map_err(|error| TokenToolError::Wrong(format!("--rooms {rooms:?}: {error}")))?;
    if !rooms.is_empty() {
        claim.insert("rooms".into(), json!(rooms));
    }
    Ok(claim.into())
}

async fn check(auth: &Auth, matches: &ArgMatches) -> Result<String> {
    let token = match argument(matches, "token").unwrap_or_default() {
        "-" => {
            let mut token = String::new();
            io::stdin().lock().take(TOKEN_BYTES_MAX).read_to_string(&mut token).map_err(TokenToolError::Read)?;
            token
        }
        token => token.to_owned(),
    };
    let token = token.trim();
    if let (Some(room), Some(user)) = (argument(matches, "room"), argument(matches, "user")) {
        let namespace = argument(matches, "namespace").unwrap_or("/");
        let grant = auth.verify_room_token(token, &Identity::of_user(user)?, namespace, room).await?;
        let rows = [("user", user.to_owned()), ("room", room.to_owned()), ("publish", grant.publish.to_string())];
        return Ok(rows.iter().map(row).collect::<String>() + &row(&("expires", expiry(grant.expires_at))));
    }
    Ok(report(&auth.verify(token).await?))
}

fn row((name, value): &(&str, String)) -> String {
    format!("{name:<10}  {value}\n")
}

fn expiry(at: u64) -> String {
    let at = UNIX_EPOCH + Duration::from_secs(at);
    let left = at.duration_since(SystemTime::now()).map_or(0, |left| left.as_secs());
    format!("{}, in {}", humantime::format_rfc3339_seconds(at), humantime::format_duration(Duration::from_secs(left)))
}

/// The identity as lines of text.
fn report(identity: &Identity) -> String {
    let joined = |texts: Vec<&str>| if texts.is_empty() { "-".to_owned() } else { texts.join(" ") };
    let patterns = |patterns: &[RoomPattern]| joined(patterns.iter().map(RoomPattern::as_str).collect());
    let permissions = &identity.permissions;
    let rows = [
        ("user", identity.user().unwrap_or("-").to_owned()),
        ("expires", identity.expires_at.map_or_else(|| "-".to_owned(), expiry)),
        ("rooms", joined(identity.user_room().iter().map(String::as_str).chain(identity.rooms()).collect())),
        ("join", patterns(&permissions.join)),
        ("publish", patterns(&permissions.publish)),
        ("members", patterns(&permissions.members)),
        ("namespaces", identity.namespaces.as_deref().map_or_else(|| "all".to_owned(), patterns)),
        ("info", identity.info.as_ref().map_or_else(|| "-".to_owned(), |info| info.get().to_owned())),
    ];
    rows.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    fn output(args: &[&str]) -> std::result::Result<String, String> {
        let args = ["token"].iter().chain(args).copied();
        let matches = command().try_get_matches_from(args).map_err(|error| error.to_string())?;
        let mut out = Vec::new();
        let done = actix::System::new().block_on(run(&matches, &mut out));
        done.map_err(|error| error.to_string())?;
        Ok(String::from_utf8(out).unwrap())
    }

    fn with_key<'a>(args: &[&'a str]) -> Vec<&'a str> {
        [args, &["--token-hmac-key", KEY]].concat()
    }

    #[test]
    fn a_printed_token_is_accepted_and_shown() {
        let args =
            ["gen", "--user", "42", "--join", "chat:*", "--join", "news", "--publish", "chat:*", "--rooms", "lobby"];
        let token = output(&with_key(&[&args[..], &["--info", r#"{"name":"Ada"}"#]].concat())).unwrap();
        let shown = output(&with_key(&["check", token.trim()])).unwrap();
        for row in [
            "user        42\n",
            "rooms       user:42 lobby\n",
            "join        chat:* news\n",
            "publish     chat:*\n",
            "members     -\n",
            "namespaces  all\n",
            "info        {\"name\":\"Ada\"}\n",
        ] {
            assert!(shown.contains(row), "{row} {shown}");
        }
        let room = output(&with_key(&["gen", "--user", "42", "--room", "chat:7", "--room-publish"])).unwrap();
        let shown = output(&with_key(&["check", room.trim(), "--room", "chat:7", "--user", "42"])).unwrap();
        assert!(shown.starts_with("user        42\nroom        chat:7\npublish     true\nexpires     "), "{shown}");
        let refused = output(&with_key(&["check", room.trim()])).unwrap_err();
        assert!(refused.starts_with("refused, code token_invalid: token claim \"room\""), "{refused}");
    }

    #[test]
    fn issuer_audience_and_names_of_claims_are_those_of_the_server() {
        let settings = [
            "--token-hmac-key",
            KEY,
            "--token-issuer",
            "me",
            "--token-audience",
            "hub",
            "--token-user-claim",
            "uid",
            "--token-claims",
            "https://example.org/stentor",
        ];
        let token = output(&[&["gen", "--user", "42", "--join", "a"], &settings[..]].concat()).unwrap();
        let shown = output(&[&["check", token.trim()], &settings[..]].concat()).unwrap();
        assert!(shown.starts_with("user        42\n") && shown.contains("join        a\n"), "{shown}");
        let refused = output(&with_key(&["check", token.trim()])).unwrap_err();
        assert!(refused.contains("token claim \"aud\""), "{refused}");
    }

    #[test]
    fn wrong_arguments_are_named() {
        for (args, expected) in [
            (&["gen", "--user", ""][..], "--user: user id is empty"),
            (&["gen", "--user", "42", "--join", ""], "--join \"\": pattern is empty"),
            (&["gen", "--user", "42", "--ttl", "x"], "--ttl \"x\": expected a duration such as \"1h\""),
            (&["gen", "--user", "42", "--info", "{"], "--info \"{\": expected JSON, but "),
            (&["gen", "--user", "42", "--rooms", ""], "--rooms [\"\"]: room to join: room name is empty"),
            (&["check", "x"], "refused, code token_invalid: token is not valid"),
        ] {
            let error = output(&with_key(args)).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
        assert!(output(&["gen", "--user", "42"]).unwrap_err().starts_with("no key of tokens"));
        let url = ["--token-jwks-url", "https://example.org/keys", "--token-audience", "hub"];
        let error = output(&[&["gen", "--user", "42"], &url[..]].concat()).unwrap_err();
        assert!(error.ends_with("gen needs token_hmac_key"), "{error}");
    }
}
