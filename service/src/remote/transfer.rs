//! What push and pull share: which refs are meant, how far a transfer is, and how much memory it may
//! take.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use vrift_store::{Hash, Manifest, check_ref_name};

use super::error::RemoteError;

/// Unit of the memory that is counted, in bytes.
const UNIT: u64 = 1 << 10;
/// Contents in memory at once, all transfers together, in units.
const MEMORY: u32 = 96 << 10;

/// How far a transfer is; read by who shows it.
#[derive(Debug, Default)]
pub struct Transfer {
    /// Blobs that have to be moved.
    pub blobs: AtomicU64,
    /// Their bytes.
    pub bytes: AtomicU64,
    /// Blobs moved.
    pub done_blobs: AtomicU64,
    /// Bytes moved.
    pub done_bytes: AtomicU64,
}

impl Transfer {
    pub(super) fn expect(&self, blobs: &[(Hash, u64)]) {
        self.blobs.fetch_add(blobs.len() as u64, Relaxed);
        self.bytes.fetch_add(blobs.iter().map(|(_, size)| size).sum(), Relaxed);
    }

    pub(super) fn did(&self, bytes: u64) {
        self.done_blobs.fetch_add(1, Relaxed);
        self.done_bytes.fetch_add(bytes, Relaxed);
    }
}

/// Moves things, so many at once, each by what `one` makes of it. An error ends those under way.
/// What each gave is given in no order.
pub(super) async fn move_all<T, R, F>(
    jobs: usize,
    things: impl IntoIterator<Item = T>,
    one: impl Fn(T) -> F,
) -> Result<Vec<R>, RemoteError>
where
    R: Send + 'static,
    F: Future<Output = Result<R, RemoteError>> + Send + 'static,
{
    // Dropped on an error, it ends what is still under way.
    let mut tasks: JoinSet<Result<R, RemoteError>> = JoinSet::new();
    let mut results = Vec::new();
    for thing in things {
        if tasks.len() >= jobs
            && let Some(done) = tasks.join_next().await
        {
            results.push(done??);
        }
        tasks.spawn(one(thing));
    }
    while let Some(done) = tasks.join_next().await {
        results.push(done??);
    }
    Ok(results)
}

/// `SOURCE[:NAME]`: what to move, and the ref that it gets on the other side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefSpec {
    /// For a push whatever means a manifest here, for a pull a ref there.
    pub source: String,
    /// The ref to set.
    pub name: String,
}

impl RefSpec {
    /// Parses an argument. A ref's name holds no colon.
    ///
    /// # Errors
    /// [`RemoteError::Spec`]: no text, or the name can't be a ref's.
    pub fn parse(argument: &OsStr) -> Result<RefSpec, RemoteError> {
        let bad = |why: String| RemoteError::Spec { spec: argument.as_bytes().to_vec(), why };
        let text = argument.to_str().ok_or_else(|| bad("it isn't UTF-8".into()))?;
        let (source, name) = text.split_once(':').unwrap_or((text, text));
        check_ref_name(name).map_err(|error| {
            bad(format!("{error}; REF:NAME gives it another on the other side"))
        })?;
        Ok(RefSpec { source: source.to_owned(), name: name.to_owned() })
    }
}

/// Bounds the memory that contents take, whatever their sizes and however many are moved at once.
#[derive(Debug, Clone)]
pub(super) struct Budget(Arc<Semaphore>);

impl Budget {
    pub fn new() -> Budget {
        Budget(Arc::new(Semaphore::new(MEMORY as usize)))
    }

    /// Waits until `bytes` may be taken; they are given back by dropping the result.
    pub async fn take(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(MEMORY).clamp(1, MEMORY);
        // None only for a semaphore that was closed, which this one never is.
        Arc::clone(&self.0).acquire_many_owned(units).await.ok()
    }
}

/// The blobs of a manifest with their sizes, in ascending order of the hashes.
///
/// # Errors
/// The manifest is damaged, or gives one content two sizes.
pub(crate) fn blobs_of(manifest: &Manifest) -> Result<Vec<(Hash, u64)>, String> {
    let mut blobs = Vec::with_capacity(manifest.blobs() as usize);
    let damaged = |error: vrift_store::ManifestError| error.to_string();
    for i in 0..manifest.blobs() {
        let blob = manifest.blob(i).map_err(damaged)?;
        let mut size = None;
        for node in manifest.by_blob(&blob).map_err(damaged)? {
            let node = manifest.node(node).map_err(damaged)?;
            if size.is_some_and(|size| size != node.size) {
                return Err(format!("it gives blob {blob} two sizes"));
            }
            size = Some(node.size);
        }
        let size = size.ok_or_else(|| format!("no file needs its blob {blob}"))?;
        blobs.push((blob, size));
    }
    Ok(blobs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refs_are_named_for_the_other_side() {
        let parse = |text: &str| RefSpec::parse(text.as_ref());
        let spec = |source: &str, name: &str| RefSpec { source: source.into(), name: name.into() };
        assert_eq!(parse("a/b").expect("a ref"), spec("a/b", "a/b"));
        assert_eq!(parse("3f9a01c2:x").expect("a hash"), spec("3f9a01c2", "x"));
        for bad in ["", "a:", "a:b:c", "../x", "a:-b"] {
            let said = parse(bad).expect_err(bad).to_string();
            assert!(said.contains("can't be a ref's name"), "{said}");
        }
        let said = parse(&Hash::of(b"").to_string()).expect_err("a hash").to_string();
        assert!(said.contains("REF:NAME"), "{said}");
    }

    #[test]
    fn one_blob_larger_than_all_memory_still_moves() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let budget = Budget::new();
            let all = budget.take(u64::MAX).await;
            assert_eq!(budget.0.available_permits(), 0);
            drop(all);
            let some = (budget.take(1).await, budget.take(0).await, budget.take(1025).await);
            assert_eq!(budget.0.available_permits(), MEMORY as usize - 4);
            drop(some);
        });
    }
}
