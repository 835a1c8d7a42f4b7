//! The job's first process: between fork and exec.
//!
//! It mounts what the job is to see mounted, loads the filter, hands the listener to the supervisor,
//! and executes the command, looking for it in PATH as execvp(3) does, under supervision already: what
//! is projected in PATH is found.

use super::{LaunchError, Plan};
use crate::filter;
use crate::sys::process;
use crate::sys::seccomp::{self, FLAG_WAIT_KILLABLE_RECV};
use crate::view::Failed;
use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use std::ffi::{CString, OsStr, OsString};
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// Why the command was not executed.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    stage: Stage,
    errno: i32,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    Listener = 1,
    ChangeDirectory = 2,
    Exec = 3,
    Walls = 4,
}

/// What the supervisor is handed.
pub enum Handed {
    /// The descriptor by which a mounted tree is served, and the mount's number.
    Device(u16, OwnedFd),
    /// The listener; whether signals wait until a call is answered.
    Listener(OwnedFd, bool),
}

/// First bytes of messages; those of failures are their stages.
const LISTENER: u8 = 0;
const DEVICE: u8 = 16;
const NOT_MOUNTED: u8 = 17;

/// Runs in the child; does not return.
pub fn run(plan: &Plan, mask: &SigSet, to: &OwnedFd, own_pids: [u32; 3]) -> ! {
    if let Some(mounting) = &plan.mounting {
        let hand_over = |which: u16, device: OwnedFd| {
            let [low, high] = which.to_ne_bytes();
            let message = [DEVICE, low, high];
            seccomp::send_marked(to, plan.needs.exec_cookie, &message, &device)
        };
        if let Err(failed) = mounting.mount(&own_pids, hand_over).and_then(|()| mounting.look()) {
            let message = [&[NOT_MOUNTED], failed.message().as_slice()].concat();
            let _ = nix::unistd::write(to, &message);
            process::exit_now(super::OURS);
        }
    }
    let failure = match prepare(plan, mask, to, own_pids) {
        Err(failure) => failure,
        Ok(()) => Failure { stage: Stage::Exec, errno: exec(&plan.command) as i32 },
    };
    let mut message = vec![failure.stage as u8];
    message.extend(failure.errno.to_ne_bytes());
    let _ = nix::unistd::write(to, &message);
    process::exit_now(if failure.errno == libc::ENOENT { 127 } else { 126 });
}

fn prepare(plan: &Plan, mask: &SigSet, to: &OwnedFd, own_pids: [u32; 3]) -> Result<(), Failure> {
    let at = |stage| move |e: Errno| Failure { stage, errno: e as i32 };
    process::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL.unsigned_abs().into())
        .map_err(at(Stage::Listener))?;
    if plan.no_new_privs {
        process::prctl(libc::PR_SET_NO_NEW_PRIVS, 1).map_err(at(Stage::Listener))?;
    }
    if let Some(walls) = &plan.walls {
        walls.raise().map_err(at(Stage::Walls))?;
    }
    process::default_sigpipe();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(mask), None).map_err(at(Stage::Listener))?;
    let program = filter::compile(&filter::Needs { own_pids, ..plan.needs });
    let killable = !plan.without.wait_killable && seccomp::knows_flag(FLAG_WAIT_KILLABLE_RECV);
    let flags = if killable { FLAG_WAIT_KILLABLE_RECV } else { 0 };
    let listener = seccomp::load_with_listener(&program, flags).map_err(at(Stage::Listener))?;
    let message = [LISTENER, u8::from(killable)];
    // Nobody could answer for this call yet, should the filter ask for every one.
    seccomp::send_marked(to, plan.needs.exec_cookie, &message, &listener)
        .map_err(at(Stage::Listener))?;
    drop(listener);
    if let Some(dir) = &plan.enter {
        nix::unistd::chdir(dir).map_err(at(Stage::ChangeDirectory))?;
    }
    Ok(())
}

/// execvp(3): tries the candidates in PATH; a script without `#!` goes to the shell.
fn exec(command: &[OsString]) -> Errno {
    let Some(name) = command.first() else { return Errno::ENOENT };
    let strings = |all: &mut dyn Iterator<Item = Vec<u8>>| -> Option<Vec<CString>> {
        all.map(|s| CString::new(s).ok()).collect()
    };
    let Some(argv) = strings(&mut command.iter().map(|a| a.as_bytes().to_vec())) else {
        return Errno::EINVAL;
    };
    let env =
        strings(&mut std::env::vars_os().map(|(k, v)| [k.as_bytes(), b"=", v.as_bytes()].concat()));
    let Some(env) = env else { return Errno::EINVAL };
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter().map(|s| s.as_ptr()).chain(std::iter::once(std::ptr::null())).collect()
    };
    let envp = pointers(&env);
    let mut outcome = Errno::ENOENT;
    for candidate in candidates(name) {
        let Ok(path) = CString::new(candidate) else { return Errno::ENOENT };
        let mut e = process::execve(&path, &pointers(&argv), &envp);
        if e == Errno::ENOEXEC {
            let mut with_shell = vec![c"/bin/sh".to_owned(), path.clone()];
            with_shell.extend_from_slice(argv.get(1..).unwrap_or_default());
            e = process::execve(c"/bin/sh", &pointers(&with_shell), &envp);
        }
        match e {
            Errno::ENOENT | Errno::ENOTDIR | Errno::ESTALE | Errno::ENODEV | Errno::ETIMEDOUT => {}
            // Something is there that may not be run: said only if nothing else is found.
            Errno::EACCES => outcome = e,
            e => return e,
        }
    }
    outcome
}

fn candidates(name: &OsStr) -> Vec<Vec<u8>> {
    let name = name.as_bytes();
    if name.contains(&b'/') || name.is_empty() {
        return vec![name.to_vec()];
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    path.as_bytes()
        .split(|&b| b == b':')
        .map(|dir| if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() })
        .collect()
}

/// Takes what comes next over in the supervisor.
pub fn receive(from: &OwnedFd, plan: &Plan) -> Result<Handed, LaunchError> {
    let mut message = [0u8; 16];
    let mut space = nix::cmsg_space!([std::os::fd::RawFd; 1]);
    let mut parts = [IoSliceMut::new(&mut message)];
    let received =
        recvmsg::<()>(from.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)
            .map_err(|e| LaunchError::Filter(format!("the job's first process sent none: {e}")))?;
    let bytes = received.bytes;
    let fd = received.cmsgs().ok().and_then(|mut all| match all.next() {
        Some(ControlMessageOwned::ScmRights(fds)) => fds.first().copied(),
        _ => None,
    });
    let fd = fd.map(process::adopt);
    match (message, fd) {
        ([DEVICE, low, high, ..], Some(fd)) => {
            Ok(Handed::Device(u16::from_ne_bytes([low, high]), fd))
        }
        ([LISTENER, killable, ..], Some(fd)) => Ok(Handed::Listener(fd, killable == 1)),
        ([NOT_MOUNTED, ref failed @ ..], _) => {
            let failed = Failed::parse(failed.get(..bytes.saturating_sub(1)).unwrap_or_default());
            let told = plan.mounting.as_ref().zip(failed).map(|(mounting, f)| mounting.told(f));
            Err(LaunchError::View(told.unwrap_or_else(|| "it can't be had here".into())))
        }
        _ => Err(LaunchError::Filter(why(Failure::parse(&message[..bytes])))),
    }
}

/// Why there is no listener.
fn why(failure: Option<Failure>) -> String {
    match failure {
        Some(Failure { stage: Stage::Walls, errno }) => format!(
            "Landlock does not take the rules with `enforce`: {}",
            Errno::from_raw(errno).desc()
        ),
        Some(f) if f.errno == libc::EBUSY => {
            format!("{}; run vrift-trace outside of it", super::NESTED)
        }
        Some(f) if f.errno == libc::EACCES => {
            "it needs no_new_privs = true in the policy, or CAP_SYS_ADMIN (EACCES)".into()
        }
        Some(f) => format!(
            "{}; run `vrift-trace doctor` to see what this kernel lacks",
            Errno::from_raw(f.errno)
        ),
        None => "the job's first process ended before it was supervised".into(),
    }
}

impl Failure {
    /// Reads what the first process said.
    pub fn parse(message: &[u8]) -> Option<Failure> {
        let stage = match message.first()? {
            1 => Stage::Listener,
            2 => Stage::ChangeDirectory,
            3 => Stage::Exec,
            4 => Stage::Walls,
            _ => return None,
        };
        let errno = i32::from_ne_bytes(message.get(1..5)?.try_into().ok()?);
        Some(Failure { stage, errno })
    }

    /// Tells the user; returns the exit status.
    pub fn report(self, command: &[OsString]) -> u8 {
        let name = command.first().map(|c| c.to_string_lossy().into_owned()).unwrap_or_default();
        let e = Errno::from_raw(self.errno);
        match self.stage {
            Stage::ChangeDirectory => {
                eprintln!(
                    "vrift-trace: the current directory is covered by a mount that has no such \
                     directory ({}); start from another one",
                    e.desc()
                );
                125
            }
            Stage::Listener | Stage::Walls => {
                eprintln!("vrift-trace: can't start the job: {}", e.desc());
                125
            }
            Stage::Exec => {
                eprintln!("vrift-trace: {name}: {}", e.desc());
                if e == Errno::ENOENT { 127 } else { 126 }
            }
        }
    }
}
