//! Making a [`Job`]: what it stands on, what is mounted for it, where its changes go, what fetches.

use super::args::Cli;
use super::{Complaint, kept, stores};
use crate::counters::Counters;
use crate::fetch;
use crate::hints::Hints;
use crate::job::{Job, StoreView, UpperRoot};
use crate::locks::{Locks, Marks};
use crate::private::Private;
use crate::read_only::ReadOnly;
use crate::resolve::real_dirs::{Identity, RealDirs};
use crate::twin::Twins;
use crate::user_cache::UserCache;
use crate::users::Users;
use crate::view::{self, Mounting, Seen};
use crate::writable::end::{Ends, MountEnd};
use crate::writable::through;
use crate::{sys, trace};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vrift_policy::{Mode, MountSpec, OnExit, Policy, Rules, View};
use vrift_projection::overlay::{Overlay, Upper, UpperError};
use vrift_projection::{MountSource, Projection, RealKind};
use vrift_store::Store;

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
    let store = if specs.is_empty() { None } else { Some(stores::open_store(cli)?) };
    let changes = specs.iter().any(|spec| spec.mode != Mode::ReadOnly);
    let (private, twins) = match &store {
        // What the kernel answers alone needs no directories to stand for others, but a place for changes.
        None => (None, Twins::default()),
        Some(_) if seen == Seen::Mounted && !changes => (None, Twins::default()),
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

/// A mount as a refusal is told by it.
fn mounted(spec: &MountSpec) -> trace::Mounted {
    let at = spec.at.as_os_str().as_bytes().to_vec();
    trace::Mounted { at, origin: spec.origin.clone(), mode: spec.mode }
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
