//! The policy file as it is written: the shapes that serde reads, and the line of every mistake.
//!
//! Nothing is judged here but form. [`crate::Policy`] is made of it in `file.rs`.

use std::num::NonZeroU32;
use std::ops::Range;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use crate::error::PolicyError;
use crate::file::{Access, Compat32, Enforce, IoUring, OnLeftover, Restricted, View};
use crate::mount::Mode;
use crate::suggest::nearest;

/// The only version of the file's form that there is.
const VERSION: i64 = 1;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawPolicy {
    /// Checked beforehand, by [`read`]; named here so that it isn't an unknown key.
    #[serde(rename = "version")]
    _version: i64,
    #[serde(default)]
    pub(crate) job: RawJob,
    #[serde(default)]
    pub(crate) mount: Vec<Spanned<RawMount>>,
    #[serde(default)]
    pub(crate) rule: Vec<Spanned<RawRule>>,
    #[serde(default)]
    pub(crate) syscalls: RawSyscalls,
    #[serde(default)]
    pub(crate) trace: RawTrace,
    #[serde(default)]
    pub(crate) macos: RawMacos,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawJob {
    pub(crate) name: Option<Spanned<String>>,
    pub(crate) on_leftover: Option<OnLeftover>,
    pub(crate) fetch_timeout: Option<NonZeroU32>,
    pub(crate) view: Option<View>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawMount {
    pub(crate) at: Spanned<String>,
    pub(crate) manifest: Spanned<String>,
    #[serde(default)]
    pub(crate) mode: Mode,
    pub(crate) upper: Option<Spanned<String>>,
    pub(crate) on_exit: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawRule {
    pub(crate) paths: Spanned<Vec<Spanned<String>>>,
    pub(crate) access: Option<Access>,
    pub(crate) exec: Option<bool>,
    pub(crate) enforce: Option<Spanned<Enforce>>,
    pub(crate) reason: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSyscalls {
    pub(crate) io_uring: Option<IoUring>,
    pub(crate) compat32: Option<Compat32>,
    pub(crate) no_new_privs: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawTrace {
    pub(crate) reads: Option<bool>,
    pub(crate) probes: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawMacos {
    pub(crate) restricted: Option<Restricted>,
}

/// A policy file's text and name: turns byte offsets into `FILE:LINE: …`.
pub(crate) struct Source<'a> {
    pub(crate) text: &'a str,
    pub(crate) name: &'a Path,
}

impl Source<'_> {
    /// The line, counted from 1, that holds the byte at `offset`.
    pub(crate) fn line(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().iter().take(offset);
        1 + before.filter(|byte| **byte == b'\n').count()
    }

    pub(crate) fn error(&self, at: Range<usize>, message: impl AsRef<str>) -> PolicyError {
        let message = message.as_ref().trim().lines().collect::<Vec<_>>().join(", ");
        PolicyError::Invalid { file: self.name.to_owned(), line: self.line(at.start), message }
    }

    fn toml_error(&self, error: &toml::de::Error) -> PolicyError {
        self.error(error.span().unwrap_or(0..0), explain(error.message()))
    }
}

/// Reads the form. The version is looked at first, so that a file of a later version is told
/// that, and not that its keys are unknown.
pub(crate) fn read(source: &Source<'_>) -> Result<RawPolicy, PolicyError> {
    let table = DeTable::parse(source.text).map_err(|error| source.toml_error(&error))?;
    check_version(source, table.get_ref())?;
    toml::from_str(source.text).map_err(|error| source.toml_error(&error))
}

/// Reads as much of the form as is in order; everything else comes back as an error. None: what
/// is wrong leaves nothing to go on with.
pub(crate) fn read_all(source: &Source<'_>) -> (Option<RawPolicy>, Vec<PolicyError>) {
    let parsed = DeTable::parse(source.text).map_err(|error| source.toml_error(&error));
    let mut table = match parsed.and_then(|table| {
        check_version(source, table.get_ref())?;
        Ok(table)
    }) {
        Ok(table) => table,
        Err(fault) => return (None, vec![fault]),
    };
    let mut faults = Vec::new();
    loop {
        let read = RawPolicy::deserialize(toml::de::Deserializer::from(table.clone()));
        match read {
            Ok(policy) => return (Some(policy), faults),
            Err(error) => {
                faults.push(source.toml_error(&error));
                // What is wrong is taken out, to see what comes after it.
                let key_only = error.message().starts_with("unknown field");
                let at = error.span().map(|span| span.start);
                if !at.is_some_and(|at| prune(table.get_mut(), at, key_only)) {
                    return (None, faults);
                }
            }
        }
    }
}

/// Takes out what stands at a byte of the text: a key, or, unless that would be `key_only`, the
/// entry of a list that holds it. Says whether something was found.
fn prune(table: &mut DeTable<'_>, at: usize, key_only: bool) -> bool {
    let keys = table.keys().find(|key| key.span().contains(&at)).map(|key| key.get_ref().clone());
    if let Some(key) = keys {
        return table.remove(key.as_ref()).is_some();
    }
    let holder = table.iter_mut().find(|(_, value)| holds(value, at));
    let Some((key, value)) = holder else { return false };
    let key = key.get_ref().clone();
    if let DeValue::Table(inner) = value.get_mut()
        && prune(inner, at, key_only)
    {
        return true;
    }
    if let DeValue::Array(list) = value.get_mut()
        && let Some(entry) = list.iter().position(|entry| holds(entry, at))
        && let DeValue::Table(inner) = list.as_mut()[entry].get_mut()
    {
        if !(key_only && prune(inner, at, key_only)) {
            let rest = std::mem::replace(list, DeArray::new()).into_iter().enumerate();
            *list = rest.filter(|(i, _)| *i != entry).map(|(_, value)| value).collect();
        }
        return true;
    }
    table.remove(key.as_ref()).is_some()
}

/// Does the value, or something in it, stand at that byte? A table that is written with a heading
/// spans no more than that.
fn holds(value: &Spanned<DeValue<'_>>, at: usize) -> bool {
    value.span().contains(&at)
        || match value.get_ref() {
            DeValue::Table(table) => {
                table.iter().any(|(key, value)| key.span().contains(&at) || holds(value, at))
            }
            DeValue::Array(list) => list.iter().any(|entry| holds(entry, at)),
            _ => false,
        }
}

fn check_version(source: &Source<'_>, table: &DeTable<'_>) -> Result<(), PolicyError> {
    const FIRST: &str = "begin the file with `version = 1`";
    let start = |key: &Spanned<_>| key.span().start;
    let first = table.keys().min_by_key(|key| start(key));
    let Some((key, value)) = table.get_key_value("version") else {
        let span = first.map_or(0..0, Spanned::span);
        let message = match first.and_then(|key| nearest(key.get_ref(), ["version"])) {
            Some(_) => format!("no `version` is given; did you mean `version`? ({FIRST})"),
            None => format!("no `version` is given; {FIRST}"),
        };
        return Err(source.error(span, message));
    };
    let number = value.get_ref().as_integer();
    if number.and_then(|n| i64::from_str_radix(n.as_str(), n.radix()).ok()) != Some(VERSION) {
        let written = source.text.get(value.span()).unwrap_or_default();
        let message = format!(
            "version {written} is not known to this release; it reads version {VERSION}: {FIRST}, \
             or use the release that the file was written for"
        );
        return Err(source.error(value.span(), message));
    }
    if first.is_some_and(|other| start(other) < key.span().start) {
        return Err(source.error(key.span(), format!("`version` must come first; {FIRST}")));
    }
    Ok(())
}

/// Adds to serde's message the valid word that is nearest. Its wording is part of what our tests
/// hold, because there is no other way to ask serde for the words that it expected.
fn explain(message: &str) -> String {
    let unknown = ["unknown field ", "unknown variant "];
    if !unknown.iter().any(|prefix| message.starts_with(prefix)) {
        return message.to_owned();
    }
    let mut quoted = message.split('`').skip(1).step_by(2);
    let (Some(word), known) = (quoted.next(), quoted.collect::<Vec<_>>()) else {
        return message.to_owned();
    };
    let kind = if message.starts_with("unknown field") { "key" } else { "value" };
    let list = known.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    match nearest(word, known.iter().copied()) {
        Some(near) => format!("unknown {kind} `{word}`; did you mean `{near}`?"),
        None => format!("unknown {kind} `{word}`; known here: {list}"),
    }
}
