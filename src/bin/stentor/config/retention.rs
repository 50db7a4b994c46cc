//! Retention rules as text: a room pattern, then limits, such as
//! `orders.* max_age=7d max_events=1000`.

use std::time::Duration;

use stentor::Limits;
use stentor::limits::RetentionRule;

use super::value::{Value, read_bytes};

/// Maximum length of a pattern in bytes, which is that of a room name.
const PATTERN_BYTES_MAX: usize = 256;

const LIMITS: &str = "max_age, max_events or max_bytes";

/// Reads a rule. The error names the part that is wrong.
pub(super) fn read(text: &str) -> Result<RetentionRule, String> {
    let mut words = text.split_whitespace();
    let Some(pattern) = words.next() else { return Err("the rule is empty".into()) };
    if ["max_age=", "max_events=", "max_bytes="].iter().any(|limit| pattern.starts_with(limit)) {
        return Err(format!("{text:?} names no rooms"));
    }
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(format!("pattern of {} bytes exceeds limit of {PATTERN_BYTES_MAX}", pattern.len()));
    }
    let mut rule = RetentionRule::new(pattern);
    for word in words {
        let wrong = |what: &str| format!("{word:?} in {text:?} is {what}");
        let Some((name, value)) = word.split_once('=') else { return Err(wrong(&format!("none of {LIMITS}"))) };
        let is_repeated = match name {
            "max_age" => {
                rule.max_age.replace(read_age(value).ok_or_else(|| wrong("no duration such as 7d"))?).is_some()
            }
            "max_events" => rule.max_events.replace(read_count(value).ok_or_else(|| wrong("no number"))?).is_some(),
            "max_bytes" => rule.max_bytes.replace(read_size(value).ok_or_else(|| wrong("no size"))?).is_some(),
            _ => return Err(wrong(&format!("none of {LIMITS}"))),
        };
        if is_repeated {
            return Err(wrong("given twice"));
        }
    }
    if rule.max_age.is_none() && rule.max_events.is_none() && rule.max_bytes.is_none() {
        return Err(format!("{text:?} has no limit"));
    }
    Ok(rule)
}

fn read_age(value: &str) -> Option<Duration> {
    let age = humantime::parse_duration(value).ok()?;
    (Duration::from_millis(1)..=Limits::AGE_MAX).contains(&age).then_some(age)
}

fn read_count(value: &str) -> Option<u64> {
    value.replace('_', "").parse().ok().filter(|events| *events > 0)
}

fn read_size(value: &str) -> Option<u64> {
    read_bytes(value).filter(|bytes| *bytes > 0)
}

/// Formats a rule as [`read`] expects it.
pub(super) fn show(rule: &RetentionRule) -> String {
    let mut text = rule.pattern.clone();
    if let Some(age) = rule.max_age {
        text += &format!(" max_age={}", humantime::format_duration(age).to_string().replace(' ', ""));
    }
    if let Some(events) = rule.max_events {
        text += &format!(" max_events={events}");
    }
    if let Some(bytes) = rule.max_bytes {
        text += &format!(" max_bytes={}", Value::Bytes(bytes).to_string().trim_matches('"'));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_read_and_written_with_its_limits() {
        let rule = read(" orders.*  max_age=7d max_events=1_000 max_bytes=2MiB").unwrap();
        assert_eq!(rule.pattern, "orders.*");
        assert_eq!(rule.max_age, Some(Duration::from_secs(7 * 24 * 3600)));
        assert_eq!((rule.max_events, rule.max_bytes), (Some(1_000), Some(2 << 20)));
        for (text, written) in [
            ("orders.* max_events=1000 max_age=7d", "orders.* max_age=7days max_events=1000"),
            ("a max_age=1h30m", "a max_age=1h30m"),
            ("* max_bytes=1000", "* max_bytes=1kB"),
            ("max_ages max_bytes=7", "max_ages max_bytes=7"),
        ] {
            let rule = read(text).unwrap();
            assert_eq!(show(&rule), written);
            assert_eq!(read(written).unwrap(), rule);
        }
    }

    #[test]
    fn an_error_names_the_part_of_the_rule_that_is_wrong() {
        let long = "p".repeat(257);
        for (text, error) in [
            ("", "the rule is empty"),
            ("max_age=7d", "\"max_age=7d\" names no rooms"),
            ("orders.*", "\"orders.*\" has no limit"),
            ("orders.* 7d", "\"7d\" in \"orders.* 7d\" is none of max_age, max_events or max_bytes"),
            ("o max_ages=7d", "\"max_ages=7d\" in \"o max_ages=7d\" is none of max_age, max_events or max_bytes"),
            ("o max_age=7", "\"max_age=7\" in \"o max_age=7\" is no duration such as 7d"),
            ("o max_age=0s", "\"max_age=0s\" in \"o max_age=0s\" is no duration such as 7d"),
            ("o max_age=11years", "\"max_age=11years\" in \"o max_age=11years\" is no duration such as 7d"),
            ("o max_events=0", "\"max_events=0\" in \"o max_events=0\" is no number"),
            ("o max_events=-1", "\"max_events=-1\" in \"o max_events=-1\" is no number"),
            ("o max_bytes=1XB", "\"max_bytes=1XB\" in \"o max_bytes=1XB\" is no size"),
            ("o max_events=1 max_events=2", "\"max_events=2\" in \"o max_events=1 max_events=2\" is given twice"),
            (&format!("{long} max_events=1"), "pattern of 257 bytes exceeds limit of 256"),
        ] {
            assert_eq!(read(text).unwrap_err(), error);
        }
    }
}
