//! Texts about configurations: effective values, the default file, and explanations of settings.

use std::fmt::{self, Write};

use super::Config;
use super::keys::{KEYS, Key, find, unknown};
use super::load::{ConfigError, Effective, Problem, Source};
use super::value::Value;

/// Section of the file with settings that few operators need to change.
pub(super) const TUNING: &str = "tuning";

/// Writes the header of the tuning section before its first key.
fn write_section(f: &mut impl Write, key: &Key, before: &mut bool) -> fmt::Result {
    let starts = key.group.is_tuning && !std::mem::replace(before, key.group.is_tuning);
    if starts { write!(f, "\n[{TUNING}]\n") } else { Ok(()) }
}

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
    /// Returns one line for the log with the values that differ from their defaults. Secrets are
    /// masked.
    pub(crate) fn line(&self) -> String {
        let default = Config::default();
        let differing = KEYS.iter().filter(|key| (key.differs)(&self.config, &default));
        let values: Vec<_> = differing.map(|key| format!("{}={}", key.name, key.show(&self.config))).collect();
        if values.is_empty() { "all default".into() } else { values.join(" ") }
    }
}

impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut in_tuning = false;
        for (key, source) in KEYS.iter().zip(&self.sources) {
            write_section(f, key, &mut in_tuning)?;
            match key.show(&self.config) {
                Value::None => match self.config.derived(key.name) {
                    Some((value, reason)) => writeln!(f, "{} = {value}  # {source}, since {reason}", key.name)?,
                    None => writeln!(f, "# {} is not set", key.name)?,
                },
                value => writeln!(f, "{} = {value}  # {source}", key.name)?,
            }
        }
        Ok(())
    }
}

/// Returns the text of a file with all settings, their descriptions and defaults.
pub(crate) fn default_file() -> String {
    let mut file = String::from(
        "# Configuration of `stentor serve`: every setting with its default. Omit settings that you do not change.\n\
         # The variable STENTOR_<KEY> overrides this file, and the flag --<key> overrides both.\n\
         # Few servers need the settings of the section [tuning].\n",
    );
    let (mut heading, mut in_tuning) = ("", false);
    for key in KEYS {
        let _ = write_section(&mut file, key, &mut in_tuning);
        if key.group.heading != heading {
            heading = key.group.heading;
            let _ = write!(file, "\n# --- {heading} ---\n");
        }
        let _ = write!(file, "\n# {}\n# Form: {}.\n", key.description().replace(". ", ".\n# "), key.form);
        let _ = match key.show(&Config::default()) {
            Value::None => writeln!(file, "# {} =", key.name),
            value => writeln!(file, "{} = {value}", key.name),
        };
    }
    file
}

/// Explains a setting: description, form, default, section, flag and variable. Without a name,
/// lists all settings, one per line.
pub(crate) fn explain(name: Option<&str>) -> Result<String, ConfigError> {
    let Some(name) = name else {
        let (mut list, mut in_tuning) = (String::new(), false);
        for key in KEYS {
            let _ = write_section(&mut list, key, &mut in_tuning);
            let _ = writeln!(list, "{:<28} {}", key.name, key.description());
        }
        return Ok(list);
    };
    let key = name.trim_start_matches("--").trim_start_matches("STENTOR_").replace('-', "_").to_lowercase();
    find(&key).map(explanation).ok_or_else(|| ConfigError(vec![Problem(unknown(&key))]))
}

fn explanation(key: &Key) -> String {
    format!(
        "{}\n  {}\n  form         {}\n  default      {}\n  section      {}\n  flag         --{}\n  environment  {}\n",
        key.name,
        key.description(),
        key.form,
        key.show(&Config::default()),
        if key.group.is_tuning { "[tuning]" } else { "top level" },
        key.flag(),
        key.variable(),
    )
}

#[cfg(test)]
mod tests {
    use super::super::super::secret::Secret;
    use super::*;

    #[test]
    fn the_default_file_has_every_key_and_can_be_read() {
        let file = default_file();
        let table = toml::de::DeTable::parse(&file).unwrap();
        for key in KEYS {
            let has_default = key.show(&Config::default()) != Value::None;
            let section =
                if key.group.is_tuning { table.get_ref()[TUNING].get_ref().as_table() } else { Some(table.get_ref()) };
            assert_eq!(section.unwrap().contains_key(key.name), has_default, "{}", key.name);
            assert!(file.contains(&format!("{} =", key.name)), "{}", key.name);
        }
    }

    #[test]
    fn the_log_line_has_the_values_that_differ_from_their_defaults() {
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
            let description = key.description();
            let first = description.split([' ', ',', ';', ':']).next().unwrap();
            let vague = ["For", "Between", "From", "Whether", "What", "With"];
            assert!(!vague.contains(&first), "{}: {description}", key.name);
            let points = [" those ", " of each", " for that", "those events", "those commands", "`", "  "];
            assert!(points.iter().all(|word| !description.contains(word)), "{}: {description}", key.name);
            assert!(description.ends_with('.') && description.len() > 25, "{}: {description}", key.name);
        }
    }

    #[test]
    fn a_key_is_explained_in_each_of_its_spellings() {
        let expected = "ping_interval\n  Interval between pings of the server. A longer interval saves packets, a shorter interval detects dead clients sooner.\n  form         a duration such as \"25s\", from \"100ms\" to \"12days\"\n  \
                        default      \"25s\"\n  section      top level\n  flag         --ping-interval\n  environment  STENTOR_PING_INTERVAL\n";
        for name in ["ping_interval", "--ping-interval", "STENTOR_PING_INTERVAL"] {
            assert_eq!(explain(Some(name)).unwrap(), expected);
        }
        let error = explain(Some("ping-intervals")).unwrap_err().to_string();
        assert_eq!(error, "unknown key \"ping_intervals\"; did you mean \"ping_interval\"?");
        assert_eq!(explain(None).unwrap().lines().count(), KEYS.len() + "\n[tuning]".lines().count());
    }
}
