//! The commands that move or read much: ingest, export, verify.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Instant;

use serde_json::{Map, json};
use vrift_store::ingest::{FileError, Reason};
use vrift_store::json::put_name;
use vrift_store::text::shown;
use vrift_store::{
    Damage, Hash, IngestError, IngestOptions, Ingested, LinkMode, Store, Verified, check_ref_name,
};

use crate::args::Ingest;
use crate::daemon::through;
use crate::inspect::open_tree;
use crate::output::{Failure, Out, bytes, count, with_progress};
use crate::{Outcome, complain};

/// `vrift ingest`
pub fn ingest(root: &Path, args: &Ingest, out: &mut Out) -> Result<Outcome, Failure> {
    check_ref_name(&args.name)?;
    // Before a store is made for nothing.
    if !args.dir.is_dir() {
        let why = match args.dir.symlink_metadata() {
            Err(error) => error.to_string(),
            Ok(_) => "it is not a directory".to_owned(),
        };
        return Err(Failure::new(format!("can't ingest {}: {why}", shown(&args.dir))));
    }
    let store = Store::open_or_create(root)?;
    let options =
        IngestOptions { exclude: args.exclude.clone(), jobs: args.jobs, no_sync: args.no_sync };
    let start = Instant::now();
    let result = with_progress("ingest", |progress| {
        if store.is_writable() {
            store.ingest_as(Some(&args.name), &args.dir, &options, progress)
        } else {
            through::ingest(&store, &args.name, &args.dir, &options, progress)
        }
    });
    let done = match result {
        Ok(done) => done,
        Err(IngestError::Files { files }) => return unreadable(&args.name, &files, out),
        Err(error) => return Err(error.into()),
    };
    for (path, kind) in &done.skipped {
        complain(&format!("warning: left out {}: a {kind}", shown(path)));
    }
    let seconds = start.elapsed().as_secs_f64();
    if out.json {
        ingested_json(&args.name, &done, seconds, out)?;
    } else {
        ingested_text(&args.name, &done, seconds, out)?;
    }
    Ok(Outcome::Fine)
}

fn ingested_text(name: &str, done: &Ingested, seconds: f64, out: &mut Out) -> Result<(), Failure> {
    let directories = match done.directories {
        1 => "1 directory".to_owned(),
        n => format!("{n} directories"),
    };
    out.text(format_args!(
        "{}, {} -> {}, {} new\n{directories}, {}; {}, {} deduplicated; {seconds:.2} s\n{name} -> {}\n",
        count(done.files, "file"),
        bytes(done.bytes),
        count(done.blobs, "blob"),
        bytes(done.new_bytes),
        count(done.symlinks, "link"),
        count(done.new_blobs, "new blob"),
        count(done.deduplicated, "file"),
        done.manifest,
    ))
}

fn ingested_json(name: &str, done: &Ingested, seconds: f64, out: &mut Out) -> Result<(), Failure> {
    let skipped = done.skipped.iter().map(|(path, kind)| {
        let mut entry = Map::new();
        put_name(&mut entry, "path", path.as_os_str().as_bytes());
        entry.insert("kind".into(), (*kind).into());
        entry
    });
    out.object(&json!({
        "ref": name,
        "manifest": done.manifest.to_string(),
        "files": done.files,
        "directories": done.directories,
        "symlinks": done.symlinks,
        "bytes": done.bytes,
        "blobs": done.blobs,
        "new_blobs": done.new_blobs,
        "new_bytes": done.new_bytes,
        "deduplicated": done.deduplicated,
        "skipped": skipped.collect::<Vec<_>>(),
        "seconds": seconds,
    }))
}

fn unreadable(name: &str, files: &[FileError], out: &mut Out) -> Result<Outcome, Failure> {
    let mut stderr = std::io::stderr().lock();
    for file in files {
        let _ = writeln!(stderr, "vrift: {file}");
    }
    drop(stderr);
    if out.json {
        let errors = files.iter().map(|file| {
            let mut entry = Map::new();
            put_name(&mut entry, "path", file.path.as_os_str().as_bytes());
            let why = match &file.reason {
                Reason::Io(error) => error.to_string(),
                Reason::Changing => "it keeps changing".to_owned(),
            };
            entry.insert("tried".into(), file.what.into());
            entry.insert("error".into(), why.into());
            entry
        });
        out.object(&json!({ "ref": name, "errors": errors.collect::<Vec<_>>() }))?;
    }
    complain(&format!(
        "ref {name} is not set: {} can't be stored; make them readable, or leave them out with --exclude",
        if files.len() == 1 { "1 entry".to_owned() } else { format!("{} entries", files.len()) }
    ));
    Ok(Outcome::Found)
}

/// `vrift export`
pub fn export(
    store: &Store,
    from: &OsStr,
    to: &Path,
    link: LinkMode,
    out: &mut Out,
) -> Result<Outcome, Failure> {
    let manifest = open_tree(store, from)?;
    let start = Instant::now();
    let done = with_progress("export", |progress| store.export(&manifest, to, link, progress))?;
    let seconds = start.elapsed().as_secs_f64();
    if out.json {
        out.object(&json!({
            "manifest": manifest.id().to_string(),
            "files": done.files,
            "directories": done.directories,
            "symlinks": done.symlinks,
            "bytes": done.bytes,
            "reflinked": done.reflinked,
            "seconds": seconds,
        }))?;
    } else {
        out.text(format_args!(
            "{}, {}, {} in {seconds:.2} s; {} share the store's disk space\n",
            count(done.files, "file"),
            count(done.symlinks, "link"),
            bytes(done.bytes),
            count(done.reflinked, "file"),
        ))?;
    }
    Ok(Outcome::Fine)
}

/// `vrift verify`
pub fn verify(
    store: &Store,
    tree: Option<&OsStr>,
    quarantine: bool,
    out: &mut Out,
) -> Result<Outcome, Failure> {
    if quarantine && !store.is_writable() {
        let report = through::quarantine(store, wanted(store, tree)?.as_ref())?;
        for damage in &report.damage {
            damaged(damage, out)?;
        }
        return conclude(&report, 0, report.damage.len(), out);
    }
    let mut report = check(store, tree)?;
    let moving = if quarantine { store.quarantine(&mut report) } else { Ok(()) };
    for damage in &report.damage {
        damaged(damage, out)?;
    }
    let outcome = conclude(&report, 0, report.damage.len(), out)?;
    moving?;
    Ok(outcome)
}

/// The tree that is meant, if not all are.
pub fn wanted(store: &Store, tree: Option<&OsStr>) -> Result<Option<Hash>, Failure> {
    let Some(tree) = tree else { return Ok(None) };
    let spec = tree.to_str().ok_or_else(|| crate::inspect::unknown(store, tree))?;
    Ok(Some(store.resolve(spec)?))
}

/// Reads a tree, or everything.
pub fn check(store: &Store, tree: Option<&OsStr>) -> Result<Verified, Failure> {
    let hash = wanted(store, tree)?;
    let report = with_progress("verify", |progress| match &hash {
        Some(hash) => store.verify_manifest(hash, progress),
        None => store.verify(progress),
    })?;
    Ok(report)
}

/// One thing that isn't as it should be.
pub fn damaged(damage: &Damage, out: &mut Out) -> Result<(), Failure> {
    if out.json {
        let mut object = Map::new();
        put_name(&mut object, "damaged", damage.path.as_os_str().as_bytes());
        object.insert("what".into(), damage.what.clone().into());
        object.insert("quarantined".into(), damage.quarantined.into());
        out.object(&object.into())
    } else {
        let what = if damage.quarantined {
            "was damaged and is in quarantine/ now; ingest its tree again"
        } else {
            &damage.what
        };
        out.text(format_args!("{}: {what}\n", shown(&damage.path)))
    }
}

/// What was read, how many files were repaired, and how much damage is left.
pub fn conclude(
    report: &Verified,
    repaired: usize,
    left: usize,
    out: &mut Out,
) -> Result<Outcome, Failure> {
    if out.json {
        out.object(&json!({
            "blobs": report.blobs,
            "bytes": report.bytes,
            "manifests": report.manifests,
            "refs": report.refs,
            "absent": report.absent,
            "damage": left,
            "protected": report.protected,
            "repaired": repaired,
        }))?;
    } else {
        let absent = match report.absent {
            0 => String::new(),
            n => format!(", {} not fetched yet", count(n, "blob")),
        };
        let protected = match report.protected {
            0 => String::new(),
            n => format!("; {} protected", count(n, "blob")),
        };
        let verdict = match (left, repaired) {
            (0, 0) => "all whole".to_owned(),
            (left, 0) => format!("{left} damaged"),
            (0, repaired) => format!("{repaired} repaired"),
            (left, repaired) => format!("{left} damaged, {repaired} repaired"),
        };
        out.text(format_args!(
            "{}, {}, {}, {}{absent}: {verdict}{protected}\n",
            count(report.blobs, "blob"),
            bytes(report.bytes),
            count(report.manifests, "manifest"),
            count(report.refs, "ref"),
        ))?;
    }
    Ok(if left == 0 { Outcome::Fine } else { Outcome::Found })
}
