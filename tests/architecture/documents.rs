//! Width and length of documents, and agreement of the architecture page with the code.

use std::fs;

use super::files::root;
use super::texts::texts;
use crate::{ARCHITECTURE_PAGE, BINARY, HOUSE, PAGE_LINES_MAX, TEXT_COLUMNS_MAX};

/// README.md and the pages of docs/, with their texts.
fn pages() -> impl Iterator<Item = (String, String)> {
    texts(&[".md"]).into_iter().filter(|(path, _)| path == "README.md" || path.starts_with("docs/"))
}

fn architecture_page() -> String {
    fs::read_to_string(root().join(ARCHITECTURE_PAGE)).expect("the architecture page exists")
}

/// True for a line that cannot be wrapped: a row of a table, a comment, or a single link.
fn is_exempt(line: &str) -> bool {
    let line = line.trim_start().trim_start_matches("- ");
    let is_link = line.starts_with(['[', '!', '(']) && line.matches("](").count() == 1;
    line.starts_with('|') || line.starts_with("<!--") || is_link && line.rfind(") ").is_none()
}

/// Numbers of the lines of prose that are too wide. Code blocks are not prose.
fn too_wide(text: &str) -> Vec<usize> {
    let mut is_code = false;
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        is_code ^= line.trim_start().starts_with("```");
        if line.chars().count() > TEXT_COLUMNS_MAX && !is_code && !is_exempt(line) {
            found.push(at + 1);
        }
    }
    found
}

#[test]
fn prose_of_documents_has_a_bounded_width() {
    let found: Vec<_> = pages()
        .flat_map(|(path, text)| too_wide(&text).into_iter().map(move |line| format!("{path}:{line}")))
        .collect();
    assert!(found.is_empty(), "prose of more than {TEXT_COLUMNS_MAX} columns:\n{}", found.join("\n"));
    let wide = "x ".repeat(60);
    assert_eq!(too_wide(&format!("{wide}\n- {wide}\n## {wide}\n[a](b) {wide}\n```sh\n{wide}\n```")), [1, 2, 3, 4]);
    assert!(too_wide(&format!("| {wide} |\n- [{wide}](b),\n<!-- {wide} -->")).is_empty());
}

#[test]
fn pages_have_a_bounded_length() {
    let mut found = Vec::new();
    for (path, text) in pages() {
        let lines = text.lines().count();
        for (_, max) in PAGE_LINES_MAX.iter().filter(|(page, max)| *page == path && lines > *max) {
            found.push(format!("{path}: {lines} lines, at most {max}"));
        }
    }
    assert!(found.is_empty(), "pages that are too long:\n{}", found.join("\n"));
}

#[test]
fn the_architecture_page_has_every_floor() {
    let page = architecture_page();
    for row in HOUSE.iter().filter(|row| row.name != BINARY) {
        let names = [format!("`{}/`", row.name), format!("`{}.rs`", row.name)];
        let lists = |line: &str| {
            line.starts_with(&format!("| {} |", row.floor)) && names.iter().any(|name| line.contains(name))
        };
        assert!(page.lines().any(lists), "{} of floor {} is missing in {ARCHITECTURE_PAGE}", row.name, row.floor);
    }
}

/// Names of tests in links like [`name`](../path), with their paths relative to the repository.
fn linked_tests(line: &str) -> Vec<(&str, &str)> {
    let links = line.split("[`").skip(1).filter_map(|link| link.split_once("`](../"));
    links.filter_map(|(name, rest)| Some((name, rest.split_once(')')?.0))).collect()
}

#[test]
fn every_invariant_of_the_architecture_page_has_a_test() {
    let page = architecture_page();
    let (_, invariants) = page.split_once("## Invariants").expect("the page has invariants");
    let rows: Vec<_> = invariants.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() > 10, "{} invariants", rows.len());
    for row in rows {
        let tests = linked_tests(row);
        assert!(!tests.is_empty(), "an invariant without a test: {row}");
        for (name, path) in tests {
            let text = fs::read_to_string(root().join(path)).unwrap_or_default();
            assert!(text.contains(&format!("fn {name}(")), "{path} has no test {name}");
        }
    }
}
