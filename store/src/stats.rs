//! How much there is, and what sharing content saves.

use rustix::fs::FileType;

use crate::error::StoreError;
use crate::platform;
use crate::store::Store;

/// Sizes of a store. Bytes, unless it says otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Number of blobs.
    pub blobs: u64,
    /// Length of all blobs together.
    pub blob_bytes: u64,
    /// What they take on the disk.
    pub blob_disk_bytes: u64,
    /// Of the blobs, those that are protected.
    pub protected_blobs: u64,
    /// Number of manifests.
    pub manifests: u64,
    /// Length of all manifests together.
    pub manifest_bytes: u64,
    /// Number of refs.
    pub refs: u64,
    /// Files in all manifests together.
    pub files: u64,
    /// What these files would take if each had its own content.
    pub file_bytes: u64,
    /// Damaged blobs that were put aside.
    pub quarantined_blobs: u64,
    /// Manifests that couldn't be read, and don't count in `files` and `file_bytes`.
    pub unreadable_manifests: u64,
}

impl Store {
    /// Counts everything. Blobs are looked at, not read.
    ///
    /// # Errors
    /// The store can't be listed.
    pub fn stats(&self) -> Result<Stats, StoreError> {
        let mut stats = Stats { refs: self.refs()?.len() as u64, ..Stats::default() };
        for (dir, kind) in self.list("blobs")? {
            let (FileType::Directory, Ok(dir)) = (kind, String::from_utf8(dir)) else { continue };
            let path = format!("blobs/{dir}");
            let fd = self.open_dir(&path)?;
            for (name, _) in self.list(&path)? {
                // Gone meanwhile, or not ours to look at: not counted.
                let Ok(blob) = platform::look(&fd, &name) else { continue };
                stats.protected_blobs += u64::from(blob.immutable);
                stats.blobs += 1;
                stats.blob_bytes += blob.size;
                stats.blob_disk_bytes += blob.disk;
            }
        }
        stats.quarantined_blobs = self.list("quarantine")?.len() as u64;
        for (name, _) in self.list("manifests")? {
            let Some(hash) = std::str::from_utf8(&name).ok().and_then(|name| name.parse().ok())
            else {
                continue;
            };
            stats.manifests += 1;
            match self.manifest(&hash) {
                Ok(manifest) => {
                    stats.manifest_bytes += manifest.file_len();
                    stats.files += u64::from(manifest.files());
                    stats.file_bytes += manifest.total_bytes();
                }
                Err(_) => stats.unreadable_manifests += 1,
            }
        }
        Ok(stats)
    }
}
