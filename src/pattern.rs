//! Patterns of names, in which `*` stands for any text.

/// True if `name` fits `pattern`, in which `*` stands for any text, also for none. Every other
/// character stands for itself, and a `*` in `name` has no meaning. Allocates nothing and takes
/// time linear in both.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    // Most patterns differ in the first bytes from most names, or are a prefix with a star.
    let bytes = pattern.bytes().zip(name.bytes());
    let same = bytes.take_while(|(of_pattern, of_name)| of_pattern == of_name && *of_pattern != b'*').count();
    let rest = match pattern.as_bytes().get(same) {
        None => return name.len() == same,
        Some(b'*') => &pattern[same + 1..],
        Some(_) => return false,
    };
    if rest.is_empty() {
        return true;
    }
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    let Some(mut name) = name.get(same..).and_then(|name| name.strip_suffix(last)) else {
        return false;
    };
    // The first occurrence of a part leaves the most text for the parts after it.
    for part in middle.split('*').filter(|part| !part.is_empty()) {
        match name.find(part) {
            Some(at) => name = &name[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_in_a_pattern_stands_for_any_text() {
        let fitting = [("a", "a"), ("*", ""), ("*", "x"), ("a.*", "a."), ("a.*.c", "a.b.c"), ("*a*a", "aa")];
        for (pattern, name) in fitting.into_iter().chain([
            ("**", "x"),
            ("*b*c*", "abbc"),
            ("é*é", "éé"),
            ("*ab*b", "abab"),
            ("", ""),
            ("é", "é"),
            ("a*", "a"),
        ]) {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        let others = [
            ("a", "ab"),
            ("a.*", "b.a."),
            ("a.*.c", "a.c"),
            ("*a*a", "a"),
            ("", "x"),
            ("a*a", "a"),
            ("*ab*b", "ab"),
            ("", "a"),
            ("a", ""),
            ("a*", ""),
            ("é", "è"),
            ("é*", "è"),
            ("a*b", "a"),
        ];
        for (pattern, name) in others {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn a_star_in_a_name_has_no_meaning() {
        for (pattern, name) in [("chat:7", "chat:*"), ("chat:7", "*"), ("chat:*", "*"), ("chat:*:x", "chat:*")] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
        assert!(matches("chat:*", "chat:*"));
    }
}
