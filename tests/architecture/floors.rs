//! Rules of the floors: imports, crates, purity, locks, names and length of each file.

use std::collections::BTreeSet;

use super::files::{crate_names, crates, files_in, module_of, production_sources};
use super::reader::{self, Reference, Source, Target};
use crate::{
    BINARY, EVERYWHERE, FILE_LINES_MAX, HOUSE, IMPURE_PATHS, IMPURE_TOKENS, LIB_ITEMS, LOCKED, LOCKS, NAMELESS,
    ONLY_IN, PURE, Row,
};

mod planted;

/// A violated rule.
struct Finding {
    path: String,
    line: usize,
    found: String,
    rule: String,
    instead: String,
}

impl Finding {
    fn sentence(&self) -> String {
        let Self { path, line, found, rule, instead } = self;
        format!("src/{path}:{line}: found {found}. Rule: {rule}. Instead: {instead}.")
    }
}

/// A file under check.
struct File<'a> {
    path: &'a str,
    row: &'static Row,
    source: &'a Source,
    paths: Vec<Reference>,
    findings: Vec<Finding>,
}

/// Checks one file. `path` is relative to `src/`; `crates` are the names of crates.
fn check(path: &str, text: &str, source: &Source, crates: &BTreeSet<String>) -> Vec<Finding> {
    let Some(row) = row_of(path) else {
        let known: Vec<_> = HOUSE.iter().map(|row| row.name).collect();
        return vec![Finding {
            path: path.to_owned(),
            line: 1,
            found: format!("a file outside of every floor (known: {})", known.join(", ")),
            rule: "the top folder of a file is its floor".to_owned(),
            instead: "move it into the folder whose floor it belongs to, or give its folder a row in the table"
                .to_owned(),
        }];
    };
    let paths = reader::paths(source, &module_of(path), crates);
    let mut file = File { path, row, source, paths, findings: Vec::new() };
    file.check_header(text);
    file.check_length(text.lines().count().saturating_sub(source.test_lines));
    file.check_names();
    file.check_paths();
    file.check_tokens();
    file.findings
}

/// The floor of a path relative to `src/`.
fn row_of(path: &str) -> Option<&'static Row> {
    let top = path.split('/').next().unwrap_or_default();
    let name = top.strip_suffix(".rs").unwrap_or(top);
    let is_root_file = name == "lib";
    HOUSE.iter().find(|row| row.name == name && (!is_root_file || path == top))
}

impl File<'_> {
    fn find(&mut self, line: usize, found: impl Into<String>, rule: impl Into<String>, instead: impl Into<String>) {
        let finding = Finding {
            path: self.path.to_owned(),
            line,
            found: found.into(),
            rule: rule.into(),
            instead: instead.into(),
        };
        self.findings.push(finding);
    }

    fn check_header(&mut self, source: &str) {
        if !source.starts_with("//!") {
            self.find(
                1,
                format!("a first line that is `{}`", source.lines().next().unwrap_or_default()),
                "every file starts with a `//!` paragraph",
                "start with one noun phrase for the file, and what belongs there",
            );
        }
    }

    fn check_length(&mut self, lines: usize) {
        if lines > FILE_LINES_MAX {
            self.find(
                FILE_LINES_MAX,
                format!("{lines} lines outside of tests"),
                format!("a file has at most {FILE_LINES_MAX} lines, its tests not counted"),
                "split it where it has two reasons to change",
            );
        }
    }

    fn check_names(&mut self) {
        let mut named: Vec<(usize, String)> =
            self.path.trim_end_matches(".rs").split('/').map(|part| (1, part.to_owned())).collect();
        for pair in self.source.tokens.windows(2) {
            if pair[0].text == "mod" && pair[1].is_word() {
                named.push((pair[1].line, pair[1].text.clone()));
            }
        }
        for (line, name) in named {
            if NAMELESS.contains(&name.as_str()) {
                self.find(
                    line,
                    format!("a module named `{name}`"),
                    format!("no module is named {}", NAMELESS.join(", ")),
                    "name it after its one subject",
                );
            }
        }
    }

    fn check_paths(&mut self) {
        for path in std::mem::take(&mut self.paths) {
            match &path.target {
                Target::Inside(module) => self.check_import(&path, module),
                Target::Outside(segments) => self.check_crate(&path, segments),
            }
            let impure = IMPURE_PATHS
                .iter()
                .find(|impure| path.written == **impure || path.written.starts_with(&format!("{impure}::")));
            if let Some(impure) = impure
                && self.is_pure()
            {
                self.find_impure(path.line, impure);
            }
        }
    }

    /// Checks that imports point down.
    fn check_import(&mut self, path: &Reference, module: &[String]) {
        let Row { floor, name, imports, .. } = *self.row;
        let found = format!("`{}`", path.written);
        let top = module.first().map(String::as_str).unwrap_or_default();
        if matches!(name, "lib" | BINARY) || top == name || imports.contains(&top) {
            return;
        }
        let Some(other) = HOUSE.iter().find(|row| row.name == top && !matches!(top, "lib" | BINARY)) else {
            return self.find(
                path.line,
                format!("{found}, which is a name of the crate root (floor 9), on floor {floor} ({name})"),
                "imports only point down",
                "import it from the folder that defines it; lib.rs re-exports for users only",
            );
        };
        let (rule, instead) = if other.floor > floor {
            (
                "imports only point down",
                "move what both need to a lower floor, or turn the call into a message in messages/ or an argument",
            )
        } else if other.floor == floor {
            (
                "siblings on one floor do not import each other",
                "connect the two on the floor above, or move the shared part down",
            )
        } else {
            (
                "a floor imports only what its row of the table names",
                "send a message, or let a floor that may import it pass the value",
            )
        };
        self.find(
            path.line,
            format!("{found}, which is floor {} ({top}), on floor {floor} ({name})", other.floor),
            rule,
            instead,
        );
    }

    /// Checks that the floor may name the crate.
    fn check_crate(&mut self, path: &Reference, segments: &[String]) {
        let crate_name = segments[0].as_str();
        let Row { floor, name, crates, .. } = *self.row;
        if EVERYWHERE.contains(&crate_name) {
            return;
        }
        let found = format!("`{}`", path.written);
        if let Some((_, places, why)) = ONLY_IN.iter().find(|(only, ..)| *only == crate_name)
            && !places.iter().any(|place| self.path.starts_with(place))
        {
            let place = places.join(", ");
            return self.find(
                path.line,
                found,
                format!("only {place} names {crate_name}, because {why}"),
                format!("do it in {place} and pass the result"),
            );
        }
        let allowed = name == BINARY
            || crates.iter().any(|allowed| {
                let allowed: Vec<_> = allowed.split("::").collect();
                segments.len() >= allowed.len() && segments.iter().zip(&allowed).all(|(a, b)| a == b)
            });
        if !allowed {
            self.find(
                path.line,
                found,
                format!("floor {floor} ({name}) names no crate but {}", [EVERYWHERE, crates].concat().join(", ")),
                "do it on a floor that may name the crate, and pass a value inward",
            );
        }
    }

    fn check_tokens(&mut self) {
        let tokens = &self.source.tokens;
        for (at, token) in tokens.iter().enumerate() {
            let (line, word) = (token.line, &token.text);
            let is_path_start = at == 0 || tokens[at - 1].text != "::";
            if word == "do_send" {
                self.find(
                    line,
                    "`do_send`",
                    "nothing calls do_send: it ignores the mailbox capacity and drops silently when the mailbox is closed",
                    "use `try_send` and handle `Full` and `Closed` right there, or `send` with a deadline",
                );
            }
            if LOCKS.contains(&word.as_str()) && !LOCKED.iter().any(|(path, _)| *path == self.path) {
                self.find(
                    line,
                    format!("`{word}`"),
                    format!(
                        "no lock around application state (no {}, but for {})",
                        LOCKS.join(", "),
                        LOCKED.iter().map(|(path, guards)| format!("{path}: {guards}")).collect::<Vec<_>>().join("; ")
                    ),
                    "let one actor own the state, and send it a message",
                );
            }
            if self.row.name == "lib" && LIB_ITEMS.contains(&word.as_str()) && is_path_start {
                self.find(
                    line,
                    format!("`{word}` in lib.rs"),
                    "lib.rs only declares modules and re-exports names",
                    "define it on its floor, and re-export it here",
                );
            }
            if self.is_pure() {
                let impure = IMPURE_TOKENS.iter().find(|wanted| {
                    let rest = &tokens[at..];
                    rest.len() >= wanted.len() && rest.iter().zip(wanted.iter()).all(|(a, b)| a.text == *b)
                });
                if let Some(tokens) = impure
                    && is_path_start_or_type(tokens, is_path_start)
                {
                    self.find_impure(line, &tokens.concat());
                }
            }
        }
    }

    fn is_pure(&self) -> bool {
        PURE.iter().any(|start| self.path.starts_with(start))
    }

    fn find_impure(&mut self, line: usize, found: &str) {
        let Row { floor, name, .. } = *self.row;
        self.find(
            line,
            format!("`{found}` on floor {floor} ({name})"),
            format!("{} contain no clock, randomness, logging, async, threads or actix", PURE.join(", ")),
            "take `now: Instant` or the value as an argument, return an effect, and let the actor above act on it",
        );
    }
}

/// `x::log::y` and `x::rand::y` are no crates; a type such as `SystemTime` counts under any path.
fn is_path_start_or_type(tokens: &[&str], is_path_start: bool) -> bool {
    is_path_start || tokens[0].starts_with(char::is_uppercase)
}

#[test]
fn every_file_keeps_the_rules_of_its_floor() {
    let crates = crates();
    let sentences: Vec<String> = production_sources()
        .iter()
        .flat_map(|(path, text, source)| check(path, text, source, &crates))
        .map(|finding| finding.sentence())
        .collect();
    assert!(sentences.is_empty(), "{} broken rules:\n\n{}\n", sentences.len(), sentences.join("\n\n"));
}

#[test]
fn every_floor_exists() {
    let files = files_in("src");
    let missing: Vec<String> = HOUSE
        .iter()
        .filter(|row| !files.iter().any(|path| row_of(path).is_some_and(|found| found.name == row.name)))
        .map(|row| format!("src/{} (floor {})", row.name, row.floor))
        .collect();
    assert!(missing.is_empty(), "floors without a file: {}", missing.join(", "));
}

#[test]
fn the_table_only_points_down() {
    for row in HOUSE {
        for name in row.imports {
            let other = HOUSE.iter().find(|other| other.name == *name).expect("the table names rows that exist");
            assert!(other.floor < row.floor || row.floor == 0, "{} on floor {} imports {name}", row.name, row.floor);
        }
    }
}
