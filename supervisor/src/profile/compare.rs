//! Two profiles: what only one of them allows, and both as one.

use super::{ALLOW, Profile, Rule, Verdict, is_plain};
use std::collections::{BTreeMap, BTreeSet};

/// How a profile differs from another: lines that begin with `+` are in `new` only, with `-` in
/// `old` only. Empty: they say the same.
pub fn diff(old: &Profile, new: &Profile) -> Vec<String> {
    let mut lines = Vec::new();
    let default = |p: &Profile| told(&p.default_action, p.default_errno_ret);
    if default(old) != default(new) {
        lines.push(format!("- default {}", default(old)));
        lines.push(format!("+ default {}", default(new)));
    }
    let set = |words: &[String]| words.iter().cloned().collect::<BTreeSet<_>>();
    let (before, after) = (set(&old.architectures), set(&new.architectures));
    lines.extend(before.difference(&after).map(|arch| format!("- architecture {arch}")));
    lines.extend(after.difference(&before).map(|arch| format!("+ architecture {arch}")));
    let (before, after) = (old.by_name(), new.by_name());
    let names: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let none = BTreeSet::new();
    for name in names {
        let was = before.get(*name).unwrap_or(&none);
        let is = after.get(*name).unwrap_or(&none);
        lines.extend(was.difference(is).map(|v| format!("- {name} {}", verdict(v))));
        lines.extend(is.difference(was).map(|v| format!("+ {name} {}", verdict(v))));
    }
    lines
}

fn told(action: &str, errno: Option<u32>) -> String {
    errno.map_or_else(|| action.to_owned(), |errno| format!("{action} {errno}"))
}

fn verdict(verdict: &Verdict) -> String {
    let mut text = told(&verdict.action, verdict.errno);
    for arg in &verdict.args {
        text += &format!(" if arg{} {} {:#x}", arg.index, arg.op, arg.value);
        if arg.op == "SCMP_CMP_MASKED_EQ" {
            text += &format!(" {:#x}", arg.value_two);
        }
    }
    text
}

/// What all of the profiles allow, taken together.
///
/// # Errors
/// Why there is no such thing: they differ in what is not allowed, or don't say it to every reader.
pub fn merge(profiles: &[(String, Profile)]) -> Result<Profile, String> {
    let Some((first_name, first)) = profiles.first() else {
        return Err("no profile was given".into());
    };
    let mut all = Profile { syscalls: Vec::new(), ..first.clone() };
    let mut architectures = BTreeSet::new();
    for (name, profile) in profiles {
        if !is_plain(profile) {
            return Err(format!(
                "{name}: rules with includes, excludes or an archMap depend on who reads them; \
                 give profiles without"
            ));
        }
        let refused = |rule: &&Rule| rule.action != ALLOW;
        if let Some(rule) = profile.syscalls.iter().find(refused) {
            return Err(format!(
                "{name}: {} for {}: only what is allowed can be taken together; take the rule out",
                rule.action,
                rule.names.join(", ")
            ));
        }
        let frame = |p: &Profile| {
            let errno = (p.default_errno_ret, p.default_errno.clone());
            let listener = (p.listener_path.clone(), p.listener_metadata.clone());
            (p.default_action.clone(), errno, p.flags.clone(), listener)
        };
        if frame(profile) != frame(first) {
            return Err(format!(
                "{name}: another default action, errno, flags or listener than {first_name} has; \
                 make them the same first"
            ));
        }
        architectures.extend(profile.architectures.iter().cloned());
        all.syscalls.extend(profile.syscalls.iter().cloned());
    }
    all.architectures = architectures.into_iter().collect();
    all.arrange();
    Ok(all)
}

/// The calls that not all of the profiles speak of, each with how many do.
pub fn coverage(profiles: &[(String, Profile)]) -> Vec<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, profile) in profiles {
        for name in profile.by_name().into_keys() {
            *counts.entry(name).or_default() += 1;
        }
    }
    let all = profiles.len();
    let told = counts.iter().filter(|(_, count)| **count < all);
    told.map(|(name, count)| format!("{name}: in {count} of {all}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Arg;

    fn allows(names: &[&str], args: Vec<Arg>) -> Profile {
        let names = names.iter().map(|&n| n.to_owned()).collect();
        let rule = Rule { names, action: ALLOW.into(), args, ..Rule::default() };
        let action = "SCMP_ACT_ERRNO".into();
        Profile {
            default_action: action,
            default_errno_ret: Some(38),
            syscalls: vec![rule],
            ..Profile::default()
        }
    }

    #[test]
    fn what_is_allowed_is_taken_together_once() {
        let some = allows(
            &["ioctl"],
            vec![Arg {
                index: 1,
                value: u64::from(u32::MAX),
                value_two: 0x5401,
                op: "SCMP_CMP_MASKED_EQ".into(),
            }],
        );
        let all = allows(&["read", "ioctl"], Vec::new());
        let named = |p: &Profile| ("p".to_owned(), p.clone());
        let merged = merge(&[named(&some), named(&all)]).expect("one default");
        assert_eq!(merged.syscalls.len(), 1, "{merged:?}");
        assert_eq!(merged.syscalls[0].names, ["ioctl", "read"]);
        assert_eq!(diff(&all, &merged), [""; 0]);
        assert_eq!(
            diff(&all, &some),
            [
                "- ioctl SCMP_ACT_ALLOW",
                "+ ioctl SCMP_ACT_ALLOW if arg1 SCMP_CMP_MASKED_EQ 0xffffffff 0x5401",
                "- read SCMP_ACT_ALLOW",
            ]
        );
        assert_eq!(coverage(&[named(&some), named(&all)]), ["read: in 1 of 2"]);
        let other = Profile { default_errno_ret: Some(1), ..all.clone() };
        let said = merge(&[named(&all), named(&other)]).expect_err("two defaults");
        assert!(said.contains("another default action"), "{said}");
    }
}
