//! Words, openings and lengths of comments and documents.

use std::fs;

use super::files::{files_in, root, texts};
use super::reader;
use crate::WORDS;

#[test]
fn no_doc_comment_is_one_or_two_words() {
    let short = |(path, text): &(String, String)| {
        let comments = reader::doc_comments(text).into_iter();
        let short = comments.filter(|(_, comment)| comment.split_whitespace().count() <= 2);
        short.map(|(line, comment)| format!("src/{path}:{line}:{comment}")).collect::<Vec<_>>()
    };
    let found: Vec<String> = texts().iter().flat_map(short).collect();
    assert!(found.is_empty(), "say what the name does not, or nothing:\n{}", found.join("\n"));
}

/// The words of the list in a text or a name.
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
    let is_text = |path: &&String| [".rs", ".js", ".mjs", ".ts", ".html", ".css"].iter().any(|end| path.ends_with(end));
    let mut found = Vec::new();
    for folder in ["src", "static", "tests"] {
        for path in files_in(folder).iter().filter(is_text) {
            let text = fs::read_to_string(root().join(folder).join(path)).expect("a source file is readable UTF-8");
            let mut report = |at: usize, text: &str| {
                found.extend(listed_words(text).into_iter().map(|word| format!("{folder}/{path}:{at}: {word:?}")));
            };
            report(0, path);
            for (at, line) in text.lines().enumerate() {
                let name = line.trim_start().trim_start_matches("async ").strip_prefix("fn ");
                let title = ["test(", "it("].iter().find_map(|call| line.trim_start().strip_prefix(call));
                match name.or(title) {
                    _ if folder != "tests" => report(at + 1, line),
                    Some(name) => report(at + 1, name),
                    None => {}
                }
            }
        }
    }
    assert!(found.is_empty(), "words that have a plainer one (WORDS):\n{}", found.join("\n"));
}

#[test]
fn listed_words_are_found_in_texts_and_names() {
    assert_eq!(listed_words("/// Whoever is told of it"), ["whoever", "is told"]);
    assert_eq!(listed_words("fn the_owed_event_is_told_anew()"), ["anew", "owed", "is told"]);
    assert!(listed_words("a mutex, beit, an output; what may be; it").is_empty());
}
