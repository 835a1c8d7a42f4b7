//! Running a job: from options and policy to its [`Plan`], and to its end.

use super::args::{Cli, SummaryFormat};
use super::furnish::job;
use super::{Complaint, is_terminal};
use crate::features::{AbsentCalls, Without};
use crate::fetch;
use crate::filter::{Compat32, Needs};
use crate::job::Job;
use crate::launch::{self, Outcome, Plan};
use crate::view::{Mounting, Seen};
use crate::walls::Walls;
use crate::{summary, sys, trace};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use vrift_policy::{IoUring, MountSpec, Policy, Rules, Surroundings};

/// The policy that is used when none is named.
const DEFAULT_POLICY: &str = "vrift.toml";

/// The right to look into any task, as a bit.
const CAP_SYS_PTRACE: u64 = 1 << 19;

/// Runs the command of the command line.
pub fn run(cli: &Cli) -> Result<u8, Complaint> {
    let policy = policy(cli)?;
    let specs = mounts(cli, &policy)?;
    run_by(cli, &policy, &specs)
}

/// The mounts of the policy and of the command line.
pub fn mounts(cli: &Cli, policy: &Policy) -> Result<Vec<MountSpec>, Complaint> {
    let mut specs = policy.mounts.clone();
    let prefix =
        std::env::var_os("VRIFT_VFS_PREFIX").map_or_else(|| "/vrift".into(), PathBuf::from);
    for argument in &cli.mounts {
        specs.push(MountSpec::parse_arg(argument, &prefix).map_err(|e| e.to_string())?);
    }
    Ok(specs)
}

/// Runs the command of the command line by this policy, with these mounts.
pub fn run_by(cli: &Cli, policy: &Policy, specs: &[MountSpec]) -> Result<u8, Complaint> {
    for spec in specs {
        if let Some(reason) = spec.unsupported().first() {
            return Err(reason.clone());
        }
    }
    sys::seccomp::knows_user_notif().then_some(()).ok_or(
        "this kernel has no seccomp user notification (SECCOMP_RET_USER_NOTIF); Linux 5.15 or \
         later with CONFIG_SECCOMP_FILTER is needed",
    )?;
    let format = match (cli.summary, cli.quiet) {
        (Some(format), _) => Some(format),
        (None, false) if is_terminal() => Some(SummaryFormat::Text),
        _ => None,
    };
    let mut job = job(cli, policy, specs)?;
    job.rules = rules(policy, specs)?;
    let plan = plan(cli, policy, &job, format.is_some())?;
    if let Some(path) = &cli.trace {
        job.recorder =
            Some(Arc::new(recorder(path, &cli.job, policy, &job, specs, cli.record_syscalls)?));
    }
    start(&plan, job, format)
}

/// Makes the trace's file and says there what the job is.
pub fn recorder(
    path: &Path,
    command: &[std::ffi::OsString],
    policy: &Policy,
    job: &Job,
    specs: &[MountSpec],
    syscalls: bool,
) -> Result<trace::Recorder, Complaint> {
    let bytes = |path: &Path| path.as_os_str().as_bytes().to_vec();
    let hash = |at: &Path| {
        let mut mounts = job.projection.mounts().iter();
        mounts.find(|m| m.at() == at).map(|m| m.manifest().id().to_string()).unwrap_or_default()
    };
    let mounts = specs.iter().map(|spec| trace::event::Mount {
        at: bytes(&spec.at).into(),
        manifest: spec.manifest.as_bytes().into(),
        hash: hash(&spec.at),
        mode: spec.mode.to_string(),
        rule: trace::event::Rule::of(&spec.origin),
    });
    let scope = trace::Scope { reads: policy.trace.reads, probes: policy.trace.probes, syscalls };
    let name = policy.job.name.as_deref();
    let first = trace::first_line(command, name, mounts.collect(), scope);
    let made = trace::Recorder::new(path, first, job.origins.clone(), scope);
    made.map_err(|e| format!("trace {}: {e}; name a file that can be written", path.display()))
}

/// Starts a job that is ready.
pub fn start(plan: &Plan, job: Job, format: Option<SummaryFormat>) -> Result<u8, Complaint> {
    let recorder = job.recorder.clone();
    let closing = |job: &Job, outcome: &Outcome| {
        let cost = sys::process::processor_time();
        let written = job.recorder.as_ref().map(|recorder| {
            let ms = u64::try_from(cost.as_millis()).unwrap_or(u64::MAX);
            recorder.finish(outcome.status, outcome.ended, ms)
        });
        let text = match format {
            None => return failures(job),
            Some(SummaryFormat::Text) => summary::lines(job, outcome, written.as_ref(), cost),
            Some(SummaryFormat::Json) => summary::json(job, outcome, written.as_ref(), cost),
        };
        let _ = std::io::stderr().write_all(text.as_bytes());
    };
    let done = launch::run(plan, job, closing);
    if let (Err(_), Some(recorder)) = (&done, recorder) {
        // What was recorded of a job that was not seen to its end is still written.
        recorder.finish(super::OURS, 0, 0);
    }
    done.map_err(|e| e.to_string())
}

/// Without a summary, what failed of ours is still said: the job saw an errno for it.
pub fn failures(job: &Job) {
    for line in job.counters.failures_told() {
        eprintln!("vrift-trace: {line}");
    }
}

/// The policy file that is named, or that is taken without being named.
pub fn policy_file(named: Option<&Path>) -> Option<&Path> {
    named.or(Some(Path::new(DEFAULT_POLICY)).filter(|file| file.exists()))
}

/// Reads the policy of a job.
pub fn policy(cli: &Cli) -> Result<Policy, Complaint> {
    let policy = match policy_file(cli.policy.as_deref()) {
        Some(file) => Policy::load(file).map_err(|e| e.to_string())?,
        None => Policy::default(),
    };
    match policy.unsupported().into_iter().next() {
        Some(reason) => Err(reason),
        None => Ok(policy),
    }
}

/// Makes the policy's rules ready.
pub fn rules(policy: &Policy, mounts: &[MountSpec]) -> Result<Rules, Complaint> {
    let mounts = mounts.iter().map(|mount| mount.at.as_path());
    Rules::new(&policy.rules, mounts, &surroundings()?).map_err(|faults| {
        // There is always one.
        faults.first().map(ToString::to_string).unwrap_or_default()
    })
}

/// What the words of a rule's patterns stand for here.
pub fn surroundings() -> Result<Surroundings, Complaint> {
    let here = std::env::current_dir()
        .map_err(|e| format!("the current directory: {e}; start from another one"))?;
    Ok(Surroundings {
        home: std::env::var_os("HOME").map(PathBuf::from),
        job: here,
        variables: std::env::vars_os().collect(),
        follow: Some(without_links),
    })
}

/// What Landlock is to keep the job from. The job's own directories stay open: programs are run
/// from there, and what a mount keeps is changed there.
fn walls(job: &Job) -> Result<Option<Walls>, Complaint> {
    if let Some((at, message)) = job.rules.beyond_landlock().first() {
        return Err(format!("{at}: {message}"));
    }
    fn path(root: &[u8]) -> &Path {
        Path::new(std::ffi::OsStr::from_bytes(root))
    }
    let store = job.store.as_ref().map(|store| path(&store.root));
    let own: Vec<&Path> = job.hidden_roots().map(path).filter(|p| Some(*p) != store).collect();
    Walls::of(&job.rules, store, &own).map_err(|e| e.to_string())
}

/// Where the symbolic links of a path lead to, as far as it is there; None: there are none.
pub fn without_links(path: &Path) -> Option<PathBuf> {
    let there = path.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)));
    let (above, physical) = there?;
    let whole = match path.strip_prefix(above).ok()? {
        rest if rest.as_os_str().is_empty() => physical,
        rest => physical.join(rest),
    };
    (whole != path).then_some(whole)
}

fn plan(cli: &Cli, policy: &Policy, job: &Job, summary: bool) -> Result<Plan, Complaint> {
    let mounted = job.seen == Seen::Mounted;
    let mounts = !mounted && !job.projection.mounts().is_empty();
    // What is counted of calls would cost what mounting gains.
    let summary = summary && !mounted;
    let needs = Needs {
        mounts,
        guards: mounted,
        writable: mounts && !job.uppers.is_empty(),
        rules: !job.rules.is_empty(),
        record: summary || cli.trace.is_some(),
        probes: (summary || cli.trace.is_some()) && policy.trace.probes,
        syscalls: cli.record_syscalls,
        refuse_io_uring: policy.syscalls.io_uring == IoUring::Enosys,
        compat32: match policy.syscalls.compat32 {
            vrift_policy::Compat32::Supervise => Compat32::Supervise,
            vrift_policy::Compat32::Enosys => Compat32::Enosys,
            vrift_policy::Compat32::Allow => Compat32::Allow,
        },
        // Root has it not everywhere: containers take it away by default.
        unprivileged: crate::status::Status::of("self")
            .and_then(|s| s.set("CapEff:"))
            .is_none_or(|c| c & CAP_SYS_PTRACE == 0),
        exec_cookie: job.exec_cookie,
        // Known when they are there.
        own_pids: [0; 3],
        absent: AbsentCalls::of_this_kernel(),
    };
    let here = std::env::current_dir().ok();
    // What is mounted over it covers it for those alone who come by its path.
    let enter =
        here.filter(|d| mounted || mounts && job.projection.may_concern(d.as_os_str().as_bytes()));
    if cli.job.is_empty() {
        return Err("no command was given; see vrift-trace --help".into());
    }
    Ok(Plan {
        command: cli.job.clone(),
        needs,
        without: Without::of_environment()?,
        no_new_privs: policy.syscalls.no_new_privs,
        on_leftover: policy.job.on_leftover,
        enter,
        fetch_limit: cli
            .fetch_timeout
            .or(policy.job.fetch_timeout)
            .map_or(fetch::USUAL_LIMIT, |seconds| Duration::from_secs(seconds.get().into())),
        mounting: mounted.then(|| Mounting::of(job)),
        walls: walls(job)?,
    })
}
