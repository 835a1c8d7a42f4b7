//! What a container runtime calls itself between loading the filter and the job's exec: without it
//! a profile of the job alone does not even start.
//!
//! Measured with strace -f of the runtimes, and held against Debian's by the tests
//! (tests/tests/profile_export.rs); more than one version each, as they differ.

/// A runtime.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Runtime {
    /// runc, 1.1.5 and 1.3.6
    Runc,
    /// crun, 1.8.1 and 1.28
    Crun,
    /// None: the profile is loaded by who executes the job
    None,
}

/// With noNewPrivileges, by a version.
const RUNC: &[&str] = &[
    // 1.1.5
    "close",
    "epoll_ctl",
    "execve",
    "fstatfs",
    "futex",
    "getdents64",
    "getpid",
    "openat",
    "read",
    "rt_sigreturn",
    "write",
    // 1.3.6
    "fcntl",
    "fstat",
    "openat2",
    "recvfrom",
    "statx",
    // Go's own, now and then.
    "nanosleep",
    "epoll_pwait",
    "tgkill",
    "sched_yield",
    "sigaltstack",
    "mmap",
    "munmap",
    "madvise",
    "gettid",
    "sched_getaffinity",
    "rt_sigprocmask",
];

/// Without noNewPrivileges: the filter is loaded before privileges are dropped.
const RUNC_PRIVILEGED: &[&str] = &[
    "capget",
    "capset",
    "chdir",
    "close_range",
    "faccessat2",
    "fcntl",
    "fstat",
    "getcwd",
    "getppid",
    "newfstatat",
    "prctl",
    "setgid",
    "setgroups",
    "setuid",
];

const CRUN: &[&str] = &["close", "close_range", "execve"];

/// The last three wait for `crun start`, after `crun create`, as podman does it.
const CRUN_PRIVILEGED: &[&str] = &[
    "capset",
    "prctl",
    "rt_sigaction",
    "rt_sigprocmask",
    "setresgid",
    "setresuid",
    "pselect6",
    "read",
    "write",
];

impl Runtime {
    /// The calls that it needs.
    pub fn needs(self, no_new_privileges: bool) -> impl Iterator<Item = &'static str> {
        let (always, privileged) = match self {
            Runtime::Runc => (RUNC, RUNC_PRIVILEGED),
            Runtime::Crun => (CRUN, CRUN_PRIVILEGED),
            Runtime::None => (&[][..], &[][..]),
        };
        let privileged = if no_new_privileges { &[] } else { privileged };
        always.iter().chain(privileged).copied()
    }
}
