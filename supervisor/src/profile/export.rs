//! A profile of what jobs called, in the form that OCI runtimes, docker and podman take alike.

use super::runtimes::Runtime;
use super::{ALLOW, Arg, Profile, Rule};
use crate::filter::UNTOLD;
use crate::report::Model;
use crate::trace::event::VERSION_OF_SYSCALLS;
use std::collections::{BTreeMap, BTreeSet};
use vrift_policy::Errno;

/// Calls that libcs and kernels take for one another: the next release of either may use another
/// one of them, and another architecture lacks some.
const FAMILIES: &[&[&str]] = &[
    &["accept", "accept4"],
    &["access", "faccessat", "faccessat2"],
    &["alarm", "setitimer"],
    &["chmod", "fchmodat", "fchmodat2"],
    &["chown", "fchownat", "lchown"],
    &["clock_gettime", "gettimeofday", "time"],
    &["clock_nanosleep", "nanosleep"],
    &["creat", "open", "openat"],
    &["dup", "dup2", "dup3"],
    &["epoll_create", "epoll_create1"],
    &["epoll_pwait", "epoll_pwait2", "epoll_wait"],
    &["eventfd", "eventfd2"],
    &["fstat", "lstat", "newfstatat", "stat", "statx"],
    &["futimesat", "utime", "utimensat", "utimes"],
    &["getdents", "getdents64"],
    &["getpgid", "getpgrp"],
    &["getrlimit", "prlimit64", "setrlimit"],
    &["inotify_init", "inotify_init1"],
    &["link", "linkat"],
    &["mkdir", "mkdirat"],
    &["mknod", "mknodat"],
    &["pause", "poll", "ppoll"],
    &["pipe", "pipe2"],
    &["pselect6", "select"],
    &["readlink", "readlinkat"],
    &["recv", "recvfrom"],
    &["rename", "renameat", "renameat2"],
    &["rmdir", "unlink", "unlinkat"],
    &["send", "sendto"],
    &["signalfd", "signalfd4"],
    &["symlink", "symlinkat"],
    &["wait4", "waitid", "waitpid"],
];

/// The flags of clone(2) that make namespaces, as docker's default profile masks them.
const NAMESPACES: u64 = 0x7e02_0000;

/// A profile, and what is in it that no trace has.
#[derive(Debug)]
pub struct Exported {
    /// The profile.
    pub profile: Profile,
    /// One line for each reason to allow more.
    pub notes: Vec<String>,
}

/// The profile of these traces together.
///
/// # Errors
/// Which trace says nothing of system calls, or not all.
pub fn export(
    traces: &[(String, Model)],
    runtimes: &[Runtime],
    no_new_privileges: bool,
    arguments: bool,
) -> Result<Exported, String> {
    let mut names = BTreeSet::new();
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
            names.insert(call.call.to_string());
            values.entry(call.call.to_string()).or_default().insert(call.index.zip(call.value));
        }
    }
    let seen = names.clone();
    let mut notes = Vec::new();
    for family in FAMILIES {
        let (used, others): (Vec<&str>, Vec<&str>) =
            family.iter().copied().partition(|name| seen.contains(*name));
        if !used.is_empty() && !others.is_empty() {
            notes.push(format!("{}: as {} is used", others.join(", "), used.join(", ")));
            names.extend(others.into_iter().map(str::to_owned));
        }
    }
    for runtime in runtimes {
        let needed: BTreeSet<&str> = runtime.needs(no_new_privileges).collect();
        let more: Vec<&str> = needed.into_iter().filter(|name| !names.contains(*name)).collect();
        if !more.is_empty() {
            notes.push(format!("{}: {runtime:?} needs them before the job runs", more.join(", ")));
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
    let forks = ["clone", "clone3"];
    let untold = UNTOLD.iter().filter(|name| !forks.contains(name));
    let untold: Vec<String> = untold.map(|name| (*name).to_owned()).collect();
    notes.push(format!(
        "{}, and clone without namespaces: not recorded (clone3 gets ENOSYS, for its flags can't be \
         seen, and libc falls back to clone)",
        untold.join(", ")
    ));
    names.extend(untold);
    let architectures = match machine.as_deref() {
        Some("aarch64") => &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"][..],
        _ => &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    };
    let rule =
        |names: Vec<String>, args| Rule { names, action: ALLOW.into(), args, ..Rule::default() };
    let mut profile = Profile {
        default_action: "SCMP_ACT_ERRNO".into(),
        default_errno_ret: Some(Errno::ENOSYS.raw().unsigned_abs()),
        architectures: architectures.iter().map(|arch| (*arch).to_owned()).collect(),
        syscalls: vec![
            rule(names.into_iter().collect(), Vec::new()),
            rule(vec!["clone".into()], vec![masked(0, NAMESPACES, 0)]),
        ],
        ..Profile::default()
    };
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

/// Who used each call first, by the program's path or process number, and in how many traces.
pub fn why(traces: &[(String, Model)]) -> Vec<String> {
    let mut uses: BTreeMap<&str, (BTreeSet<usize>, String)> = BTreeMap::new();
    for (at, (_, trace)) in traces.iter().enumerate() {
        for call in &trace.syscalls {
            let first = || (BTreeSet::new(), trace.caller(call));
            let entry = uses.entry(&call.call).or_insert_with(first);
            entry.0.insert(at);
        }
    }
    let all = traces.len();
    uses.iter()
        .map(|(call, (runs, by))| format!("{call}: {by}, in {} of {all}", runs.len()))
        .collect()
}
