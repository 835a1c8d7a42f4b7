//! `policy check`: everything that is wrong with a policy file, and what in it can never have an
//! effect; all of it, not only the first.

use std::fmt;
use std::path::Path;

use crate::error::PolicyError;
use crate::file::{Policy, read_text};
use crate::mount::{MountSpec, Origin};
use crate::raw::{self, Source};
use crate::rules::{Pattern, Rules, Surroundings};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Severity {
    /// No job starts with this.
    Error,
    /// Something that was written has no effect, or not the one that may be expected.
    Warning,
}

/// One thing about a policy file that its author should know. Displays as one line that begins
/// with the file's name, and with `FILE:LINE:` where a line is at fault.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The line, counted from 1; None: the whole file.
    pub line: Option<usize>,
    /// The place and what is wrong.
    text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Finding {
    fn error(error: &PolicyError) -> Finding {
        let line = match error {
            PolicyError::Invalid { line, .. } => Some(*line),
            PolicyError::Read { .. } | PolicyError::Argument { .. } => None,
        };
        Finding { severity: Severity::Error, line, text: error.to_string() }
    }

    fn warning(at: &Origin, message: impl fmt::Display) -> Finding {
        let text = format!("{at}: warning: {message}");
        Finding { severity: Severity::Warning, line: at.line(), text }
    }
}

/// Checks a policy file, as far as the file itself tells. In the order of its lines.
#[must_use]
pub fn check(file: &Path, around: &Surroundings) -> Vec<Finding> {
    let text = match read_text(file) {
        Ok(text) => text,
        Err(error) => return vec![Finding::error(&error)],
    };
    let source = Source { text: &text, name: file };
    let (raw, faults) = raw::read_all(&source);
    let mut findings: Vec<Finding> = faults.iter().map(Finding::error).collect();
    if let Some(raw) = raw {
        let (policy, faults) = Policy::build(&source, raw);
        findings.extend(faults.iter().map(Finding::error));
        findings.extend(nested(&policy.mounts));
        for mount in &policy.mounts {
            let line = mount.origin.line();
            let faults = mount.unsupported().into_iter();
            findings.extend(faults.map(|text| Finding { severity: Severity::Error, line, text }));
        }
        // Patterns that can't be read are told; the others are compared all the same.
        let mut rules = policy.rules.clone();
        if let Err(faults) = Rules::new(&rules, [], around) {
            findings.extend(faults.iter().map(Finding::error));
            for rule in &mut rules {
                rule.paths.retain(|path| {
                    let at = path.origin.line();
                    !faults.iter().any(|f| Finding::error(f).line == at)
                });
            }
        }
        if let Ok(rules) = Rules::new(&rules, [], around) {
            findings.extend(without_effect(&rules, &policy.mounts));
            findings.extend(rules.beyond_landlock().into_iter().map(|(at, message)| Finding {
                severity: Severity::Error,
                line: at.line(),
                text: format!("{at}: {message}"),
            }));
        }
    }
    findings.sort_by_key(|finding| (finding.line, finding.severity));
    findings
}

/// Mounts that cover a part of others.
fn nested(mounts: &[MountSpec]) -> impl Iterator<Item = Finding> {
    mounts.iter().flat_map(move |inner| {
        mounts.iter().filter(|outer| inner.at != outer.at && inner.at.starts_with(&outer.at)).map(
            |outer| {
                let message = format!(
                    "{:?} lies over the mount at {:?} ({}): what that has there is out of sight",
                    inner.at, outer.at, outer.origin
                );
                Finding::warning(&inner.origin, message)
            },
        )
    })
}

/// Patterns that never decide anything.
fn without_effect(rules: &Rules, mounts: &[MountSpec]) -> Vec<Finding> {
    let patterns = rules.patterns();
    let finding = |at: usize, pattern: &Pattern| {
        let text = &pattern.text;
        if let Some(mount) = mounts.iter().find(|mount| pattern.is_within(&mount.at)) {
            let message = format!(
                "{text:?} can never apply: the mount at {:?} ({}) covers it, and rules are for \
                 real paths",
                mount.at, mount.origin
            );
            return Some(Finding::warning(&pattern.origin, message));
        }
        let shadows = |other: &&Pattern| pattern.is_shadowed_by(other) && !pattern.repeats(other);
        if let Some(first) = patterns[..at].iter().find(shadows) {
            let message = format!(
                "{text:?} can never apply: {:?} ({}) matches all of it and is {}",
                first.text,
                first.origin,
                if first.is_as_specific_as(pattern) {
                    "as specific and earlier"
                } else {
                    "more specific"
                }
            );
            return Some(Finding::warning(&pattern.origin, message));
        }
        let shut = patterns[at..].iter().find(|other| pattern.is_out_of_reach_by(other))?;
        let message = format!(
            "{text:?} is out of reach: {:?} ({}) shuts the directories on the way, and `**` does \
             not tell which of them to leave open; write the way out",
            shut.text, shut.origin
        );
        Some(Finding::warning(&pattern.origin, message))
    };
    patterns.iter().enumerate().filter_map(|(at, pattern)| finding(at, pattern)).collect()
}
