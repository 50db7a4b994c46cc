//! Rust source read by `syn` as tokens, paths and comments.
//!
//! Tokens and paths exclude comments, literals and code for tests. Macros are not expanded: a path
//! in a macro call counts in the file of the call.

use std::collections::BTreeSet;

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;
use syn::parse::{ParseStream, Parser};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::visit_mut::{self, VisitMut};
use syn::{Attribute, Ident, UseTree, Visibility};

#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) text: String,
    pub(super) line: usize,
}

impl Token {
    pub(super) fn is_word(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

/// A file without its code for tests.
pub(super) struct Source {
    file: syn::File,
    /// Words, `::` and single punctuation characters.
    pub(super) tokens: Vec<Token>,
    /// Number of lines of tests.
    pub(super) test_lines: usize,
    /// Modules in separate files that only tests use.
    pub(super) test_modules: Vec<String>,
}

pub(super) fn parse(text: &str) -> Source {
    let mut file = syn::parse_file(text).unwrap_or_else(|error| panic!("not Rust: {error}\n{text:.200}"));
    let mut removed = TestRemoval::default();
    if file.attrs.iter().any(is_for_tests) {
        removed.lines = text.lines().count();
        file.items.clear();
    }
    removed.visit_file_mut(&mut file);
    let mut tokens = tokens(file.to_token_stream());
    let is_left = tokens.windows(3).any(|three| three.iter().map(|token| token.text.as_str()).eq(["cfg", "(", "test"]));
    if is_left {
        StatementRemoval(&mut removed).visit_file_mut(&mut file);
        tokens = self::tokens(file.to_token_stream());
    }
    Source { file, tokens, test_lines: removed.lines, test_modules: removed.modules }
}

fn is_for_tests(attribute: &Attribute) -> bool {
    let condition = attribute.meta.require_list().map(|list| list.tokens.to_string().replace(' ', ""));
    attribute.path().is_ident("cfg")
        && condition.is_ok_and(|condition| condition == "test" || condition.starts_with("all(test,"))
}

#[derive(Default)]
struct TestRemoval {
    lines: usize,
    modules: Vec<String>,
}

impl TestRemoval {
    /// False for an item or statement of a test.
    fn keeps(&mut self, node: &impl ToTokens) -> bool {
        let attributes = |input: ParseStream<'_>| {
            let attributes = input.call(Attribute::parse_outer)?;
            input.parse::<TokenStream>()?;
            Ok(attributes)
        };
        let is_test = attributes.parse2(node.to_token_stream()).unwrap_or_default().iter().any(is_for_tests);
        if is_test {
            self.lines += node.span().end().line - node.span().start().line + 1;
        }
        !is_test
    }

    fn clean(&mut self, items: &mut Vec<syn::Item>) {
        items.retain(|item| {
            let is_kept = self.keeps(item);
            if let syn::Item::Mod(module) = item
                && !is_kept
                && module.content.is_none()
            {
                self.modules.push(module.ident.to_string());
            }
            is_kept
        });
    }
}

impl VisitMut for TestRemoval {
    fn visit_file_mut(&mut self, file: &mut syn::File) {
        self.clean(&mut file.items);
        visit_mut::visit_file_mut(self, file);
    }

    fn visit_item_mod_mut(&mut self, module: &mut syn::ItemMod) {
        if let Some((_, items)) = &mut module.content {
            self.clean(items);
        }
        visit_mut::visit_item_mod_mut(self, module);
    }

    fn visit_item_impl_mut(&mut self, item: &mut syn::ItemImpl) {
        item.items.retain(|item| self.keeps(item));
        visit_mut::visit_item_impl_mut(self, item);
    }

    fn visit_block_mut(&mut self, _: &mut syn::Block) {}
}

/// Removal inside functions, which is slow and rarely needed.
struct StatementRemoval<'a>(&'a mut TestRemoval);

impl VisitMut for StatementRemoval<'_> {
    fn visit_block_mut(&mut self, block: &mut syn::Block) {
        block.stmts.retain(|statement| self.0.keeps(statement));
        visit_mut::visit_block_mut(self, block);
    }
}

fn tokens(stream: TokenStream) -> Vec<Token> {
    let mut tokens = Vec::new();
    flatten(stream, &mut tokens);
    tokens
}

/// Appends the tokens of a stream and of its groups, without literals and lifetimes.
fn flatten(stream: TokenStream, tokens: &mut Vec<Token>) {
    let mut trees = stream.into_iter().peekable();
    while let Some(tree) = trees.next() {
        let line = tree.span().start().line;
        let mut push = |text: &str, line| tokens.push(Token { text: text.to_owned(), line });
        match tree {
            TokenTree::Literal(_) => {}
            TokenTree::Ident(ident) => push(name(&ident).as_str(), line),
            TokenTree::Punct(punct) if punct.as_char() == '\'' => {
                trees.next();
            }
            TokenTree::Punct(punct) => {
                let is_second = |next: &TokenTree| matches!(next, TokenTree::Punct(next) if next.as_char() == ':');
                if punct.as_char() == ':' && trees.next_if(is_second).is_some() {
                    push("::", line);
                } else {
                    push(&punct.to_string(), line);
                }
            }
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                push(open, line);
                flatten(group.stream(), tokens);
                tokens.push(Token { text: close.to_owned(), line: group.span_close().start().line });
            }
        }
    }
}

/// Name of an identifier, without the `r#` of a raw one.
fn name(ident: &Ident) -> String {
    ident.to_string().trim_start_matches("r#").to_owned()
}

/// Target of a path.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// A module path from the root of this crate.
    Inside(Vec<String>),
    /// A path that starts with the name of another crate.
    Outside(Vec<String>),
}

/// A path in the source; a `use` group gives several.
pub(super) struct Reference {
    pub(super) line: usize,
    pub(super) written: String,
    pub(super) target: Target,
    /// Name under which a `use` at the top level imports it.
    pub(super) imported_as: Option<String>,
    /// True for a `use` that makes it available under another path.
    pub(super) is_reexport: bool,
}

/// All paths that start with `crate`, `self`, `super`, a module declared here, or a crate.
pub(super) fn paths(source: &Source, module: &[String], crates: &BTreeSet<String>) -> Vec<Reference> {
    let declared = source.file.items.iter().filter_map(|item| match item {
        syn::Item::Mod(module) => Some(name(&module.ident)),
        _ => None,
    });
    let mut paths =
        Paths { module: module.to_vec(), depth: 0, declared: declared.collect(), crates, found: Vec::new() };
    paths.visit_file(&source.file);
    paths.found
}

struct Paths<'a> {
    module: Vec<String>,
    /// Number of inline modules around the visited item.
    depth: usize,
    declared: BTreeSet<String>,
    crates: &'a BTreeSet<String>,
    found: Vec<Reference>,
}

impl Paths<'_> {
    fn add(&mut self, line: usize, segments: &[String], imported_as: Option<String>, is_reexport: bool) {
        if let Some(target) = self.resolve(segments) {
            self.found.push(Reference { line, written: segments.join("::"), target, imported_as, is_reexport });
        }
    }

    fn resolve(&self, segments: &[String]) -> Option<Target> {
        let (first, mut rest) = segments.split_first()?;
        let mut module = self.module.clone();
        match first.as_str() {
            "crate" => return Some(Target::Inside(rest.to_vec())),
            "self" => {}
            "super" => {
                module.pop();
            }
            name if self.depth == 0 && self.declared.contains(name) => module.push(name.to_owned()),
            name if self.crates.contains(name) => return Some(Target::Outside(segments.to_vec())),
            _ => return None,
        }
        while let Some((_, tail)) = rest.split_first().filter(|(first, _)| *first == "super") {
            module.pop();
            rest = tail;
        }
        module.extend_from_slice(rest);
        Some(Target::Inside(module))
    }

    fn add_tree(&mut self, tree: &UseTree, prefix: &[String], is_reexport: bool) {
        let (segment, imported_as) = match tree {
            UseTree::Path(path) => {
                let prefix = [prefix, &[name(&path.ident)]].concat();
                return self.add_tree(&path.tree, &prefix, is_reexport);
            }
            UseTree::Group(group) => {
                return group.items.iter().for_each(|tree| self.add_tree(tree, prefix, is_reexport));
            }
            UseTree::Name(used) => (name(&used.ident), name(&used.ident)),
            UseTree::Rename(used) => (name(&used.ident), name(&used.rename)),
            UseTree::Glob(_) => ("*".to_owned(), "*".to_owned()),
        };
        let line = tree.span().start().line;
        if segment == "self" && !prefix.is_empty() {
            self.add(line, prefix, None, is_reexport);
        } else {
            let imported_as = (self.depth == 0).then_some(imported_as);
            self.add(line, &[prefix, &[segment]].concat(), imported_as, is_reexport);
        }
    }

    /// Adds the paths in the arguments of a macro or an attribute.
    fn add_tokens(&mut self, stream: &TokenStream) {
        let tokens = tokens(stream.clone());
        let mut at = 0;
        while at < tokens.len() {
            let start = at;
            at += 1;
            while at + 1 < tokens.len() && tokens[at].text == "::" && tokens[at + 1].is_word() {
                at += 2;
            }
            if tokens[start].is_word() && tokens.get(start + 1).is_some_and(|next| next.text == "::") {
                let segments: Vec<_> = tokens[start..at].iter().step_by(2).map(|token| token.text.clone()).collect();
                self.add(tokens[start].line, &segments, None, false);
            }
        }
    }
}

impl<'ast> Visit<'ast> for Paths<'_> {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        self.module.push(name(&module.ident));
        self.depth += 1;
        visit::visit_item_mod(self, module);
        self.depth -= 1;
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.add_tree(&item.tree, &[], !matches!(item.vis, Visibility::Inherited));
    }

    fn visit_item_extern_crate(&mut self, item: &'ast syn::ItemExternCrate) {
        self.add(item.span().start().line, &[name(&item.ident)], None, false);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            let segments: Vec<_> = path.segments.iter().map(|segment| name(&segment.ident)).collect();
            self.add(path.span().start().line, &segments, None, false);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, given: &'ast syn::Macro) {
        visit::visit_macro(self, given);
        self.add_tokens(&given.tokens);
    }

    fn visit_meta_list(&mut self, list: &'ast syn::MetaList) {
        visit::visit_meta_list(self, list);
        self.add_tokens(&list.tokens);
    }
}

/// The doc comments of a file, each with the line where it begins.
pub(super) fn doc_comments(text: &str) -> Vec<(usize, String)> {
    let mut comments: Vec<(usize, String)> = Vec::new();
    let mut continues = false;
    for (at, line) in text.lines().enumerate() {
        let line = line.trim_start();
        let text = line.strip_prefix("///").or_else(|| line.strip_prefix("//!")).filter(|text| !text.starts_with('/'));
        match (text, comments.last_mut()) {
            (Some(text), Some((_, comment))) if continues => comment.push_str(text),
            (Some(text), _) => comments.push((at + 1, text.to_owned())),
            (None, _) => {}
        }
        continues = text.is_some();
    }
    comments
}
