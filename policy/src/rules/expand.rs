//! The text of a pattern: `~`, variables and backslashes.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What is wrong with a pattern, and what to write instead.
pub(super) type Fault = String;

/// What the words `~`, `$NAME` and `${job}` of a pattern stand for.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// `~`: the home directory of the user who starts the job.
    pub home: Option<PathBuf>,
    /// `${job}`: the directory that the job is started in.
    pub job: PathBuf,
    /// `$NAME` and `${NAME}`: the environment that the job is started with.
    pub variables: Vec<(OsString, OsString)>,
    /// Where the symbolic links of a path lead to; None where there are none. What a pattern begins
    /// with is meant by that name, too.
    pub follow: Option<fn(&Path) -> Option<PathBuf>>,
}

impl Surroundings {
    fn value(&self, name: &str) -> Option<&OsStr> {
        if name == "job" {
            return Some(self.job.as_os_str());
        }
        let mut all = self.variables.iter();
        all.find(|(key, _)| key == name).map(|(_, value)| value.as_os_str())
    }
}

/// A byte of a pattern after `~`, variables and backslashes have been dealt with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Piece {
    /// Stands for itself.
    Plain(u8),
    /// As it was written: perhaps a wildcard.
    Written(u8),
    Slash,
}

/// Reads a pattern's text.
pub(super) fn expand(text: &str, around: &Surroundings) -> Result<Vec<Piece>, Fault> {
    let mut pieces = Vec::with_capacity(text.len());
    let put = |pieces: &mut Vec<Piece>, value: &OsStr| {
        let piece = |&b: &u8| if b == b'/' { Piece::Slash } else { Piece::Plain(b) };
        pieces.extend(value.as_bytes().iter().map(piece));
    };
    let mut rest = text;
    if text == "~" || text.starts_with("~/") {
        let home = around.home.as_ref().filter(|home| home.is_absolute());
        let home = home.ok_or_else(|| {
            format!("pattern {text:?}: HOME is not set to an absolute path; write the path out")
        })?;
        put(&mut pieces, home.as_os_str());
        rest = &text[1..];
    }
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '/' => pieces.push(Piece::Slash),
            '$' => {
                let (name, after) = variable(rest).ok_or_else(|| {
                    format!("pattern {text:?}: no name follows the `$`; write `\\$` for one itself")
                })?;
                let value = around.value(name).ok_or_else(|| {
                    format!("pattern {text:?}: the variable {name} is not set; set it, or write the path out")
                })?;
                put(&mut pieces, value);
                rest = after;
            }
            '\\' => {
                let Some(next) = rest.chars().next() else {
                    return Err(format!(
                        "pattern {text:?} ends in a lone backslash; write `\\\\` for one"
                    ));
                };
                rest = &rest[next.len_utf8()..];
                let mut buf = [0; 4];
                pieces.extend(next.encode_utf8(&mut buf).bytes().map(Piece::Plain));
            }
            _ => {
                let mut buf = [0; 4];
                pieces.extend(c.encode_utf8(&mut buf).bytes().map(Piece::Written));
            }
        }
    }
    Ok(pieces)
}

/// `NAME` or `{NAME}` at the beginning, and what follows.
fn variable(text: &str) -> Option<(&str, &str)> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let (name, rest) = match text.strip_prefix('{') {
        Some(text) => text.split_once('}')?,
        None => text.split_at(text.find(|c| !word(c)).unwrap_or(text.len())),
    };
    let good = name.chars().all(word) && !name.starts_with(|c: char| c.is_ascii_digit());
    (good && !name.is_empty()).then_some((name, rest))
}
