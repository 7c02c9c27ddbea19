//! An openrc file: lines of `export OS_NAME=value` that a shell would source. No shell runs here, so only plain values count.

use std::{collections::BTreeMap, path::Path};

use super::fields::Fields;
use crate::config::{
    checks::Findings,
    problem::{Origin, Problem},
};

/// The fields that the file sets; `None` when a value of it would need a shell, which is told.
pub(super) fn parse(path: &Path, text: &str, found: &mut Findings) -> Option<Fields> {
    let mut values = BTreeMap::new();
    let mut plain = true;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        let Some((name, value)) = line.strip_prefix("export ").unwrap_or(line).trim_start().split_once('=')
        else {
            continue;
        };
        if !name.starts_with("OS_") || name.contains(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            continue;
        }
        match plain_value(value) {
            Some(value) => {
                values.insert(name.to_owned(), value);
            }
            None => {
                plain = false;
                let origin = Origin::File { path: path.to_owned(), line: index + 1 };
                let why = "its value is worked out or asked for by a shell, which is not run here: source the file before, or use clouds.yaml";
                found.problems.push(Problem::of(Some(origin), name, why));
            }
        }
    }
    plain.then(|| Fields::of_variables(path.display().to_string(), |name| values.get(name).cloned()))
}

/// A value as the shell would see it; `None` when the shell would have to work it out.
fn plain_value(written: &str) -> Option<String> {
    let mut value = String::new();
    let mut characters = written.chars().peekable();
    let mut quote = None;
    while let Some(c) = characters.next() {
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), _) if c == open => quote = None,
            (Some('\''), _) => value.push(c),
            (_, '$' | '`') => return None,
            (Some(_), '\\') => match characters.next() {
                Some(escaped @ ('"' | '\\' | '$' | '`')) => value.push(escaped),
                Some(other) => value.extend(['\\', other]),
                None => return None,
            },
            (None, '\\') => value.push(characters.next()?),
            // A comment, or the next command.
            (None, ';') => break,
            (None, _) if c.is_whitespace() => break,
            _ => value.push(c),
        }
    }
    quote.is_none().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_a_shell_reads_them() {
        for (written, value) in [
            ("admin", Some("admin")),
            ("\"two words\" # why", Some("two words")),
            ("'it''s $HOME'", Some("its $HOME")),
            ("\"a\\\"b\\n\"", Some("a\"b\\n")),
            ("a\\ b;export OS_X=1", Some("a b")),
            ("https://10.20.20.1:5000/v3/", Some("https://10.20.20.1:5000/v3/")),
            ("$OS_PASSWORD_INPUT", None),
            ("\"$(cat secret)\"", None),
            ("'open", None),
        ] {
            assert_eq!(plain_value(written).as_deref(), value, "{written}");
        }
    }
}
