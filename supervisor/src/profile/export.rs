//! A profile of what jobs called, in the form that OCI runtimes, docker and podman take alike.

use super::families::{self, Architecture};
use super::runtimes::Runtime;
use super::{ALLOW, Arg, Profile, Rule};
use crate::filter::{CLONE_NAMESPACES, UNTOLD};
use crate::report::Model;
use crate::trace::event::VERSION_OF_SYSCALLS;
use std::collections::{BTreeMap, BTreeSet};
use vrift_policy::Errno;

/// What is to be exported.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// For these runtimes.
    pub runtimes: &'a [Runtime],
    /// The container has noNewPrivileges.
    pub no_new_privileges: bool,
    /// With conditions on arguments.
    pub arguments: bool,
    /// For these architectures; none: the one that was recorded.
    pub architectures: &'a [Architecture],
}

/// A profile, and what is in it that no trace has.
#[derive(Debug)]
pub struct Exported {
    /// The profile.
    pub profile: Profile,
    /// One line for each reason to allow more, and of what another architecture lacks.
    pub notes: Vec<String>,
}

/// The profile of these traces together.
///
/// # Errors
/// Which trace says nothing of system calls, or not all.
pub fn export(traces: &[(String, Model)], asked: &Asked<'_>) -> Result<Exported, String> {
    let Asked { runtimes, no_new_privileges, arguments, .. } = *asked;
    let mut names = BTreeSet::new();
    let mut spaces = BTreeSet::new();
    let mut values: BTreeMap<String, BTreeSet<Option<(u8, u32)>>> = BTreeMap::new();
    let machine = traces.first().map(|(_, trace)| trace.job.machine.clone());
    for (name, trace) in traces {
        if trace.job.version != VERSION_OF_SYSCALLS {
            return Err(format!(
                "{name}: its system calls were not recorded; record them with --record-syscalls"
            ));
        }
        if trace.end.is_none() {
            return Err(format!("{name}: the record ends before the job did; record a whole run"));
        }
        if Some(&trace.job.machine) != machine.as_ref() {
            return Err(format!(
                "{name}: recorded on {}, others on {}; export them apart, and merge the profiles",
                trace.job.machine,
                machine.unwrap_or_default()
            ));
        }
        for call in &trace.syscalls {
            if call.call.starts_with("syscall_") {
                return Err(format!(
                    "{name}: {} has no name here, and profiles go by names; use a newer vrift-trace",
                    call.call
                ));
            }
            // Told where it makes namespaces; else it is allowed whatever its other flags.
            if call.call == "clone" {
                spaces.extend(call.value.map(|flags| flags & CLONE_NAMESPACES));
                continue;
            }
            names.insert(call.call.to_string());
            values.entry(call.call.to_string()).or_default().insert(call.index.zip(call.value));
        }
    }
    let mut notes = families::widen(&mut names);
    for runtime in runtimes {
        let needed: BTreeSet<&str> = runtime.needs(no_new_privileges).collect();
        let more: Vec<&str> = needed.into_iter().filter(|name| !names.contains(*name)).collect();
        if !more.is_empty() {
            notes.push(format!(
                "also allowed: {}: {runtime:?} needs them before the job runs",
                more.join(", ")
            ));
            names.extend(more.into_iter().map(str::to_owned));
        }
    }
    let mut conditions = Vec::new();
    // What the runtime needs, it needs with arguments that are not known.
    let free: BTreeSet<&str> = runtimes.iter().flat_map(|r| r.needs(no_new_privileges)).collect();
    for (name, values) in values.iter().filter(|(name, _)| arguments && !free.contains(&***name)) {
        // Too many values are told as none: then it is allowed whatever its argument.
        let Some(values) = values.iter().copied().collect::<Option<Vec<_>>>() else { continue };
        names.remove(name);
        conditions.extend(values.into_iter().map(|(index, value)| Rule {
            names: vec![name.clone()],
            action: ALLOW.into(),
            // The kernel reads the lower half of a register that callers fill as they like.
            args: vec![masked(index.into(), 0xffff_ffff, value.into())],
            ..Rule::default()
        }));
    }
    let untold = UNTOLD.iter().filter(|name| **name != "clone3");
    let untold: Vec<String> = untold.map(|name| (*name).to_owned()).collect();
    notes.push(format!(
        "also allowed: {}, and clone without namespaces: not recorded (clone3 gets ENOSYS, for its flags can't be \
         seen, and libc falls back to clone)",
        untold.join(", ")
    ));
    names.extend(untold);
    let recorded = match machine.as_deref() {
        Some("aarch64") => Architecture::Aarch64,
        _ => Architecture::X86_64,
    };
    let mut architectures = asked.architectures.to_vec();
    if architectures.is_empty() {
        architectures.push(recorded);
    }
    architectures.sort_unstable();
    architectures.dedup();
    for architecture in architectures.iter().filter(|one| **one != recorded) {
        let all = names.iter().map(String::as_str).chain(values.keys().map(String::as_str));
        notes.extend(families::absent(recorded, *architecture, &all.collect()));
    }
    let rule =
        |names: Vec<String>, args| Rule { names, action: ALLOW.into(), args, ..Rule::default() };
    let mut profile = Profile {
        default_action: "SCMP_ACT_ERRNO".into(),
        default_errno_ret: Some(Errno::ENOSYS.raw().unsigned_abs()),
        architectures: architectures.iter().flat_map(|one| one.with_lesser()).collect(),
        syscalls: vec![
            rule(names.into_iter().collect(), Vec::new()),
            rule(vec!["clone".into()], vec![masked(0, CLONE_NAMESPACES.into(), 0)]),
        ],
        ..Profile::default()
    };
    profile.syscalls.extend(spaces.into_iter().map(|flags| {
        rule(vec!["clone".into()], vec![masked(0, CLONE_NAMESPACES.into(), flags.into())])
    }));
    profile.syscalls.extend(conditions);
    profile.arrange();
    Ok(Exported { profile, notes })
}

fn masked(index: u32, mask: u64, value: u64) -> Arg {
    Arg { index, value: mask, value_two: value, op: "SCMP_CMP_MASKED_EQ".to_owned() }
}

/// The profile as lines of a unit, see systemd.exec(5). Conditions on arguments can't be said there:
/// RestrictNamespaces= stands for that on clone.
pub fn systemd(profile: &Profile) -> String {
    let names = profile.by_name();
    let names: Vec<&str> = names.keys().copied().collect();
    format!(
        "[Service]\nSystemCallFilter={}\nSystemCallErrorNumber=ENOSYS\nRestrictNamespaces=yes\n",
        names.join(" ")
    )
}
