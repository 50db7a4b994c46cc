//! Files of the repository, and the crates that its manifest names.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::reader::{self, Source};
use crate::{EVERYWHERE, HOUSE, ONLY_IN};

/// Module path of a file: `["state", "outbox"]` for `state/outbox.rs`, `["state"]` for
/// `state/mod.rs`, `[]` for `lib.rs`.
pub(super) fn module_of(path: &str) -> Vec<String> {
    let mut module: Vec<String> = path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if module.last().is_some_and(|name| name == "mod") || path == "lib.rs" {
        module.pop();
    }
    module
}

pub(super) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Paths of all files below a folder of the repository, relative to it, without installed packages.
pub(super) fn files_in(folder: &str) -> Vec<String> {
    fn walk(folder: &Path, start: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if !path.is_dir() {
                let relative = path.strip_prefix(start).expect("the walk stays in its folder");
                found.push(relative.to_string_lossy().replace('\\', "/"));
            } else if ![".git", "node_modules", ".venv", "target", "__pycache__"]
                .iter()
                .any(|name| path.ends_with(name))
            {
                walk(&path, start, found);
            }
        }
    }
    let start = root().join(folder);
    let mut found = Vec::new();
    walk(&start, &start, &mut found);
    found.sort();
    found
}

/// Path and text of all Rust files below `src/`.
pub(super) fn texts() -> Vec<(String, String)> {
    let read =
        |path: &String| fs::read_to_string(root().join("src").join(path)).expect("a source file is readable UTF-8");
    let files = files_in("src").into_iter().filter(|path| path.ends_with(".rs"));
    files.map(|path| (path.clone(), read(&path))).collect()
}

/// Modules declared as `#[cfg(test)] mod name;`, which only tests use.
pub(super) fn test_only(files: &[(String, String, Source)]) -> BTreeSet<String> {
    let declared = |(path, _, source): &(String, String, Source)| {
        let folder = module_of(path);
        source
            .test_modules
            .iter()
            .map(|name| [&folder[..], std::slice::from_ref(name)].concat().join("/"))
            .collect::<Vec<_>>()
    };
    files.iter().flat_map(declared).collect()
}

/// All files that are compiled without `cfg(test)`.
pub(super) fn production_sources() -> Vec<(String, String, Source)> {
    let read = |(path, text): (String, String)| {
        let source = reader::parse(&text);
        (path, text, source)
    };
    let mut files: Vec<_> = texts().into_iter().map(read).collect();
    let tests = test_only(&files);
    files.retain(|(path, ..)| {
        let module = module_of(path).join("/");
        !tests.iter().any(|test| module == *test || module.starts_with(&format!("{test}/")))
    });
    files
}

/// Names of crates: those in the tables and those in `Cargo.toml`.
pub(super) fn crate_names(manifest: &str) -> BTreeSet<String> {
    let in_table =
        HOUSE.iter().flat_map(|row| row.crates).map(|path| path.split("::").next().unwrap_or_default().to_owned());
    let only = ONLY_IN.iter().map(|(name, ..)| (*name).to_owned());
    let mut names: BTreeSet<String> = in_table
        .chain(only)
        .chain(["rand", "proptest"].iter().chain(EVERYWHERE).map(|name| (*name).to_owned()))
        .collect();
    let mut in_dependencies = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end_matches(']');
            in_dependencies = section.ends_with("dependencies");
            if let Some((_, name)) = section.split_once("dependencies.") {
                names.insert(name.replace('-', "_"));
            }
        } else if in_dependencies && !line.starts_with('#') {
            let name: String = line.chars().take_while(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect();
            if !name.is_empty() {
                names.insert(name.replace('-', "_"));
            }
        }
    }
    names
}

pub(super) fn crates() -> BTreeSet<String> {
    crate_names(&fs::read_to_string(root().join("Cargo.toml")).unwrap_or_default())
}

#[test]
fn files_declared_for_tests_only_are_not_checked() {
    let files = [
        ("session/mod.rs", "//! X.\n#[cfg(test)]\nmod tests;\n#[cfg(test)]\npub(crate) mod fakes;\nmod close;"),
        ("lib.rs", "//! X.\n#[cfg(test)]\nmod testing;"),
    ];
    let files = files.map(|(path, text)| (path.to_owned(), text.to_owned(), reader::parse(text)));
    let found: Vec<String> = test_only(&files).into_iter().collect();
    assert_eq!(found, ["session/fakes", "session/tests", "testing"]);
}
