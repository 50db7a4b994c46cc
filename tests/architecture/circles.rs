//! Circular imports among the files of one folder.

use std::collections::{BTreeMap, BTreeSet};

use super::files::{crates, module_of, production_sources};
use super::reader::{self, Source, Target};
use crate::WITHOUT_CIRCLES;

/// Circles among the files of a folder, each as the list of its files.
fn circles(folder: &str, files: &[(String, String, Source)], crates: &BTreeSet<String>) -> Vec<Vec<String>> {
    let files: Vec<_> = files.iter().filter(|(path, ..)| path.starts_with(folder)).collect();
    let paths: Vec<_> = files.iter().map(|(path, _, source)| reader::paths(source, &module_of(path), crates)).collect();
    let modules: Vec<_> = files.iter().map(|(path, ..)| module_of(path)).collect();
    let file_of = |module: &[String]| {
        (0..=module.len()).rev().find_map(|end| modules.iter().position(|known| *known == module[..end]))
    };
    // Files may import a name through another file that imports it; the path leads to its origin.
    let mut imported: BTreeMap<Vec<String>, Vec<String>> = BTreeMap::new();
    for (module, paths) in modules.iter().zip(&paths) {
        for path in paths {
            if let (Target::Inside(target), Some(name)) = (&path.target, &path.imported_as) {
                imported.insert([&module[..], std::slice::from_ref(name)].concat(), target.clone());
            }
        }
    }
    let follow = |target: &[String]| {
        let mut target = target.to_vec();
        for _ in 0..8 {
            let Some((at, next)) = (1..=target.len()).find_map(|at| Some((at, imported.get(&target[..at])?))) else {
                break;
            };
            target = [next, &target[at..]].concat();
        }
        file_of(&target)
    };
    let mut reached: Vec<BTreeSet<usize>> = Vec::new();
    for (at, paths) in paths.iter().enumerate() {
        let used = paths.iter().filter(|path| !path.is_reexport).filter_map(|path| match &path.target {
            Target::Inside(target) => follow(target),
            Target::Outside(_) => None,
        });
        reached.push(used.filter(|to| *to != at).collect());
    }
    for _ in 0..files.len() {
        for at in 0..files.len() {
            let further: Vec<usize> = reached[at].iter().flat_map(|to| reached[*to].clone()).collect();
            reached[at].extend(further);
        }
    }
    let circle_of = |at: usize| {
        (0..files.len()).filter(|to| reached[at].contains(to) && reached[*to].contains(&at)).collect::<BTreeSet<_>>()
    };
    let circles: BTreeSet<_> = (0..files.len()).map(circle_of).filter(|circle| circle.len() > 1).collect();
    circles.into_iter().map(|circle| circle.into_iter().map(|at| files[at].0.clone()).collect()).collect()
}

#[test]
fn files_of_a_folder_have_no_circular_imports() {
    let (files, crates) = (production_sources(), crates());
    for folder in WITHOUT_CIRCLES {
        let circles = circles(folder, &files, &crates);
        assert!(
            circles.is_empty(),
            "move the shared part of a circle into a file that imports none of them: {circles:?}"
        );
    }
}

#[test]
fn planted_circles_are_found() {
    let of = |texts: &[(&str, &str)]| {
        let files: Vec<_> =
            texts.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned(), reader::parse(text))).collect();
        circles("api/", &files, &BTreeSet::new())
    };
    let (a, b) = (("api/a.rs", "use super::b::B;"), ("api/b.rs", "fn f() { crate::api::a::f(); }"));
    assert_eq!(of(&[a, b]), [["api/a.rs", "api/b.rs"]]);
    assert_eq!(of(&[a, b, ("api/mod.rs", "mod a; mod b; pub use a::A;")]), [["api/a.rs", "api/b.rs"]]);
    let through_parent = ("api/b.rs", "use super::A;");
    assert_eq!(of(&[a, through_parent, ("api/mod.rs", "mod a; mod b; pub use a::A;")]), [["api/a.rs", "api/b.rs"]]);
    let parent = ("api/mod.rs", "mod c; use c::C; struct A;");
    assert_eq!(of(&[("api/c.rs", "use super::A;"), parent]), [["api/c.rs", "api/mod.rs"]]);
    assert!(of(&[a, ("api/b.rs", "struct B;"), ("api/mod.rs", "mod a; mod b; pub use a::A;")]).is_empty());
}
