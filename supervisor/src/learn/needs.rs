//! What a job did, path by path: all that a policy is learnt from.

use crate::report::Model;
use crate::trace::event::{Access, Kind, Op};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use vrift_projection::walk::normalise;

/// What the job needed of one real path.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Need {
    /// The programs that needed it.
    pub who: BTreeSet<String>,
    /// It was there, and a directory.
    pub dir: bool,
    /// It was there, and a symbolic link that was read or gone through.
    pub link: bool,
    /// It had to be there, and no more was asked of it.
    pub looked: bool,
    /// Its content or its attributes were read.
    pub read: bool,
    /// Its names were read.
    pub listed: bool,
    /// It was changed, made or removed.
    pub changed: bool,
    /// The job made it.
    pub own: bool,
    /// The job took it away.
    pub gone: bool,
    /// It was run.
    pub run: bool,
    /// It was not there, and that was the answer.
    pub vain: bool,
    /// The same, of a call that would have changed it.
    pub vain_change: bool,
}

impl Need {
    /// Was it there at all?
    pub fn there(&self) -> bool {
        self.link || self.looked || self.read || self.listed || self.changed || self.run
    }
}

/// All paths of a job.
pub type Needs = BTreeMap<Vec<u8>, Need>;

/// Calls that ask for no more than `access = "deny"` gives: what is said of a file from outside.
const FROM_OUTSIDE: &[&str] = &[
    "stat",
    "lstat",
    "stat64",
    "lstat64",
    "fstatat64",
    "newfstatat",
    "statx",
    "oldstat",
    "oldlstat",
    "access",
    "faccessat",
    "faccessat2",
    "readlink",
    "readlinkat",
    "open",
    "openat",
    "openat2",
    "statfs",
    "statfs64",
    "name_to_handle_at",
];

/// Adds what the job of a trace needed.
pub fn add(needs: &mut Needs, model: &Model) {
    let mounts: Vec<&[u8]> = model.job.mounts.iter().map(|mount| mount.at.as_bytes()).collect();
    let projected = |path: &[u8]| mounts.iter().any(|at| within(path, at));
    let mut programs: HashMap<u32, String> = HashMap::new();
    for op in &model.ops {
        let who = programs.get(&op.process).cloned().or_else(|| {
            let parent = model.process(op.process)?.parent?;
            programs.get(&parent).cloned()
        });
        let becomes = op.exec.as_ref().map(|_| name_of(op));
        let who = who.or_else(|| becomes.clone()).unwrap_or_default();
        for link in &op.through {
            if !projected(link.as_bytes()) {
                let path = Path::new(OsStr::from_bytes(link.as_bytes()));
                let directory = path.symlink_metadata().is_ok_and(|found| found.is_dir());
                let need = need(needs, link.as_bytes(), &who);
                need.link |= !directory;
                need.dir |= directory;
                need.looked |= directory;
            }
        }
        for interpreter in op.exec.iter().flat_map(|exec| &exec.interpreters) {
            if !projected(interpreter.as_bytes()) {
                let need =
                    need(needs, interpreter.as_bytes(), &becomes.clone().unwrap_or_default());
                need.read = true;
                need.run = true;
            }
        }
        programs.insert(op.process, becomes.unwrap_or_else(|| who.clone()));
        if op.mount.is_none()
            && op.refused.is_none()
            && let Some(path) = normal(op.place())
            && !projected(&path)
        {
            note(needs, op, &path, &who);
        }
    }
}

fn need<'n>(needs: &'n mut Needs, path: &[u8], who: &str) -> &'n mut Need {
    let need = needs.entry(path.to_vec()).or_default();
    if !who.is_empty() {
        need.who.insert(who.to_owned());
    }
    need
}

/// How a program is called: the last name of the path that it was run by.
fn name_of(op: &Op) -> String {
    let path = op.path.as_ref().map_or(op.place(), |path| path.as_bytes());
    let path = if path.is_empty() { op.place() } else { path };
    let name = path.rsplit(|&b| b == b'/').find(|name| !name.is_empty()).unwrap_or_default();
    vrift_events::printable(name)
}

fn note(needs: &mut Needs, op: &Op, path: &[u8], who: &str) {
    let changes = matches!(op.access, Access::Write | Access::Create | Access::Delete);
    match op.err.as_deref() {
        Some("ENOENT") => {
            let need = need(needs, path, who);
            need.vain = true;
            need.vain_change |= changes;
            return;
        }
        Some("ENOTDIR") => {
            need(needs, path, who).vain = true;
            // Something on the way is no directory, and has to be there to say so.
            let mut above = Path::new(OsStr::from_bytes(path)).ancestors().skip(1);
            let there = above.find_map(|at| Some((at, at.symlink_metadata().ok()?)));
            if let Some((at, found)) = there
                && !found.is_dir()
            {
                need(needs, at.as_os_str().as_bytes(), who).looked = true;
            }
            return;
        }
        Some(_) => {
            let need = need(needs, path, who);
            need.dir |= op.kind == Some(Kind::Dir);
            need.link |= op.kind == Some(Kind::Link);
            match op.kind {
                Some(Kind::File | Kind::Other) | None if !from_outside(op) => need.read = true,
                _ => need.looked = true,
            }
            return;
        }
        None => {}
    }
    let need = need(needs, path, who);
    let known = need.there();
    need.dir |= op.kind == Some(Kind::Dir);
    need.link |= op.kind == Some(Kind::Link) && op.access == Access::Stat;
    match op.access {
        Access::Read => {
            need.read = true;
            // A new name for what may not be changed would be a way to change it.
            need.changed |= op.call.starts_with("link");
        }
        Access::List => need.listed = true,
        Access::Exec => {
            need.read = true;
            need.run = true;
        }
        Access::Lock => need.read = true,
        Access::Write => need.changed = true,
        Access::Create => {
            need.own |= !known;
            need.gone = false;
            need.changed = true;
        }
        Access::Delete => {
            need.gone = true;
            need.changed = true;
        }
        Access::Stat | Access::Probe => {
            let asks = op.asks.as_deref().unwrap_or_default();
            need.looked = true;
            need.read |= asks.contains('r') || !from_outside(op);
            need.changed |= asks.contains('w');
            // A directory that may be searched is no program.
            need.run |= asks.contains('x') && op.kind == Some(Kind::File);
        }
    }
}

fn from_outside(op: &Op) -> bool {
    FROM_OUTSIDE.contains(&op.call.as_ref())
}

/// The path without `.`, `..` and doubled slashes; None for what is none, or has no name any more.
fn normal(path: &[u8]) -> Option<Vec<u8>> {
    if path.first() != Some(&b'/') || path.ends_with(b" (deleted)") {
        return None;
    }
    let mut out = Vec::new();
    normalise(b"/", path, &mut out);
    (out != b"/").then_some(out)
}

/// Does `path` lie at or below `dir`?
pub fn within(path: &[u8], dir: &[u8]) -> bool {
    Path::new(OsStr::from_bytes(path)).starts_with(OsStr::from_bytes(dir))
}
