//! Patterns of names, in which `*` stands for any text.

/// True if `name` fits `pattern`, in which `*` stands for any text, also for none. Every other
/// character stands for itself, and a `*` in `name` has no meaning. Allocates nothing and takes
/// time linear in both.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    let Some(mut name) = name.strip_prefix(first).and_then(|name| name.strip_suffix(last)) else {
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
        for (pattern, name) in
            fitting.into_iter().chain([("**", "x"), ("*b*c*", "abbc"), ("é*é", "éé"), ("*ab*b", "abab")])
        {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        let others =
            [("a", "ab"), ("a.*", "b.a."), ("a.*.c", "a.c"), ("*a*a", "a"), ("", "x"), ("a*a", "a"), ("*ab*b", "ab")];
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
