//! What the kernel can do, tried on a process that is made for it.
//!
//! Three processes, as in a job: this one waits, with a time limit; the examiner is its child; the
//! examiner's child loads a filter and makes the calls. So whatever hangs or dies, this one does
//! not. Both are forked while this process has one thread only.

use super::Check;
use crate::sys::process::{self, Forked};
use crate::sys::seccomp::{self, FLAG_NEW_LISTENER, FLAG_WAIT_KILLABLE_RECV, Instruction};
use crate::sys::trace::{self, Stop};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socketpair,
};
use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// What the examiner found: errno 0 is success.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Findings {
    /// Loading a filter with a listener.
    listener: i32,
    wait_killable: i32,
    sync_wake_up: i32,
    read: i32,
    write: i32,
    add: i32,
    add_send: i32,
    getfd: i32,
    kcmp: i32,
    trace: i32,
}

/// Something other than the kernel's errno went wrong: a wrong value, no answer.
const WRONG: i32 = libc::EPROTO;
/// How long the examiner may take, in milliseconds.
const LIMIT: u16 = 10_000;

/// The word that is read and written from outside; it lies at one address in all three.
static WORD: AtomicU64 = AtomicU64::new(0);
const OURS: u64 = 0x0123_4567_89ab_cdef;
const THEIRS: u64 = 0xfedc_ba98_7654_3210;

/// The checks of the kernel.
pub fn checks() -> Vec<Check> {
    let findings = match examine() {
        Ok(findings) => findings,
        Err(reason) => {
            let fix = "run vrift-trace doctor again; if it stays, report it with this line";
            return vec![Check::needed("user notification", reason, fix)];
        }
    };
    let mut out = vec![listener(findings.listener)];
    if findings.listener == 0 {
        out.extend(features(&findings));
    }
    out
}

fn listener(errno: i32) -> Check {
    const NAME: &str = "user notification";
    const WHAT: &str = "a job's calls are answered from outside of its processes";
    let because = |text: &str| format!("{WHAT}: {} ({text})", Errno::from_raw(errno));
    match Errno::from_raw(errno) {
        _ if errno == 0 => Check::ok(NAME, WHAT),
        Errno::EBUSY => Check::needed(
            NAME,
            because("another supervisor has its listener here, and the kernel allows one"),
            "run vrift-trace outside of it",
        ),
        Errno::EPERM | Errno::EACCES | Errno::ENOSYS => Check::needed(
            NAME,
            because("seccomp(2) is refused, as a container's profile does"),
            "allow seccomp there, such as by docker run --security-opt seccomp=unconfined",
        ),
        _ => Check::needed(
            NAME,
            because("the kernel lacks it"),
            "use Linux 5.15 or later with CONFIG_SECCOMP_FILTER",
        ),
    }
}

fn features(found: &Findings) -> Vec<Check> {
    let needs = |name, what: &str, errno: i32, fix: &str| match errno {
        0 => Check::ok(name, what),
        e => Check::needed(name, format!("{what}: {}", Errno::from_raw(e)), fix),
    };
    let faster = |name, what: &str, errno: i32, lack: &str, fix: &str| match errno {
        0 => Check::ok(name, what),
        e => Check::slower(name, format!("{lack}: {}", Errno::from_raw(e)), fix),
    };
    let add = if found.add == 0 { found.add_send } else { found.add };
    let memory = if found.read == 0 { found.write } else { found.read };
    vec![
        faster(
            "WAIT_KILLABLE_RECV",
            "a signal does not break into a call that is being answered",
            found.wait_killable,
            "a signal can break into a call that is being answered, which is then made again",
            "use Linux 5.19 or later",
        ),
        faster(
            "SYNC_WAKE_UP",
            "the caller goes on where its answer was made",
            found.sync_wake_up,
            "the caller wakes up on another CPU, which takes longer",
            "use Linux 6.6 or later",
        ),
        needs("ADDFD", "an open is answered with a descriptor", add, "use Linux 5.15 or later"),
        needs(
            "process_vm_readv",
            "a call's path is read, and its answer written",
            memory,
            "use a kernel with CONFIG_CROSS_MEMORY_ATTACH, and a container that allows \
             process_vm_readv and process_vm_writev",
        ),
        needs(
            "ptrace",
            "chdir and exec are made by the task itself",
            found.trace,
            "allow ptrace of descendants: kernel.yama.ptrace_scope at most 1, and no profile \
             that refuses ptrace",
        ),
        needs(
            "pidfd_getfd",
            "a directory's position is kept in its descriptor",
            found.getfd,
            "use Linux 5.15 or later, in a container that allows pidfd_getfd",
        ),
        match found.kcmp {
            0 => Check::ok("kcmp", "O_PATH descriptors of files of equal content are told apart"),
            e => Check::missing(
                "kcmp",
                format!(
                    "after dup or fork, an O_PATH descriptor may be shown by the path of another \
                     file with the same content: {}",
                    Errno::from_raw(e)
                ),
                "use a kernel with CONFIG_KCMP, in a container that allows kcmp",
            ),
        },
    ]
}

/// Forks the examiner and waits for what it found.
fn examine() -> Result<Findings, String> {
    let failed = |what: &str, e: Errno| format!("the kernel can't be examined: {what}: {e}");
    let (reader, writer) = std::io::pipe().map_err(|e| format!("pipe: {e}"))?;
    let examiner = match process::fork_single_threaded().map_err(|e| failed("fork", e))? {
        Forked::Child => {
            drop(reader);
            let found = examiner();
            let text = serde_json::to_vec(&found).unwrap_or_default();
            let written = File::from(OwnedFd::from(writer)).write_all(&text);
            process::exit_now(u8::from(written.is_err()));
        }
        Forked::Parent(child) => child,
    };
    drop(writer);
    let mut fds = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
    let answered = poll(&mut fds, PollTimeout::from(LIMIT));
    if answered != Ok(1) {
        let _ = process::kill(examiner.as_raw(), libc::SIGKILL);
    }
    let mut text = Vec::new();
    let mut reader = File::from(OwnedFd::from(reader));
    let read = reader.read_to_end(&mut text);
    let _ = nix::sys::wait::waitpid(examiner, None);
    read.map_err(|e| e.to_string())
        .and_then(|_| serde_json::from_slice(&text).map_err(|e| e.to_string()))
        .map_err(|e| format!("the kernel's features could not be tried within {LIMIT} ms: {e}"))
}

/// Asks for getppid, and for nothing else.
fn program() -> [Instruction; 4] {
    let ins = |code, jf, k| Instruction { code, jt: 0, jf, k };
    [
        ins(0x20, 0, 0), // load the number
        ins(0x15, 1, u32::try_from(libc::SYS_getppid).unwrap_or(u32::MAX)),
        ins(0x06, 0, libc::SECCOMP_RET_USER_NOTIF),
        ins(0x06, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

/// In the child of the child: loads the filter and makes the calls.
fn caller(to: &OwnedFd) -> ! {
    let ready = process::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL.unsigned_abs().into())
        .and_then(|()| process::prctl(libc::PR_SET_NO_NEW_PRIVS, 1));
    // The one flag is refused without the other.
    let killable = seccomp::knows_flag(FLAG_WAIT_KILLABLE_RECV | FLAG_NEW_LISTENER);
    let flags = if killable { FLAG_WAIT_KILLABLE_RECV } else { 0 };
    let loaded = ready.and_then(|()| seccomp::load_with_listener(&program(), flags));
    let listener = match loaded {
        Ok(listener) => listener,
        Err(e) => {
            let _ = nix::unistd::write(to, &[0, u8::try_from(e as i32).unwrap_or(u8::MAX)]);
            process::exit_now(0);
        }
    };
    let fds = [listener.as_raw_fd()];
    let control = [ControlMessage::ScmRights(&fds)];
    WORD.store(OURS, SeqCst);
    let sent = sendmsg::<()>(
        to.as_raw_fd(),
        &[IoSlice::new(&[1, u8::from(killable)])],
        &control,
        MsgFlags::empty(),
        None,
    );
    drop(listener);
    if sent.is_err() {
        process::exit_now(0);
    }
    let answers = [(); 3].map(|()| nix::unistd::getppid().as_raw());
    let mut report: Vec<u8> = answers.iter().flat_map(|a| a.to_ne_bytes()).collect();
    report.extend(WORD.load(SeqCst).to_ne_bytes());
    let _ = nix::unistd::write(to, &report);
    process::exit_now(0)
}

/// In the child: starts the caller and answers it.
fn examiner() -> Findings {
    let all = |errno: Errno| Findings { listener: errno as i32, ..Findings::default() };
    if let Err(e) = process::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL.unsigned_abs().into()) {
        return all(e);
    }
    let pair = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC);
    let (ours, theirs) = match pair {
        Ok(pair) => pair,
        Err(e) => return all(e),
    };
    let child = match process::fork_single_threaded() {
        Ok(Forked::Child) => caller(&theirs),
        Ok(Forked::Parent(child)) => child.as_raw(),
        Err(e) => return all(e),
    };
    let found = match receive(&ours) {
        Err(e) => all(e),
        Ok((listener, killable)) => {
            let mut found = Findings {
                wait_killable: if killable { 0 } else { libc::EINVAL },
                sync_wake_up: code(seccomp::set_sync_wake_up(listener.as_fd())),
                ..Findings::default()
            };
            if let Err(e) = answer(&listener, child, &theirs, killable, &mut found) {
                found.listener = e as i32;
            }
            drop(theirs);
            check_report(&ours, &mut found);
            found
        }
    };
    let _ = process::kill(child, libc::SIGKILL);
    found
}

fn code(result: Result<(), Errno>) -> i32 {
    result.map_or_else(|e| e as i32, |()| 0)
}

/// The listener, and whether it has `WAIT_KILLABLE_RECV`.
fn receive(from: &OwnedFd) -> Result<(OwnedFd, bool), Errno> {
    let mut message = [0u8; 2];
    let mut space = nix::cmsg_space!([std::os::fd::RawFd; 1]);
    let mut parts = [IoSliceMut::new(&mut message)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let received = recvmsg::<()>(from.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    let fd = received.cmsgs()?.find_map(|m| match m {
        ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
        _ => None,
    });
    match fd {
        Some(fd) => Ok((process::adopt(fd), message[1] == 1)),
        None => Err(Errno::from_raw(i32::from(message[1]))),
    }
}

/// Answers the three calls, each in another way.
fn answer(
    listener: &OwnedFd,
    child: i32,
    theirs: &OwnedFd,
    killable: bool,
    found: &mut Findings,
) -> Result<(), Errno> {
    let mut notif = seccomp::empty_notification();
    // Memory and descriptors, and a value.
    seccomp::receive(listener.as_fd(), &mut notif)?;
    found.read = code(read_word(child));
    found.write = code(write_word(child));
    found.getfd = code(
        process::pidfd_open(child)
            .and_then(|pidfd| process::pidfd_getfd(pidfd.as_fd(), theirs.as_raw_fd()))
            .map(drop),
    );
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let (a, b) = (theirs.as_raw_fd(), theirs.as_raw_fd());
    found.kcmp = match process::same_description(own, a, child, b) {
        Ok(true) => 0,
        Ok(false) => WRONG,
        Err(e) => e as i32,
    };
    let added = seccomp::add_descriptor(listener.as_fd(), notif.id, theirs.as_fd(), true, false);
    found.add = code(added.map(drop));
    seccomp::respond(listener.as_fd(), notif.id, VALUE, 0, 0)?;
    // A descriptor and the answer in one step.
    seccomp::receive(listener.as_fd(), &mut notif)?;
    let added = seccomp::add_descriptor(listener.as_fd(), notif.id, theirs.as_fd(), true, true);
    found.add_send = code(added.map(drop));
    if added.is_err() {
        seccomp::respond(listener.as_fd(), notif.id, 0, 0, 0)?;
    }
    // The task is held and sent back to the start of its call.
    seccomp::receive(listener.as_fd(), &mut notif)?;
    if let Err(e) = hold(listener, child, notif.id, killable) {
        found.trace = e as i32;
        // If it never stopped, it still waits for its answer.
        let _ = seccomp::respond(listener.as_fd(), notif.id, VALUE, 0, 0);
        return Ok(());
    }
    seccomp::receive(listener.as_fd(), &mut notif)?;
    seccomp::respond(listener.as_fd(), notif.id, VALUE, 0, 0)
}

/// An answer that the kernel would not give.
const VALUE: i64 = 0x5eed;

fn hold(listener: &OwnedFd, child: i32, id: u64, killable: bool) -> Result<(), Errno> {
    const RESTART: i32 = 513; // ERESTARTNOINTR
    trace::seize(child)?;
    trace::interrupt(child)?;
    match seccomp::respond(listener.as_fd(), id, 0, -RESTART, 0) {
        Err(Errno::ENOENT) if !killable => {}
        other => other?,
    }
    match trace::wait()? {
        (pid, Stop::Event) if pid == child => {}
        _ => return Err(Errno::EPROTO),
    }
    let registers = trace::registers(child)?;
    trace::set_registers(child, &registers)?;
    trace::detach(child, 0)
}

fn word_at() -> RemoteIoVec {
    RemoteIoVec { base: WORD.as_ptr().addr(), len: size_of::<u64>() }
}

fn read_word(child: i32) -> Result<(), Errno> {
    let mut word = [0u8; 8];
    let n =
        process_vm_readv(Pid::from_raw(child), &mut [IoSliceMut::new(&mut word)], &[word_at()])?;
    if n == 8 && u64::from_ne_bytes(word) == OURS { Ok(()) } else { Err(Errno::EPROTO) }
}

fn write_word(child: i32) -> Result<(), Errno> {
    let word = THEIRS.to_ne_bytes();
    let n = process_vm_writev(Pid::from_raw(child), &[IoSlice::new(&word)], &[word_at()])?;
    if n == 8 { Ok(()) } else { Err(Errno::EPROTO) }
}

/// Did the caller see what it was answered?
fn check_report(from: &OwnedFd, found: &mut Findings) {
    let mut report = [0u8; 20];
    let read = nix::unistd::read(from, &mut report);
    let number = |at: usize| {
        i32::from_ne_bytes([report[at], report[at + 1], report[at + 2], report[at + 3]])
    };
    if read != Ok(report.len()) {
        found.listener = if found.listener == 0 { WRONG } else { found.listener };
        return;
    }
    let seen = [number(0), number(4), number(8)];
    if i64::from(seen[0]) != VALUE || i64::from(seen[2]) != VALUE {
        found.listener = WRONG;
    }
    if found.add_send == 0 && seen[1] < 3 {
        found.add_send = WRONG;
    }
    let word = u64::from_ne_bytes(report[12..].try_into().unwrap_or_default());
    if found.write == 0 && word != THEIRS {
        found.write = WRONG;
    }
}
