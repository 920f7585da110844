//! What things are called in Python, and how text is written there.

use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Words that Python keeps for itself.
const KEYWORDS: [&str; 35] = [
    "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue", "def", "del",
    "elif", "else", "except", "finally", "for", "from", "global", "if", "import", "in", "is", "lambda", "nonlocal",
    "not", "or", "pass", "raise", "return", "try", "while", "with", "yield",
];

/// Names that the module needs for itself.
const NEEDED: [&str; 9] = ["NotImplementedError", "app", "bool", "bytes", "dict", "float", "int", "list", "str"];

/// The functions of a module.
#[derive(Default)]
pub(super) struct Names(BTreeSet<String>);

impl Names {
    /// A function for a task of this name, which no other task has.
    pub(super) fn function(&mut self, task: &str) -> String {
        let letter = |char: char| if char.is_ascii_alphanumeric() { char } else { '_' };
        let mut name: String = task.chars().map(letter).collect();
        // What begins with an underscore is the module's own.
        if !name.starts_with(|first: char| first.is_ascii_alphabetic()) {
            name.insert_str(0, "task_");
        }
        if KEYWORDS.contains(&name.as_str()) || NEEDED.contains(&name.as_str()) {
            name.push('_');
        }
        let mut free = name.clone();
        let mut number = 1;
        while !self.0.insert(free.clone()) {
            number += 1;
            free = format!("{name}_{number}");
        }
        free
    }

    /// All of them.
    pub(super) fn taken(self) -> Vec<String> {
        self.0.into_iter().collect()
    }
}

/// True for what a parameter can be called.
pub(super) fn is_parameter(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.chars().all(|char| char.is_ascii_alphanumeric() || char == '_')
        && !KEYWORDS.contains(&name)
}

/// A string literal.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", in_docstring(text))
}

/// Text between quotes, however many there are, in one line.
pub(super) fn in_docstring(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '"' | '\\' => escaped.extend(['\\', char]),
            ' '..='~' => escaped.push(char),
            // Letters as they are; what is not seen, or turns the direction of a text, is spelled out.
            char if char.is_alphanumeric() => escaped.push(char),
            char => {
                let _ = match u32::from(char) {
                    code @ ..=0xff => write!(escaped, "\\x{code:02x}"),
                    code @ ..=0xffff => write!(escaped, "\\u{code:04x}"),
                    code => write!(escaped, "\\U{code:08x}"),
                };
            }
        }
    }
    escaped
}
