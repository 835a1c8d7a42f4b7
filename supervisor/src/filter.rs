//! The seccomp filter: from the table and what the job needs to classic BPF.
//!
//! The filter only knows numbers and registers. It asks for a call when a row says so; a number
//! without a row is ALLOW whatever its arguments, which the kernel caches in a bitmap, so that
//! read, write, mmap and futex cost nothing. Calls with the x32 bit and of unknown architectures
//! get ENOSYS.
//!
//! seccompiler, the usual compiler for such filters, has no notify action and one architecture to
//! a program; the unit tests use it to check the verdicts of this one.

use self::assembly::{
    ANY_BIT, ARCH, AT_LEAST, EQUAL, LOAD, Leaves, NR, RETURN, X32_BIT, arg_high, arg_low, errno,
    ins, jump, tree,
};
use crate::features::AbsentCalls;
use crate::sys::seccomp::Instruction;
use crate::table::{
    Act, Arch, Handler, IOCTLS, LAST_KNOWN, Need, REFUSED_IOCTLS, ROWS, Row, names,
};
use vrift_policy::Errno;

/// What the job needs to be asked about.
#[derive(Clone, Copy, Debug, Default)]
pub struct Needs {
    /// It has mounts.
    pub mounts: bool,
    /// Some of them can be written to.
    pub writable: bool,
    /// It sees mounts that the kernel answers for: only what would uncover what is mounted over, or
    /// acts on the supervisor, is asked for.
    pub guards: bool,
    /// It has rules for real paths.
    pub rules: bool,
    /// Opened, run and changed files are recorded.
    pub record: bool,
    /// Look-ups are recorded.
    pub probes: bool,
    /// Every call is recorded ([`UNTOLD`] apart).
    pub syscalls: bool,
    /// io_uring is refused.
    pub refuse_io_uring: bool,
    /// What 32-bit calls get.
    pub compat32: Compat32,
    /// The supervisor has no privilege over tasks that are not dumpable.
    pub unprivileged: bool,
    /// The upper half of the first argument of execveat and sendmsg where the call is the supervisor's own.
    pub exec_cookie: u32,
    /// The process ids of the supervisor, the keeper and who fetches.
    pub own_pids: [u32; 3],
    /// What this kernel doesn't have.
    pub absent: AbsentCalls,
}

/// What 32-bit calls on a 64-bit kernel get.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Compat32 {
    /// The same as 64-bit ones.
    #[default]
    Supervise,
    /// ENOSYS, every one.
    Enosys,
    /// They go on in the kernel, unseen.
    Allow,
}

impl Needs {
    /// Is this row's call asked for?
    ///
    /// What this kernel doesn't have it says itself: its ENOSYS makes the job take another way.
    pub fn wants(&self, row: &Row) -> bool {
        let newer = row.number(Arch::NATIVE).is_some_and(|nr| self.absent.has(nr));
        if newer && !matches!(row.handler, Handler::Refuse(_)) {
            return false;
        }
        match row.need {
            Need::Mounts if self.guards && row.handler.guards() => true,
            Need::Mounts => self.mounts || self.rules && !row.handler.is_of_mounts_alone(),
            Need::Writable => self.writable,
            Need::Record => self.mounts || self.rules || self.record,
            Need::Probes => self.mounts || self.rules || self.probes,
            Need::IoUring => self.refuse_io_uring,
            Need::Unprivileged => (self.mounts || self.rules) && self.unprivileged,
        }
    }
}

/// What is not handed over even where every call is; nor is clone, unless it makes namespaces. The
/// first ones end a task, or go on with what a signal interrupted. The last make one: a signal that
/// comes before they are received has them fail with EINTR, which they never do by themselves, and
/// which shells don't try again.
pub const UNTOLD: [&str; 8] = [
    "exit",
    "exit_group",
    "restart_syscall",
    "rt_sigreturn",
    "sigreturn",
    "clone3",
    "fork",
    "vfork",
];

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const NOTIFY: u32 = libc::SECCOMP_RET_USER_NOTIF;

/// `PR_SET_DUMPABLE` of include/uapi/linux/prctl.h.
const PR_SET_DUMPABLE: u32 = 4;
/// `CLONE_NEWUSER` of include/uapi/linux/sched.h.
pub const CLONE_NEWUSER: u32 = 0x1000_0000;

/// The flags of clone(2) that make namespaces, as docker's default profile masks them: `CLONE_NEWNS`,
/// `_NEWCGROUP`, `_NEWUTS`, `_NEWIPC`, `_NEWUSER`, `_NEWPID` and `_NEWNET`.
pub const CLONE_NAMESPACES: u32 = 0x7e02_0000;

/// `F_SETLEASE` of include/uapi/linux/fcntl.h.
pub const F_SETLEASE: u32 = 1024;

/// A program that lets everything pass.
pub fn allow_all() -> Vec<Instruction> {
    vec![ins(RETURN, 0, 0, ALLOW)]
}

/// The program for a job on this machine's architecture.
pub fn compile(needs: &Needs) -> Vec<Instruction> {
    let native = section(Arch::NATIVE, needs);
    let mut program = vec![ins(LOAD, 0, 0, ARCH)];
    program.push(ins(EQUAL, 0, 1, Arch::NATIVE.audit()));
    // Jump over what comes before the native section.
    let mut tail = Vec::new();
    if Arch::NATIVE == Arch::X86_64 {
        let i386 = match needs.compat32 {
            Compat32::Supervise => section(Arch::I386, needs),
            Compat32::Enosys => vec![ins(RETURN, 0, 0, errno(Errno::ENOSYS))],
            Compat32::Allow if needs.syscalls => told(Arch::I386, Vec::new(), needs),
            Compat32::Allow => vec![ins(RETURN, 0, 0, ALLOW)],
        };
        tail.push(ins(EQUAL, 1, 0, Arch::I386.audit()));
        tail.push(ins(RETURN, 0, 0, errno(Errno::ENOSYS)));
        tail.extend(i386);
    } else {
        tail.push(ins(RETURN, 0, 0, errno(Errno::ENOSYS)));
    }
    program.push(jump(tail.len()));
    program.extend(tail);
    program.extend(native);
    program
}

/// The verdicts of one architecture: a search tree over the numbers that are asked for.
fn section(arch: Arch, needs: &Needs) -> Vec<Instruction> {
    let leaves: Leaves = ROWS
        .iter()
        .filter(|row| needs.wants(row))
        .filter_map(|row| Some((row.number(arch)?, leaf(arch, row, needs))))
        .collect();
    if needs.syscalls { told(arch, leaves, needs) } else { search(arch, leaves, needs, ALLOW) }
}

/// The same where every call is recorded: what would pass is asked for.
fn told(arch: Arch, mut leaves: Leaves, needs: &Needs) -> Vec<Instruction> {
    let exec = names::number(arch, "execveat");
    for (nr, code) in &mut leaves {
        if Some(*nr) != exec {
            for i in code.iter_mut().filter(|i| i.code == RETURN && i.k == ALLOW) {
                i.k = NOTIFY;
            }
        }
    }
    let number = |name: &&str| names::number(arch, name);
    leaves.extend(UNTOLD.iter().filter_map(number).map(|nr| (nr, vec![ins(RETURN, 0, 0, ALLOW)])));
    leaves.extend(number(&"clone").map(|nr| (nr, namespaces())));
    if arch == Arch::NATIVE {
        leaves.extend(number(&"sendmsg").map(|nr| (nr, marked(needs))));
    }
    search(arch, leaves, needs, NOTIFY)
}

/// clone that makes namespaces: rare, and what a profile has to say of it.
fn namespaces() -> Vec<Instruction> {
    vec![
        ins(LOAD, 0, 0, arg_low(0)),
        ins(ANY_BIT, 0, 1, CLONE_NAMESPACES),
        ins(RETURN, 0, 0, NOTIFY),
        ins(RETURN, 0, 0, ALLOW),
    ]
}

/// The upper half of a 32-bit argument is nothing to the kernel: there the supervisor marks the call
/// that is its own and must not be asked for.
fn marked(needs: &Needs) -> Vec<Instruction> {
    vec![
        ins(LOAD, 0, 0, arg_high(0)),
        ins(EQUAL, 0, 1, needs.exec_cookie),
        ins(RETURN, 0, 0, ALLOW),
        ins(RETURN, 0, 0, NOTIFY),
    ]
}

/// The verdicts of one architecture by number; the number is not loaded yet. x32 calls get ENOSYS.
pub fn search(arch: Arch, mut leaves: Leaves, needs: &Needs, others: u32) -> Vec<Instruction> {
    leaves.sort_by_key(|(nr, _)| *nr);
    let mut out = vec![ins(LOAD, 0, 0, NR)];
    if arch == Arch::X86_64 {
        out.push(ins(AT_LEAST, 0, 1, X32_BIT));
        out.push(ins(RETURN, 0, 0, errno(Errno::ENOSYS)));
    }
    if needs.mounts || needs.guards || needs.rules || needs.record {
        out.push(ins(AT_LEAST, 0, 1, LAST_KNOWN + 1));
        out.push(ins(RETURN, 0, 0, NOTIFY));
    }
    out.extend(tree(&leaves, others));
    out
}

/// The verdict of one call; what it loads does not matter to others, as every path here returns.
fn leaf(arch: Arch, row: &Row, needs: &Needs) -> Vec<Instruction> {
    match row.handler {
        Handler::Refuse(e) => vec![ins(RETURN, 0, 0, errno(e))],
        Handler::Ioctl => {
            let mut out = vec![ins(LOAD, 0, 0, arg_low(1))];
            for (request, _) in IOCTLS {
                out.push(ins(EQUAL, 0, 1, *request));
                out.push(ins(RETURN, 0, 0, NOTIFY));
            }
            for request in REFUSED_IOCTLS {
                out.push(ins(EQUAL, 0, 1, *request));
                out.push(ins(RETURN, 0, 0, errno(Errno::EPERM)));
            }
            out.push(ins(RETURN, 0, 0, ALLOW));
            out
        }
        Handler::Lease => vec![
            ins(LOAD, 0, 0, arg_low(1)),
            ins(EQUAL, 0, 1, F_SETLEASE),
            ins(RETURN, 0, 0, NOTIFY),
            ins(RETURN, 0, 0, ALLOW),
        ],
        // Other requests are for who traces the process already.
        Handler::Process { act: Act::Attach, .. } if row.name == "ptrace" => vec![
            ins(LOAD, 0, 0, arg_low(0)),
            ins(EQUAL, 1, 0, libc::PTRACE_ATTACH),
            ins(EQUAL, 0, 1, libc::PTRACE_SEIZE),
            ins(RETURN, 0, 0, NOTIFY),
            ins(RETURN, 0, 0, ALLOW),
        ],
        // Runtimes send their own threads signals by the hundred: the thread must belong to the
        // process that is named, so that one is enough to tell.
        Handler::Process { act: Act::Signal(2), .. } => vec![
            ins(LOAD, 0, 0, arg_low(0)),
            ins(EQUAL, 2, 0, needs.own_pids[0]),
            ins(EQUAL, 1, 0, needs.own_pids[1]),
            ins(EQUAL, 0, 1, needs.own_pids[2]),
            ins(RETURN, 0, 0, NOTIFY),
            ins(RETURN, 0, 0, ALLOW),
        ],
        // 0 is the caller itself, a negative number is a group or all.
        Handler::Process { pid, .. } => vec![
            ins(LOAD, 0, 0, arg_low(pid.into())),
            ins(EQUAL, 1, 0, 0),
            ins(AT_LEAST, 0, 1, 0x8000_0000),
            ins(RETURN, 0, 0, ALLOW),
            ins(RETURN, 0, 0, NOTIFY),
        ],
        Handler::PrCtl => vec![
            ins(LOAD, 0, 0, arg_low(0)),
            ins(EQUAL, 0, 3, PR_SET_DUMPABLE),
            ins(LOAD, 0, 0, arg_low(1)),
            ins(EQUAL, 0, 1, 0),
            ins(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO), // errno 0: success
            ins(RETURN, 0, 0, ALLOW),
        ],
        Handler::Unshare => vec![
            ins(LOAD, 0, 0, arg_low(0)),
            ins(ANY_BIT, 0, 1, CLONE_NEWUSER),
            ins(RETURN, 0, 0, NOTIFY),
            ins(RETURN, 0, 0, ALLOW),
        ],
        // The one that the supervisor put into a task it holds.
        Handler::ExecVeAt if arch == Arch::NATIVE => marked(needs),
        _ => vec![ins(RETURN, 0, 0, NOTIFY)],
    }
}

pub mod assembly;
pub mod interpreter;
#[cfg(test)]
mod tests;
