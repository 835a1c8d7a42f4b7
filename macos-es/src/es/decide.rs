//! Whether an event may happen.
//!
//! For the job's processes: nothing in the store or under a mount point is made, changed, renamed or
//! removed, and nothing there gets another name; everything may be read. On other paths the policy's
//! rules hold, by the same table as on Linux. Other processes are left alone.
//!
//! ES has no errno to choose: what is denied is EPERM for the process.

use super::event::{Action, Change, EsEvent, File, Look, What};
use super::tree::ProcessTree;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use vrift_policy::{
    Operation, Policy, PolicyError, RealTarget, RenameFlags, Rules, Surroundings, Verdict,
    decide_exec, decide_rule, decide_rule_link, decide_rule_rename,
};

/// Opened for reading (`bsd/sys/fcntl.h`).
pub const FREAD: u32 = 1;
/// Opened for writing.
pub const FWRITE: u32 = 2;
/// `O_TRUNC`, which takes no right to write.
pub const O_TRUNC: u32 = 0x400;
/// Every way to open, those of later releases too.
pub const ALL: u32 = u32::MAX;
/// Every way to open but those that change something.
pub const READING: u32 = ALL & !(FWRITE | O_TRUNC);

/// What is answered.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It may happen.
    Allow,
    /// It may not.
    Deny,
    /// Of an open: the flags that it may have. One that has another is denied. Never the event's
    /// own, since the answer may be kept for later opens of the file.
    Flags(u32),
}

impl Reply {
    /// Does it let an open with these flags through?
    #[must_use]
    pub const fn lets(self, flags: u32) -> bool {
        match self {
            Reply::Allow => true,
            Reply::Deny => false,
            Reply::Flags(mask) => flags & !mask == 0,
        }
    }
}

/// What is guarded.
#[derive(Debug)]
pub struct Guard {
    /// The store's root and the mount points: absolute, normal paths.
    trees: Vec<Vec<u8>>,
    /// The job's private directory: what stands for directories, and clones, are made there by the
    /// shim, in the job's own processes. None for a job without mounts.
    private: Option<Vec<u8>>,
    rules: Rules,
}

impl Guard {
    /// What a policy asks for, over a store and a job's private directory, where it has mounts.
    ///
    /// # Errors
    /// One for each pattern of a rule that can't be used.
    pub fn new(
        policy: &Policy,
        places: Option<(&Path, &Path)>,
        around: &Surroundings,
    ) -> Result<Guard, Vec<PolicyError>> {
        let mounts = || policy.mounts.iter().map(|mount| mount.at.as_path());
        let rules = Rules::new(&policy.rules, mounts(), around)?;
        let bytes = |path: &Path| path.as_os_str().as_bytes().to_vec();
        let store = places.map(|(store, _)| store);
        let trees = mounts().chain(store).map(bytes).collect();
        Ok(Guard { trees, private: places.map(|(_, private)| bytes(private)), rules })
    }

    /// The trees that nothing may change: the mount points, and the store last.
    #[must_use]
    pub fn trees(&self) -> &[Vec<u8>] {
        &self.trees
    }

    /// The job's private directory.
    #[must_use]
    pub fn private(&self) -> Option<&[u8]> {
        self.private.as_deref()
    }

    /// Are there rules for real paths?
    #[must_use]
    pub fn has_rules(&self) -> bool {
        !self.rules.is_empty()
    }

    fn zone(&self, path: &[u8]) -> Zone {
        // The private directory mostly lies in the store.
        if self.private().is_some_and(|private| path != private && within(path, private)) {
            Zone::Private
        } else if self.trees.iter().any(|tree| within(path, tree)) {
            Zone::Kept
        } else {
            Zone::Free
        }
    }

    /// Must what stands there stay as it is and where it is?
    fn stays(&self, file: &File) -> bool {
        self.zone(&file.path) != Zone::Free || self.holds(&file.path)
    }

    /// Is a mount point, the store or the private directory below it? It must stay where it is.
    fn holds(&self, path: &[u8]) -> bool {
        self.trees.iter().chain(&self.private).any(|tree| within(tree, path))
    }

    fn rule(&self, path: &[u8]) -> Verdict<'_> {
        self.rules.at(path)
    }

    /// Does a rule refuse an operation on what an event names?
    fn refuses(&self, operation: Operation, file: &File) -> bool {
        self.refuses_on(operation, file, target(file))
    }

    fn refuses_on(&self, operation: Operation, file: &File, target: RealTarget) -> bool {
        let verdict = self.rule(&file.path);
        let run = verdict.no_exec.is_some() && decide_exec(operation, target).is_some();
        run || decide_rule(operation, verdict.grant, target).is_some()
    }
}

/// Whose a path is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Zone {
    /// Below the job's private directory: the shim makes things there, and nobody changes them.
    Private,
    /// In the store or under a mount point.
    Kept,
    /// Anybody's, as far as the rules go.
    Free,
}

/// Is a path at or below a directory, by its text?
fn within(path: &[u8], dir: &[u8]) -> bool {
    let rest = path.strip_prefix(dir);
    rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/' || dir == b"/")
}

fn target(file: &File) -> RealTarget {
    match file.kind {
        File::DIRECTORY => RealTarget::Directory,
        File::LINK => RealTarget::Symlink,
        0 | File::REGULAR => RealTarget::File,
        _ => RealTarget::Special,
    }
}

/// Decides about an event of one that is asked; one that is only told is allowed.
#[must_use]
pub fn decide(event: &EsEvent, tree: &ProcessTree, guard: &Guard) -> Reply {
    let free = matches!(event.what, What::Open(..));
    let allow = if free { Reply::Flags(ALL) } else { Reply::Allow };
    if event.action == Action::Notify || event.process.client {
        return allow;
    }
    if tree.get(event.process.key).is_none() {
        return allow;
    }
    match &event.what {
        What::Open(file, _) => Reply::Flags(open_flags(file, guard)),
        what if may(what, guard) => Reply::Allow,
        _ => Reply::Deny,
    }
}

/// The answer to an event whose time has run out: what changes something is denied, the rest
/// allowed.
#[must_use]
pub fn late(event: &EsEvent) -> Reply {
    match &event.what {
        What::Open(..) => Reply::Flags(READING),
        What::Create(_)
        | What::Rename(..)
        | What::Unlink(_)
        | What::Link(..)
        | What::Clone(..)
        | What::Exchange(..)
        | What::Change(..)
        | What::Mount(_) => Reply::Deny,
        _ => Reply::Allow,
    }
}

/// How a file may be opened. The same for all opens of it, so that the answer can be kept.
fn open_flags(file: &File, guard: &Guard) -> u32 {
    let reads = match file.kind {
        File::DIRECTORY => Operation::List,
        _ => Operation::Read,
    };
    if guard.refuses(reads, file) {
        return 0;
    }
    let kept = guard.zone(&file.path) != Zone::Free;
    if kept || guard.refuses(Operation::OpenWrite, file) { READING } else { ALL }
}

fn may(what: &What, guard: &Guard) -> bool {
    let grant = |file: &File| guard.rule(&file.path).grant;
    match what {
        What::Create(file) => makes(file, guard),
        What::Unlink(file) => !guard.stays(file) && !guard.refuses(Operation::Unlink, file),
        What::Rename(from, to) | What::Exchange(from, to) => {
            let sides = ((grant(from), target(from)), (grant(to), target(to)));
            !guard.stays(from)
                && !guard.stays(to)
                && decide_rule_rename(sides.0, sides.1, RenameFlags::NONE).is_none()
                && guard.rules.lost_by_moving(&from.path, &to.path).is_none()
        }
        What::Link(from, to) => {
            let sides = ((grant(from), target(from)), (grant(to), RealTarget::Missing));
            !guard.stays(from) && !guard.stays(to) && decide_rule_link(sides.0, sides.1).is_none()
        }
        // A clone is content of its own: reading here, making there.
        What::Clone(from, to) => !guard.refuses(Operation::Read, from) && makes(to, guard),
        What::Change(change, file) => match guard.zone(&file.path) {
            // The shim gives its clones their x bits.
            Zone::Private => *change == Change::Mode,
            Zone::Kept => false,
            Zone::Free => !guard.refuses(changes(*change), file),
        },
        What::Exec { file, .. } => !guard.refuses(Operation::Execute, file),
        What::Look(look, file) => !guard.refuses(looks(*look), file),
        What::Mount(at) => guard.zone(at) == Zone::Free && !guard.holds(at),
        What::Open(..) | What::Close(..) | What::Fork(_) | What::Exit(_) | What::Unknown(_) => true,
    }
}

/// May it be made?
fn makes(file: &File, guard: &Guard) -> bool {
    guard.zone(&file.path) != Zone::Kept
        && !guard.refuses_on(create(file), file, RealTarget::Missing)
}

/// CREATE covers open, mkdir, mknod and symlink alike: what is made says which it was.
fn create(file: &File) -> Operation {
    match file.kind {
        File::DIRECTORY => Operation::MakeDirectory,
        File::LINK => Operation::MakeSymlink,
        0 | File::REGULAR => Operation::CreateWrite,
        _ => Operation::MakeNode,
    }
}

const fn changes(change: Change) -> Operation {
    match change {
        Change::Truncate | Change::Write => Operation::Truncate,
        Change::Mode | Change::Acl => Operation::ChangeMode,
        Change::Owner => Operation::ChangeOwner,
        Change::Times | Change::Attributes => Operation::ChangeTimes,
        Change::Flags => Operation::SetFlags,
        Change::Xattr => Operation::SetXattr,
    }
}

const fn looks(look: Look) -> Operation {
    match look {
        Look::Access(_) | Look::Stat | Look::Attributes => Operation::Stat,
        Look::ReadLink => Operation::ReadLink,
        Look::List => Operation::List,
        Look::Enter => Operation::EnterDirectory,
        Look::Xattr => Operation::GetXattr,
        Look::Connect => Operation::ConnectSocket,
        Look::Map => Operation::Read,
    }
}
