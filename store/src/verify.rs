//! Is the store whole? Every blob is read and hashed again, every manifest checked from end to
//! end, every ref followed. Nothing is changed here.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rayon::prelude::*;
use rustix::fs::FileType;

use crate::content;
use crate::error::StoreError;
use crate::hash::Hash;
use crate::ingest::Progress;
use crate::manifest::{Manifest, ManifestError, NodeKind};
use crate::platform;
use crate::quarantine::Suspect;
use crate::store::{Store, blob_name, manifest_name};

/// One thing that isn't as it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Damage {
    /// The file, relative to the store's root.
    pub path: PathBuf,
    /// What is wrong, and what it means.
    pub what: String,
    /// Was it moved to `quarantine/`?
    pub quarantined: bool,
}

/// What `verify` saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// Blobs read.
    pub blobs: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Manifests checked.
    pub manifests: u64,
    /// Refs followed.
    pub refs: u64,
    /// Blobs that aren't here and needn't be: their trees came without them, and the store knows
    /// where from.
    pub absent: u64,
    /// All damage, in order of paths; empty for a whole store.
    pub damage: Vec<Damage>,
    /// Blobs that are protected.
    pub protected: u64,
    /// Blobs whose content is another, for [`Store::quarantine`].
    pub(crate) suspects: Vec<Suspect>,
}

#[derive(Default)]
struct Findings {
    damage: Mutex<Vec<Damage>>,
    suspects: Mutex<Vec<Suspect>>,
    protected: AtomicU64,
}

impl Findings {
    fn add(&self, path: impl AsRef<Path>, what: impl Into<String>) {
        let path = path.as_ref().to_owned();
        lock(&self.damage).push(Damage { path, what: what.into(), quarantined: false });
    }

    fn conclude(self, mut report: Verified) -> Verified {
        report.damage = std::mem::take(&mut lock(&self.damage));
        report.suspects = std::mem::take(&mut lock(&self.suspects));
        report.protected = self.protected.into_inner();
        report.damage.sort_unstable();
        report.damage.dedup();
        report
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// Checks everything: all blobs, manifests and refs.
    ///
    /// # Errors
    /// The store can't be listed. Damage is no error but part of the answer.
    pub fn verify(&self, progress: &Progress) -> Result<Verified, StoreError> {
        let findings = Findings::default();
        let mut report = Verified::default();

        let blobs = self.all_blobs(&findings)?;
        let mut sizes = self.check_blobs(&blobs, &findings, progress);

        for (name, _) in self.list("manifests")? {
            let Some(hash) = std::str::from_utf8(&name).ok().and_then(|name| name.parse().ok())
            else {
                let name = String::from_utf8_lossy(&name).into_owned();
                findings.add(Path::new("manifests").join(name), "its name is not a hash");
                continue;
            };
            // Collected since it was listed.
            if self.open_file(&manifest_name(&hash))?.is_none() {
                continue;
            }
            report.manifests += 1;
            if let Some(manifest) = self.check_manifest(&hash, &findings) {
                let blobs = manifest_blobs(&manifest, &hash, &findings);
                // With a manifest that was published since, its blobs came.
                let unseen: Vec<Hash> =
                    blobs.into_iter().filter(|blob| !sizes.contains_key(blob)).collect();
                sizes.extend(self.check_blobs(&unseen, &findings, progress));
                let missing = unseen.into_iter().filter(|blob| !sizes.contains_key(blob));
                report.absent += self.report_missing(&manifest, missing, &findings);
                check_sizes(&manifest, &sizes, &findings);
            }
        }
        (report.blobs, report.bytes) = (sizes.len() as u64, sizes.values().sum());
        for entry in self.refs()? {
            report.refs += 1;
            let path = format!("refs/{}", entry.name);
            match entry.target {
                // Moved since, and what it named was collected.
                Ok(hash) if !matches!(self.ref_target(&entry.name), Ok(Some(now)) if now == hash) =>
                    {}
                Err(_) => findings.add(path, "its content is not a manifest's hash; set it again"),
                Ok(hash) if self.open_file(&manifest_name(&hash))?.is_none() => {
                    findings.add(path, format!("names manifest {hash}, which is missing"));
                }
                Ok(_) => {}
            }
        }
        Ok(findings.conclude(report))
    }

    /// Checks one manifest and the blobs that it needs.
    ///
    /// # Errors
    /// None at present; damage is part of the answer.
    pub fn verify_manifest(
        &self,
        hash: &Hash,
        progress: &Progress,
    ) -> Result<Verified, StoreError> {
        let findings = Findings::default();
        let mut report = Verified { manifests: 1, ..Verified::default() };
        if let Some(manifest) = self.check_manifest(hash, &findings) {
            let (mut present, mut missing) = (Vec::new(), Vec::new());
            for blob in manifest_blobs(&manifest, hash, &findings) {
                let there = self.open_file(&blob_name(&blob))?.is_some();
                if there { present.push(blob) } else { missing.push(blob) }
            }
            report.absent = self.report_missing(&manifest, missing.into_iter(), &findings);
            let sizes = self.check_blobs(&present, &findings, progress);
            (report.blobs, report.bytes) = (sizes.len() as u64, sizes.values().sum());
            check_sizes(&manifest, &sizes, &findings);
        }
        Ok(findings.conclude(report))
    }

    /// Every blob by its name; what stands among them and isn't one is damage.
    fn all_blobs(&self, findings: &Findings) -> Result<Vec<Hash>, StoreError> {
        let mut blobs = Vec::new();
        for (dir, kind) in self.list("blobs")? {
            let dir = String::from_utf8_lossy(&dir).into_owned();
            let path = format!("blobs/{dir}");
            if kind != FileType::Directory {
                findings.add(path, "doesn't belong here");
                continue;
            }
            for (name, _) in self.list(&path)? {
                let name = String::from_utf8_lossy(&name).into_owned();
                match name.parse::<Hash>() {
                    Ok(hash) if name.starts_with(&dir) && dir.len() == 2 => blobs.push(hash),
                    Ok(_) => findings.add(format!("{path}/{name}"), "is in the wrong directory"),
                    Err(_) => findings.add(format!("{path}/{name}"), "its name is not a hash"),
                }
            }
        }
        Ok(blobs)
    }

    /// Reads the blobs in parallel; returns how long each is that is there.
    fn check_blobs(
        &self,
        blobs: &[Hash],
        findings: &Findings,
        progress: &Progress,
    ) -> HashMap<Hash, u64> {
        let sizes = blobs.par_iter().filter_map(|hash| {
            let len = self.check_blob(hash, findings).unwrap_or_else(|error| {
                findings.add(blob_name(hash), format!("can't be read: {error}"));
                Some(0)
            })?;
            progress.add(len);
            Some((*hash, len))
        });
        sizes.collect()
    }

    /// Gives the blob's length; None when there is no such blob (any more).
    fn check_blob(&self, hash: &Hash, findings: &Findings) -> io::Result<Option<u64>> {
        let name = blob_name(hash);
        let mut file = match self.open_file(&name) {
            Ok(Some(file)) => file,
            Ok(None) => return Ok(None),
            Err(StoreError::Io { source, .. }) => return Err(source),
            Err(error) => return Err(io::Error::other(error)),
        };
        let meta = file.metadata()?;
        if !meta.is_file() {
            findings.add(name, "is not a regular file");
            return Ok(Some(0));
        }
        if meta.mode() & 0o7777 != 0o444 {
            findings.add(&name, format!("has mode {:04o} instead of 0444", meta.mode() & 0o7777));
        }
        if platform::is_immutable(&file) {
            findings.protected.fetch_add(1, Ordering::Relaxed);
        }
        let suspect = || lock(&findings.suspects).push(Suspect::new(hash, &meta));
        let (found, len) = content::hash_rest(&mut file, meta.len()).inspect_err(|_| suspect())?;
        if found != *hash {
            let what = "its content has another hash; `vrift verify --quarantine` puts it aside, \
                        then ingest its tree again";
            findings.add(name, what);
            suspect();
        }
        Ok(Some(len))
    }

    fn check_manifest(&self, hash: &Hash, findings: &Findings) -> Option<Manifest> {
        let checked = self.manifest(hash).and_then(|manifest| {
            manifest.check()?;
            Ok(manifest)
        });
        match checked {
            Ok(manifest) => Some(manifest),
            Err(error) => {
                let what = match error {
                    StoreError::Manifest(ManifestError::Damaged { what, offset, .. }) => {
                        format!("is damaged at byte {offset}: {what}; ingest its tree again")
                    }
                    StoreError::Manifest(ManifestError::NotAManifest { .. }) => {
                        "is not a manifest".to_owned()
                    }
                    StoreError::MissingManifest { .. } => "is missing".to_owned(),
                    StoreError::MisnamedManifest { found, .. } => {
                        format!("holds another manifest: {found}")
                    }
                    error => format!("can't be read: {error}"),
                };
                findings.add(manifest_name(hash), what);
                None
            }
        }
    }

    /// Missing blobs are damage, but for those of a tree that came without them: their number is
    /// returned.
    fn report_missing(
        &self,
        manifest: &Manifest,
        missing: impl Iterator<Item = Hash>,
        findings: &Findings,
    ) -> u64 {
        // An unreadable note of the origin is none: then they are missing.
        if matches!(self.origin(&manifest.id()), Ok(Some(_))) {
            return missing.count() as u64;
        }
        for blob in missing {
            let user = manifest.by_blob(&blob).ok().and_then(|mut ids| ids.next());
            let path = user.and_then(|id| manifest.path_of(id).ok()).unwrap_or_default();
            let path = crate::text::Shown(&path);
            let what = format!("is missing; {path} of manifest {} needs it", manifest.id());
            findings.add(blob_name(&blob), what);
        }
        0
    }
}

/// A file's size in a manifest is that of its blob. A blob of the wrong length was reported
/// already, so what is left is a manifest that lies.
fn check_sizes(manifest: &Manifest, sizes: &HashMap<Hash, u64>, findings: &Findings) {
    for id in 0..manifest.len() {
        let Ok(node) = manifest.node(id) else { return };
        let (NodeKind::File, Some(blob)) = (node.kind, node.blob) else { continue };
        if sizes.get(&blob).is_some_and(|len| *len != node.size) {
            let path = manifest.path_of(id).unwrap_or_default();
            let path = crate::text::Shown(&path);
            let what = format!("says {} bytes for {path}, its blob has others", node.size);
            findings.add(manifest_name(&manifest.id()), what);
        }
    }
}

fn manifest_blobs(manifest: &Manifest, hash: &Hash, findings: &Findings) -> Vec<Hash> {
    let blobs: Result<Vec<Hash>, ManifestError> =
        (0..manifest.blobs()).map(|i| manifest.blob(i)).collect();
    blobs.unwrap_or_else(|error| {
        findings.add(manifest_name(hash), error.to_string());
        Vec::new()
    })
}
