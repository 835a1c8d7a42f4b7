//! What the common answers cost, to be counted in instructions: `instructions OPERATION TIMES`.
//!
//! scripts/instructions runs it under valgrind with two numbers of times, and takes the difference:
//! what making the tree costs falls out. Counts repeat where times don't.

use std::error::Error;
use std::hint::black_box;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use vrift_projection::{Mode, MountSource, NodeRef, Projection, RealKind};
use vrift_store::manifest::{Entry, ManifestBuilder};
use vrift_store::{Hash, Manifest};

const FILES: u32 = 20_000;
const IN_EACH: u32 = 1000;
const AT: &str = "/vrift/deps";

fn manifest() -> Result<Manifest, Box<dyn Error>> {
    let mut builder = ManifestBuilder::new(Entry::directory(0o755, (1, 0)))?;
    let include = builder.add(0, b"include", Entry::directory(0o755, (1, 0)))?;
    let mut parent = include;
    for i in 0..FILES {
        if i % IN_EACH == 0 {
            let name = format!("package-{:03}", i / IN_EACH);
            parent = builder.add(include, name.as_bytes(), Entry::directory(0o755, (1, 0)))?;
        }
        let entry = Entry::file(0o644, (i.into(), 7), 4, Hash::of(&i.to_le_bytes()));
        builder.add(parent, format!("header-{i:05}.h").as_bytes(), entry)?;
    }
    builder.add(include, b"latest", Entry::symlink(b"package-019".to_vec(), (1, 0)))?;
    let (bytes, _) = builder.finish()?;
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(&bytes)?;
    // It stays mapped when its name is gone.
    Ok(Manifest::open(file.path())?)
}

fn find(projection: &Projection, path: &[u8]) -> Option<NodeRef> {
    let (mut node, rest) = projection.enter(path)?;
    for name in rest.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        node = projection.lookup(node, name).ok()??;
    }
    Some(node)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let usage = "instructions pass|hit|miss|attributes|link|list TIMES";
    let operation = args.next().ok_or(usage)?;
    let times: u32 = args.next().ok_or(usage)?.parse()?;
    let mount = MountSource {
        at: AT.into(),
        manifest: Arc::new(manifest()?),
        mode: Mode::ReadOnly,
        overlay: None,
    };
    let probe = |path: &Path| {
        if path == Path::new("/") { RealKind::Directory } else { RealKind::Missing }
    };
    let projection = Projection::new(vec![mount], &probe)?;
    let at = |rest: &str| format!("{AT}/{rest}").into_bytes();
    let (hit, miss) = (at("include/package-011/header-11500.h"), at("include/package-011/stdio.h"));
    let node = |path: &[u8]| find(&projection, path).ok_or("it is there");
    let (file, link) = (node(&hit)?, node(&at("include/latest"))?);
    let directory = node(&at("include/package-011"))?;
    let outside = b"/usr/include/x86_64-linux-gnu/bits/types/struct_timespec.h";
    for _ in 0..times {
        match operation.as_str() {
            "pass" => assert!(!projection.may_concern(black_box(outside))),
            "hit" => assert!(find(&projection, black_box(&hit)).is_some()),
            "miss" => assert!(find(&projection, black_box(&miss)).is_none()),
            "attributes" => assert_eq!(projection.attr(black_box(file))?.size, 4),
            "link" => assert_eq!(projection.link_target(black_box(link))?.len(), 11),
            "list" => {
                let mut count = 0;
                projection.list(black_box(directory), 0, |entry| {
                    count += u32::from(entry.ino > 0);
                    true
                })?;
                assert_eq!(count, IN_EACH + 2);
            }
            other => return Err(format!("{other}: {usage}").into()),
        }
    }
    Ok(())
}
