//! Small manifests, written down as lines of text, and projections of them.

#![allow(dead_code, reason = "each test binary uses a part of this")]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vrift_policy::Mode;
use vrift_projection::{Above, Kind, MountSource, NodeRef, Projection, ProjectionError, RealKind};
use vrift_store::manifest::{Entry, LinkKey, ManifestBuilder};
use vrift_store::{Hash, Manifest};

/// The time of the root; every other entry is one second younger than the one before it.
pub const ROOT_TIME: i64 = 1_000_000;

/// A manifest of `dir/`, `file=content`, `link->target` and `file=content#key` (hard links of
/// equal key), one entry a line; parents come before what they hold.
pub fn manifest(lines: &str) -> Arc<Manifest> {
    let root = Entry::directory(0o755, (ROOT_TIME, 0));
    let mut builder = ManifestBuilder::new(root).expect("a root");
    let mut directories = BTreeMap::from([(String::new(), 0)]);
    for (line, second) in lines.split_whitespace().zip(1..) {
        let time = (ROOT_TIME + second, 5);
        let (path, entry) = if let Some(path) = line.strip_suffix('/') {
            (path, Entry::directory(0o755, time))
        } else if let Some((path, target)) = line.split_once("->") {
            (path, Entry::symlink(target.into(), time))
        } else {
            let (path, content) = line.split_once('=').expect("a file has a content");
            let (content, key) = content.split_once('#').unwrap_or((content, ""));
            let blob = Hash::of(content.as_bytes());
            let mut entry = Entry::file(0o644, time, content.len() as u64, blob);
            if let Ok(key) = key.parse() {
                // All names of an inode say the same of it.
                (entry.mtime_sec, entry.link) = (ROOT_TIME, Some(LinkKey::new(0, key)));
            }
            (path, entry)
        };
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let is_directory = line.ends_with('/');
        let id = builder.add(directories[parent], name.as_bytes(), entry).expect(line);
        if is_directory {
            directories.insert(path.to_owned(), id);
        }
    }
    open(builder)
}

/// The finished manifest, in a file that is gone as soon as it is mapped.
pub fn open(builder: ManifestBuilder) -> Arc<Manifest> {
    let (bytes, _) = builder.finish().expect("a manifest");
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(&bytes).expect("write");
    Arc::new(Manifest::open(file.path()).expect("open"))
}

/// A real disk that holds directories, and links where a path ends in `@`.
pub fn disk(paths: &'static [&'static str]) -> impl Fn(&Path) -> RealKind {
    move |path: &Path| {
        let text = path.to_str().unwrap_or_default();
        if paths.contains(&text) {
            RealKind::Directory
        } else if paths.iter().any(|other| other.strip_suffix('@') == Some(text)) {
            RealKind::Symlink
        } else if paths.iter().any(|other| other.strip_suffix('!') == Some(text)) {
            RealKind::Other
        } else {
            RealKind::Missing
        }
    }
}

/// Mounts manifests at places, over a real disk.
pub fn try_project(
    mounts: &[(&str, &Arc<Manifest>)],
    real: &'static [&'static str],
) -> Result<Projection, ProjectionError> {
    let sources = mounts.iter().map(|(at, manifest)| MountSource {
        overlay: None,
        at: PathBuf::from(at),
        manifest: Arc::clone(manifest),
        mode: Mode::ReadOnly,
    });
    Projection::new(sources.collect(), &disk(real))
}

/// As [`try_project`], of mounts that are in order.
pub fn project(mounts: &[(&str, &Arc<Manifest>)], real: &'static [&'static str]) -> Projection {
    try_project(mounts, real).expect("a projection")
}

/// The node at an absolute path that has no links, found as a resolver finds it: over real
/// directories until one of them holds something of ours.
pub fn find(projection: &Projection, path: &str) -> Option<NodeRef> {
    let mut here = Above::Real(Box::from(b"/".as_slice()));
    for name in path.split('/').filter(|name| !name.is_empty()) {
        here = match here {
            Above::Real(dir) => match projection.covered(&dir, name.as_bytes()) {
                Some(node) => Above::Node(node),
                None => Above::Real(join(&dir, name.as_bytes())),
            },
            Above::Node(dir) => {
                Above::Node(projection.lookup(dir, name.as_bytes()).expect("a look-up")?)
            }
        };
    }
    match here {
        Above::Node(node) => Some(node),
        Above::Real(_) => None,
    }
}

pub fn join(dir: &[u8], name: &[u8]) -> Box<[u8]> {
    let dir = dir.strip_suffix(b"/").unwrap_or(dir);
    [dir, b"/", name].concat().into()
}

/// The names of a directory, in order, `.` and `..` included.
pub fn names(projection: &Projection, dir: NodeRef) -> Vec<String> {
    entries(projection, dir, 0).iter().map(|entry| text(&entry.name)).collect()
}

/// One entry of a listing.
pub struct Listed {
    pub name: Vec<u8>,
    pub ino: u64,
    pub kind: Kind,
    pub next: u64,
}

/// The entries of a directory from a position on.
pub fn entries(projection: &Projection, dir: NodeRef, from: u64) -> Vec<Listed> {
    let mut all = Vec::new();
    let listed = projection.list(dir, from, |entry| {
        let (name, ino, kind, next) = (entry.name.to_vec(), entry.ino, entry.kind, entry.next);
        all.push(Listed { name, ino, kind, next });
        true
    });
    listed.expect("a listing");
    all
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
