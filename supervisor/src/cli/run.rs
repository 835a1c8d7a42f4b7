//! Running a job: from options and policy to a [`Job`] and its [`Plan`].

use super::args::{Cli, SummaryFormat};
use super::{Complaint, is_terminal, kept};
use crate::counters::Counters;
use crate::features::{AbsentCalls, Without};
use crate::fetch;
use crate::filter::{Compat32, Needs};
use crate::hints::Hints;
use crate::job::{Job, StoreView, UpperRoot};
use crate::launch::{self, Outcome, Plan};
use crate::locks::{Locks, Marks};
use crate::private::Private;
use crate::read_only::ReadOnly;
use crate::resolve::real_dirs::{Identity, RealDirs};
use crate::twin::Twins;
use crate::user_cache::UserCache;
use crate::users::Users;
use crate::view::{self, Mounting, Seen};
use crate::walls::Walls;
use crate::writable::end::{Ends, MountEnd};
use crate::writable::through;
use crate::{summary, sys, trace};
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use vrift_policy::{IoUring, Mode, MountSpec, OnExit, Policy, Rules, Surroundings, View};
use vrift_projection::overlay::{Overlay, Upper, UpperError};
use vrift_projection::{MountSource, Projection, RealKind};
use vrift_store::Store;

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

/// What a job stands on before anything is mounted for it.
pub struct Ground {
    /// The store, if the job has mounts.
    pub store: Option<StoreView>,
    /// The job's own directories.
    pub private: Option<Private>,
    /// Where runnable copies are made.
    pub twins: Twins,
    /// Who owns what is projected.
    pub owner: (u32, u32),
    /// Only failures are told at the end.
    pub quiet: bool,
}

/// Opens what the job needs: store, manifests, projection, private tree. Its mounts are seen as it was
/// asked for, or not at all.
pub fn job(cli: &Cli, policy: &Policy, specs: &[MountSpec]) -> Result<Job, Complaint> {
    let asked = cli.view.map(View::from).or(policy.job.view).unwrap_or_default();
    let notified = |instead| job_seen(cli, specs, Seen::Notified { instead });
    if asked == View::Notify || specs.is_empty() {
        return notified(None);
    }
    let possible = view::fits(policy, specs);
    if asked == View::Mount {
        possible.map_err(|reason| format!("--view mount: {reason}"))?;
        return job_seen(cli, specs, Seen::Mounted);
    }
    if let Err(reason) = possible {
        return notified(Some(reason));
    }
    let job = job_seen(cli, specs, Seen::Mounted)?;
    match Mounting::of(&job).try_out() {
        Ok(()) => Ok(job),
        Err(reason) => notified(Some(reason)),
    }
}

/// The same for a job that sees its mounts in this way.
fn job_seen(cli: &Cli, specs: &[MountSpec], seen: Seen) -> Result<Job, Complaint> {
    let store = if specs.is_empty() { None } else { Some(open_store(cli)?) };
    let (private, twins) = match &store {
        // What the kernel answers alone needs no directories to stand for others.
        None => (None, Twins::default()),
        Some(_) if seen == Seen::Mounted => (None, Twins::default()),
        Some(view) => private_tree(view).map(|(private, twins)| (Some(private), twins))?,
    };
    let owner = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let job = furnish(Ground { store, private, twins, owner, quiet: cli.quiet }, specs)?;
    Ok(Job { seen, ..job })
}

/// Makes the job that stands on `ground`.
pub fn furnish(ground: Ground, specs: &[MountSpec]) -> Result<Job, Complaint> {
    let os = |what: &str, e: std::io::Error| format!("{what}: {e}");
    let Ground { mut store, mut private, twins, owner, quiet } = ground;
    let handed = match (&mut store, &mut private) {
        (Some(view), Some(private)) => {
            Some(hand_out(view, private).map_err(|e| os("opening the store", e))?)
        }
        _ => None,
    };
    // First, for it makes nothing.
    let mounts = ends(store.as_ref(), specs)?;
    let projection = project(store.as_ref(), private.as_ref(), specs, owner)?;
    let lazy = lazy(store.as_ref(), &projection)?;
    let uppers = uppers(&projection).map_err(|e| os("an upper directory", e))?;
    let roots = store.iter().map(|view| Path::new(std::ffi::OsStr::from_bytes(&view.root)));
    let roots = roots.chain(private.iter().map(Private::handed_from));
    let hidden = roots.flat_map(own_directories).collect();
    let counters = Counters::new(projection.mounts().iter().map(|m| m.manifest().len()));
    let cookie = sys::process::random().map_err(|e| format!("getrandom: {e}"))?;
    Ok(Job {
        projection,
        store,
        private,
        handed,
        twins,
        real_dirs: RealDirs::hiding(hidden),
        rules: Rules::default(),
        hints: Hints::default(),
        marks: Marks::default(),
        locks: Locks::default(),
        counters,
        uppers,
        ends: Ends { mounts, quiet },
        ingest: std::sync::Mutex::default(),
        sockets: std::sync::Mutex::default(),
        expecting: std::sync::atomic::AtomicUsize::new(0),
        uid: owner.0,
        gid: owner.1,
        proc: File::open("/proc").map_err(|e| os("opening /proc", e))?,
        // Never 0 or all ones: what an int argument extends to by itself.
        exec_cookie: u32::from_ne_bytes(cookie) | 0x0001_0000 & !0x8000_0000,
        users: Users::new().map_err(|e| os("reading /proc/self/ns/user", e))?,
        expected: std::sync::Mutex::default(),
        path_only: std::sync::atomic::AtomicBool::new(false),
        recorder: None,
        origins: specs.iter().map(mounted).collect(),
        own_pids: [std::process::id(); 3],
        lazy,
        fetcher: None,
        seen: Seen::Notified { instead: None },
        container: None,
    })
}

pub fn store_root(given: Option<&Path>) -> Result<PathBuf, Complaint> {
    match given {
        Some(root) => Ok(root.to_owned()),
        None => Store::default_root().map_err(|e| e.to_string()),
    }
}

/// The store, for what is done without a job.
pub fn store(cli: &Cli) -> Result<Store, Complaint> {
    Store::open(&store_root(cli.store.as_deref())?).map_err(|e| e.to_string())
}

/// A mount as a refusal is told by it.
fn mounted(spec: &MountSpec) -> trace::Mounted {
    let at = spec.at.as_os_str().as_bytes().to_vec();
    trace::Mounted { at, origin: spec.origin.clone(), mode: spec.mode }
}

fn open_store(cli: &Cli) -> Result<StoreView, Complaint> {
    view(&store_root(cli.store.as_deref())?)
}

/// Opens a store; `who` would have to run outside of a job that this one is in.
pub fn open(root: &Path, who: &str) -> Result<Store, Complaint> {
    Store::open(root).map_err(|e| {
        // A job does not get to see the store it runs over: that is not the reason to tell.
        match launch::is_nested() {
            true => format!("{}; run {who} outside of it", launch::NESTED),
            false => e.to_string(),
        }
    })
}

/// Opens a store for a running job.
pub fn view(root: &Path) -> Result<StoreView, Complaint> {
    let store = open(root, "vrift-trace")?;
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

/// Mounts the manifests. Changes go to upper directories, those of them that are not kept in the
/// private tree.
pub fn project(
    store: Option<&StoreView>,
    private: Option<&Private>,
    specs: &[MountSpec],
    owner: (u32, u32),
) -> Result<Projection, Complaint> {
    let mut sources = Vec::new();
    for (number, spec) in specs.iter().enumerate() {
        let Some(view) = store else { break };
        let name = spec.manifest.to_str().ok_or_else(|| {
            format!("{}: no ref is called {:?}; see `vrift refs`", spec.at.display(), spec.manifest)
        })?;
        let manifest = view
            .store
            .open_manifest(name)
            .map_err(|e| format!("mount at {}: {e}", spec.at.display()))?;
        let manifest = Arc::new(manifest);
        outside(spec, specs, view)?;
        let overlay = match (spec.mode, private) {
            (Mode::ReadOnly, _) | (_, None) => None,
            (_, Some(private)) => {
                let made = overlay(view, private, (number, spec), &manifest, owner);
                Some(made.map_err(|e| format!("mount at {}: {e}", spec.at.display()))?)
            }
        };
        sources.push(MountSource { at: spec.at.clone(), manifest, mode: spec.mode, overlay });
    }
    Projection::new(sources, &probe).map_err(|e| e.to_string())
}

/// An upper directory in a mount would be made where nothing of it can be seen; in the store, among
/// what is the store's.
fn outside(spec: &MountSpec, specs: &[MountSpec], view: &StoreView) -> Result<(), Complaint> {
    let Some(upper) = &spec.upper else { return Ok(()) };
    let whole = std::path::absolute(upper).map_err(|e| format!("{}: {e}", upper.display()))?;
    // As far as it is there already, without links.
    let there = whole.ancestors().find_map(|above| above.canonicalize().ok());
    let store = Path::new(std::ffi::OsStr::from_bytes(&view.root));
    if let Some(there) = there
        && there.starts_with(store)
        && !there.starts_with(store.join("uppers"))
    {
        return Err(format!(
            "mount at {}: the upper directory {} lies in the store; name one outside of it, or \
             none and on_exit = \"keep\"",
            spec.at.display(),
            upper.display()
        ));
    }
    match specs.iter().find(|other| whole.starts_with(&other.at)) {
        None => Ok(()),
        Some(other) => Err(format!(
            "mount at {}: the upper directory {} lies in the mount at {}; name one outside of it",
            spec.at.display(),
            upper.display(),
            other.at.display()
        )),
    }
}

/// What jobs change in a mount.
fn overlay(
    view: &StoreView,
    private: &Private,
    (number, spec): (usize, &MountSpec),
    manifest: &Arc<vrift_store::Manifest>,
    owner: (u32, u32),
) -> Result<Overlay, Complaint> {
    let failed = |e: UpperError| e.to_string();
    match kept_at(view, number, spec)? {
        Some(path) => {
            let overlay = Overlay::kept(Arc::clone(manifest), owner, &path).map_err(failed)?;
            // What is kept only until it is committed goes with the job, as a rule.
            if spec.upper.is_some() || spec.end() == OnExit::Keep {
                note(view, overlay.upper().path(), manifest);
            }
            Ok(overlay)
        }
        None => {
            let upper = Upper::private(&private.upper(number), &manifest.id()).map_err(failed)?;
            Ok(Overlay::new(Arc::clone(manifest), owner, upper))
        }
    }
}

/// Has the store know of changes that are kept outside of it, so that no collection takes the tree
/// underneath. While the job runs that is open, and needs no note.
fn note(view: &StoreView, upper: &Path, manifest: &vrift_store::Manifest) {
    let uppers = Path::new(std::ffi::OsStr::from_bytes(&view.root)).join("uppers");
    if upper.starts_with(uppers) {
        return;
    }
    if let Err(e) = view.store.note_upper(upper, &manifest.id()) {
        tracing::warn!(
            "changes are kept in {}, of which the store can't be told: a `vrift gc` there may \
             remove the tree that they belong to when no ref names it: {e}",
            upper.display()
        );
    }
}

/// Where a mount's changes are kept; `None`: they go with the job.
fn kept_at(
    view: &StoreView,
    number: usize,
    spec: &MountSpec,
) -> Result<Option<PathBuf>, Complaint> {
    let own = || kept::place(&view.store, &kept::name_of_this_job(number));
    match (&spec.upper, spec.end()) {
        (Some(upper), _) => Ok(Some(upper.clone())),
        (None, OnExit::Keep) => own().map(Some),
        // Until the daemon has it, for that may be gone by then.
        (None, OnExit::Commit(_)) if !view.store.is_writable() => Ok(own().ok()),
        (None, _) => Ok(None),
    }
}

/// What becomes of the changes of each writable mount.
fn ends(store: Option<&StoreView>, specs: &[MountSpec]) -> Result<Vec<MountEnd>, Complaint> {
    let mut ends = Vec::new();
    for (spec, mount) in specs.iter().zip(0u16..) {
        let Some(view) = store.filter(|_| spec.mode != Mode::ReadOnly) else { continue };
        let what = spec.end();
        if matches!(what, OnExit::Commit(_)) && !view.store.is_writable() {
            // Not when the job has done its work.
            through::may_commit(&view.store).map_err(|e| {
                format!(
                    "mount at {}: nothing can be committed: {e}; the changes can be kept, with \
                     on_exit=keep or upper=DIR, to be committed later",
                    spec.at.display()
                )
            })?;
        }
        let expected = match &what {
            OnExit::Commit(name) => view.store.ref_target(name).map_err(|e| e.to_string())?,
            _ => None,
        };
        let called = match (&spec.upper, &what) {
            (Some(upper), OnExit::Keep) => Some(upper.display().to_string()),
            (None, _) if kept_at(view, mount.into(), spec)?.is_some() => {
                Some(kept::name_of_this_job(mount.into()))
            }
            _ => None,
        };
        ends.push(MountEnd { mount, at: spec.at.clone(), what, expected, called });
    }
    Ok(ends)
}

/// The trees whose blobs were left at a remote.
fn lazy(store: Option<&StoreView>, projection: &Projection) -> Result<Vec<fetch::Tree>, Complaint> {
    let Some(view) = store else { return Ok(Vec::new()) };
    let trees = projection.mounts().iter().zip(0u16..);
    let trees =
        trees.map(|(mount, number)| fetch::Tree::of(&view.store, number, mount.manifest().id()));
    trees.filter_map(Result::transpose).collect()
}

/// The upper directories, as /proc shows what is in them.
fn uppers(projection: &Projection) -> std::io::Result<Vec<UpperRoot>> {
    let mut uppers = Vec::new();
    for (mount, number) in projection.mounts().iter().zip(0u16..) {
        if let Some(overlay) = mount.overlay() {
            let root = overlay.upper().path().canonicalize()?;
            let root = root.into_os_string().into_encoded_bytes();
            uppers.push(UpperRoot { mount: number, root });
        }
    }
    Ok(uppers)
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
    // Where the store is somebody else's, it is the user's own cache that serves many jobs.
    let cache = if view.store.is_writable() { None } else { UserCache::of(&root) };
    let mut bases = vec![root.join("jobs")];
    bases.extend(cache.iter().map(UserCache::jobs));
    if let Some(dir) = std::env::var_os("XDG_RUNTIME_DIR") {
        bases.push(PathBuf::from(dir).join("vrift"));
    }
    bases.push(std::env::temp_dir().join(format!("vrift-{}", nix::unistd::geteuid())));
    let private = Private::create(&bases)
        .map_err(|e| format!("no place for the job's own directories: {e}; make one writable"))?;
    if let Some(cache) = cache.filter(|cache| private.root().starts_with(cache.root())) {
        cache.sweep(&view.store);
        return Ok((private.within(cache.root()), Twins::new(cache.exec())));
    }
    let shared = root.join("exec");
    let made = shared.is_dir() || std::fs::DirBuilder::new().mode(0o755).create(&shared).is_ok();
    let writable = made && nix::unistd::access(&shared, nix::unistd::AccessFlags::W_OK).is_ok();
    let twins = if writable { shared } else { private.root().join("x") };
    Ok((private, Twins::new(twins)))
}

/// The directories of a store, or of what stands for one, to be known by whatever way a job comes
/// upon them.
fn own_directories(root: &Path) -> Vec<Identity> {
    let inside = Store::DIRECTORIES.map(|name| root.join(name));
    std::iter::once(root)
        .chain(inside.iter().map(PathBuf::as_path))
        .filter_map(Identity::of)
        .collect()
}

/// Takes care that what the job is handed descriptors of can't be changed through them.
fn hand_out(view: &mut StoreView, private: &mut Private) -> std::io::Result<ReadOnly> {
    let root = PathBuf::from(std::ffi::OsStr::from_bytes(&view.root));
    let own = private.handed_from();
    let roots: &[&Path] = match own.starts_with(&root) {
        true => &[&root],
        false => &[&root, own],
    };
    let handed = ReadOnly::of(roots)?;
    let flags = nix::fcntl::OFlag::O_RDONLY | nix::fcntl::OFlag::O_DIRECTORY;
    view.blobs = handed.open(&root.join("blobs"), flags)?;
    private.hand_out(&handed)?;
    Ok(handed)
}

fn plan(cli: &Cli, policy: &Policy, job: &Job, summary: bool) -> Result<Plan, Complaint> {
    let mounted = job.seen == Seen::Mounted;
    let mounts = !mounted && !job.projection.mounts().is_empty();
    // What is counted of calls would cost what mounting gains.
    let summary = summary && !mounted;
    let needs = Needs {
        mounts,
        guards: mounted,
        writable: !job.uppers.is_empty(),
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
