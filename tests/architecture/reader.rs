//! Reads Rust source as tokens and paths, for the rules next door.
//!
//! Comments, literals and what is compiled for tests only are left out. It refuses to expand macros and to follow
//! `#[path]`: it needs to know which names a file says, not what they mean.

use std::collections::BTreeSet;

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

/// Words, `::` and single punctuation characters. Comments, literals and lifetimes are left out.
pub(super) fn tokenize(source: &str) -> Vec<Token> {
    let text: Vec<char> = source.chars().collect();
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    let peek = |at: usize| text.get(at).copied().unwrap_or('\0');
    while at < text.len() {
        let start = at;
        let c = text[at];
        if c == '/' && peek(at + 1) == '/' {
            while at < text.len() && text[at] != '\n' {
                at += 1;
            }
        } else if c == '/' && peek(at + 1) == '*' {
            at = after_block_comment(&text, at);
        } else if let Some(end) = after_literal(&text, at) {
            at = end;
        } else if c.is_alphabetic() || c == '_' {
            // A raw identifier is the name behind its `r#`.
            let name = if c == 'r' && peek(at + 1) == '#' { at + 2 } else { at };
            at = name;
            while peek(at).is_alphanumeric() || peek(at) == '_' {
                at += 1;
            }
            tokens.push(Token { text: text[name..at].iter().collect(), line });
        } else if c.is_ascii_digit() {
            while peek(at).is_alphanumeric() || peek(at) == '_' {
                at += 1;
            }
        } else if c == ':' && peek(at + 1) == ':' {
            at += 2;
            tokens.push(Token { text: "::".to_owned(), line });
        } else {
            at += 1;
            if !c.is_whitespace() {
                tokens.push(Token { text: c.to_string(), line });
            }
        }
        line += text[start..at].iter().filter(|c| **c == '\n').count();
    }
    tokens
}

/// Block comments nest in Rust.
fn after_block_comment(text: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at < text.len() {
        match (text[at], text.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// The end of the string, character or lifetime that starts at `at`, if one does.
fn after_literal(text: &[char], at: usize) -> Option<usize> {
    let peek = |at: usize| text.get(at).copied().unwrap_or('\0');
    let after_name_character = at > 0 && (text[at - 1].is_alphanumeric() || text[at - 1] == '_');
    let mut quote = at;
    if !after_name_character {
        if matches!(peek(quote), 'b' | 'c') && matches!(peek(quote + 1), '"' | '\'' | 'r') {
            quote += 1;
        }
        if peek(quote) == 'r' {
            let mut hash = quote + 1;
            while peek(hash) == '#' {
                hash += 1;
            }
            if peek(hash) == '"' {
                return Some(after_raw_string(text, hash, hash - quote - 1));
            }
        }
    }
    match peek(quote) {
        '"' => Some(after_quote(text, quote, '"')),
        '\'' if peek(quote + 1) == '\\' || peek(quote + 2) == '\'' => Some(after_quote(text, quote, '\'')),
        '\'' => {
            let mut end = quote + 1;
            while peek(end).is_alphanumeric() || peek(end) == '_' {
                end += 1;
            }
            Some(end)
        }
        _ => None,
    }
}

fn after_quote(text: &[char], quote: usize, closing: char) -> usize {
    let mut at = quote + 1;
    while at < text.len() && text[at] != closing {
        at += if text[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(text.len())
}

fn after_raw_string(text: &[char], quote: usize, hashes: usize) -> usize {
    let mut at = quote + 1;
    while at < text.len() {
        let closes = text[at] == '"' && text[at + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes;
        at += 1;
        if closes {
            return at + hashes;
        }
    }
    at
}

/// Leaves out what is compiled for tests only, and counts the lines it took.
pub(super) fn without_tests(tokens: &[Token]) -> (Vec<Token>, usize) {
    if starts_with(tokens, &["#", "!", "[", "cfg", "(", "test", ")", "]"]) {
        return (Vec::new(), tokens.last().map_or(0, |last| last.line));
    }
    let (mut kept, mut lines, mut at) = (Vec::new(), 0, 0);
    while at < tokens.len() {
        if is_test_attribute(&tokens[at..]) {
            let end = after_item(tokens, after_brackets(tokens, at + 1));
            lines += tokens[end - 1].line - tokens[at].line + 1;
            at = end;
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    (kept, lines)
}

fn starts_with(tokens: &[Token], wanted: &[&str]) -> bool {
    tokens.len() >= wanted.len() && tokens.iter().zip(wanted).all(|(a, b)| a.text == *b)
}

pub(super) fn is_test_attribute(tokens: &[Token]) -> bool {
    starts_with(tokens, &["#", "[", "cfg", "(", "test", ")", "]"])
        || starts_with(tokens, &["#", "[", "cfg", "(", "all", "(", "test"])
}

/// Behind the bracket that closes the one at `at`.
pub(super) fn after_brackets(tokens: &[Token], mut at: usize) -> usize {
    let mut depth = 0;
    while at < tokens.len() {
        match tokens[at].text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            break;
        }
    }
    at
}

/// Behind the item, statement or field at `at`, its attributes included.
pub(super) fn after_item(tokens: &[Token], mut at: usize) -> usize {
    while starts_with(&tokens[at..], &["#", "["]) {
        at = after_brackets(tokens, at + 1);
    }
    let ends_at_semicolon = tokens[at..]
        .iter()
        .take_while(|token| !matches!(token.text.as_str(), "{" | ";"))
        .find(|token| token.is_word() && !matches!(token.text.as_str(), "pub" | "crate" | "in" | "super" | "unsafe"))
        .is_some_and(|word| matches!(word.text.as_str(), "use" | "static" | "type" | "let"));
    while at < tokens.len() {
        match tokens[at].text.as_str() {
            "{" => {
                at = after_brackets(tokens, at);
                if !ends_at_semicolon {
                    return at;
                }
            }
            "(" | "[" => at = after_brackets(tokens, at),
            ";" | "," => return at + 1,
            "}" => return at,
            _ => at += 1,
        }
    }
    at
}

/// Where a path leads.
#[derive(Debug)]
pub(super) enum Target {
    /// A module path from the root of this crate.
    Inside(Vec<String>),
    /// A path that starts with the name of another crate.
    Outside(Vec<String>),
}

/// One path as it occurs in the source, a `use` group taken apart.
pub(super) struct Reference {
    pub(super) line: usize,
    pub(super) written: String,
    pub(super) target: Target,
}

/// Every path that leads somewhere a rule asks about: `crate`, `self`, `super`, or the name of a crate.
pub(super) fn paths(tokens: &[Token], module: &[String], crates: &BTreeSet<String>) -> Vec<Reference> {
    let mut module = module.to_vec();
    let (mut found, mut braces, mut inline_modules, mut at) = (Vec::new(), 0_usize, Vec::new(), 0);
    while at < tokens.len() {
        let token = &tokens[at];
        let mut written = Vec::new();
        match token.text.as_str() {
            "{" => {
                let is_module = at >= 2 && tokens[at - 2].text == "mod" && tokens[at - 1].is_word();
                if is_module {
                    inline_modules.push(braces);
                    module.push(tokens[at - 1].text.clone());
                }
                braces += 1;
                at += 1;
            }
            "}" => {
                braces = braces.saturating_sub(1);
                if inline_modules.pop_if(|opened_at| *opened_at == braces).is_some() {
                    module.pop();
                }
                at += 1;
            }
            // `impl Trait + use<'a>` captures and imports nothing.
            "use" if tokens.get(at + 1).is_none_or(|next| next.text != "<") => {
                at = use_tree(tokens, at + 1, &[], &mut written);
            }
            "extern" if starts_with(&tokens[at..], &["extern", "crate"]) && at + 2 < tokens.len() => {
                written.push((tokens[at + 2].line, vec![tokens[at + 2].text.clone()]));
                at += 3;
            }
            _ => {
                let continues = at >= 2 && tokens[at - 1].text == "::" && ends_a_path(&tokens[..at - 1]);
                let leads = token.is_word() && !continues && tokens.get(at + 1).is_some_and(|next| next.text == "::");
                if leads {
                    let start = at;
                    at += 1;
                    while at + 1 < tokens.len() && tokens[at].text == "::" && tokens[at + 1].is_word() {
                        at += 2;
                    }
                    let segments = tokens[start..at].iter().filter(|token| token.text != "::");
                    written.push((token.line, segments.map(|token| token.text.clone()).collect()));
                } else {
                    at += 1;
                }
            }
        }
        for (line, segments) in written {
            if let Some(target) = resolve(&segments, &module, crates) {
                found.push(Reference { line, written: segments.join("::"), target });
            }
        }
    }
    found
}

/// Whether a `::` behind these tokens goes on with a path (`a::b`, `<T>::b`) and does not start one (`-> ::b`, `dyn ::b`).
fn ends_a_path(tokens: &[Token]) -> bool {
    match tokens {
        [.., before, last] if last.text == ">" => !matches!(before.text.as_str(), "-" | "="),
        [.., last] => {
            last.is_word() && !matches!(last.text.as_str(), "as" | "dyn" | "for" | "impl" | "in" | "mut" | "return")
        }
        [] => false,
    }
}

/// Takes the tree of a `use` apart; returns where it ends.
fn use_tree(tokens: &[Token], mut at: usize, prefix: &[String], found: &mut Vec<(usize, Vec<String>)>) -> usize {
    let mut segments = prefix.to_vec();
    let mut line = tokens.get(at).map_or(0, |token| token.line);
    while at < tokens.len() {
        let token = &tokens[at];
        match token.text.as_str() {
            "{" => {
                at += 1;
                while at < tokens.len() && !matches!(tokens[at].text.as_str(), "}" | ";") {
                    at = use_tree(tokens, at, &segments, found);
                    if tokens.get(at).is_some_and(|token| token.text == ",") {
                        at += 1;
                    }
                }
                return at + 1;
            }
            "::" => at += 1,
            "self" if !segments.is_empty() => at += 1,
            "as" => at += 2,
            "}" | "," | ";" => break,
            _ => {
                line = token.line;
                segments.push(token.text.clone());
                at += 1;
            }
        }
    }
    found.push((line, segments));
    at
}

fn resolve(segments: &[String], module: &[String], crates: &BTreeSet<String>) -> Option<Target> {
    let mut rest = segments;
    match segments.first()?.as_str() {
        "crate" => Some(Target::Inside(segments[1..].to_vec())),
        "self" | "super" => {
            let mut module = module.to_vec();
            while let Some((first, tail)) = rest.split_first() {
                match first.as_str() {
                    "self" => {}
                    "super" => {
                        module.pop();
                    }
                    _ => break,
                }
                rest = tail;
            }
            module.extend(rest.iter().cloned());
            Some(Target::Inside(module))
        }
        name if crates.contains(name) => Some(Target::Outside(segments.to_vec())),
        _ => None,
    }
}
