//! Which manifests stay, and which may go.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use rustix::fs::{self, AtFlags};

use super::{CollectOptions, Collected, is_old};
use crate::error::StoreError;
use crate::hash::Hash;
use crate::store::{Store, manifest_name};
use crate::text::shown;

/// All manifests of a store, by what becomes of them.
pub(super) struct Wanted {
    /// Those that stay.
    pub stay: Vec<Hash>,
    /// Those that nothing names, that nobody has open, and that are old enough.
    pub go: Vec<Hash>,
}

impl Wanted {
    /// As it is at this moment. Only while nobody publishes or moves refs is it so for longer.
    pub fn now(
        store: &Store,
        options: &CollectOptions,
        done: &mut Collected,
    ) -> Result<Wanted, StoreError> {
        let named = named(store, options, done)?;
        let there = store.manifests()?;
        for (hash, by) in &named {
            // Changes that are none can do without it.
            if let Some(by) = by
                && there.binary_search(hash).is_err()
            {
                return Err(StoreError::Dangling { by: by.clone(), hash: *hash });
            }
        }
        let now = SystemTime::now();
        let mut wanted = Wanted { stay: Vec::new(), go: Vec::new() };
        (done.in_use, done.young_manifests) = (0, 0);
        for hash in there {
            let name = manifest_name(&hash);
            if named.contains_key(&hash) {
                wanted.stay.push(hash);
            } else if !changed(store, &name)?.is_none_or(|time| is_old(time, now, options.grace)) {
                done.young_manifests += 1;
                wanted.stay.push(hash);
            } else if store.lock_manifest(&name)?.is_none() {
                done.in_use += 1;
                wanted.stay.push(hash);
            } else {
                wanted.go.push(hash);
            }
        }
        done.kept_manifests = wanted.stay.len() as u64;
        Ok(wanted)
    }
}

/// Every manifest that has to be there, and what names it; None where nothing is lost without it.
fn named(
    store: &Store,
    options: &CollectOptions,
    done: &mut Collected,
) -> Result<BTreeMap<Hash, Option<String>>, StoreError> {
    let mut named = BTreeMap::new();
    let refs = store.refs()?;
    done.refs = refs.len() as u64;
    for entry in refs {
        named.insert(entry.target?, Some(format!("ref {:?}", entry.name)));
    }
    let uppers = store.kept_uppers(!options.dry_run)?;
    done.uppers = uppers.len() as u64;
    for upper in uppers {
        let by = upper.changed.then(|| format!("what is kept in {}", shown(&upper.path)));
        let known = named.entry(upper.manifest).or_insert(None);
        *known = known.take().or(by);
    }
    Ok(named)
}

/// When a file of the store was changed last; None when it is gone.
fn changed(store: &Store, name: &str) -> Result<Option<SystemTime>, StoreError> {
    match fs::statat(store.root_fd(), name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(time(stat.st_mtime, stat.st_mtime_nsec))),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(errno) => Err(StoreError::io("look at", store.root().join(name))(errno)),
    }
}

/// A time of a stat; one before 1970 is as good as 1970 here.
#[allow(clippy::useless_conversion, reason = "the fields' types differ between architectures")]
pub(super) fn time(seconds: impl TryInto<u64>, nanoseconds: impl TryInto<u32>) -> SystemTime {
    let seconds = seconds.try_into().unwrap_or(0);
    let nanoseconds = nanoseconds.try_into().unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds)
}
