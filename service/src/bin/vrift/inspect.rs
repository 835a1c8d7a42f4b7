//! The commands that look: ls, cat, diff, refs, tag, rm, stats.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;

use serde_json::{Map, Value, json};
use vrift_client::Request;
use vrift_store::json::{hex, put_name};
use vrift_store::manifest::ROOT;
use vrift_store::text::Shown;
use vrift_store::{Manifest, Node, NodeId, NodeKind, Store, StoreError};

use crate::args::Ls;
use crate::daemon::through;
use crate::output::{Failure, Out, bytes, count};
use crate::{Outcome, complain};

/// Nothing has this name.
pub fn unknown(store: &Store, spec: &OsStr) -> StoreError {
    StoreError::Unknown { spec: spec.as_bytes().to_vec(), root: store.root().to_owned() }
}

/// Opens what REF means.
pub fn open_tree(store: &Store, spec: &OsStr) -> Result<Manifest, Failure> {
    let text = spec.to_str().ok_or_else(|| unknown(store, spec))?;
    Ok(store.open_manifest(text)?)
}

/// Opens what `REF[:PATH]` means; a ref's name has no colon.
pub fn open_path(store: &Store, spec: &OsStr) -> Result<(Manifest, NodeId, Vec<u8>), Failure> {
    let spec = spec.as_bytes();
    let colon = spec.iter().position(|&c| c == b':');
    let (tree, path) = colon.map_or((spec, &b""[..]), |at| (&spec[..at], &spec[at + 1..]));
    let manifest = open_tree(store, OsStr::from_bytes(tree))?;
    let Some(id) = manifest.find(path)? else {
        return Err(Failure::new(format!(
            "no {} in {}; `vrift ls {}` shows what there is (links are not followed)",
            Shown(path),
            Shown(tree),
            Shown(tree),
        )));
    };
    Ok((manifest, id, path.to_vec()))
}

/// `vrift ls`
pub fn ls(store: &Store, args: &Ls, out: &mut Out) -> Result<Outcome, Failure> {
    let (manifest, top, _) = open_path(store, &args.tree)?;
    if manifest.node(top)?.kind != NodeKind::Directory {
        let name = manifest.node(top)?.name.to_vec();
        list_one(&manifest, top, &name, args.long, out)?;
        return Ok(Outcome::Fine);
    }
    // Reversed, so that the next one in order is on top.
    let mut ahead: Vec<(NodeId, Vec<u8>)> = Vec::new();
    let push = |ahead: &mut Vec<_>, dir, path: &[u8]| -> Result<(), Failure> {
        for id in manifest.children(dir)?.rev() {
            let name = manifest.node(id)?.name;
            let full = if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() };
            ahead.push((id, full));
        }
        Ok(())
    };
    push(&mut ahead, top, b"")?;
    while let Some((id, path)) = ahead.pop() {
        list_one(&manifest, id, &path, args.long, out)?;
        if args.recursive {
            push(&mut ahead, id, &path)?;
        }
    }
    Ok(Outcome::Fine)
}

fn list_one(
    manifest: &Manifest,
    id: NodeId,
    path: &[u8],
    long: bool,
    out: &mut Out,
) -> Result<(), Failure> {
    let node = manifest.node(id)?;
    if out.json {
        return out.object(&node_json(&node, path));
    }
    if long {
        out.text(format_args!(
            "{} {:>4} {:>12} {} ",
            mode_text(&node),
            node.nlink,
            node.size,
            time_text(node.mtime_sec),
        ))?;
    }
    out.name(path)?;
    if long && node.kind == NodeKind::Symlink {
        out.raw(b" -> ")?;
        out.name(node.target)?;
    }
    out.raw(b"\n")
}

fn node_json(node: &Node<'_>, path: &[u8]) -> Value {
    let mut object = Map::new();
    put_name(&mut object, "path", path);
    object.insert("type".into(), node.kind.name().into());
    object.insert("mode".into(), format!("{:04o}", node.mode).into());
    object.insert("size".into(), node.size.into());
    object.insert("mtime".into(), node.mtime_sec.into());
    object.insert("mtime_nsec".into(), node.mtime_nsec.into());
    object.insert("nlink".into(), node.nlink.into());
    object.insert("inode".into(), node.inode.into());
    if let Some(blob) = node.blob {
        object.insert("blob".into(), blob.to_string().into());
    }
    if node.kind == NodeKind::Symlink {
        put_name(&mut object, "target", node.target);
    }
    let xattrs: Vec<Value> = node
        .xattrs()
        .map(|(name, value)| {
            let mut entry = Map::new();
            put_name(&mut entry, "name", name);
            entry.insert("value_bytes".into(), hex(value).into());
            entry.into()
        })
        .collect();
    if !xattrs.is_empty() {
        object.insert("xattrs".into(), xattrs.into());
    }
    object.into()
}

/// As `ls -l` writes it.
fn mode_text(node: &Node<'_>) -> String {
    let kind = match node.kind {
        NodeKind::File => '-',
        NodeKind::Directory => 'd',
        NodeKind::Symlink => 'l',
    };
    let mut text = String::from(kind);
    for (shift, special, letters) in [(6, 0o4000, "sS"), (3, 0o2000, "sS"), (0, 0o1000, "tT")] {
        let bits = node.mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (node.mode & special != 0, bits & 1 != 0) {
            (true, true) => char::from(letters.as_bytes()[0]),
            (true, false) => char::from(letters.as_bytes()[1]),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// Seconds since 1970 as a date and time in UTC.
fn time_text(seconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(86400), seconds.rem_euclid(86400));
    // Howard Hinnant's civil_from_days: years begin in March, so that leap days come last.
    let shifted = i128::from(days) + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i128::from(month <= 2);
    let (hours, minutes, seconds) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02} {hours:02}:{minutes:02}:{seconds:02}")
}

/// `vrift cat`
pub fn cat(store: &Store, file: &OsStr, out: &mut Out) -> Result<Outcome, Failure> {
    let (manifest, id, path) = open_path(store, file)?;
    let node = manifest.node(id)?;
    let Some(hash) = node.blob else {
        let what = match node.kind {
            NodeKind::Symlink => {
                format!("a symbolic link to {}: name its target instead", Shown(node.target))
            }
            _ if id == ROOT && path.is_empty() => {
                "a whole tree: name a file, as in REF:PATH".into()
            }
            _ => "a directory: `vrift ls` shows what it holds".into(),
        };
        return Err(Failure::new(format!("{} is {what}", Shown(file.as_bytes()))));
    };
    let mut blob = store.open_blob(&hash)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        let filled = match blob.read(&mut buffer) {
            Ok(0) => break,
            Ok(filled) => filled,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Failure::new(format!("can't read blob {hash}: {error}"))),
        };
        hasher.update(&buffer[..filled]);
        out.raw(&buffer[..filled])?;
    }
    if vrift_store::Hash::from(hasher.finalize()) != hash {
        return Err(StoreError::DamagedBlob { hash, root: store.root().to_owned() }.into());
    }
    Ok(Outcome::Fine)
}

/// `vrift diff`
pub fn diff(
    store: &Store,
    old: &OsStr,
    new: &OsStr,
    no_times: bool,
    out: &mut Out,
) -> Result<Outcome, Failure> {
    let (a, b) = (open_tree(store, old)?, open_tree(store, new)?);
    let mut changes = vrift_store::diff::diff(&a, &b)?;
    if no_times {
        vrift_store::diff::without_times(&mut changes);
    }
    out.changes(&changes)?;
    Ok(if changes.is_empty() { Outcome::Fine } else { Outcome::Found })
}

/// `vrift refs`
pub fn refs(store: &Store, out: &mut Out) -> Result<Outcome, Failure> {
    let refs = store.refs()?;
    let width = refs.iter().map(|entry| entry.name.chars().count()).max().unwrap_or(0);
    let mut outcome = Outcome::Fine;
    for entry in refs {
        let hash = match entry.target {
            Ok(hash) => hash.to_string(),
            Err(error) => {
                complain(&error.to_string());
                outcome = Outcome::Found;
                continue;
            }
        };
        if out.json {
            out.object(&json!({ "ref": entry.name, "manifest": hash }))?;
        } else {
            out.text(format_args!("{:width$}  {hash}\n", entry.name))?;
        }
    }
    Ok(outcome)
}

/// `vrift tag`
pub fn tag(store: &Store, from: &OsStr, new: &str, out: &mut Out) -> Result<Outcome, Failure> {
    let text = from.to_str().ok_or_else(|| unknown(store, from))?;
    // Opened, so that a ref never names what isn't there.
    let manifest = store.manifest(&store.resolve(text)?)?;
    let hash = manifest.id();
    if store.is_writable() {
        // Open until then, so that no collection takes it.
        store.set_ref(new, &hash)?;
    } else {
        through::simple(store, &Request::SetRef { name: new.to_owned(), manifest: hash })?;
    }
    drop(manifest);
    if out.json {
        out.object(&json!({ "ref": new, "manifest": hash.to_string() }))?;
    } else {
        out.text(format_args!("{new} -> {hash}\n"))?;
    }
    Ok(Outcome::Fine)
}

/// `vrift rm`
pub fn rm(store: &Store, name: &str, out: &mut Out) -> Result<Outcome, Failure> {
    if store.is_writable() {
        store.remove_ref(name)?;
    } else {
        through::simple(store, &Request::RemoveRef { name: name.to_owned() })?;
    }
    if out.json {
        out.object(&json!({ "removed": name }))?;
    }
    Ok(Outcome::Fine)
}

/// `vrift stats`
pub fn stats(store: &Store, out: &mut Out) -> Result<Outcome, Failure> {
    let stats = store.stats()?;
    if out.json {
        out.object(&json!({
            "store": String::from_utf8_lossy(store.root().as_os_str().as_bytes()),
            "blobs": stats.blobs,
            "blob_bytes": stats.blob_bytes,
            "blob_disk_bytes": stats.blob_disk_bytes,
            "protected_blobs": stats.protected_blobs,
            "quarantined_blobs": stats.quarantined_blobs,
            "manifests": stats.manifests,
            "manifest_bytes": stats.manifest_bytes,
            "unreadable_manifests": stats.unreadable_manifests,
            "refs": stats.refs,
            "files": stats.files,
            "file_bytes": stats.file_bytes,
        }))?;
        return Ok(Outcome::Fine);
    }
    out.text(format_args!("store      {}\n", vrift_store::text::shown(store.root())))?;
    out.text(format_args!("refs       {}\n", stats.refs))?;
    let manifest_bytes = bytes(stats.manifest_bytes);
    out.text(format_args!("manifests  {} ({manifest_bytes})\n", stats.manifests))?;
    let (apparent, disk) = (bytes(stats.blob_bytes), bytes(stats.blob_disk_bytes));
    out.text(format_args!("blobs      {} ({apparent}, {disk} on disk)\n", stats.blobs))?;
    if stats.protected_blobs > 0 {
        out.text(format_args!("protected  {}\n", count(stats.protected_blobs, "blob")))?;
    }
    if stats.quarantined_blobs > 0 {
        let n = count(stats.quarantined_blobs, "damaged blob");
        out.text(format_args!("aside      {n} in quarantine/\n"))?;
    }
    let file_bytes = bytes(stats.file_bytes);
    out.text(format_args!("files      {} ({file_bytes} if each was stored)\n", stats.files))?;
    if stats.blob_bytes > 0 {
        #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
        let ratio = stats.file_bytes as f64 / stats.blob_bytes as f64;
        out.text(format_args!("sharing    {ratio:.1} to 1\n"))?;
    }
    if stats.unreadable_manifests > 0 {
        let n = stats.unreadable_manifests;
        complain(&format!("{n} manifests can't be read: see `vrift verify`"));
        return Ok(Outcome::Found);
    }
    Ok(Outcome::Fine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(time_text(0), "1970-01-01 00:00:00");
        assert_eq!(time_text(-1), "1969-12-31 23:59:59");
        assert_eq!(time_text(951_782_400), "2000-02-29 00:00:00");
        assert_eq!(time_text(1_700_000_000), "2023-11-14 22:13:20");
        assert_eq!(time_text(4_102_444_799), "2099-12-31 23:59:59");
        assert!(time_text(i64::MAX).starts_with("292277026596-12-04"));
        assert!(time_text(i64::MIN).starts_with("-292277022657-01-27"));
    }
}
