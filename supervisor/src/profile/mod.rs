//! Seccomp profiles as container runtimes read them: the model, a reader and a writer.
//!
//! The reader takes the OCI form and its relatives (docker's, podman's), and keeps what is theirs
//! alone so that [`lint`] can speak of it. The writer has one form: names in byte order, so that the
//! same profile is the same bytes. Integers are 64 bits wide all the way: no floating point is passed
//! through, which is exact to 2^53 only.

pub mod bpf;
pub mod compare;
pub mod engine;
pub mod export;
pub mod families;
pub mod libseccomp;
pub mod lint;
pub mod runtimes;
pub mod verify;
pub mod why;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What lets a call pass.
pub const ALLOW: &str = "SCMP_ACT_ALLOW";
/// What hands it to a listener.
pub const NOTIFY: &str = "SCMP_ACT_NOTIFY";

/// A profile.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// What calls get that no rule speaks of.
    pub default_action: String,
    /// Its errno, as a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_errno_ret: Option<u32>,
    /// The same by name: podman's and CRI-O's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_errno: Option<String>,
    /// `SCMP_ARCH_*`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub architectures: Vec<String>,
    /// Architectures with their lesser ones: docker's and podman's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arch_map: Option<Value>,
    /// `SECCOMP_FILTER_FLAG_*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flags: Option<Vec<String>>,
    /// The socket that a listener is handed over at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener_path: Option<String>,
    /// What is said with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener_metadata: Option<String>,
    /// The rules.
    #[serde(default)]
    pub syscalls: Vec<Rule>,
}

/// A rule for some calls.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// Their names.
    #[serde(default)]
    pub names: Vec<String>,
    /// What they get.
    pub action: String,
    /// With which errno.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno_ret: Option<u32>,
    /// If all of these hold.
    #[serde(default, skip_serializing_if = "is_empty", deserialize_with = "or_null")]
    pub args: Vec<Arg>,
    /// What only docker, podman and their like heed.
    #[serde(default, skip_serializing_if = "is_none", deserialize_with = "present")]
    pub includes: Option<Value>,
    /// The same.
    #[serde(default, skip_serializing_if = "is_none", deserialize_with = "present")]
    pub excludes: Option<Value>,
}

/// A condition on an argument.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Arg {
    /// Which, from 0.
    pub index: u32,
    /// What it is compared with; of `SCMP_CMP_MASKED_EQ` the mask.
    pub value: u64,
    /// With `SCMP_CMP_MASKED_EQ`, what the masked argument is compared with.
    #[serde(default)]
    pub value_two: u64,
    /// `SCMP_CMP_*`.
    pub op: String,
}

fn is_empty(args: &[Arg]) -> bool {
    args.is_empty()
}

fn is_none(value: &Option<Value>) -> bool {
    value.is_none()
}

/// Old profiles say null where there is nothing.
fn or_null<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<Arg>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// An empty object or null says nothing.
fn present<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    let value = Value::deserialize(from)?;
    let empty = value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
    Ok((!empty).then_some(value))
}

/// What one call gets under one condition.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Verdict {
    /// The conditions, all of which must hold; none: always.
    pub args: Vec<Arg>,
    /// The action.
    pub action: String,
    /// Its errno.
    pub errno: Option<u32>,
}

impl Profile {
    /// Reads a profile.
    ///
    /// # Errors
    /// The parser's words with line and column.
    pub fn parse(text: &[u8]) -> Result<Profile, String> {
        serde_json::from_slice(text).map_err(|e| e.to_string())
    }

    /// The verdicts by name.
    pub fn by_name(&self) -> BTreeMap<&str, BTreeSet<Verdict>> {
        let mut all: BTreeMap<&str, BTreeSet<Verdict>> = BTreeMap::new();
        for rule in &self.syscalls {
            let mut args = rule.args.clone();
            args.sort();
            let verdict = Verdict { args, action: rule.action.clone(), errno: rule.errno_ret };
            for name in &rule.names {
                all.entry(name).or_default().insert(verdict.clone());
            }
        }
        all
    }

    /// Puts the rules in their one order: first those without conditions, by action, then one for
    /// each name and condition. A rule with conditions goes where the same name has one without and
    /// with the same action, which says it all.
    pub fn arrange(&mut self) {
        let mut whole: BTreeMap<(String, Option<u32>), Vec<String>> = BTreeMap::new();
        let mut parts = Vec::new();
        for (name, verdicts) in self.by_name() {
            let always: BTreeSet<_> =
                verdicts.iter().filter(|v| v.args.is_empty()).map(|v| &v.action).collect();
            for verdict in &verdicts {
                let Verdict { args, action, errno } = verdict.clone();
                if args.is_empty() {
                    whole.entry((action, errno)).or_default().push(name.to_owned());
                } else if !always.contains(&action) {
                    let names = vec![name.to_owned()];
                    parts.push(Rule { names, action, errno_ret: errno, args, ..Rule::default() });
                }
            }
        }
        let whole = whole.into_iter().map(|((action, errno_ret), names)| Rule {
            names,
            action,
            errno_ret,
            ..Rule::default()
        });
        self.syscalls = whole.chain(parts).collect();
    }

    /// The text of the OCI form.
    ///
    /// # Errors
    /// Never for what was read; the writer's words.
    pub fn text(&self) -> Result<String, String> {
        let mut text = serde_json::to_string_pretty(self).map_err(|e| e.to_string())?;
        text.push('\n');
        Ok(text)
    }
}

/// Do the rules of the profile hold whatever machine reads it?
pub fn is_plain(profile: &Profile) -> bool {
    let conditional = |rule: &Rule| rule.includes.is_some() || rule.excludes.is_some();
    profile.arch_map.is_none() && !profile.syscalls.iter().any(conditional)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_exact_and_the_text_is_always_the_same() {
        let text = r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"syscalls":[
            {"names":["write","read"],"action":"SCMP_ACT_ALLOW","args":null,"includes":{}},
            {"names":["ioctl"],"action":"SCMP_ACT_ALLOW","args":[
                {"index":1,"value":18446744073709551615,"valueTwo":9007199254740993,
                 "op":"SCMP_CMP_MASKED_EQ"}]},
            {"names":["read"],"action":"SCMP_ACT_ALLOW","args":[
                {"index":0,"value":1,"op":"SCMP_CMP_EQ"}]}]}"#;
        let mut profile = Profile::parse(text.as_bytes()).expect("a profile");
        assert!(is_plain(&profile));
        profile.arrange();
        let once = profile.text().expect("text");
        assert!(once.contains("18446744073709551615") && once.contains("9007199254740993"));
        assert_eq!(profile.syscalls[0].names, ["read", "write"]);
        assert_eq!(profile.syscalls.len(), 2, "read is allowed whatever its arguments");
        let mut again = Profile::parse(once.as_bytes()).expect("what was written is read");
        again.arrange();
        assert_eq!(again.text().expect("text"), once);
    }
}
