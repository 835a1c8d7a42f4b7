//! The verdicts of the compiled filter over every row, and against seccompiler's.

use super::interpreter::{self, Call};
use super::*;
#[cfg(target_arch = "x86_64")]
use std::collections::BTreeMap;

fn run(program: &[Instruction], call: &Call) -> (u32, usize) {
    interpreter::run(program, call)
        .expect("the program ends, and has no instruction of its own kind")
}

fn all() -> Needs {
    Needs {
        mounts: true,
        writable: true,
        guards: false,
        rules: true,
        record: true,
        probes: true,
        syscalls: false,
        refuse_io_uring: true,
        compat32: Compat32::Supervise,
        unprivileged: true,
        exec_cookie: 0x5eed_1234,
        own_pids: [1000, 1001, 1002],
        absent: AbsentCalls::default(),
    }
}

/// The number of a call on this machine's architecture, by the kernel's headers.
fn native(name: &str) -> u32 {
    names::number(Arch::NATIVE, name).expect("a name of the kernel's")
}

fn verdict(program: &[Instruction], arch: Arch, nr: u32, args: [u64; 6]) -> u32 {
    run(program, &Call { nr, arch: arch.audit(), args }).0
}

#[test]
fn every_row_gets_its_verdict() {
    let program = compile(&all());
    for arch in [Arch::NATIVE, Arch::I386] {
        if arch == Arch::I386 && Arch::NATIVE != Arch::X86_64 {
            continue;
        }
        for row in ROWS {
            let Some(nr) = row.number(arch) else { continue };
            let want = match row.handler {
                Handler::Refuse(e) => errno(e),
                Handler::Ioctl
                | Handler::PrCtl
                | Handler::Lease
                | Handler::Unshare
                | Handler::Process { .. } => ALLOW,
                _ => NOTIFY,
            };
            assert_eq!(verdict(&program, arch, nr, [0; 6]), want, "{} on {arch:?}", row.name);
        }
    }
}

#[test]
fn a_call_newer_than_the_table_is_asked_for() {
    let program = compile(&all());
    assert_eq!(verdict(&program, Arch::NATIVE, LAST_KNOWN + 1, [0; 6]), NOTIFY);
    assert_eq!(verdict(&program, Arch::NATIVE, 462, [0; 6]), ALLOW, "mseal");
    let program = compile(&Needs { refuse_io_uring: true, ..Needs::default() });
    assert_eq!(verdict(&program, Arch::NATIVE, LAST_KNOWN + 1, [0; 6]), ALLOW);
}

/// Where the kernel answers for the mounts, no path is asked about, and nothing can uncover one.
#[test]
fn a_job_with_mounted_trees_is_only_kept_from_uncovering_them() {
    let program =
        compile(&Needs { guards: true, own_pids: [1000, 1001, 1000], ..Needs::default() });
    let asked = |name: &str, args| verdict(&program, Arch::NATIVE, native(name), args);
    for name in [
        "openat",
        "newfstatat",
        "statx",
        "execve",
        "execveat",
        "getdents64",
        "fstat",
        "chdir",
        "unlinkat",
        "renameat2",
        "readlinkat",
        "getcwd",
        "statfs",
        "flock",
        "ioctl",
        "prctl",
        "unshare",
        "bind",
        "faccessat",
        "inotify_add_watch",
        "lgetxattr",
    ] {
        assert_eq!(asked(name, [0; 6]), ALLOW, "{name}");
    }
    for name in ["mount", "umount2", "pivot_root", "chroot", "setns", "move_mount", "open_tree"] {
        assert_eq!(asked(name, [0; 6]), NOTIFY, "{name}");
    }
    for name in ["open_by_handle_at", "fanotify_init", "fsmount", "userfaultfd"] {
        assert_eq!(asked(name, [0; 6]), errno(Errno::EPERM), "{name}");
    }
    assert_eq!(asked("kill", [1000, 9, 0, 0, 0, 0]), NOTIFY);
    assert_eq!(asked("ptrace", [u64::from(libc::PTRACE_ATTACH), 1000, 0, 0, 0, 0]), NOTIFY);
    assert_eq!(verdict(&program, Arch::NATIVE, LAST_KNOWN + 1, [0; 6]), NOTIFY);
}

#[test]
fn the_calls_that_must_be_free_are_allowed_without_a_look_at_arguments() {
    let program = compile(&all());
    for name in [
        "read",
        "write",
        "pread64",
        "pwrite64",
        "readv",
        "writev",
        "close",
        "dup",
        "dup3",
        "mmap",
        "munmap",
        "mprotect",
        "futex",
        "clone",
        "clone3",
        #[cfg(target_arch = "x86_64")]
        "poll",
        "ppoll",
        "lseek",
        "brk",
        "exit_group",
        "rt_sigreturn",
        "restart_syscall",
        "wait4",
        "sendmsg",
        "fchdir",
    ] {
        for args in [[0; 6], [u64::MAX; 6]] {
            assert_eq!(verdict(&program, Arch::NATIVE, native(name), args), ALLOW, "{name}");
        }
    }
}

#[test]
fn x32_and_unknown_architectures_are_enosys() {
    let program = compile(&all());
    assert_eq!(verdict(&program, Arch::X86_64, X32_BIT | 2, [0; 6]), errno(Errno::ENOSYS));
    let alien = Call { nr: 2, arch: 0x1234, args: [0; 6] };
    assert_eq!(run(&program, &alien).0, errno(Errno::ENOSYS));
}

#[cfg(target_arch = "x86_64")]
#[test]
fn compat32_decides_about_32_bit_calls() {
    let open_i386 = 5;
    for (choice, want) in [
        (Compat32::Supervise, NOTIFY),
        (Compat32::Enosys, errno(Errno::ENOSYS)),
        (Compat32::Allow, ALLOW),
    ] {
        let program = compile(&Needs { compat32: choice, ..all() });
        assert_eq!(verdict(&program, Arch::I386, open_i386, [0; 6]), want, "{choice:?}");
    }
}

#[test]
fn a_marked_execveat_passes_and_a_guessed_one_does_not() {
    let program = compile(&all());
    let marked = (0x5eed_1234u64 << 32) | 7;
    assert_eq!(verdict(&program, Arch::NATIVE, native("execveat"), [marked, 0, 0, 0, 0, 0]), ALLOW);
    for guess in [7, u64::MAX, (0x5eed_1235u64 << 32) | 7] {
        assert_eq!(
            verdict(&program, Arch::NATIVE, native("execveat"), [guess, 0, 0, 0, 0, 0]),
            NOTIFY
        );
    }
}

#[test]
fn only_inode_changing_ioctls_are_asked_for() {
    let program = compile(&all());
    for (request, name) in IOCTLS {
        let args = [3, u64::from(*request), 0, 0, 0, 0];
        assert_eq!(verdict(&program, Arch::NATIVE, native("ioctl"), args), NOTIFY, "{name}");
    }
    assert_eq!(
        verdict(&program, Arch::NATIVE, native("ioctl"), [0, 0x5401, 0, 0, 0, 0]),
        ALLOW,
        "TCGETS"
    );
}

#[test]
fn processes_are_asked_about_where_the_number_may_be_the_supervisors() {
    let program = compile(&all());
    let (itself, group, some) = (0, 0xffff_ff00, 77);
    for (name, args, want) in [
        ("kill", [itself, 9, 0], ALLOW),
        ("kill", [group, 9, 0], ALLOW),
        ("kill", [some, 9, 0], NOTIFY),
        ("tgkill", [some, some, 9], ALLOW),
        ("tgkill", [1000, some, 9], NOTIFY),
        ("tgkill", [1001, some, 9], NOTIFY),
        ("prlimit64", [itself, 7, 0], ALLOW),
        ("prlimit64", [some, 7, 0], NOTIFY),
        ("ptrace", [0, 0, 0], ALLOW), // PTRACE_TRACEME
        ("ptrace", [16, some, 0], NOTIFY),
        ("ptrace", [0x4206, some, 0], NOTIFY),
        ("fcntl", [3, 2, 0], ALLOW), // F_SETFD
        ("fcntl", [3, 1024, 1], NOTIFY),
        ("ioctl", [3, 0xaa00, 0], errno(Errno::EPERM)), // USERFAULTFD_IOC_NEW
    ] {
        let args = [args[0], args[1], args[2], 0, 0, 0];
        assert_eq!(verdict(&program, Arch::NATIVE, native(name), args), want, "{name}{args:?}");
    }
}

#[test]
fn only_a_new_user_namespace_is_asked_for() {
    let program = compile(&all());
    for (flags, want) in [
        (0x1000_0000, NOTIFY),
        (0x1002_0400, NOTIFY),
        (0x0002_0000, ALLOW),
        (0x2000_0600, ALLOW),
        (0, ALLOW),
    ] {
        let args = [flags, 0, 0, 0, 0, 0];
        let got = verdict(&program, Arch::NATIVE, native("unshare"), args);
        assert_eq!(got, want, "unshare({flags:#x})");
    }
}

#[test]
fn a_job_without_mounts_and_probes_is_not_asked_about_look_ups() {
    let needs = Needs { mounts: false, rules: false, probes: false, ..all() };
    let program = compile(&needs);
    for name in ["statx", "newfstatat", "faccessat", "readlinkat", "fstat"] {
        assert_eq!(verdict(&program, Arch::NATIVE, native(name), [0; 6]), ALLOW, "{name}");
    }
    assert_eq!(
        verdict(&program, Arch::NATIVE, native("openat"), [0; 6]),
        NOTIFY,
        "openat is recorded"
    );
    assert_eq!(
        verdict(&program, Arch::NATIVE, native("io_uring_setup"), [0; 6]),
        errno(Errno::ENOSYS),
        "io_uring"
    );
}

#[test]
fn a_job_with_rules_alone_is_asked_about_paths_but_not_about_descriptors() {
    let program = compile(&Needs { rules: true, ..Needs::default() });
    for name in ["openat", "newfstatat", "renameat2", "getdents64", "mount", "chdir", "fchmod"] {
        assert_eq!(verdict(&program, Arch::NATIVE, native(name), [0; 6]), NOTIFY, "{name}");
    }
    for name in ["fstat", "getcwd", "fstatfs", "fgetxattr", "fcntl", "read"] {
        assert_eq!(verdict(&program, Arch::NATIVE, native(name), [0; 6]), ALLOW, "{name}");
    }
}

#[test]
fn the_search_tree_is_shallow() {
    let program = compile(&all());
    let worst = (0..470)
        .map(|nr| run(&program, &Call { nr, arch: Arch::NATIVE.audit(), args: [0; 6] }).1)
        .max()
        .expect("calls were tried");
    assert!(worst <= 36, "{worst} instructions for one verdict");
    assert!(program.len() < 4096, "BPF_MAXINSNS");
}

/// seccompiler compiles the same table, with TRACE in the place of the notify action it lacks.
#[cfg(target_arch = "x86_64")]
#[test]
fn verdicts_agree_with_seccompiler() {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};
    let needs = all();
    let mut rules: BTreeMap<i64, Vec<seccompiler::SeccompRule>> = BTreeMap::new();
    for row in ROWS {
        if let (Some(nr), false) = (
            row.number(Arch::X86_64),
            matches!(
                row.handler,
                Handler::Ioctl
                    | Handler::PrCtl
                    | Handler::Lease
                    | Handler::Unshare
                    | Handler::Process { .. }
                    | Handler::Refuse(_)
            ),
        ) {
            rules.insert(i64::from(nr), vec![]);
        }
    }
    let theirs: BpfProgram = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Trace(7),
        TargetArch::x86_64,
    )
    .expect("rules without conditions")
    .try_into()
    .expect("a program");
    let theirs: Vec<Instruction> = theirs.iter().map(|i| ins(i.code, i.jt, i.jf, i.k)).collect();
    let ours = compile(&needs);
    for nr in 0..=LAST_KNOWN {
        let call = Call { nr, arch: Arch::X86_64.audit(), args: [0; 6] };
        let (a, b) = (run(&ours, &call).0, run(&theirs, &call).0);
        let refused = ROWS
            .iter()
            .any(|r| r.number(Arch::X86_64) == Some(nr) && matches!(r.handler, Handler::Refuse(_)));
        if refused {
            continue;
        }
        assert_eq!(a == NOTIFY, b == libc::SECCOMP_RET_TRACE | 7, "call {nr}");
    }
}

#[test]
fn a_task_stays_dumpable_only_where_the_supervisor_needs_it() {
    let quiet = [4, 0, 0, 0, 0, 0];
    let program = compile(&all());
    let success = libc::SECCOMP_RET_ERRNO;
    assert_eq!(verdict(&program, Arch::NATIVE, native("prctl"), quiet), success);
    for other in [[4, 1, 0, 0, 0, 0], [3, 0, 0, 0, 0, 0], [15, 0, 0, 0, 0, 0]] {
        assert_eq!(verdict(&program, Arch::NATIVE, native("prctl"), other), ALLOW, "{other:?}");
    }
    let program = compile(&Needs { unprivileged: false, ..all() });
    assert_eq!(verdict(&program, Arch::NATIVE, native("prctl"), quiet), ALLOW);
}

#[test]
fn where_every_call_is_recorded_all_but_a_few_are_asked_for() {
    let program = compile(&Needs { syscalls: true, ..all() });
    for name in ["read", "futex", "mmap", "ioctl", "prctl", "fcntl", "kill", "unshare", "openat"] {
        assert_eq!(verdict(&program, Arch::NATIVE, native(name), [0; 6]), NOTIFY, "{name}");
    }
    for name in UNTOLD {
        if let Some(nr) = names::number(Arch::NATIVE, name) {
            assert_eq!(verdict(&program, Arch::NATIVE, nr, [0; 6]), ALLOW, "{name}");
        }
    }
    let clone = |flags| verdict(&program, Arch::NATIVE, native("clone"), [flags, 0, 0, 0, 0, 0]);
    assert_eq!((clone(0x11), clone(0x4000_0011)), (ALLOW, NOTIFY), "one that makes a namespace");
    for name in ["sendmsg", "execveat"] {
        let marked = (0x5eed_1234u64 << 32) | 7;
        let of = |arg| verdict(&program, Arch::NATIVE, native(name), [arg, 0, 0, 0, 0, 0]);
        assert_eq!((of(marked), of(7)), (ALLOW, NOTIFY), "{name}");
    }
    let refused = verdict(&program, Arch::NATIVE, native("io_uring_setup"), [0; 6]);
    assert_eq!(refused, errno(Errno::ENOSYS), "what is refused stays so");
    let allow = Needs { syscalls: true, compat32: Compat32::Allow, ..all() };
    #[cfg(target_arch = "x86_64")]
    {
        let program = compile(&allow);
        assert_eq!(verdict(&program, Arch::I386, 5, [0; 6]), NOTIFY, "open of i386");
        assert_eq!(verdict(&program, Arch::I386, 2, [0; 6]), ALLOW, "fork of i386");
    }
    assert!(compile(&allow).len() < 4096, "BPF_MAXINSNS");
}
