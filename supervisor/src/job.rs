//! One job as its receivers share it: what is projected, where its private things are, what is
//! known and counted.

use crate::agent::Container;
use crate::caller::{Caller, job_errno};
use crate::counters::{Counters, Refusal};
use crate::fetch::{self, Fetcher};
use crate::hints::Hints;
use crate::locks::{self, Locks, Marks};
use crate::private::Private;
use crate::read_only::ReadOnly;
use crate::resolve::real_dirs::{Known, RealDirs};
use crate::trace::{self, Mounted, Recorder};
use crate::twin::Twins;
use crate::users::Users;
use crate::view::Seen;
use crate::writable::end::Ends;
use crate::writable::ingest::Ingest;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use vrift_policy::{Errno, Operation, Outcome, Rules, Spoken, Target};
use vrift_projection::overlay::Overlay;
use vrift_projection::{Attr, Kind, NodeRef, Projection};
use vrift_store::{Hash, Store};

/// What a descriptor, a current directory or a magic link of a task stands for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Spot {
    /// Something projected.
    Node(NodeRef),
    /// A real path.
    Real,
    /// The store or the private tree: not there, for the job.
    Hidden,
    /// No path: a pipe, a socket, a directory that was removed.
    Nowhere,
}

/// Everything a receiver needs.
pub struct Job {
    /// The mounts.
    pub projection: Projection,
    /// The store they come from; None when the job has no mounts.
    pub store: Option<StoreView>,
    /// The job's own directories.
    pub private: Option<Private>,
    /// Where the contents of changed files are.
    pub uppers: Vec<UpperRoot>,
    /// What the job is handed descriptors from; None when it has no mounts.
    pub handed: Option<ReadOnly>,
    /// What becomes of changes when the job has ended.
    pub ends: Ends,
    /// Stores changed files meanwhile.
    pub ingest: Mutex<Option<Ingest>>,
    /// Runnable copies.
    pub twins: Twins,
    /// What is known of real directories.
    pub real_dirs: RealDirs,
    /// The rules for real paths.
    pub rules: Rules,
    /// Which path a descriptor with `O_PATH` of duplicated content was opened by.
    pub hints: Hints,
    /// Which path other descriptors of it were opened by.
    pub marks: Marks,
    /// Taking the locks of projected files.
    pub locks: Locks,
    /// For the summary.
    pub counters: Counters,
    /// The user who started the job, and owns what is projected.
    pub uid: u32,
    /// The user's group.
    pub gid: u32,
    /// Descriptor of /proc.
    pub proc: File,
    /// Upper half of the first argument of an execveat that the supervisor made.
    pub exec_cookie: u32,
    /// Calls that the supervisor makes in tasks and that it will be asked about: thread and first
    /// argument.
    pub expected: Mutex<HashSet<(i32, u64)>>,
    /// How many of them are made just now.
    pub expecting: AtomicUsize,
    /// The names of bound sockets as the kernel knows them, and as the job does.
    pub sockets: Mutex<HashMap<Vec<u8>, Vec<u8>>>,
    /// Some task was given a descriptor opened with `O_PATH`.
    pub path_only: AtomicBool,
    /// Which user namespaces its tasks are in.
    pub users: Users,
    /// What happens is recorded; None unless a trace was asked for.
    pub recorder: Option<Arc<Recorder>>,
    /// The mounts, and where each was asked for.
    pub origins: Vec<Mounted>,
    /// Process ids that the job does not get to see: the supervisor's, the keeper's, and that of who
    /// fetches, where somebody does.
    pub own_pids: [u32; 3],
    /// The trees whose blobs are left at a remote.
    pub lazy: Vec<fetch::Tree>,
    /// Who fetches them; None: there are none, or it is a container.
    pub fetcher: Option<Arc<Fetcher>>,
    /// How its mounts are seen.
    pub seen: Seen,
    /// What is different where the job is a container.
    pub container: Option<Container>,
}

/// The store, as far as a running job uses it.
pub struct StoreView {
    /// The store.
    pub store: Store,
    /// Its blobs directory, held open, from where the job is handed descriptors.
    pub blobs: OwnedFd,
    /// The text in front of a blob's name where /proc shows it: `ROOT/blobs/`.
    pub blobs_prefix: Vec<u8>,
    /// The store's directory without links.
    pub root: Vec<u8>,
    /// Blobs that this job found to be whole.
    pub whole: RwLock<HashSet<Hash, foldhash::fast::RandomState>>,
}

/// The upper directory of a writable mount, as /proc shows what is in it.
pub struct UpperRoot {
    /// The mount.
    pub mount: u16,
    /// The directory without links.
    pub root: Vec<u8>,
}

impl UpperRoot {
    /// The rest of a path that lies in the directory.
    fn inside<'t>(&self, text: &'t [u8]) -> Option<&'t [u8]> {
        let rest = text.strip_prefix(self.root.as_slice())?;
        matches!(rest.first(), None | Some(b'/')).then_some(rest)
    }

    /// The path below the mount of what lies in the mirror of what is watched.
    pub fn in_mirror<'t>(&self, text: &'t [u8]) -> Option<&'t [u8]> {
        let rest = self.inside(text)?.strip_prefix(b"/w")?;
        matches!(rest.first(), None | Some(b'/')).then_some(rest)
    }

    /// What a path in the directory stands for: `f/NUMBER`, and `x/NUMBER/NAME` where it is run.
    fn spot(&self, text: &[u8]) -> Option<Spot> {
        let rest = self.inside(text)?;
        let name = rest.strip_prefix(b"/f/").or_else(|| rest.strip_prefix(b"/x/"));
        // A file without a name has " (deleted)" after its number.
        let number = name.and_then(|name| name.split(|&b| b == b'/' || b == b' ').next());
        let number = number.and_then(|number| std::str::from_utf8(number).ok()?.parse().ok());
        Some(number.map_or(Spot::Hidden, |node| Spot::Node(NodeRef { mount: self.mount, node })))
    }
}

impl StoreView {
    /// Was this blob found to be whole already?
    pub fn known_whole(&self, hash: &Hash) -> bool {
        self.whole.read().unwrap_or_else(PoisonError::into_inner).contains(hash)
    }
}

impl Job {
    /// The supervisor makes task `tid` do a call with this first argument.
    pub fn expect(&self, tid: i32, argument: u64) {
        let mut expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
        expected.insert((tid, argument));
        self.expecting.store(expected.len(), Ordering::SeqCst);
    }

    /// Was this call the supervisor's doing? Answers yes once.
    pub fn expected(&self, tid: i32, argument: u64) -> bool {
        if self.expecting.load(Ordering::SeqCst) == 0 {
            return false;
        }
        let mut expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
        let was = expected.remove(&(tid, argument));
        self.expecting.store(expected.len(), Ordering::SeqCst);
        was
    }

    /// /proc.
    pub fn proc(&self) -> BorrowedFd<'_> {
        self.proc.as_fd()
    }

    /// Turns a failure of ours into EIO for the job and a reason in the summary.
    pub fn check<T>(&self, result: Result<T, impl Display>) -> Result<T, Errno> {
        result.map_err(|e| {
            self.counters.fail(e.to_string());
            Errno::EIO
        })
    }

    /// The job's errno for one of ours: where it tells of a lack that is ours and not the task's,
    /// there is a reason in the summary.
    pub fn errno<'a>(&'a self, what: &'a str) -> impl FnOnce(nix::errno::Errno) -> Errno + 'a {
        use nix::errno::Errno as Os;
        move |e| {
            if matches!(e, Os::EMFILE | Os::ENFILE | Os::ENOMEM) {
                self.counters.fail(format!("{what}: the supervisor got {e}"));
            }
            job_errno(e)
        }
    }

    /// A node's metadata.
    pub fn attr(&self, node: NodeRef) -> Result<Attr, Errno> {
        self.check(self.projection.attr(node))
    }

    /// User and group of a projected file.
    pub fn owner(&self, attr: &Attr) -> (u32, u32) {
        attr.owner.unwrap_or((self.uid, self.gid))
    }

    /// What jobs changed in the mount that a node belongs to; `None`: it can't be changed.
    pub fn overlay(&self, node: NodeRef) -> Option<&Overlay> {
        self.projection.overlay(node)
    }

    /// A node's absolute projected path; for messages, never fails.
    pub fn path(&self, node: NodeRef) -> Vec<u8> {
        self.projection.path(node).unwrap_or_else(|e| e.to_string().into_bytes())
    }

    /// What stands at a node, in the words of the decision table.
    pub fn target(&self, node: NodeRef) -> Result<Target, Errno> {
        if self.check(self.projection.held_by_real(node))? {
            return Ok(Target::MountPoint);
        }
        Ok(match self.check(self.projection.kind(node))? {
            Kind::Directory => Target::Directory,
            Kind::Symlink => Target::Symlink,
            _ => Target::File,
        })
    }

    /// The decision table's answer for an operation on a node.
    pub fn decide(&self, op: Operation, node: NodeRef) -> Result<Outcome, Errno> {
        Ok(vrift_policy::decide(op, self.mode(node), self.target(node)?))
    }

    /// The mode of the mount that a node belongs to.
    pub fn mode(&self, node: NodeRef) -> vrift_policy::Mode {
        self.projection.mode(node)
    }

    /// The mount that a path lies in, by its text.
    pub fn origin(&self, path: &[u8]) -> Option<&Mounted> {
        trace::origin(&self.origins, path)
    }

    /// Notes that a change was refused.
    pub fn refused(&self, call: &'static str, errno: Errno, path: Vec<u8>) -> Errno {
        if matches!(errno, Errno::EROFS | Errno::EXDEV | Errno::EBUSY) {
            trace::current::refused(&path, None, None);
            self.counters.refuse(Refusal { call, errno, path, why: None, rule: None });
        }
        errno
    }

    /// Is this absolute path the store or the private tree, or inside?
    pub fn is_hidden(&self, path: &[u8]) -> bool {
        let within = |root: &[u8]| {
            path.strip_prefix(root).is_some_and(|rest| rest.first().is_none_or(|&b| b == b'/'))
        };
        self.hidden_roots().any(within)
    }

    /// Does this real directory hold a mount point, the store or the private tree, however deep?
    /// Moved, it would take them to where they are not looked for.
    pub fn must_stay(&self, path: &[u8]) -> bool {
        let within = |root: &[u8]| {
            path == b"/" || root.strip_prefix(path).is_some_and(|rest| rest.first() == Some(&b'/'))
        };
        self.projection.real_holds_mount_point(path) || self.hidden_roots().any(within)
    }

    /// The real directories that the job does not get to see.
    pub fn hidden_roots(&self) -> impl Iterator<Item = &[u8]> {
        let store = self.store.as_ref().map(|s| s.root.as_slice());
        let private = self.private.as_ref().map(|p| p.hidden().as_os_str().as_bytes());
        let uppers = self.uppers.iter().map(|upper| upper.root.as_slice());
        store.into_iter().chain(private).chain(uppers)
    }

    /// Is this entry of /proc one of the supervisor's processes or threads?
    pub fn is_own_pid(&self, name: &[u8]) -> bool {
        name.first().is_some_and(u8::is_ascii_digit)
            && std::str::from_utf8(name)
                .ok()
                .and_then(|n| n.parse().ok())
                .is_some_and(|pid| self.is_own_task(pid))
    }

    /// Is this the number of one of the supervisor's processes or threads?
    pub fn is_own_task(&self, pid: i32) -> bool {
        self.own_pids.contains(&pid.unsigned_abs())
            || Path::new(&format!("/proc/self/task/{pid}")).exists()
            || self.is_fetcher(pid)
    }

    /// Is this the number of who fetches, or of a thread of that process?
    pub fn is_fetcher(&self, pid: i32) -> bool {
        self.fetcher.as_ref().is_some_and(|fetcher| fetcher.is_task(pid))
    }

    /// Is process `above`, the parent of `child`, one of the job's?
    pub fn may_be_parent(&self, above: i32, child: i32) -> bool {
        let outside =
            |container: &Container| container.begins_with(child) || container.is_outside(above);
        !self.own_pids.contains(&above.unsigned_abs())
            && !self.container.as_ref().is_some_and(outside)
    }

    /// The real directory at `path`, listed if it is new.
    pub fn look(&self, path: &[u8]) -> Known {
        self.real_dirs.look(path, || {
            let hidden_here = |root: &[u8]| {
                let cut = root.iter().rposition(|&b| b == b'/')?;
                (root[..cut.max(1)] == *path).then(|| root[cut + 1..].into())
            };
            let projected = self.projection.edge(path).iter().map(|entry| entry.name.clone());
            let ours = projected.chain(self.hidden_roots().filter_map(hidden_here));
            let ours: Vec<_> = ours.collect();
            match self.rules.spoken_in(path) {
                Spoken::Names(ruled) => Spoken::Names(ours.into_iter().chain(ruled).collect()),
                Spoken::Alike if ours.is_empty() => Spoken::Alike,
                Spoken::Alike | Spoken::All => Spoken::All,
            }
        })
    }

    /// What the path that /proc shows for a descriptor or directory of the caller's stands for.
    pub fn spot(&self, caller: &Caller<'_>, text: &[u8], fd: Option<i32>) -> Result<Spot, Errno> {
        self.spot_of_task(caller.tid, text, fd)
    }

    /// The same for any task.
    pub fn spot_of_task(&self, tid: i32, text: &[u8], fd: Option<i32>) -> Result<Spot, Errno> {
        if text.first() != Some(&b'/') {
            return Ok(Spot::Nowhere);
        }
        if let Some((upper, rest)) = self.mirrored(text) {
            return self.spot_in_mirror(upper, rest, fd.map(|fd| (tid, fd)));
        }
        if let Some(spot) = self.uppers.iter().find_map(|upper| upper.spot(text)) {
            return Ok(spot);
        }
        if let Some(private) = &self.private
            && text.starts_with(private.root().as_os_str().as_bytes())
        {
            return Ok(private.node_of(text).map_or(Spot::Hidden, Spot::Node));
        }
        if let Some(store) = &self.store
            && let Some(name) = text.strip_prefix(store.blobs_prefix.as_slice())
        {
            let hash = name.get(3..67).and_then(|hex| std::str::from_utf8(hex).ok());
            let Some(hash) = hash.and_then(|hex| hex.parse::<Hash>().ok()) else {
                return Ok(Spot::Hidden);
            };
            return Ok(self.node_of_blob(tid, fd, &hash)?.map_or(Spot::Hidden, Spot::Node));
        }
        if self.is_hidden(text) {
            return Ok(Spot::Hidden);
        }
        if text.ends_with(b" (deleted)") {
            return Ok(Spot::Nowhere);
        }
        if self.seen == Seen::Mounted
            && let Some((root, rest)) = self.projection.enter(text)
        {
            return self.spot_below(root, rest);
        }
        Ok(Spot::Real)
    }

    /// What stands at a path below a node.
    fn spot_below(&self, mut node: NodeRef, rest: &[u8]) -> Result<Spot, Errno> {
        for name in rest.split(|&b| b == b'/').filter(|name| !name.is_empty()) {
            match self.check(self.projection.lookup(node, name))? {
                Some(child) => node = child,
                None => return Ok(Spot::Hidden),
            }
        }
        Ok(Spot::Node(node))
    }

    /// The upper directory in whose mirror a path lies, and the path below the mount.
    pub fn mirrored<'t>(&self, text: &'t [u8]) -> Option<(&UpperRoot, &'t [u8])> {
        self.uppers.iter().find_map(|upper| Some((upper, upper.in_mirror(text)?)))
    }

    /// What an inode in a mount's mirror stands for.
    pub fn node_in_mirror(&self, upper: &UpperRoot, ino: u64) -> Option<NodeRef> {
        let overlay = self.projection.mount(upper.mount)?.overlay()?;
        let node = overlay.node_of_inode(ino)?;
        Some(NodeRef { mount: upper.mount, node })
    }

    /// What stands for what in the mirror: told by the inode of the task's descriptor, for names
    /// change; where there is none, by the name.
    fn spot_in_mirror(
        &self,
        upper: &UpperRoot,
        rest: &[u8],
        descriptor: Option<(i32, i32)>,
    ) -> Result<Spot, Errno> {
        if let Some((tid, fd)) = descriptor {
            let link = match fd {
                libc::AT_FDCWD => format!("/proc/{tid}/cwd"),
                fd => format!("/proc/{tid}/fd/{fd}"),
            };
            if let Ok(stat) = rustix::fs::stat(link.as_str())
                && let Some(node) = self.node_in_mirror(upper, stat.st_ino)
            {
                return Ok(Spot::Node(node));
            }
        }
        self.spot_below(NodeRef { mount: upper.mount, node: 0 }, rest)
    }

    /// The projected program that a shared twin, `STORE/exec/<hash>…`, is a copy of.
    pub fn node_of_twin(&self, path: &[u8]) -> Result<Option<NodeRef>, Errno> {
        let name = path.rsplit(|&b| b == b'/').next().unwrap_or_default();
        let hex = name.get(..64).and_then(|hex| std::str::from_utf8(hex).ok());
        let Some(hash) = hex.and_then(|hex| hex.parse::<Hash>().ok()) else { return Ok(None) };
        self.node_of_blob(0, None, &hash)
    }

    /// Which of the paths with this content the descriptor was opened by.
    fn node_of_blob(
        &self,
        tid: i32,
        fd: Option<i32>,
        hash: &Hash,
    ) -> Result<Option<NodeRef>, Errno> {
        let mut nodes = self.projection.by_blob(hash);
        let Some(first) = nodes.next() else { return Ok(None) };
        let first = self.check(first)?;
        if nodes.next().is_none() {
            return Ok(Some(first));
        }
        let Some(fd) = fd else { return Ok(Some(first)) };
        if let Some(node) = locks::marked(tid, fd).and_then(|mark| self.node_of_mark(hash, mark)) {
            return Ok(Some(node));
        }
        Ok(Some(self.hints.find(hash, tid, fd).unwrap_or(first)))
    }

    /// The node that a description of this content was marked with. The job could have set a mark
    /// itself: it stands for a path that has the content, or for nothing.
    fn node_of_mark(&self, hash: &Hash, (minor, node): (u32, u32)) -> Option<NodeRef> {
        let mounts = self.projection.mounts();
        let mount = mounts.iter().position(|mount| mount.dev_minor() == minor)?;
        let node = NodeRef { mount: u16::try_from(mount).ok()?, node };
        self.projection.may_have_blob(node, hash).unwrap_or(false).then_some(node)
    }

    /// Marks a new description of content that several paths have with the path it is opened by.
    pub fn mark(&self, fd: BorrowedFd<'_>, hash: &Hash, node: NodeRef) -> Result<(), Errno> {
        let mount = self.projection.mount(node.mount).ok_or(Errno::EIO)?;
        self.marks.mark(hash, fd, (mount.dev_minor(), node)).map_err(|e| {
            self.counters.fail(format!(
                "open of content that several paths have: the store's file system takes no record \
                 lock ({e})"
            ));
            job_errno(e)
        })
    }

    /// Must be remembered by which path this content was opened: it has several?
    pub fn has_several_paths(&self, hash: &Hash) -> bool {
        self.projection.by_blob(hash).nth(1).is_some()
    }

    /// Opens a blob anew: a descriptor of its own position. Its content was hashed before. Where it is
    /// missing nobody fetches it: [`Call::need`](crate::calls::Call::need) comes before.
    pub fn open_blob(&self, hash: &Hash, flags: OFlag) -> Result<OwnedFd, Errno> {
        let Some(view) = &self.store else { return Err(Errno::EIO) };
        if !view.known_whole(hash) {
            self.check_blob(view, hash)?;
        }
        self.open_unchecked(view, hash, flags)
    }

    /// Hashes a blob at its first use: never wrong bytes.
    fn check_blob(&self, view: &StoreView, hash: &Hash) -> Result<(), Errno> {
        // What stands in a blob's place must not keep anybody waiting, as a fifo would.
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_NOFOLLOW;
        let mut file = File::from(self.open_unchecked(view, hash, flags)?);
        let regular = file.metadata().is_ok_and(|m| m.is_file());
        let whole = if regular { view.store.is_whole(hash, &mut file) } else { Ok(false) };
        let what = match whole {
            Ok(true) => {
                view.whole.write().unwrap_or_else(PoisonError::into_inner).insert(*hash);
                return Ok(());
            }
            Ok(false) => "its content is another; run `vrift verify`".to_owned(),
            Err(e) => format!("it can't be read: {e}"),
        };
        let node = self.projection.by_blob(hash).next().and_then(Result::ok);
        let path = node.map(|node| self.path(node)).unwrap_or_default();
        self.counters.fail(format!(
            "{}: blob {hash} of the store is damaged: {what}",
            vrift_events::printable(&path)
        ));
        Err(Errno::EIO)
    }

    fn open_unchecked(
        &self,
        view: &StoreView,
        hash: &Hash,
        flags: OFlag,
    ) -> Result<OwnedFd, Errno> {
        let name = BlobName::of(hash);
        nix::fcntl::openat(&view.blobs, name.as_c_str(), flags | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|e| match e {
                nix::errno::Errno::EMFILE | nix::errno::Errno::ENFILE => {
                    self.counters.fail(format!("open of a blob: {e}"));
                    job_errno(e)
                }
                e => {
                    self.counters.fail(format!(
                        "openat(<store>/blobs, {:?}) = {e}: the store lost this blob; run `vrift verify`",
                        name.as_c_str()
                    ));
                    Errno::EIO
                }
            })
    }
}

/// `ab/<64 hex digits>`, made on the stack.
struct BlobName {
    bytes: [u8; 68],
}

impl BlobName {
    fn of(hash: &Hash) -> BlobName {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut bytes = [0u8; 68];
        for (i, b) in hash.as_bytes().iter().enumerate() {
            bytes[3 + 2 * i] = HEX[usize::from(b >> 4)];
            bytes[4 + 2 * i] = HEX[usize::from(b & 15)];
        }
        bytes[0] = bytes[3];
        bytes[1] = bytes[4];
        bytes[2] = b'/';
        BlobName { bytes }
    }

    fn as_c_str(&self) -> &std::ffi::CStr {
        std::ffi::CStr::from_bytes_until_nul(&self.bytes).unwrap_or(c"")
    }
}
