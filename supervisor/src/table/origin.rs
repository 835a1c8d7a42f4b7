//! When a call came to be, and which test asks for it: what the public table says besides.

use super::{Arch, Handler, Row};

/// The Linux that first had the call, where it is younger than 2.6.12, the first in git.
const SINCE: &[(&str, &[&str])] = &[
    ("2.6.13", &["inotify_add_watch"]),
    (
        "2.6.16",
        &[
            "openat",
            "newfstatat",
            "fstatat64",
            "faccessat",
            "readlinkat",
            "mkdirat",
            "mknodat",
            "symlinkat",
            "unlinkat",
            "renameat",
            "linkat",
            "fchmodat",
            "fchownat",
            "futimesat",
        ],
    ),
    ("2.6.22", &["utimensat"]),
    ("2.6.31", &["rt_tgsigqueueinfo"]),
    ("2.6.36", &["prlimit64"]),
    ("2.6.37", &["fanotify_init", "fanotify_mark"]),
    ("2.6.39", &["name_to_handle_at", "open_by_handle_at"]),
    ("3.0", &["setns"]),
    ("3.2", &["process_vm_readv", "process_vm_writev"]),
    ("3.8", &["finit_module"]),
    ("3.14", &["sched_setattr"]),
    ("3.15", &["renameat2"]),
    ("3.17", &["kexec_file_load"]),
    ("3.19", &["execveat"]),
    ("4.3", &["userfaultfd"]),
    ("4.11", &["statx"]),
    ("5.1", &["io_uring_setup", "io_uring_enter", "io_uring_register", "utimensat_time64"]),
    ("5.2", &["open_tree", "move_mount", "fsopen", "fsconfig", "fsmount", "fspick"]),
    ("5.3", &["pidfd_open"]),
    ("5.6", &["openat2"]),
    ("5.8", &["faccessat2"]),
    ("5.12", &["mount_setattr"]),
    ("5.14", &["quotactl_fd"]),
    ("6.6", &["fchmodat2"]),
    ("6.13", &["setxattrat", "getxattrat", "listxattrat", "removexattrat"]),
    ("6.15", &["open_tree_attr"]),
    ("6.17", &["file_getattr", "file_setattr"]),
];

/// Since which Linux there is the call; None: since long before any that this runs on.
pub fn since(name: &str) -> Option<&'static str> {
    SINCE.iter().find(|(_, names)| names.contains(&name)).map(|(version, _)| *version)
}

/// The test programs (`tests/tests/`) that make the call in a job and look at its answer.
/// Tests compare this with what they ask.
pub fn tested_by(row: &Row) -> &'static [&'static str] {
    match row.handler {
        Handler::Refuse(_) => &["numbers"],
        Handler::Deny(..) => &["numbers", "callers"],
        Handler::Unshare => &["callers"],
        Handler::PrCtl => &["identity"],
        Handler::SocketName => &["sockets"],
        Handler::Process { .. } | Handler::Lease => &["adversaries"],
        Handler::Flock => &["oracle", "locks"],
        _ if row.number(Arch::X86_64).is_none() => &["numbers"],
        Handler::ExecVe | Handler::ExecVeAt => &["oracle", "exec"],
        Handler::GetDents { .. } => &["oracle", "directories"],
        Handler::Ioctl => &["oracle", "read_only"],
        _ => &["oracle"],
    }
}

#[cfg(test)]
mod tests {
    use super::super::ROWS;
    use super::*;

    #[test]
    fn only_calls_of_the_table_have_a_version() {
        for name in SINCE.iter().flat_map(|(_, names)| *names) {
            assert!(ROWS.iter().any(|row| row.name == *name), "{name} is no row");
        }
        // Numbers from 424 on are younger than 5.0, and are never given to an old call.
        for row in ROWS.iter().filter(|row| row.x86_64.is_some_and(|n| n >= 424)) {
            assert!(since(row.name).is_some(), "{} has no version", row.name);
        }
    }
}
