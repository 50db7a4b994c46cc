//! Merging of file, environment and flags, in ascending precedence. All errors are reported
//! together.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};
use thiserror::Error;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Config;
use super::contradictions::contradictions;
use super::keys::{BASICS, KEYS, Key, unknown};
use super::text::TUNING;
use super::value::{Form, Value, split_list};

/// Name of the flag for the path of the file. Its environment variable is `STENTOR_CONFIG`.
const FILE: &str = "config";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    Default,
    /// Path of the file and number of the line.
    File(PathBuf, usize),
    Environment,
    Flag,
}

/// A configuration with the source of each value. Its `Display` form is a file with masked secrets.
#[derive(Debug, Clone)]
pub(crate) struct Effective {
    pub(crate) config: Config,
    /// Sources of the values, in the order of the table of settings.
    pub(super) sources: Vec<Source>,
    /// Unknown environment variables `STENTOR_*`. They are not errors, since orchestrators set
    /// variables of their own.
    pub(crate) unknown_variables: Vec<String>,
}

/// One error: a sentence that includes the place of the error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem(pub(super) String);

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) struct ConfigError(pub(super) Vec<Problem>);

impl Effective {
    /// Returns whether a setting was given, also if with its default.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        KEYS.iter().zip(&self.sources).any(|(key, source)| key.name == name && *source != Source::Default)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.0.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { "\n" })?;
            problem.fmt(f)?;
        }
        Ok(())
    }
}

/// Adds `--config` and a flag for each setting to a command.
pub(crate) fn flags(command: Command) -> Command {
    KEYS.iter().fold(command.arg(file_flag()), |command, key| command.arg(flag(key)))
}

/// Adds `--config` and the flags of these settings to a command and its subcommands. They take the
/// other settings from the file and the environment.
pub(crate) fn some_flags(command: Command, names: &[&str]) -> Command {
    let keys = KEYS.iter().filter(|key| names.contains(&key.name));
    let flags = keys.map(|key| flag(key).help_heading(BASICS.heading).hide_short_help(false));
    command.args(flags.chain([file_flag()]).map(|flag| flag.global(true)))
}

fn file_flag() -> Arg {
    Arg::new(FILE)
        .long(FILE)
        .value_name("FILE")
        .help_heading(BASICS.heading)
        .help("Configuration file (TOML); `stentor config default` prints one. [env: STENTOR_CONFIG]")
}

fn flag(key: &Key) -> Arg {
    let default = match key.show(&Config::default()) {
        Value::None => String::new(),
        Value::List(items) if items.is_empty() => String::new(),
        value => format!(" [default: {}]", value.to_string().trim_matches('"')),
    };
    let flag = Arg::new(key.name)
        .long(key.flag())
        .value_name(key.form.placeholder())
        .help_heading(key.group.heading)
        .hide_short_help(key.group.heading != BASICS.heading)
        .help(format!("{}{default} [env: {}]", key.description(), key.variable()));
    match key.form {
        Form::Switch => flag.num_args(0..=1).default_missing_value("true"),
        _ => flag,
    }
}

/// Loads the configuration from flags, the environment, and the file that either of them names.
pub(crate) fn load(matches: &ArgMatches) -> Result<Effective, ConfigError> {
    let variables = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    let variables = variables.map(|(name, value)| (name, value.to_string_lossy().into_owned()));
    let variables: Vec<_> = variables.filter(|(name, _)| name.starts_with("STENTOR_")).collect();
    // A command need not have all flags.
    let is_flag = |id: &str| matches.try_contains_id(id).is_ok();
    let given = |id: &str| match is_flag(id).then(|| matches.value_source(id)).flatten() {
        Some(ValueSource::CommandLine) => matches.get_one::<String>(id).cloned(),
        _ => None,
    };
    merge(&variables, given)
}

/// Merges the sources. The names of `variables` start with `STENTOR_`. An empty variable counts as
/// not set.
fn merge(variables: &[(String, String)], flag: impl Fn(&str) -> Option<String>) -> Result<Effective, ConfigError> {
    let variable = |name: &str| {
        let found = variables.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
    };
    let mut merging = Merging { config: Config::default(), sources: vec![Source::Default; KEYS.len()], wrong: vec![] };
    if let Some(path) = flag(FILE).or_else(|| variable("STENTOR_CONFIG")) {
        merging.read_file(Path::new(&path));
    }
    for (at, key) in KEYS.iter().enumerate() {
        if let Some(text) = variable(&key.variable()) {
            merging.read_text(at, &text, Source::Environment);
        }
        if let Some(text) = flag(key.name) {
            merging.read_text(at, &text, Source::Flag);
        }
    }
    merging.check();
    let known = |name: &str| name == "STENTOR_CONFIG" || KEYS.iter().any(|key| key.variable() == name);
    let unknown_variables = variables.iter().map(|(name, _)| name.clone()).filter(|name| !known(name)).collect();
    match merging.wrong {
        wrong if wrong.is_empty() => {
            Ok(Effective { config: merging.config, sources: merging.sources, unknown_variables })
        }
        wrong => Err(ConfigError(wrong)),
    }
}

struct Merging {
    config: Config,
    sources: Vec<Source>,
    wrong: Vec<Problem>,
}

impl Merging {
    fn read_text(&mut self, at: usize, text: &str, source: Source) {
        let key = &KEYS[at];
        match key.form.read(text) {
            Some(value) => self.put(at, value, source),
            None => {
                let from = match source {
                    Source::Flag => format!("--{}", key.flag()),
                    _ => key.variable(),
                };
                let given = if key.is_secret { "********".into() } else { format!("{text:?}") };
                self.wrong(format!("{} = {given}: {} (from {from})", key.name, key.form.expected(split_list(text))));
            }
        }
    }

    fn read_file(&mut self, path: &Path) {
        let shown = path.display();
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => return self.wrong(format!("{shown}: cannot be read: {error}")),
        };
        let line = |at: usize| text[..at].matches('\n').count() + 1;
        let table = match DeTable::parse(&text) {
            Ok(table) => table,
            Err(error) => {
                let line = error.span().map_or(1, |span| line(span.start));
                return self.wrong(format!("{shown}:{line}: {}", error.message()));
            }
        };
        let entries = table.get_ref().iter().flat_map(|(name, value)| match value.get_ref() {
            DeValue::Table(section) if name.get_ref() == TUNING => section.iter().map(|entry| (entry, true)).collect(),
            _ => vec![((name, value), false)],
        });
        for ((name, value), in_tuning) in entries {
            let line = line(name.span().start);
            match read_entry(name.get_ref(), value, in_tuning, &text) {
                Ok((at, value)) => self.put(at, value, Source::File(path.to_owned(), line)),
                Err(sentence) => self.wrong(format!("{shown}:{line}: {sentence}")),
            }
        }
    }

    fn put(&mut self, at: usize, value: Value, source: Source) {
        if (KEYS[at].put)(&mut self.config, value) {
            self.sources[at] = source;
        } else {
            self.wrong(format!("{}: expected {}", KEYS[at].name, KEYS[at].form));
        }
    }

    fn check(&mut self) {
        for sentence in contradictions(&self.config) {
            self.wrong(sentence);
        }
    }

    fn wrong(&mut self, sentence: String) {
        self.wrong.push(Problem(sentence));
    }
}

/// Reads an entry of the file. Returns the key's position and the value, or an error text.
fn read_entry(name: &str, value: &Spanned<DeValue<'_>>, in_tuning: bool, text: &str) -> Result<(usize, Value), String> {
    let Some(at) = KEYS.iter().position(|key| key.name == name) else {
        return Err(unknown(name));
    };
    let key = &KEYS[at];
    match (key.group.is_tuning, in_tuning) {
        (true, false) => return Err(format!("{name} belongs in the section [{TUNING}]")),
        (false, true) => return Err(format!("{name} belongs at the top level, above the section [{TUNING}]")),
        _ => {}
    }
    let given = if key.is_secret { "********" } else { &text[value.span()] };
    let read = read_toml(key, value).ok_or_else(|| {
        let items = value.get_ref().as_array().into_iter().flatten().filter_map(|item| item.get_ref().as_str());
        format!("{name} = {given}: {}", key.form.expected(items))
    })?;
    Ok((at, read))
}

fn read_toml(key: &Key, value: &Spanned<DeValue<'_>>) -> Option<Value> {
    let value = value.get_ref();
    if !key.form.accepts(value.type_str()) {
        return None;
    }
    match value {
        DeValue::String(text) => key.form.read(text),
        DeValue::Integer(number) if number.radix() == 10 => key.form.read(number.as_str()),
        DeValue::Boolean(on) => Some(Value::Switch(*on)),
        DeValue::Array(items) => {
            let items: Option<Vec<&str>> = items.iter().map(|item| item.get_ref().as_str()).collect();
            key.form.read_list(items?.into_iter())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use stentor::DefaultAccess;

    use super::super::{Storage, SubscriberAccess};
    use super::*;

    const TOKEN_KEY: &str = "0123456789abcdef0123456789abcdef";

    fn file(name: &str, text: &str) -> String {
        let path = std::env::temp_dir().join(format!("stentor-{}-{name}.toml", std::process::id()));
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    fn loaded(file: &str, variables: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Effective, String> {
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let given = |id: &str| match id {
            FILE => Some(file.to_owned()).filter(|file| !file.is_empty()),
            id => flags.iter().find(|(name, _)| *name == id).map(|(_, value)| (*value).to_owned()),
        };
        merge(&variables, given).map_err(|error| error.to_string())
    }

    fn source<'a>(effective: &'a Effective, name: &str) -> &'a Source {
        &effective.sources[KEYS.iter().position(|key| key.name == name).unwrap()]
    }

    #[test]
    fn flags_override_the_environment_which_overrides_the_file() {
        let path = file(
            "order",
            "# mine\nport = 1\nhost = \"::1\"\nping_interval = \"1m 30s\"\nnamespaces = [\"/a\", \"/b\"]\n",
        );
        let env =
            [("STENTOR_PORT", "2"), ("STENTOR_HOST", "127.0.0.2"), ("STENTOR_WORKERS", ""), ("STENTOR_PROT", "x")];
        let effective = loaded(&path, &env, &[("port", "3")]).unwrap();
        let config = &effective.config;
        assert_eq!((config.port, config.host.to_string().as_str()), (3, "127.0.0.2"));
        assert_eq!(config.limits.sessions.ping_interval.as_secs(), 90);
        assert_eq!(config.namespaces, ["/a", "/b"]);
        assert_eq!(config.workers, None, "an empty variable is not set");
        assert_eq!(source(&effective, "port"), &Source::Flag);
        assert_eq!(source(&effective, "host"), &Source::Environment);
        assert_eq!(source(&effective, "ping_interval"), &Source::File(path.into(), 4));
        assert_eq!(source(&effective, "ping_timeout"), &Source::Default);
        assert_eq!(effective.unknown_variables, ["STENTOR_PROT"]);
    }

    #[test]
    fn all_errors_are_reported_with_key_value_form_and_line() {
        let text = "ping_interval = \"25\"\nping_intervall = \"25s\"\nport = \"3000\"\nworkers = 0\nnamespaces = [\"chat\"]\n\
                    api_key = \"short\"\nlimits = { a = 1 }\n";
        let path = file("wrong", text);
        let error =
            loaded(&path, &[("STENTOR_PATH", "io")], &[("max_payload", "12"), ("recovery", "paper")]).unwrap_err();
        let expected = [
            format!("{path}:1: ping_interval = \"25\": expected a duration such as \"25s\", from \"100ms\" to \"12days\""),
            format!("{path}:2: unknown key \"ping_intervall\"; did you mean \"ping_interval\"?"),
            format!("{path}:3: port = \"3000\": expected a number from 0 to 65535"),
            format!("{path}:4: workers = 0: expected a number of threads from 1 to 1024"),
            format!("{path}:5: namespaces = [\"chat\"]: expected a list of namespaces such as \"/chat\""),
            format!("{path}:6: api_key = ********: expected 16 characters or more, without spaces"),
            format!("{path}:7: unknown key \"limits\"; `stentor config explain` lists all keys"),
            "path = \"io\": expected a path such as \"/socket.io\" (from STENTOR_PATH)".into(),
            "recovery = \"paper\": expected \"off\", \"memory\" or \"disk\" (from --recovery)".into(),
            "max_payload = \"12\": expected a size such as \"32MiB\", \"1GB\" or 1000000, from \"1kB\" to \"100MB\" (from --max-payload)".into(),
        ];
        let mut reported: Vec<_> = error.lines().collect();
        reported.sort_unstable();
        let mut expected: Vec<_> = expected.iter().map(String::as_str).collect();
        expected.sort_unstable();
        assert_eq!(reported, expected);
    }

    #[test]
    fn a_setting_in_the_wrong_section_is_refused_with_the_right_one() {
        let path = file("sections", "port = 1\nbacklog = 7\n[tuning]\ncredit_commands = 5\nhost = \"::1\"\n");
        let error = loaded(&path, &[], &[]).unwrap_err();
        let expected = [
            format!("{path}:2: backlog belongs in the section [tuning]"),
            format!("{path}:5: host belongs at the top level, above the section [tuning]"),
        ];
        assert_eq!(error.lines().collect::<Vec<_>>(), expected);
        let path = file("tuning", "port = 1\n[tuning]\nbacklog = 7\n");
        let effective = loaded(&path, &[], &[]).unwrap();
        assert_eq!((effective.config.port, effective.config.limits.http.backlog), (1, 7));
        assert_eq!(source(&effective, "backlog"), &Source::File(path.into(), 3));
    }

    #[test]
    fn a_missing_or_invalid_file_is_reported_with_its_line() {
        let error = loaded("/nowhere/stentor.toml", &[], &[]).unwrap_err();
        assert!(error.starts_with("/nowhere/stentor.toml: cannot be read: "), "{error}");
        let path = file("broken", "port = 1\nhost = oops\n");
        let error = loaded(&path, &[], &[]).unwrap_err();
        assert!(error.starts_with(&format!("{path}:2: ")), "{error}");
        let path = file("twice", "port = 1\nport = 2\n");
        let error = loaded(&path, &[], &[]).unwrap_err();
        assert!(error.starts_with(&format!("{path}:2: ")), "{error}");
    }

    #[test]
    fn contradicting_settings_are_refused_with_the_expected_value() {
        for (flags, expected) in [
            (
                &[("cookie", "io"), ("cookie_same_site", "none")][..],
                "cookie_same_site = \"none\": expected cookie_secure = true as well",
            ),
            (&[("cors_credentials", "true")], "cors_credentials = true: expected cors_origins as well"),
            (
                &[("memory_max", "16MiB"), ("max_payload", "2MB")],
                "memory_max = \"16MiB\": expected at least 16 times the larger of max_payload and api_body_bytes_max (\"2MB\")",
            ),
            (
                &[("incoming_bytes_max", "1MiB")],
                "incoming_bytes_max = \"1MiB\": expected at least twice the larger of max_payload and api_body_bytes_max (\"1MB\")",
            ),
            (
                &[("events_per_second", "10"), ("address_events_per_second", "9")],
                "address_events_per_second = 9: expected 0, or at least events_per_second (10)",
            ),
            (
                &[("bytes_per_second", "2kB"), ("address_bytes_per_second", "1kB")],
                "address_bytes_per_second = \"1kB\": expected 0, or at least bytes_per_second (2000)",
            ),
            (
                &[("journal_segment_bytes", "1MiB"), ("max_payload", "1024000")],
                "journal_segment_bytes = \"1MiB\": expected at least 32768 bytes more than the larger of max_payload",
            ),
            (
                &[("recovery_bytes_max", "1MB"), ("recovery_session_bytes_max", "2MB")],
                "recovery_session_bytes_max = \"2MB\": expected at most recovery_bytes_max (\"1MB\")",
            ),
            (
                &[("queue", "off"), ("subscribers", "open")],
                "subscribers = \"open\": expected queue = \"memory\" or \"disk\" as well",
            ),
            (&[("subscribers", "signed")], "subscribers = \"signed\": expected subscriber_key as well"),
            (
                &[("subscribers", "open"), ("subscriber_key", "0123456789abcdef")],
                "subscribers = \"open\": expected \"signed\" with subscriber_key, or no subscriber_key",
            ),
            (
                &[("queue_event_bytes_max", "2MB")],
                "queue_event_bytes_max = \"2MB\": expected at most the larger of max_payload and api_body_bytes_max (\"1MB\")",
            ),
            (
                &[("queue_event_bytes_max", "40MB"), ("max_payload", "40MB")],
                "journal_segment_bytes = \"32MiB\": expected at least 32768 bytes more than the larger of max_payload",
            ),
            (
                &[("queue_bytes_max", "1MiB"), ("queue_high_water_percent", "50")],
                "queue_bytes_max = \"1MiB\": expected a size of which queue_high_water_percent (50) holds an event of queue_event_bytes_max (\"1MB\")",
            ),
            (
                &[("queue_waiting_bytes_max", "2MiB"), ("queue_event_bytes_max", "1500kB"), ("max_payload", "2MB")],
                "queue_waiting_bytes_max = \"2MiB\": expected at least 1048576 bytes more than queue_event_bytes_max (\"1500kB\")",
            ),
            (&[("back_off", "")], "back_off = []: expected 1 to 256 durations"),
            (
                &[("token_jwks_url", "https://example.org/keys")],
                "token_jwks_url = \"https://example.org/keys\": expected token_audience as well",
            ),
            (
                &[("token_hmac_key", TOKEN_KEY), ("token_public_key_file", "key.pem")],
                "token_public_key_file = \"key.pem\": expected one of token_hmac_key, token_public_key_file and",
            ),
            (
                &[("token_hmac_key_previous", TOKEN_KEY)],
                "token_hmac_key_previous = \"********\": expected token_hmac_key as well",
            ),
            (
                &[("token_audience", "hub")],
                "token_audience = \"hub\": expected token_hmac_key, token_public_key_file or",
            ),
        ] {
            let error = loaded("", &[], flags).unwrap_err();
            assert!(error.starts_with(expected), "{flags:?}: {error}");
        }
        for flags in [
            &[("max_payload", "1kB"), ("api_body_bytes_max", "1kB")][..],
            &[("queue", "memory"), ("recovery", "off"), ("subscribers", "open")],
            &[("queue", "off"), ("subscribers", "off")],
            &[("subscriber_key", "0123456789abcdef")],
            &[("memory_max", "16MiB")],
            &[("memory_max", "0"), ("incoming_bytes_max", "0"), ("rooms_bytes_max", "0")],
            &[("events_per_second", "10"), ("address_events_per_second", "10")],
            &[("journal_segment_bytes", "1MiB"), ("recovery", "memory"), ("max_payload", "2MB")],
            &[("journal_segment_bytes", "1MiB")],
        ] {
            assert!(loaded("", &[], flags).is_ok(), "{flags:?}: {:?}", loaded("", &[], flags));
        }
    }

    #[test]
    fn a_key_of_tokens_is_long_and_masked() {
        let error = loaded("", &[], &[("token_hmac_key", &TOKEN_KEY[1..])]).unwrap_err();
        let expected =
            "token_hmac_key = ********: expected 32 characters or more, without spaces (from --token-hmac-key)";
        assert_eq!(error, expected);
        let effective = loaded("", &[("STENTOR_TOKEN_HMAC_KEY", TOKEN_KEY)], &[("token_issuer", "me")]).unwrap();
        assert!(!effective.line().contains(TOKEN_KEY) && effective.line().contains("token_issuer=\"me\""));
        assert!(effective.config.auth().unwrap().is_some());
        assert!(loaded("", &[], &[]).unwrap().config.auth().unwrap().is_none());
    }

    #[test]
    fn a_key_file_that_is_missing_or_no_key_is_named() {
        let of = |path: &str| {
            let config = loaded("", &[], &[("token_public_key_file", path)]).unwrap().config;
            config.auth().unwrap_err().to_string()
        };
        let missing = of("/nowhere/key.pem");
        assert!(
            missing.starts_with("token_public_key_file = \"/nowhere/key.pem\": the file cannot be read"),
            "{missing}"
        );
        let wrong = of(&file("no-key", "port = 1"));
        assert!(
            wrong.starts_with("token_public_key_file: the text is not a key, expected a public key in PEM"),
            "{wrong}"
        );
    }

    #[test]
    fn a_server_that_others_reach_has_to_be_told_who_may_connect() {
        for flags in [
            &[("host", "0.0.0.0")][..],
            &[("host", "::")],
            &[("trusted_proxies", "127.0.0.1")],
            &[("allowed_hosts", "a.example")],
            &[("anonymous", "false")],
        ] {
            let error = loaded("", &[], flags).unwrap_err();
            assert!(error.starts_with("anonymous = "), "{flags:?}: {error}");
            assert!(error.contains("a key of tokens (token_hmac_key,"), "{flags:?}: {error}");
        }
        let error = loaded("", &[], &[("host", "0.0.0.0")]).unwrap_err();
        assert!(error.contains("since host is not a loopback address"), "{error}");
    }

    #[test]
    fn clients_may_do_everything_only_where_strangers_do_not_connect() {
        let (any, deny) = (DefaultAccess::Any, DefaultAccess::Deny);
        for (flags, expected) in [
            (&[][..], (any, any)),
            (&[("publish_default", "member")], (any, DefaultAccess::Member)),
            (&[("host", "0.0.0.0"), ("anonymous", "true")], (deny, deny)),
            (&[("trusted_proxies", "127.0.0.1"), ("anonymous", "true"), ("join_default", "any")], (any, deny)),
        ] {
            let config = loaded("", &[], flags).unwrap().config;
            let rules = config.access_rules();
            assert_eq!((rules.join_default, rules.publish_default), expected, "{flags:?}");
            assert!(config.admits_anonymous() && rules.user_rooms, "{flags:?}");
        }
        for flags in [&[("token_hmac_key", TOKEN_KEY)][..], &[("token_hmac_key", TOKEN_KEY), ("host", "0.0.0.0")]] {
            let config = loaded("", &[], flags).unwrap().config;
            assert_eq!((config.access_rules().join_default, config.admits_anonymous()), (deny, false), "{flags:?}");
            assert_eq!(config.subscriber_access().0, SubscriberAccess::Token, "{flags:?}");
        }
        let effective = loaded("", &[], &[("token_hmac_key", TOKEN_KEY)]).unwrap();
        let line = "join_default = \"deny\"  # default, since clients have tokens\n";
        assert!(effective.to_string().contains(line), "{effective}");
    }

    #[test]
    fn queue_and_subscribers_follow_from_other_settings_unless_set() {
        let key = ("subscriber_key", "0123456789abcdef");
        let open = ("anonymous", "true");
        for (flags, expected) in [
            (&[][..], (Storage::Disk, SubscriberAccess::Open)),
            (&[("recovery", "memory")], (Storage::Off, SubscriberAccess::Off)),
            (&[("recovery", "memory"), ("queue", "disk")], (Storage::Disk, SubscriberAccess::Open)),
            (&[("host", "0.0.0.0"), open], (Storage::Disk, SubscriberAccess::Off)),
            (&[("host", "::"), open, ("subscribers", "open")], (Storage::Disk, SubscriberAccess::Open)),
            (&[("host", "::"), open, key], (Storage::Disk, SubscriberAccess::Signed)),
            // Clients that come through a proxy are strangers.
            (&[("trusted_proxies", "127.0.0.1"), open], (Storage::Disk, SubscriberAccess::Off)),
            (&[("allowed_hosts", "a.example"), open], (Storage::Disk, SubscriberAccess::Off)),
            (&[("allowed_hosts", "a.example"), open, ("subscribers", "open")], (Storage::Disk, SubscriberAccess::Open)),
            (&[("trusted_proxies", "127.0.0.1"), open, key], (Storage::Disk, SubscriberAccess::Signed)),
            (&[("subscribers", "off"), key], (Storage::Disk, SubscriberAccess::Off)),
        ] {
            let config = loaded("", &[], flags).unwrap().config;
            assert_eq!((config.queue_storage(), config.subscriber_access().0), expected, "{flags:?}");
        }
        let effective = loaded("", &[], &[("trusted_proxies", "127.0.0.1"), open]).unwrap();
        let line = "subscribers = \"off\"  # default, since trusted_proxies is set\n";
        assert!(effective.to_string().contains(line), "{effective}");
        let effective = loaded("", &[], &[key]).unwrap();
        assert!(!effective.line().contains("0123456789abcdef"), "{}", effective.line());
    }

    #[test]
    fn retention_and_back_off_are_lists_whose_wrong_part_is_named() {
        let text = "retention = [\"orders.* max_age=7d\", \"* max_events=1000\"]\nback_off = [\"1s\", \"1m 30s\"]\n";
        let queue = loaded(&file("rules", text), &[], &[]).unwrap().config.limits.queue;
        assert_eq!(queue.retention.iter().map(|rule| rule.pattern.as_str()).collect::<Vec<_>>(), ["orders.*", "*"]);
        assert_eq!(queue.retention[1].max_events, Some(1_000));
        assert_eq!(queue.back_off.iter().map(Duration::as_secs).collect::<Vec<_>>(), [1, 90]);
        let path =
            file("wrong-rules", "retention = [\"a max_events=1\", \"b max_ages=7d\"]\nback_off = [\"1s\", \"5\"]\n");
        let error = loaded(&path, &[], &[("retention", "a max_age=x")]).unwrap_err();
        let form = "expected a list of rules such as \"orders.* max_age=7d max_events=1000 max_bytes=1GiB\"";
        let limits = "none of max_age, max_events or max_bytes";
        let mut found: Vec<_> = error.lines().collect();
        found.sort_unstable();
        let expected = [
            format!(
                "{path}:1: retention = [\"a max_events=1\", \"b max_ages=7d\"]: {form}, but \"max_ages=7d\" in \"b max_ages=7d\" is {limits}"
            ),
            format!(
                "{path}:2: back_off = [\"1s\", \"5\"]: expected a list of durations such as \"5s\", up to \"12days\""
            ),
            format!(
                "retention = \"a max_age=x\": {form}, but \"max_age=x\" in \"a max_age=x\" is no duration such as 7d (from --retention)"
            ),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn credentials_for_any_origin_are_refused() {
        let flags = [("cors_origins", "*"), ("cors_credentials", "true")];
        assert!(loaded("", &[], &flags).unwrap_err().contains("cors_origins without"));
        let effective = loaded("", &[], &[("cors_origins", "https://a.example, http://localhost:5173")]).unwrap();
        assert_eq!(effective.config.cors_origins, ["https://a.example", "http://localhost:5173"]);
    }
}
