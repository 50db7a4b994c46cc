//! What a configuration says of itself: in force, by default, and key by key.

use std::fmt::{self, Write};

use super::Config;
use super::keys::{KEYS, Key, find, nearest};
use super::load::{ConfigError, Effective, Problem, Source};
use super::value::Value;

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Environment => f.write_str("environment"),
            Self::Flag => f.write_str("flag"),
        }
    }
}

impl Effective {
    /// The values that differ from their defaults, on one line, for the log; secrets masked. `stentor config check` prints all.
    pub(crate) fn line(&self) -> String {
        let default = Config::default();
        let is_secret_set = |key: &Key| key.is_secret && key.show(&self.config) != Value::None;
        let differing = KEYS.iter().filter(|key| is_secret_set(key) || key.show(&self.config) != key.show(&default));
        let values: Vec<_> = differing.map(|key| format!("{}={}", key.name, key.show(&self.config))).collect();
        if values.is_empty() { "all default".into() } else { values.join(" ") }
    }
}

impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (key, source) in KEYS.iter().zip(&self.sources) {
            match key.show(&self.config) {
                Value::None => writeln!(f, "# {} is not set", key.name)?,
                value => writeln!(f, "{} = {value}  # {source}", key.name)?,
            }
        }
        Ok(())
    }
}

/// A file of all settings with their defaults, each explained.
pub(crate) fn default_file() -> String {
    let mut file = String::from(
        "# Configuration of `stentor serve`: every setting with its default. Leave out what you do not change.\n\
         # STENTOR_<KEY> in the environment wins over this file, --<key> on the command line over both.\n",
    );
    let mut group = "";
    for key in KEYS {
        if key.group != group {
            group = key.group;
            let _ = write!(file, "\n# --- {group} ---\n");
        }
        let _ = write!(file, "\n# {}\n# Form: {}.\n", key.meaning.replace(". ", ".\n# "), key.form);
        let _ = match key.show(&Config::default()) {
            Value::None => writeln!(file, "# {} =", key.name),
            value => writeln!(file, "{} = {value}", key.name),
        };
    }
    file
}

/// What a setting means, its form and default, and how it is set. Without a name: all settings, a line each.
pub(crate) fn explain(name: Option<&str>) -> Result<String, ConfigError> {
    let Some(name) = name else {
        let lines = KEYS.iter().map(|key| format!("{:<28} {}\n", key.name, key.meaning));
        return Ok(lines.collect());
    };
    let spelled = name.trim_start_matches("--").replace('-', "_");
    let spelled = spelled.strip_prefix("STENTOR_").map_or_else(|| spelled.clone(), str::to_lowercase);
    find(&spelled).map(explanation).ok_or_else(|| {
        let meant = match nearest(&spelled) {
            Some(name) => format!("did you mean {name:?}?"),
            None => "`stentor config explain` lists all keys".to_owned(),
        };
        ConfigError(vec![Problem(format!("unknown key {name:?}; {meant}"))])
    })
}

fn explanation(key: &Key) -> String {
    format!(
        "{}\n  {}\n  form         {}\n  default      {}\n  flag         --{}\n  environment  {}\n",
        key.name,
        key.meaning,
        key.form,
        key.show(&Config::default()),
        key.flag(),
        key.variable(),
    )
}

#[cfg(test)]
mod tests {
    use super::super::super::secret::Secret;
    use super::*;

    #[test]
    fn the_default_file_names_every_key_and_is_taken_back() {
        let file = default_file();
        let table = toml::de::DeTable::parse(&file).unwrap();
        for key in KEYS {
            let has_default = key.show(&Config::default()) != Value::None;
            assert_eq!(table.get_ref().contains_key(key.name), has_default, "{}", key.name);
            assert!(file.contains(&format!("{} =", key.name)), "{}", key.name);
        }
    }

    #[test]
    fn the_line_of_the_log_names_what_differs_from_its_default() {
        let mut effective = Effective { config: Config::default(), sources: Vec::new(), unknown_variables: Vec::new() };
        assert_eq!(effective.line(), "all default");
        effective.config.port = 80;
        effective.config.limits.journal.segment_bytes = 64 << 20;
        effective.config.api_key = Some(Secret::new("0123456789abcdef"));
        assert_eq!(effective.line(), "port=80 api_key=\"********\" journal_segment_bytes=\"64MiB\"");
    }

    #[test]
    fn every_explanation_stands_alone() {
        for key in KEYS {
            let first = key.meaning.split([' ', ',', ';', ':']).next().unwrap();
            let vague = ["For", "Between", "From", "Whether", "What", "With"];
            assert!(!vague.contains(&first), "{}: {}", key.name, key.meaning);
            let points = [" those ", " of each", " for that", "those events", "those commands"];
            assert!(points.iter().all(|word| !key.meaning.contains(word)), "{}: {}", key.name, key.meaning);
            assert!(key.meaning.ends_with('.') && key.meaning.len() > 25, "{}", key.name);
        }
    }

    #[test]
    fn a_key_is_explained_however_it_is_spelled() {
        let expected = "ping_interval\n  Time between two pings of the server to a client.\n  form         a duration such as \"25s\", from \"100ms\" to \"12days\"\n  \
                        default      \"25s\"\n  flag         --ping-interval\n  environment  STENTOR_PING_INTERVAL\n";
        for name in ["ping_interval", "--ping-interval", "STENTOR_PING_INTERVAL"] {
            assert_eq!(explain(Some(name)).unwrap(), expected);
        }
        let error = explain(Some("ping-intervals")).unwrap_err().to_string();
        assert_eq!(error, "unknown key \"ping-intervals\"; did you mean \"ping_interval\"?");
        assert_eq!(explain(None).unwrap().lines().count(), KEYS.len());
    }
}
