//! Language of comments, names and documents.

use std::fs;

use super::files::{files_in, root};
use super::reader;
use crate::{OPENERS, TEST_NAME_LENGTH_MAX, TEXT_COLUMNS_MAX, WORDS};

const FOLDERS: &[&str] = &["src/", "static/", "tests/", "benches/", "examples/", "fuzz/", "docs/", "deploy/"];

/// Path and text of all texts with one of these endings: those in the folders, the Makefile, and
/// Markdown anywhere. Of the changelog only what is not yet released.
pub(super) fn texts(endings: &[&str]) -> Vec<(String, String)> {
    let is_text = |path: &String| {
        FOLDERS.iter().any(|folder| path.starts_with(folder)) || path == "Makefile" || path.ends_with(".md")
    };
    let paths = files_in("").into_iter().filter(is_text).filter(|path| endings.iter().any(|end| path.ends_with(end)));
    let read = |path: String| {
        let text = fs::read_to_string(root().join(&path)).expect("a text is readable UTF-8");
        let released = text.match_indices("\n## ").nth(1).filter(|_| path == "CHANGELOG.md");
        let end = released.map_or(text.len(), |(at, _)| at);
        (path, text[..end].to_owned())
    };
    paths.map(read).collect()
}

/// Doc comments of the Rust files for which `is_wrong` is true, with their places.
fn wrong_doc_comments(is_wrong: impl Fn(&str, &str) -> bool) -> String {
    let wrong = |(path, text): (String, String)| {
        let comments = reader::doc_comments(&text).into_iter();
        let wrong = comments.filter(|(_, comment)| is_wrong(&path, comment));
        wrong.map(|(line, comment)| format!("{path}:{line}:{comment:.100}")).collect::<Vec<_>>()
    };
    texts(&[".rs"]).into_iter().flat_map(wrong).collect::<Vec<_>>().join("\n")
}

fn opens_with_clause(comment: &str) -> bool {
    comment.split_whitespace().next().is_some_and(|first| OPENERS.contains(&first))
}

#[test]
fn no_doc_comment_is_one_or_two_words() {
    let found = wrong_doc_comments(|path, comment| path.starts_with("src/") && comment.split_whitespace().count() <= 2);
    assert!(found.is_empty(), "say more than the name does, or nothing:\n{found}");
}

#[test]
fn no_doc_comment_opens_with_a_clause() {
    let found = wrong_doc_comments(|_, comment| opens_with_clause(comment));
    assert!(found.is_empty(), "start with a noun phrase or a verb, not with a word of OPENERS:\n{found}");
    assert!(opens_with_clause(" Whether it is open."));
    assert!(!opens_with_clause(" True if it is open."));
}

/// Numbers of the comment lines that are too wide. Tables and code in comments are not wrapped.
fn too_wide(text: &str) -> Vec<usize> {
    let mut is_code = false;
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let Some(comment) = line.trim_start().strip_prefix("//") else { continue };
        let comment = comment.trim_start_matches(['/', '!', ' ']);
        is_code ^= comment.starts_with("```");
        if line.chars().count() > TEXT_COLUMNS_MAX && !is_code && !comment.starts_with('|') {
            found.push(at + 1);
        }
    }
    found
}

#[test]
fn comment_lines_have_a_bounded_width() {
    let mut found = Vec::new();
    for (path, text) in texts(&[".rs"]) {
        found.extend(too_wide(&text).into_iter().map(|line| format!("{path}:{line}")));
    }
    assert!(found.is_empty(), "comments of more than {TEXT_COLUMNS_MAX} columns:\n{}", found.join("\n"));
    assert_eq!(too_wide(&format!("let a;\n    // {}", "x".repeat(94))), [2]);
    assert!(too_wide(&format!("    // {}", "x".repeat(93))).is_empty());
    assert!(too_wide(&format!("//! | {} |", "x".repeat(100))).is_empty());
    assert_eq!(too_wide(&format!("/// ```\n/// {0}\n/// ```\n/// {0}", "x".repeat(100))), [4]);
}

/// Name of the function or title of the test that a line declares.
fn test_name(line: &str) -> Option<&str> {
    let line = line.trim_start().trim_start_matches("async ");
    if let Some(name) = line.strip_prefix("fn ").or_else(|| line.strip_prefix("def ")) {
        return name.split('(').next();
    }
    let title = ["test(", "describe("].iter().find_map(|call| line.strip_prefix(call))?;
    let quote = title.chars().next().filter(|quote| ['"', '`'].contains(quote))?;
    title[1..].split(quote).next()
}

/// Number of letters of a name, without values that JavaScript inserts.
fn letters(name: &str) -> usize {
    name.split("${").map(|part| part.split_once('}').map_or(part, |(_, rest)| rest).chars().count()).sum()
}

#[test]
fn test_names_have_a_bounded_length() {
    let mut found = Vec::new();
    for (path, text) in texts(&[".rs", ".mjs", ".py"]).into_iter().filter(|(path, _)| path.starts_with("tests/")) {
        for (at, name) in text.lines().enumerate().filter_map(|(at, line)| Some((at, test_name(line)?))) {
            if letters(name) > TEST_NAME_LENGTH_MAX {
                found.push(format!("{path}:{}: {name}", at + 1));
            }
        }
    }
    assert!(found.is_empty(), "names of more than {TEST_NAME_LENGTH_MAX} letters:\n{}", found.join("\n"));
    assert_eq!(test_name("    async fn a_poll_is_answered() {"), Some("a_poll_is_answered"));
    assert_eq!(test_name("  test(\"a poll is answered\", async () => {"), Some("a poll is answered"));
    assert_eq!(letters("a poll over ${transport} is answered"), 24);
}

/// Words of the list in a text or a name.
fn listed_words(text: &str) -> Vec<&'static str> {
    let letters = text.chars().map(|c| match c {
        '_' | ' ' => ' ',
        c if c.is_alphabetic() => c.to_ascii_lowercase(),
        _ => '.',
    });
    let text = letters.collect::<String>().replace('.', " . ");
    let text = format!(" {} ", text.split_whitespace().collect::<Vec<_>>().join(" "));
    WORDS.iter().copied().filter(|word| text.contains(&format!(" {word} "))).collect()
}

#[test]
fn texts_use_plain_words() {
    let endings = [
        ".rs", ".js", ".mjs", ".ts", ".py", ".c", ".awk", ".html", ".css", ".md", ".toml", ".service", "file", ".conf",
    ];
    let mut found = Vec::new();
    for (path, text) in texts(&endings) {
        // The list itself, and its tests.
        if path.starts_with("tests/architecture") {
            continue;
        }
        let mut check = |line: usize, text: &str| {
            found.extend(listed_words(text).into_iter().map(|word| format!("{path}:{line}: {word:?}")));
        };
        check(0, &path);
        for (at, line) in text.lines().enumerate() {
            check(at + 1, line);
        }
    }
    assert!(found.is_empty(), "words with a plainer alternative (WORDS):\n{}", found.join("\n"));
}

#[test]
fn listed_words_are_found_in_texts_and_names() {
    assert_eq!(listed_words("/// Whoever is told of it"), ["whoever", "is told"]);
    assert_eq!(listed_words("fn the_owed_event_is_told_anew()"), ["anew", "owed", "is told"]);
    assert!(listed_words("a mutex, beit, an output; what may be; it").is_empty());
}
