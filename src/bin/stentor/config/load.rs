//! Putting a configuration together: file, environment, flags, in this order; all errors are reported together.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};
use stentor::SameSite;
use thiserror::Error;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{BASICS, KEYS, Key, find, nearest};
use super::value::{Form, Value};
use super::{Config, RecoveryMode};

/// What a record of the journal holds beside a message: rooms, namespace, headers. An event that names the most rooms may take more,
/// and is refused then.
pub(super) const RECORD_BYTES: usize = 32 << 10;

/// The flag that names the file; in the environment `STENTOR_CONFIG`.
const FILE: &str = "config";

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    Default,
    /// This line of the file.
    File(PathBuf, usize),
    Environment,
    Flag,
}

/// A configuration, and where each of its values comes from. Displays as a file, one setting a line, secrets masked.
#[derive(Debug, Clone)]
pub(crate) struct Effective {
    /// The values in force.
    pub(crate) config: Config,
    /// One for each key of the table.
    pub(super) sources: Vec<Source>,
    /// Variables `STENTOR_*` that mean nothing here. No error: orchestrators set such variables by themselves.
    pub(crate) unknown_variables: Vec<String>,
}

/// One thing that is wrong, in a sentence that says where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem(pub(super) String);

/// Why there is no configuration.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) struct ConfigError(pub(super) Vec<Problem>);

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

/// Adds a flag for each setting, and `--config`, to a command.
pub(crate) fn flags(command: Command) -> Command {
    let file = Arg::new(FILE)
        .long(FILE)
        .value_name("FILE")
        .help_heading(BASICS)
        .help("Configuration file (TOML); `stentor config default` prints one. [env: STENTOR_CONFIG]");
    KEYS.iter().fold(command.arg(file), |command, key| command.arg(flag(key)))
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
        .help_heading(key.group)
        .hide_short_help(key.group != BASICS)
        .help(format!("{}{default} [env: {}]", key.meaning, key.variable()));
    match key.form {
        Form::Switch => flag.num_args(0..=1).default_missing_value("true"),
        _ => flag,
    }
}

/// Puts the configuration together that these flags, this process' environment and the file they name ask for.
pub(crate) fn load(matches: &ArgMatches) -> Result<Effective, ConfigError> {
    let variables = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    let variables = variables.map(|(name, value)| (name, value.to_string_lossy().into_owned()));
    let variables: Vec<_> = variables.filter(|(name, _)| name.starts_with("STENTOR_")).collect();
    let given = |id: &str| match matches.value_source(id) {
        Some(ValueSource::CommandLine) => matches.get_one::<String>(id).cloned(),
        _ => None,
    };
    merge(&variables, given)
}

/// `variables` are those that begin with `STENTOR_`; an empty one counts as not set.
fn merge(variables: &[(String, String)], flag: impl Fn(&str) -> Option<String>) -> Result<Effective, ConfigError> {
    let variable = |name: &str| {
        let found = variables.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
    };
    let mut merging = Merging { config: Config::default(), sources: vec![Source::Default; KEYS.len()], wrong: vec![] };
    if let Some(path) = flag(FILE).or_else(|| variable("STENTOR_CONFIG")) {
        merging.take_file(Path::new(&path));
    }
    for (at, key) in KEYS.iter().enumerate() {
        if let Some(text) = variable(&key.variable()) {
            merging.take_text(at, &text, Source::Environment);
        }
        if let Some(text) = flag(key.name) {
            merging.take_text(at, &text, Source::Flag);
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
    /// A value from the environment or the command line.
    fn take_text(&mut self, at: usize, text: &str, source: Source) {
        let key = &KEYS[at];
        match key.form.read(text) {
            Some(value) => self.put(at, value, source),
            None => {
                let from = match source {
                    Source::Flag => format!("--{}", key.flag()),
                    _ => key.variable(),
                };
                let given = if key.is_secret { "********".into() } else { format!("{text:?}") };
                self.wrong(format!("{} = {given}: expected {} (from {from})", key.name, key.form));
            }
        }
    }

    fn take_file(&mut self, path: &Path) {
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
        for (name, value) in table.get_ref() {
            let line = line(name.span().start);
            let Some(at) = find(name.get_ref()).and_then(|key| KEYS.iter().position(|known| known.name == key.name))
            else {
                let meant = nearest(name.get_ref()).map_or_else(
                    || "`stentor config default` lists all keys".to_owned(),
                    |name| format!("did you mean {name:?}?"),
                );
                self.wrong(format!("{shown}:{line}: unknown key {:?}; {meant}", name.get_ref()));
                continue;
            };
            let key = &KEYS[at];
            match read_toml(key, value) {
                Some(value) => self.put(at, value, Source::File(path.to_owned(), line)),
                None => {
                    let given = if key.is_secret { "********" } else { &text[value.span()] };
                    self.wrong(format!("{shown}:{line}: {} = {given}: expected {}", key.name, key.form));
                }
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

    /// Adds what is wrong with settings together.
    fn check(&mut self) {
        for sentence in contradictions(&self.config) {
            self.wrong(sentence);
        }
    }

    fn wrong(&mut self, sentence: String) {
        self.wrong.push(Problem(sentence));
    }
}

/// Contradictions between settings that are right each by itself.
fn contradictions(config: &Config) -> Vec<String> {
    let mut found = Vec::new();
    let mut check = |is_wrong: bool, name: &str, expected: String| {
        if is_wrong {
            let value = find(name).map_or(Value::None, |key| key.show(config));
            found.push(format!("{name} = {value}: expected {expected}"));
        }
    };
    let limits = &config.limits;
    check(
        config.cookie.is_some() && config.cookie_same_site == SameSite::None && !config.cookie_secure,
        "cookie_same_site",
        "cookie_secure = true beside it, browsers want that".into(),
    );
    check(
        config.cors_credentials && config.cors_origins.iter().any(|origin| origin == "*"),
        "cors_credentials",
        "cors_origins that name origins, browsers refuse \"*\"".into(),
    );
    check(
        config.cors_credentials && config.cors_origins.is_empty(),
        "cors_credentials",
        "cors_origins beside it".into(),
    );
    // From three quarters on a budget refuses large charges, so that a message of the largest size must fit there.
    let incoming = limits
        .memory
        .incoming_bytes_max
        .or_else(|| limits.memory.bytes_max.map(|bytes| bytes / 8))
        .unwrap_or(usize::MAX);
    let largest = config.max_payload.max(config.api.body_bytes_max);
    let name = if limits.memory.incoming_bytes_max.is_some() { "incoming_bytes_max" } else { "memory_max" };
    let factor = if limits.memory.incoming_bytes_max.is_some() { "twice" } else { "16 times" };
    check(
        incoming < largest.saturating_mul(2),
        name,
        format!(
            "at least {factor} the larger of max_payload and api_body_bytes_max ({})",
            Value::Bytes(largest as u64)
        ),
    );
    let rates = [
        (
            "address_events_per_second",
            limits.rates.address_events_per_second,
            "events_per_second",
            limits.rates.events_per_second,
        ),
        (
            "address_bytes_per_second",
            limits.rates.address_bytes_per_second,
            "bytes_per_second",
            limits.rates.bytes_per_second,
        ),
    ];
    for (name, of_address, session, of_session) in rates {
        let is_less = of_address.zip(of_session).is_some_and(|(of_address, of_session)| of_address < of_session);
        check(is_less, name, format!("0, or at least {session} ({})", of_session.map_or(0, u32::from)));
    }
    check(
        config.recovery == RecoveryMode::Disk && limits.journal.segment_bytes < largest + RECORD_BYTES,
        "journal_segment_bytes",
        format!(
            "{RECORD_BYTES} bytes more than the larger of max_payload and api_body_bytes_max at least, or they are never recovered"
        ),
    );
    check(
        limits.recovery.session_bytes_max > limits.recovery.bytes_max,
        "recovery_session_bytes_max",
        format!("at most recovery_bytes_max ({})", Value::Bytes(limits.recovery.bytes_max as u64)),
    );
    found
}

/// A value of the file, if it has the form of its key.
fn read_toml(key: &Key, value: &Spanned<DeValue<'_>>) -> Option<Value> {
    let value = value.get_ref();
    if !key.form.is_spelled(value.type_str()) {
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
    use super::*;

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
    fn flags_win_over_the_environment_and_that_over_the_file() {
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
    fn all_errors_are_reported_with_key_value_form_and_place() {
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
            format!("{path}:7: unknown key \"limits\"; `stentor config default` lists all keys"),
            "path = \"io\": expected a path such as \"/socket.io\" (from STENTOR_PATH)".into(),
            "recovery = \"paper\": expected \"off\", \"memory\" or \"disk\" (from --recovery)".into(),
            "max_payload = \"12\": expected a size such as \"32MiB\", \"1GB\" or 1000000, from \"1kB\" to \"100MB\" (from --max-payload)".into(),
        ];
        let mut told: Vec<_> = error.lines().collect();
        told.sort_unstable();
        let mut expected: Vec<_> = expected.iter().map(String::as_str).collect();
        expected.sort_unstable();
        assert_eq!(told, expected);
    }

    #[test]
    fn a_file_that_is_missing_or_no_toml_is_reported_with_its_line() {
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
    fn settings_that_contradict_each_other_are_refused_with_what_was_expected() {
        for (flags, expected) in [
            (
                &[("cookie", "io"), ("cookie_same_site", "none")][..],
                "cookie_same_site = \"none\": expected cookie_secure = true",
            ),
            (&[("cors_credentials", "true")], "cors_credentials = true: expected cors_origins beside it"),
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
                "journal_segment_bytes = \"1MiB\": expected 32768 bytes more than the larger of max_payload",
            ),
            (
                &[("recovery_bytes_max", "1MB"), ("recovery_session_bytes_max", "2MB")],
                "recovery_session_bytes_max = \"2MB\": expected at most recovery_bytes_max (\"1MB\")",
            ),
        ] {
            let error = loaded("", &[], flags).unwrap_err();
            assert!(error.starts_with(expected), "{flags:?}: {error}");
        }
        for flags in [
            &[("memory_max", "16MiB")][..],
            &[("memory_max", "0"), ("incoming_bytes_max", "0"), ("rooms_bytes_max", "0")],
            &[("events_per_second", "10"), ("address_events_per_second", "10")],
            &[("journal_segment_bytes", "1MiB"), ("recovery", "memory"), ("max_payload", "2MB")],
            &[("journal_segment_bytes", "1MiB")],
        ] {
            assert!(loaded("", &[], flags).is_ok(), "{flags:?}: {:?}", loaded("", &[], flags));
        }
    }

    #[test]
    fn credentials_for_any_origin_are_refused() {
        let flags = [("cors_origins", "*"), ("cors_credentials", "true")];
        assert!(loaded("", &[], &flags).unwrap_err().contains("cors_origins that name origins"));
        let effective = loaded("", &[], &[("cors_origins", "https://a.example, http://localhost:5173")]).unwrap();
        assert_eq!(effective.config.cors_origins, ["https://a.example", "http://localhost:5173"]);
    }
}
