//! The forms of the values of settings, and how values are parsed, checked and formatted.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use stentor::limits::RetentionRule;
use stentor::{DefaultAccess, Parser, RecoveryClients, SameSite};

use super::super::http::ApiKey;
use super::super::logging::LogFormat;
use super::super::secret::Secret;
use super::{Storage, SubscriberAccess, retention};

/// Form of a value. Determines how the value is read, and how an error describes the expected
/// value.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    /// A duration such as `25s` or `1m 30s`.
    Duration {
        least: Duration,
        most: Duration,
    },
    /// An integer. If `or_unset`, 0 means that the setting is not set.
    Number {
        or_unset: bool,
        unit: &'static str,
        least: u64,
        most: u64,
    },
    /// A number of bytes, with or without a unit: `32MiB`, `1GB`, `1000000`. If `or_unset`, 0 means
    /// that the setting is not set.
    Bytes {
        or_unset: bool,
        least: u64,
        most: u64,
    },
    Switch,
    Text {
        expected: &'static str,
        check: fn(&str) -> bool,
    },
    List {
        expected: &'static str,
        check: fn(&str) -> bool,
    },
    /// A list of retention rules. An error names the part of a rule that is wrong.
    Rules,
}

/// Value of a setting. `None` means that an optional setting is not set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    None,
    Duration(Duration),
    Number(u64),
    Bytes(u64),
    Switch(bool),
    Text(String),
    List(Vec<String>),
}

/// Shortest duration of most settings, since timers have a resolution of a millisecond.
pub(super) const SHORTEST: Duration = Duration::from_millis(1);

/// Units of sizes, in ascending order.
const UNITS: [(&str, u64); 8] = [
    ("kB", 1_000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
    ("TB", 1_000_000_000_000),
    ("TiB", 1 << 40),
];

/// Items of a list on the command line or in the environment.
pub(super) fn split_list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// Reads a size such as `32MiB`, `1 GB`, `1000000` or `1000B`, ignoring case.
pub(super) fn read_bytes(text: &str) -> Option<u64> {
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    let (number, unit) = (text[..at].replace('_', "").parse::<u64>().ok()?, text[at..].trim());
    if unit.is_empty() || unit.eq_ignore_ascii_case("b") {
        return Some(number);
    }
    let (_, unit) = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    number.checked_mul(*unit)
}

impl Form {
    /// Reads a value from the command line or the environment. Items of a list are separated by
    /// commas.
    pub(super) fn read(self, text: &str) -> Option<Value> {
        match self {
            Self::Duration { least, most } => {
                let time = humantime::parse_duration(text).ok()?;
                (least..=most).contains(&time).then_some(Value::Duration(time))
            }
            Self::Bytes { or_unset, least, most } => {
                let bytes = read_bytes(text)?;
                ((least..=most).contains(&bytes) || or_unset && bytes == 0).then_some(Value::Bytes(bytes))
            }
            Self::Number { or_unset, least, most, .. } => {
                let number = text.replace('_', "").parse().ok()?;
                ((least..=most).contains(&number) || or_unset && number == 0).then_some(Value::Number(number))
            }
            Self::Switch => text.parse().ok().map(Value::Switch),
            Self::Text { check, .. } => check(text).then(|| Value::Text(text.to_owned())),
            Self::List { .. } | Self::Rules => self.read_list(split_list(text)),
        }
    }

    pub(super) fn read_list<'t>(self, items: impl Iterator<Item = &'t str>) -> Option<Value> {
        let check = match self {
            Self::List { check, .. } => check,
            Self::Rules => |rule: &str| retention::read(rule).is_ok(),
            _ => return None,
        };
        items.map(|item| check(item).then(|| item.to_owned())).collect::<Option<_>>().map(Value::List)
    }

    /// Expectation for the error text about items that were refused, with the part that is wrong if
    /// the form knows it.
    pub(super) fn expected<'t>(self, mut items: impl Iterator<Item = &'t str>) -> String {
        match self {
            Self::Rules => match items.find_map(|rule| retention::read(rule).err()) {
                Some(wrong) => format!("expected {self}, but {wrong}"),
                None => format!("expected {self}"),
            },
            _ => format!("expected {self}"),
        }
    }

    /// Returns true if the file may contain the value as the given TOML type.
    pub(super) fn accepts(self, toml_type: &str) -> bool {
        match self {
            Self::Number { .. } => toml_type == "integer",
            Self::Bytes { .. } => toml_type == "integer" || toml_type == "string",
            Self::Switch => toml_type == "boolean",
            Self::Duration { .. } | Self::Text { .. } => toml_type == "string",
            Self::List { .. } | Self::Rules => toml_type == "array",
        }
    }

    /// Placeholder for the value of a flag in the command-line help.
    pub(super) fn placeholder(self) -> &'static str {
        match self {
            Self::Duration { .. } => "DURATION",
            Self::Bytes { .. } => "SIZE",
            Self::Number { .. } => "NUMBER",
            Self::Switch => "BOOL",
            Self::Text { .. } => "TEXT",
            Self::List { .. } | Self::Rules => "LIST",
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Number { or_unset: true, .. } | Self::Bytes { or_unset: true, .. } = self {
            f.write_str("0 for unset, or ")?;
        }
        match self {
            Self::Duration { least, most } => {
                let example = if *most < Duration::from_secs(25) { "2s" } else { "25s" };
                let (least, most) = (Value::Duration(*least), Value::Duration(*most));
                write!(f, "a duration such as \"{example}\", from {least} to {most}")
            }
            Self::Bytes { least, most, .. } => {
                f.write_str("a size such as \"32MiB\", \"1GB\" or 1000000, ")?;
                write!(f, "from {} to {}", Value::Bytes(*least), Value::Bytes(*most))
            }
            Self::Number { unit: "", least, most, .. } => write!(f, "a number from {least} to {most}"),
            Self::Number { unit, least, most, .. } if *most == u64::from(u32::MAX) => {
                write!(f, "a number of {unit}, at least {least}")
            }
            Self::Number { unit, least, most, .. } => write!(f, "a number of {unit} from {least} to {most}"),
            Self::Switch => f.write_str("true or false"),
            Self::Text { expected, .. } | Self::List { expected, .. } => f.write_str(expected),
            Self::Rules => {
                f.write_str("a list of rules such as \"orders.* max_age=7d max_events=1000 max_bytes=1GiB\"")
            }
        }
    }
}

/// Formats the value as TOML.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("(not set)"),
            Self::Duration(time) => write!(f, "\"{}\"", humantime::format_duration(*time)),
            Self::Number(number) => number.fmt(f),
            Self::Bytes(bytes) => match UNITS.iter().rev().find(|(_, unit)| *bytes >= *unit && bytes % unit == 0) {
                Some((name, unit)) => write!(f, "\"{}{name}\"", bytes / unit),
                None => bytes.fmt(f),
            },
            Self::Switch(on) => on.fmt(f),
            Self::Text(text) => quote(text, f),
            Self::List(items) => {
                f.write_str("[")?;
                for (at, item) in items.iter().enumerate() {
                    f.write_str(if at == 0 { "" } else { ", " })?;
                    quote(item, f)?;
                }
                f.write_str("]")
            }
        }
    }
}

/// Formats a TOML basic string. TOML has all escape sequences that serde_json writes.
fn quote(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(&serde_json::to_string(text).map_err(|_| fmt::Error)?)
}

/// Enum whose values have names in the configuration.
pub(crate) trait Named: Copy + PartialEq + 'static {
    const NAMES: &'static [(&'static str, Self)];

    fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, value)| *value == self).map_or("", |(name, _)| name)
    }
}

impl Named for SubscriberAccess {
    const NAMES: &'static [(&'static str, Self)] =
        &[("off", Self::Off), ("open", Self::Open), ("signed", Self::Signed), ("token", Self::Token)];
}

impl Named for DefaultAccess {
    const NAMES: &'static [(&'static str, Self)] =
        &[("deny", Self::Deny), ("member", Self::Member), ("any", Self::Any)];
}

impl Named for Storage {
    const NAMES: &'static [(&'static str, Self)] =
        &[("off", Self::Off), ("memory", Self::Memory), ("disk", Self::Disk)];
}

impl Named for RecoveryClients {
    const NAMES: &'static [(&'static str, Self)] = &[("auto", Self::Auto), ("all", Self::All), ("ask", Self::Ask)];
}

impl Named for Parser {
    const NAMES: &'static [(&'static str, Self)] = &[("json", Self::Json), ("msgpack", Self::Msgpack)];
}

impl Named for SameSite {
    const NAMES: &'static [(&'static str, Self)] =
        &[("strict", Self::Strict), ("lax", Self::Lax), ("none", Self::None)];
}

/// Field of the configuration. `put` returns false if the type of the value does not match the
/// field.
pub(super) trait Field {
    fn put(&mut self, value: Value) -> bool;
    fn show(&self) -> Value;
}

macro_rules! field {
    ($($type:ty: $put:pat => $with:expr, $this:pat => $show:expr;)*) => {
        $(impl Field for $type {
            fn put(&mut self, value: Value) -> bool {
                let read: Option<Self> = match value {
                    $put => $with,
                    _ => None,
                };
                read.map(|read| *self = read).is_some()
            }

            fn show(&self) -> Value {
                let $this = self;
                $show
            }
        })*
    };
}

field! {
    Duration: Value::Duration(time) => Some(time), time => Value::Duration(*time);
    Option<Duration>: Value::Duration(time) => Some(Some(time)), time => time.map_or(Value::None, Value::Duration);
    u8: Value::Number(number) => number.try_into().ok(), number => Value::Number(u64::from(*number));
    u16: Value::Number(number) => number.try_into().ok(), number => Value::Number(u64::from(*number));
    u32: Value::Number(number) => number.try_into().ok(), number => Value::Number(u64::from(*number));
    usize: Value::Number(number) | Value::Bytes(number) => number.try_into().ok(), number => Value::Number(*number as u64);
    Option<u16>: Value::Number(number) => number.try_into().ok().map(Some),
        number => number.map_or(Value::None, |number| Value::Number(u64::from(number)));
    Option<NonZeroU32>: Value::Number(number) | Value::Bytes(number) => number.try_into().ok().map(NonZeroU32::new),
        number => Value::Number(number.map_or(0, |number| u64::from(number.get())));
    Option<usize>: Value::Number(number) | Value::Bytes(number) => Some(usize::try_from(number).ok().filter(|number| *number > 0)),
        number => Value::Number(number.unwrap_or(0) as u64);
    Option<String>: Value::Text(text) => Some(Some(text)),
        text => text.as_ref().map_or(Value::None, |text| Value::Text(text.clone()));
    bool: Value::Switch(on) => Some(on), on => Value::Switch(*on);
    Option<PathBuf>: Value::Text(text) => Some(Some(text.into())),
        path => path.as_ref().map_or(Value::None, |path| Value::Text(path.to_string_lossy().into_owned()));
    Option<bool>: Value::Switch(on) => Some(Some(on)), on => on.map_or(Value::None, Value::Switch);
    PathBuf: Value::Text(text) => Some(text.into()), path => Value::Text(path.to_string_lossy().into_owned());
    String: Value::Text(text) => Some(text), text => Value::Text(text.clone());
    IpAddr: Value::Text(text) => text.parse().ok(), address => Value::Text(address.to_string());
    Storage: Value::Text(text) => Self::named(&text), storage => Value::Text(storage.name().into());
    Option<Storage>: Value::Text(text) => Storage::named(&text).map(Some),
        storage => storage.map_or(Value::None, |storage| Value::Text(storage.name().into()));
    Option<SubscriberAccess>: Value::Text(text) => SubscriberAccess::named(&text).map(Some),
        access => access.map_or(Value::None, |access| Value::Text(access.name().into()));
    Option<DefaultAccess>: Value::Text(text) => DefaultAccess::named(&text).map(Some),
        access => access.map_or(Value::None, |access| Value::Text(access.name().into()));
    RecoveryClients: Value::Text(text) => Self::named(&text), clients => Value::Text(clients.name().into());
    Parser: Value::Text(text) => Self::named(&text), parser => Value::Text(parser.name().into());
    LogFormat: Value::Text(text) => Self::named(&text), format => Value::Text(format.name().into());
    SameSite: Value::Text(text) => Self::named(&text), same_site => Value::Text(same_site.name().into());
    Option<Secret>: Value::Text(text) => Some(Some(Secret::new(text))),
        secret => secret.as_ref().map_or(Value::None, |_| Value::Text("********".into()));
    Vec<ApiKey>: Value::List(items) => items.iter().map(|item| ApiKey::read(item)).collect(),
        keys => Value::List(keys.iter().map(ToString::to_string).collect());
    Vec<String>: Value::List(items) => Some(items), items => Value::List(items.clone());
    Vec<Duration>: Value::List(items) => items.iter().map(|item| humantime::parse_duration(item).ok()).collect(),
        times => Value::List(times.iter().map(|time| humantime::format_duration(*time).to_string()).collect());
    Vec<RetentionRule>: Value::List(items) => items.iter().map(|rule| retention::read(rule).ok()).collect(),
        rules => Value::List(rules.iter().map(retention::show).collect());
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: Form = Form::Bytes { or_unset: false, least: 1, most: u64::MAX };

    #[test]
    fn sizes_are_read_with_units_and_written_readably() {
        for (text, bytes, written) in [
            ("32MiB", 32 << 20, "\"32MiB\""),
            ("32 mib", 32 << 20, "\"32MiB\""),
            ("1GB", 1_000_000_000, "\"1GB\""),
            ("1_000_000", 1_000_000, "\"1MB\""),
            ("1000B", 1_000, "\"1kB\""),
            ("1024", 1_024, "\"1KiB\""),
            ("999", 999, "999"),
        ] {
            let value = ANY.read(text);
            assert_eq!(value, Some(Value::Bytes(bytes)), "{text}");
            assert_eq!(Value::Bytes(bytes).to_string(), written);
            assert_eq!(ANY.read(written.trim_matches('"')), value);
        }
        for wrong in ["", "MiB", "1.5MB", "-1", "1 XB", "18446744073709551615KiB", "1MB1"] {
            assert_eq!(ANY.read(wrong), None, "{wrong}");
        }
    }
}
