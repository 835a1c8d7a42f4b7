//! The tree that the tests project at `/vrift/deps`, and the real world around it.

use super::{Kernel, STORE, Thing};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vrift_policy::Mode;
use vrift_projection::{MountSource, Projection, RealKind};
use vrift_store::manifest::{Entry, ManifestBuilder};
use vrift_store::{Hash, Manifest};

/// The mount point of the tree.
pub const AT: &str = "/vrift/deps";
/// Another mount, in a real directory that is there.
pub const REAL_AT: &str = "/opt/tools";

/// `dir/`, `file=content`, `link->target`, each with an octal mode after `:`, parents first.
fn manifest(lines: &str) -> Arc<Manifest> {
    let root = Entry::directory(0o755, (1, 0));
    let mut builder = ManifestBuilder::new(root).expect("a root");
    let mut directories = std::collections::BTreeMap::from([(String::new(), 0)]);
    for line in lines.split_whitespace() {
        let (line, mode) = line.rsplit_once(':').expect("a mode");
        let mode = u32::from_str_radix(mode, 8).expect("an octal mode");
        let (path, entry) = if let Some(path) = line.strip_suffix('/') {
            (path, Entry::directory(mode, (2, 0)))
        } else if let Some((path, target)) = line.split_once("->") {
            (path, Entry::symlink(target.into(), (2, 0)))
        } else {
            let (path, content) = line.split_once('=').expect("a file has a content");
            let blob = Hash::of(content.as_bytes());
            (path, Entry::file(mode, (2, 0), content.len() as u64, blob))
        };
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let id = builder.add(directories[parent], name.as_bytes(), entry).expect(line);
        if line.ends_with('/') {
            directories.insert(path.to_owned(), id);
        }
    }
    let (bytes, _) = builder.finish().expect("a manifest");
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), &bytes).expect("write");
    Arc::new(Manifest::open(file.path()).expect("open"))
}

/// Contents of the tree's files.
const CONTENTS: [&str; 4] = ["x", "same", "#!/bin/sh", "secret"];

/// What is projected.
pub fn projection() -> Projection {
    let deps = manifest(
        "f=x:644 include/:755 include/a.h=same:644 include/b.h=same:444 run=#!/bin/sh:755 \
         l->include:777 lf->f:777 dangling->nowhere:777 loop->loop:777 out->/tmp/real:777 \
         up->../../tmp:777 escape->/store/refs/deps:777 shut/:700 none/:0 none/f=secret:644 \
         closed=secret:0 e/:755",
    );
    let tools = manifest("tool=#!/bin/sh:755 lib/:755");
    let source = |at: &str, manifest: Arc<Manifest>| MountSource {
        at: PathBuf::from(at),
        manifest,
        mode: Mode::ReadOnly,
        overlay: None,
    };
    let disk = |path: &Path| match path.to_str() {
        Some("/" | "/opt") => RealKind::Directory,
        _ => RealKind::Missing,
    };
    Projection::new(vec![source(AT, deps), source(REAL_AT, tools)], &disk).expect("a projection")
}

/// The real world: the store with its blobs, and links into it and into the mounts.
pub fn world() -> Kernel {
    let mut kernel = Kernel::default();
    for content in CONTENTS {
        kernel.put(blob(content).as_bytes(), Thing::File);
    }
    for (path, thing) in [
        ("/store/refs/deps", Thing::File),
        ("/job/d", Thing::Directory),
        ("/job/c", Thing::Directory),
        ("/opt/other", Thing::Directory),
        ("/tmp/real", Thing::File),
        ("/tmp/dir/x", Thing::File),
        ("/tmp/in", link("/vrift/deps/include")),
        ("/tmp/into", link("/vrift/deps/f")),
        ("/tmp/fresh", link("/vrift/deps/made")),
        ("/tmp/root", link("/")),
        ("/tmp/up", link("..")),
        ("/tmp/st", link("/store")),
        ("/tmp/evil", link(&blob("x"))),
        ("/tmp/rel", link("../store/refs/deps")),
        ("/tmp/loop", link("loop")),
        ("/tmp/tool", link("/opt/tools")),
    ] {
        kernel.put(path.as_bytes(), thing);
    }
    kernel.current = b"/tmp".to_vec();
    kernel
}

/// The path of a blob.
pub fn blob(content: &str) -> String {
    let hex = Hash::of(content.as_bytes()).to_hex();
    let store = std::str::from_utf8(STORE).expect("text");
    format!("{store}/blobs/{}/{}", &hex.as_str()[..2], hex.as_str())
}

fn link(target: &str) -> Thing {
    Thing::Link(target.as_bytes().to_vec())
}

/// Paths that a program may try: into the tree, out of it, round it.
pub fn paths() -> Vec<String> {
    let mut paths: Vec<String> = [
        "/vrift/deps/f",
        "/vrift/deps",
        "/vrift",
        "/",
        "/vrift/deps/include/a.h",
        "/vrift/new",
        "/vrift/deps/l/a.h",
        "/vrift/deps/lf",
        "/vrift/deps/dangling",
        "/vrift/deps/loop",
        "/vrift/deps/out",
        "/vrift/deps/up/real",
        "/vrift/deps/up/st/refs/deps",
        "/vrift/deps/escape",
        "/vrift/deps/new",
        "/vrift/deps/e/new",
        "/vrift/deps/f/",
        "/vrift/deps/../../tmp/real",
        "/vrift/deps/../../store/refs/deps",
        "/vrift/deps/none/f",
        "/vrift/deps/closed",
        "/vrift/deps/run",
        "/vrift//deps/./include/../f",
        "/opt/tools",
        "/opt/tools/tool",
        "/opt",
        "/opt/tools/new",
        "/tmp/real",
        "/tmp/new",
        "/tmp/dir/x",
        "/tmp/in/a.h",
        "/tmp/in/new",
        "/tmp/into",
        "/tmp/fresh",
        "/tmp/root/vrift/deps/f",
        "/tmp/root/store/refs/deps",
        "/tmp/up/vrift/deps/f",
        "/tmp/st/refs/deps",
        "/tmp/evil",
        "/tmp/rel",
        "/tmp/loop",
        "/tmp/tool/tool",
        "/tmp/tool/../../store/refs/deps",
        "/store/refs/deps",
        "/store",
        "/job/d/0-1",
        "/job/c/0/run",
        "/job",
        "f",
        "a.h",
        "include",
        "..",
        ".",
        "../f",
        "../../tmp/real",
        "../store/refs/deps",
        "st/refs/deps",
        "evil",
        "new",
        "real",
        "in/a.h",
        "../../../store/refs/deps",
        "",
    ]
    .map(str::to_owned)
    .to_vec();
    paths.extend(CONTENTS.map(blob));
    paths
}
