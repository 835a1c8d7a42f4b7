//! Running a job: from options and policy to a [`Job`] and its [`Plan`].

use super::args::{Cli, SummaryFormat};
use super::{Complaint, is_terminal};
use crate::counters::Counters;
use crate::features::{AbsentCalls, Without};
use crate::filter::{Compat32, Needs};
use crate::hints::Hints;
use crate::job::{Job, StoreView};
use crate::launch::{self, Outcome, Plan};
use crate::private::Private;
use crate::read_only::ReadOnly;
use crate::resolve::real_dirs::{Identity, RealDirs};
use crate::twin::Twins;
use crate::users::Users;
use crate::{summary, sys};
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vrift_policy::{IoUring, MountSpec, Policy};
use vrift_projection::{MountSource, Projection, RealKind};
use vrift_store::Store;

/// The policy that is used when none is named.
const DEFAULT_POLICY: &str = "vrift.toml";

/// The right to look into any task, as a bit.
const CAP_SYS_PTRACE: u64 = 1 << 19;

/// Runs the command of the command line.
pub fn run(cli: &Cli) -> Result<u8, Complaint> {
    let policy = policy(cli)?;
    let mut specs = policy.mounts.clone();
    let prefix =
        std::env::var_os("VRIFT_VFS_PREFIX").map_or_else(|| "/vrift".into(), PathBuf::from);
    for argument in &cli.mounts {
        specs.push(MountSpec::parse_arg(argument, &prefix).map_err(|e| e.to_string())?);
    }
    for spec in &specs {
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
    let job = job(cli, &specs)?;
    let plan = plan(cli, &policy, &job, format.is_some())?;
    start(&plan, job, format)
}

/// Starts a job that is ready.
pub fn start(plan: &Plan, job: Job, format: Option<SummaryFormat>) -> Result<u8, Complaint> {
    let closing = |job: &Job, outcome: &Outcome| {
        let text = match format {
            None => return failures(job),
            Some(SummaryFormat::Text) => summary::lines(job, outcome),
            Some(SummaryFormat::Json) => summary::json(job, outcome),
        };
        let _ = std::io::stderr().write_all(text.as_bytes());
    };
    launch::run(plan, job, closing).map_err(|e| e.to_string())
}

/// Without a summary, what failed of ours is still said: the job saw an errno for it.
fn failures(job: &Job) {
    for (reason, times) in job.counters.failures().iter().take(3) {
        eprintln!("vrift-trace: {reason}{}", if *times > 1 { " (repeated)" } else { "" });
    }
}

fn policy(cli: &Cli) -> Result<Policy, Complaint> {
    let policy = match &cli.policy {
        Some(file) => Policy::load(file).map_err(|e| e.to_string())?,
        None if Path::new(DEFAULT_POLICY).exists() => {
            Policy::load(Path::new(DEFAULT_POLICY)).map_err(|e| e.to_string())?
        }
        None => Policy::default(),
    };
    match policy.unsupported().into_iter().next() {
        Some(reason) => Err(reason),
        None => Ok(policy),
    }
}

/// Opens what the job needs: store, manifests, projection, private tree.
pub fn job(cli: &Cli, specs: &[MountSpec]) -> Result<Job, Complaint> {
    let os = |what: &str, e: std::io::Error| format!("{what}: {e}");
    let mut store = if specs.is_empty() { None } else { Some(open_store(cli)?) };
    let projection = project(store.as_ref(), specs)?;
    let (private, twins, handed) = match &mut store {
        None => (None, Twins::default(), None),
        Some(view) => {
            let (mut private, twins) = private_tree(view)?;
            let handed = hand_out(view, &mut private).map_err(|e| os("opening the store", e))?;
            (Some(private), twins, Some(handed))
        }
    };
    let hidden = store.iter().flat_map(own_directories).collect();
    let counters = Counters::new(projection.mounts().iter().map(|m| m.manifest().len()));
    let mut cookie = [0u8; 4];
    File::open("/dev/urandom")
        .and_then(|mut f| std::io::Read::read_exact(&mut f, &mut cookie))
        .map_err(|e| os("reading /dev/urandom", e))?;
    Ok(Job {
        projection,
        store,
        private,
        handed,
        twins,
        real_dirs: RealDirs::hiding(hidden),
        hints: Hints::default(),
        counters,
        uid: nix::unistd::geteuid().as_raw(),
        gid: nix::unistd::getegid().as_raw(),
        proc: File::open("/proc").map_err(|e| os("opening /proc", e))?,
        // Never 0 or all ones: what an int argument extends to by itself.
        exec_cookie: u32::from_ne_bytes(cookie) | 0x0001_0000 & !0x8000_0000,
        users: Users::new().map_err(|e| os("reading /proc/self/ns/user", e))?,
        expected: std::sync::Mutex::default(),
        path_only: std::sync::atomic::AtomicBool::new(false),
        own_pids: [std::process::id(); 2],
    })
}

fn open_store(cli: &Cli) -> Result<StoreView, Complaint> {
    let root = match &cli.store {
        Some(root) => root.clone(),
        None => Store::default_root().map_err(|e| e.to_string())?,
    };
    view(&root)
}

/// Opens a store for a running job.
pub fn view(root: &Path) -> Result<StoreView, Complaint> {
    let store = Store::open(root).map_err(|e| {
        // A job does not get to see the store it runs over: that is not the reason to tell.
        match launch::is_nested() {
            true => format!("{}; run vrift-trace outside of it", launch::NESTED),
            false => e.to_string(),
        }
    })?;
    let physical =
        store.root().canonicalize().map_err(|e| format!("{}: {e}", store.root().display()))?;
    let blobs = physical.join("blobs");
    let fd =
        File::open(&blobs).map_err(|e| format!("{}: {e}; run `vrift verify`", blobs.display()))?;
    let mut prefix = blobs.into_os_string().into_encoded_bytes();
    prefix.push(b'/');
    let root = physical.into_os_string().into_encoded_bytes();
    Ok(StoreView { store, blobs: fd.into(), blobs_prefix: prefix, root, whole: Default::default() })
}

/// Mounts the manifests.
pub fn project(store: Option<&StoreView>, specs: &[MountSpec]) -> Result<Projection, Complaint> {
    let mut sources = Vec::new();
    for spec in specs {
        let Some(view) = store else { break };
        let name = spec.manifest.to_str().ok_or_else(|| {
            format!("{}: no ref is called {:?}; see `vrift refs`", spec.at.display(), spec.manifest)
        })?;
        let manifest = view
            .store
            .open_manifest(name)
            .map_err(|e| format!("mount at {}: {e}", spec.at.display()))?;
        sources.push(MountSource {
            at: spec.at.clone(),
            manifest: Arc::new(manifest),
            mode: spec.mode,
        });
    }
    Projection::new(sources, &probe).map_err(|e| e.to_string())
}

fn probe(path: &Path) -> RealKind {
    match std::fs::symlink_metadata(path) {
        Ok(m) if m.is_dir() => RealKind::Directory,
        Ok(m) if m.is_symlink() => RealKind::Symlink,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => RealKind::Missing,
        Ok(_) | Err(_) => RealKind::Other,
    }
}

/// The job's own directories: in the store, where blobs can be cloned, if it can be written.
fn private_tree(view: &StoreView) -> Result<(Private, Twins), Complaint> {
    let root = PathBuf::from(std::ffi::OsStr::from_bytes(&view.root));
    let mut bases = vec![root.join("jobs")];
    if let Some(dir) = std::env::var_os("XDG_RUNTIME_DIR") {
        bases.push(PathBuf::from(dir).join("vrift"));
    }
    bases.push(std::env::temp_dir().join(format!("vrift-{}", nix::unistd::geteuid())));
    let private = Private::create(&bases)
        .map_err(|e| format!("no place for the job's own directories: {e}; make one writable"))?;
    let shared = root.join("exec");
    let made = shared.is_dir() || std::fs::DirBuilder::new().mode(0o755).create(&shared).is_ok();
    let writable = made && nix::unistd::access(&shared, nix::unistd::AccessFlags::W_OK).is_ok();
    let twins = if writable { shared } else { private.root().join("x") };
    Ok((private, Twins::new(twins)))
}

/// The store's directories, to be known by whatever way a job comes upon them.
fn own_directories(view: &StoreView) -> Vec<Identity> {
    let root = Path::new(std::ffi::OsStr::from_bytes(&view.root));
    let inside = Store::DIRECTORIES.map(|name| root.join(name));
    std::iter::once(root)
        .chain(inside.iter().map(PathBuf::as_path))
        .filter_map(Identity::of)
        .collect()
}

/// Takes care that what the job is handed descriptors of can't be changed through them.
fn hand_out(view: &mut StoreView, private: &mut Private) -> std::io::Result<ReadOnly> {
    let root = PathBuf::from(std::ffi::OsStr::from_bytes(&view.root));
    let roots: &[&Path] = match private.root().starts_with(&root) {
        true => &[&root],
        false => &[&root, private.root()],
    };
    let handed = ReadOnly::of(roots)?;
    let flags = nix::fcntl::OFlag::O_RDONLY | nix::fcntl::OFlag::O_DIRECTORY;
    view.blobs = handed.open(&root.join("blobs"), flags)?;
    private.hand_out(&handed)?;
    Ok(handed)
}

fn plan(cli: &Cli, policy: &Policy, job: &Job, summary: bool) -> Result<Plan, Complaint> {
    let mounts = !job.projection.mounts().is_empty();
    let needs = Needs {
        mounts,
        record: summary,
        probes: summary && policy.trace.probes,
        refuse_io_uring: policy.syscalls.io_uring == IoUring::Enosys,
        compat32: match policy.syscalls.compat32 {
            vrift_policy::Compat32::Supervise => Compat32::Supervise,
            vrift_policy::Compat32::Enosys => Compat32::Enosys,
            vrift_policy::Compat32::Allow => Compat32::Allow,
        },
        // Root has it not everywhere: containers take it away by default.
        unprivileged: crate::status::Status::of("self")
            .and_then(|s| s.capabilities())
            .is_none_or(|c| c & CAP_SYS_PTRACE == 0),
        exec_cookie: job.exec_cookie,
        // Known when they are there.
        own_pids: [0; 2],
        absent: AbsentCalls::of_this_kernel(),
    };
    let here = std::env::current_dir().ok();
    let enter = here.filter(|d| mounts && job.projection.may_concern(d.as_os_str().as_bytes()));
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
    })
}
