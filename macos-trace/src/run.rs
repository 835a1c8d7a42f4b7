//! Running a job: its first process is started and waits, the client begins, the command runs.

use crate::job::{Asked, Ground, open, user};
use crate::machine::{Facts, Machine};
use crate::means::{Means, choose};
use crate::record::Trace;
use crate::watch::{Seen, Watched, watch};
use crate::{Complaint, OURS};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Handle;
use std::ffi::{OsStr, OsString};
use std::io::{PipeReader, PipeWriter, Write, pipe};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use vrift_macos_es::environment::Environment;
use vrift_macos_es::es::adapter::EndpointError;
use vrift_macos_es::es::decide::Guard;
use vrift_macos_es::job::VARIABLE;
use vrift_macos_es::shim::PathBuffer;
use vrift_policy::Surroundings;

/// The loader's variable.
const INSERT: &str = "DYLD_INSERT_LIBRARIES";

/// What came of a job.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The exit status that vrift-trace ends with.
    pub status: u8,
    /// How long the command ran.
    pub took: Duration,
    /// How it was run.
    pub means: Means,
    /// What Endpoint Security told, if there was a client.
    pub seen: Option<Seen>,
}

/// Runs a job on a machine.
///
/// # Errors
/// One line: why it could not be started.
pub fn run<M: Machine>(machine: &M, asked: &Asked) -> Result<Outcome, Complaint> {
    if let Some(reason) = asked.unsupported() {
        return Err(reason);
    }
    let facts = machine.facts();
    let means = choose(asked.wants(), &facts)?;
    let (uid, gid) = (std::env::var("SUDO_UID").ok(), std::env::var("SUDO_GID").ok());
    let user = user(geteuid().as_raw(), &means, (uid.as_deref(), gid.as_deref()));
    let ground = if asked.mounts.is_empty() { None } else { Some(open(asked, user)?) };
    let guard = guard(asked, ground.as_ref())?;
    let mounts = ground.as_ref().map_or(&[][..], |ground| &ground.mounts);
    let trace = asked.trace.clone();
    let mut trace =
        trace.map(|path| Trace::create(path, asked, mounts, facts.macos)).transpose()?;
    let variables = match (&ground, &facts.library) {
        (Some(ground), Ok(library)) => variables(library, &ground.describe(asked, library)?)?,
        _ => Vec::new(),
    };
    let job = Job { asked, facts: &facts, means: &means, guard: &guard, variables, user };
    let began = Instant::now();
    let (ended, seen) = job.run(machine, trace.as_mut())?;
    let (status, took) = (status(ended), began.elapsed());
    if let Some(trace) = &mut trace {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let lost = seen.map_or(0, |seen| seen.lost);
        trace.finish((nanos, status), processor_time(), lost);
    }
    // Its directory goes when the command has ended.
    drop(ground);
    Ok(Outcome { status, took, means, seen })
}

/// What Endpoint Security is to hold the job to.
fn guard(asked: &Asked, ground: Option<&Ground>) -> Result<Guard, Complaint> {
    let mut policy = asked.policy.clone();
    policy.mounts.clone_from(&asked.mounts);
    let around = surroundings()?;
    let places = ground.map(|ground| (ground.store.as_path(), ground.private.root()));
    Guard::new(&policy, places, &around)
        .map_err(|faults| faults.first().map(ToString::to_string).unwrap_or_default())
}

/// What the words of a rule's patterns stand for here.
///
/// # Errors
/// There is no current directory.
pub fn surroundings() -> Result<Surroundings, Complaint> {
    let job = std::env::current_dir()
        .map_err(|e| format!("the current directory: {e}; start from another one"))?;
    Ok(Surroundings {
        home: std::env::var_os("HOME").map(PathBuf::from),
        job,
        variables: std::env::vars_os().collect(),
        follow: Some(without_links),
    })
}

/// Where the symbolic links of a path lead to, as far as it is there; None: there are none.
fn without_links(path: &Path) -> Option<PathBuf> {
    let (above, physical) =
        path.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)))?;
    let rest = path.strip_prefix(above).ok()?;
    let whole = if rest.as_os_str().is_empty() { physical } else { physical.join(rest) };
    (whole != path).then_some(whole)
}

/// What a process of the job has in its environment besides.
fn variables(library: &Path, job: &Path) -> Result<Vec<(&'static str, OsString)>, Complaint> {
    let inserted =
        std::env::var_os(INSERT).map(|value| [INSERT.as_bytes(), b"=", value.as_bytes()].concat());
    let (library, job) = (library.as_os_str().as_bytes(), job.as_os_str().as_bytes());
    let entries = inserted.iter().map(Vec::as_slice);
    let mut out = PathBuffer::new();
    Environment::of(entries, library, job)
        .insert(true, &mut out)
        .map_err(|_| format!("{INSERT} is too long already; name fewer libraries in it"))?;
    let value = out.bytes().get(INSERT.len() + 1..).unwrap_or_default();
    let os = |bytes: &[u8]| OsStr::from_bytes(bytes).to_owned();
    Ok(vec![(INSERT, os(value)), (VARIABLE, os(job))])
}

struct Job<'j> {
    asked: &'j Asked,
    facts: &'j Facts,
    means: &'j Means,
    guard: &'j Guard,
    variables: Vec<(&'static str, OsString)>,
    user: Option<(u32, u32)>,
}

impl Job<'_> {
    fn run<M: Machine>(
        &self,
        machine: &M,
        trace: Option<&mut Trace>,
    ) -> Result<(ExitStatus, Option<Seen>), Complaint> {
        let signals = Signals::take()?;
        let (mut child, go) = self.start()?;
        let stop = Arc::new(AtomicBool::new(false));
        let (begun, ready) = mpsc::channel();
        std::thread::scope(|scope| {
            let forwarding = signals.forward_to(&child);
            let watcher = self.means.endpoint.then(|| {
                let watched = Watched {
                    guard: self.guard,
                    mounts: self.asked.mounts.iter().map(|mount| mount.at.clone()).collect(),
                    macos: self.facts.macos,
                    pid: i32::try_from(child.id()).unwrap_or(i32::MAX),
                    stop: Arc::clone(&stop),
                };
                scope.spawn(move || watch(machine, watched, trace, &begun))
            });
            let began = match &watcher {
                None => Ok(()),
                // A thread that has ended without a word has panicked, and said why.
                Some(_) => ready
                    .recv()
                    .unwrap_or(Err(EndpointError::Needs("a thread, and it has panicked"))),
            };
            let began = began.map_err(|why| why.to_string()).and_then(|()| release(go));
            // One that was not released ends by itself.
            let ended = child.wait().map_err(|e| format!("waiting for the command: {e}"));
            forwarding.close();
            stop.store(true, Ordering::Release);
            let seen = watcher.map(|watcher| watcher.join().unwrap_or_default());
            began?;
            Ok((ended?, seen))
        })
    }

    /// Starts the first process, which waits for a byte.
    fn start(&self) -> Result<(Child, PipeWriter), Complaint> {
        let Some((program, arguments)) = self.asked.command.split_first() else {
            return Err("no command was given; see vrift-trace --help".into());
        };
        let told = |e: std::io::Error| format!("starting the command: {e}");
        let (reader, writer) = pipe().map_err(told)?;
        let mut command = Command::new(self.facts.starter.as_ref().map_err(Clone::clone)?);
        command.arg(inherit(&reader).map_err(told)?).arg(program).args(arguments);
        command.envs(self.variables.iter().cloned());
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        Ok((command.spawn().map_err(told)?, writer))
    }
}

/// Leaves a descriptor open in the process that is started next; its number.
fn inherit(reader: &PipeReader) -> std::io::Result<String> {
    rustix::io::fcntl_setfd(reader, rustix::io::FdFlags::empty())?;
    Ok(reader.as_raw_fd().to_string())
}

fn release(mut go: PipeWriter) -> Result<(), Complaint> {
    match go.write_all(b"!") {
        Ok(()) => Ok(()),
        // Without a reader it has ended, which its status tells.
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(e) => Err(format!("starting the command: {e}")),
    }
}

/// What a shell would say of how a command ended.
fn status(ended: ExitStatus) -> u8 {
    let number = ended.code().or_else(|| ended.signal().map(|signal| 128 + signal));
    number.and_then(|number| u8::try_from(number).ok()).unwrap_or(OURS)
}

/// What this process took of the processor, in milliseconds.
fn processor_time() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let millis = time.tv_sec.saturating_mul(1000).saturating_add(time.tv_nsec / 1_000_000);
    u64::try_from(millis).unwrap_or(0)
}

/// Signals while the command runs: those of a terminal reach it by themselves and must not end this
/// process; others are handed on.
struct Signals(signal_hook::iterator::Signals);

impl Signals {
    fn take() -> Result<Signals, Complaint> {
        let told = |e: std::io::Error| format!("sigaction: {e}");
        for signal in [SIGINT, SIGQUIT] {
            let unread = Arc::new(AtomicBool::new(false));
            signal_hook::flag::register(signal, unread).map_err(told)?;
        }
        signal_hook::iterator::Signals::new([SIGTERM, SIGHUP]).map(Signals).map_err(told)
    }

    /// Hands signals on, until the handle is closed.
    fn forward_to(mut self, child: &Child) -> Handle {
        let handle = self.0.handle();
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        std::thread::spawn(move || {
            for number in self.0.forever() {
                if let (Some(pid), Some(signal)) = (pid, Signal::from_named_raw(number)) {
                    // Gone: then so is the job.
                    let _ = kill_process(pid, signal);
                }
            }
        });
        handle
    }
}
