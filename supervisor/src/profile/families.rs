//! Calls that stand for one another: from one release of a libc to the next, and on other architectures.

use crate::table::{Arch, names};
use std::collections::BTreeSet;

/// The next release of a libc or a kernel may use another one of a family, and another architecture
/// lacks some.
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

/// An architecture that a profile can be for.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, clap::ValueEnum)]
pub enum Architecture {
    /// x86_64, with i386 and x32
    #[value(name = "x86_64", alias = "amd64")]
    X86_64,
    /// aarch64, with 32-bit arm
    #[value(name = "aarch64", alias = "arm64")]
    Aarch64,
}

impl std::fmt::Display for Architecture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Architecture::X86_64 => "x86_64",
            Architecture::Aarch64 => "aarch64",
        })
    }
}

impl Architecture {
    /// libseccomp's names of it and of those whose programs its kernels run too.
    pub fn with_lesser(self) -> impl Iterator<Item = String> {
        let names: &[&str] = match self {
            Architecture::X86_64 => &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            Architecture::Aarch64 => &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        };
        names.iter().map(|name| (*name).to_owned())
    }

    fn has(self, name: &str) -> bool {
        let arch = match self {
            Architecture::X86_64 => Arch::X86_64,
            Architecture::Aarch64 => Arch::Aarch64,
        };
        names::number(arch, name).is_some()
    }
}

/// Adds to `names` the rest of each family that one of them is of. Returns a line for each family.
pub fn widen(names: &mut BTreeSet<String>) -> Vec<String> {
    let mut notes = Vec::new();
    let seen = names.clone();
    for family in FAMILIES {
        let (used, others): (Vec<&str>, Vec<&str>) =
            family.iter().copied().partition(|name| seen.contains(*name));
        if !used.is_empty() && !others.is_empty() {
            notes.push(format!(
                "also allowed: {}: as {} is used",
                others.join(", "),
                used.join(", ")
            ));
            names.extend(others.into_iter().map(str::to_owned));
        }
    }
    notes
}

/// What is to be said of those of `names` that `recorded` has and `architecture` has not. They stay:
/// the same profile serves the other architectures, and runtimes pass over what one of them lacks.
pub fn absent(
    recorded: Architecture,
    architecture: Architecture,
    names: &BTreeSet<&str>,
) -> Vec<String> {
    let mut lines = Vec::new();
    let mut alone = Vec::new();
    let lacking = |name: &&&str| recorded.has(name) && !architecture.has(name);
    for name in names.iter().filter(lacking) {
        let family = FAMILIES.iter().find(|family| family.contains(name));
        let twins: Vec<&str> = family
            .into_iter()
            .flat_map(|family| family.iter().copied())
            .filter(|twin| architecture.has(twin))
            .collect();
        match twins.as_slice() {
            // A process is made by clone there.
            [] if matches!(*name, "fork" | "vfork") => {}
            [] => alone.push(*name),
            some => lines.push(format!("{architecture} has no {name}: {}", some.join(", "))),
        }
    }
    if !alone.is_empty() {
        lines.push(format!(
            "{architecture} has no {}, and nothing that stands for them",
            alone.join(", ")
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::libseccomp;

    /// Calls of x86_64 that aarch64 has not, for which no other call stands: of the processor, of
    /// old kernels, and those that make a process, which clone does.
    const ALONE: &str = "_sysctl afs_syscall arch_prctl create_module fork get_kernel_syms \
        get_thread_area getpmsg ioperm iopl modify_ldt putpmsg query_module security \
        set_thread_area sysfs tuxcall uretprobe uprobe uselib ustat vfork vserver map_shadow_stack \
        epoll_ctl_old epoll_wait_old";

    #[test]
    fn what_aarch64_lacks_has_a_twin_in_its_family() {
        let alone: BTreeSet<&str> = ALONE.split_ascii_whitespace().collect();
        for name in names::all(Arch::X86_64) {
            if Architecture::Aarch64.has(name) || alone.contains(name) {
                continue;
            }
            let mut widened = BTreeSet::from([name.to_owned()]);
            widen(&mut widened);
            let twin = widened.iter().find(|twin| Architecture::Aarch64.has(twin));
            assert!(twin.is_some(), "{name}: nothing for it on aarch64");
        }
    }

    #[test]
    fn every_name_of_a_family_is_a_call() {
        for name in FAMILIES.iter().flat_map(|family| family.iter()) {
            assert!(libseccomp::since(name).is_some(), "{name}");
        }
        let mut all: Vec<&&str> = FAMILIES.iter().flat_map(|family| family.iter()).collect();
        all.sort_unstable();
        let count = all.len();
        all.dedup();
        assert_eq!(count, all.len(), "one family for a name");
    }

    #[test]
    fn what_an_architecture_lacks_is_told() {
        let names = ["access", "arch_prctl", "faccessat", "faccessat2", "fork", "read"];
        let of = |to| absent(Architecture::X86_64, to, &names.into()).join("\n");
        let said = of(Architecture::Aarch64);
        assert!(said.contains("aarch64 has no access: faccessat, faccessat2"), "{said}");
        assert!(said.contains("aarch64 has no arch_prctl, and nothing"), "{said}");
        assert!(!said.contains("fork") && !said.contains("read"), "{said}");
        assert_eq!(of(Architecture::X86_64), "");
    }
}
