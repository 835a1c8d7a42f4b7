//! What a job's end costs the store: a manifest of 200,000 files with ten changes among them,
//! made from the one before, on the disk. `cargo bench -p vrift-store`; the store stands in
//! TMPDIR.

use std::error::Error;
use std::time::{Duration, Instant};

use vrift_store::manifest::{Entry, ManifestBuilder, ROOT};
use vrift_store::{Hash, Manifest, Store};

const FILES: u32 = 200_000;
const IN_EACH: u32 = 100;
const CHANGES: usize = 10;
const RUNS: u32 = 7;

/// The tree a job began with, each content twice.
fn base() -> Result<ManifestBuilder, Box<dyn Error>> {
    let mut builder = ManifestBuilder::new(Entry::directory(0o755, (1, 0)))?;
    let mut parent = 0;
    for i in 0..FILES {
        if i % IN_EACH == 0 {
            let name = format!("dir-{:05}", i / IN_EACH);
            parent = builder.add(0, name.as_bytes(), Entry::directory(0o755, (1, 0)))?;
        }
        let entry = Entry::file(0o644, (i.into(), 7), 4, Hash::of(&(i / 2).to_le_bytes()));
        builder.add(parent, format!("some-source-file-{i}.c").as_bytes(), entry)?;
    }
    Ok(builder)
}

/// The same tree with ten files changed, each in a directory of its own.
fn changed(base: &Manifest, run: u32) -> Result<ManifestBuilder, Box<dyn Error>> {
    let mut builder = ManifestBuilder::new(Entry::of(base, ROOT)?)?;
    let apart = base.child_count(ROOT)? as usize / CHANGES;
    for (i, id) in base.children(ROOT)?.enumerate() {
        let node = base.node(id)?;
        if i % apart != 0 {
            builder.graft(0, node.name, base, id)?;
            continue;
        }
        let dir = builder.add(0, node.name, Entry::of(base, id)?)?;
        for (j, id) in base.children(id)?.enumerate() {
            let node = base.node(id)?;
            if j == 0 {
                let blob = Hash::of(&[&run.to_le_bytes()[..], node.name].concat());
                builder.add(dir, node.name, Entry::file(0o644, (2, 0), 4, blob))?;
            } else {
                builder.graft(dir, node.name, base, id)?;
            }
        }
    }
    Ok(builder)
}

fn main() -> Result<(), Box<dyn Error>> {
    let temp = tempfile::tempdir()?;
    let store = Store::open_or_create(&temp.path().join("store"))?;
    let start = Instant::now();
    let (bytes, id) = base()?.finish()?;
    println!("build anew   {:>7.1} ms", ms(start.elapsed()));
    store.put_manifest(&bytes, &id)?;
    let mut best = [Duration::MAX; 4];
    for run in 0..RUNS {
        let start = Instant::now();
        let base = store.manifest(&id)?;
        let builder = changed(&base, run)?;
        let grafted = start.elapsed();
        let (bytes, id) = builder.finish()?;
        let finished = start.elapsed();
        store.put_manifest(&bytes, &id)?;
        let all = start.elapsed();
        let now = [grafted, finished - grafted, all - finished, all];
        best = std::array::from_fn(|i| best[i].min(now[i]));
    }
    println!("least of {RUNS} runs, {FILES} files, {CHANGES} changes, {} bytes:", bytes.len());
    for (what, time) in ["graft", "finish", "put and sync", "all"].iter().zip(best) {
        println!("{what:<12} {:>7.1} ms", ms(time));
    }
    Ok(())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
