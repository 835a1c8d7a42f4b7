//! What the daemon asks remotes for, with its own credentials and from its own environment. What was begun
//! is ended, also when the client has gone meanwhile.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::task::spawn_blocking;
use vrift_client::message::Counts;
use vrift_client::{Bytes, Reply};
use vrift_store::{Hash, Progress, StoreError, Verified, check_ref_name};

use super::session::Session;
use super::talk::Gone;
use super::work::{far, verify};
use crate::remote::{self, Options, RefSpec, Remote, RemoteError, Repaired, Transfer};

impl Session<'_> {
    /// Gets a tree.
    pub async fn pull(
        &mut self,
        place: String,
        spec: RefSpec,
        lazy: bool,
    ) -> Result<Vec<Reply>, Gone> {
        // It becomes a part of an object's name.
        if spec.source.parse::<Hash>().is_err()
            && let Err(error) = check_ref_name(&spec.source)
        {
            return Ok(vec![self.failed(&error)]);
        }
        let (store, transfer) = (Arc::clone(&self.shared.store), Arc::<Transfer>::default());
        let moved = Arc::clone(&transfer);
        let job = tokio::spawn(async move {
            let remote = Remote::open(OsStr::new(&place), Options::default())?;
            if lazy {
                let place = place.as_bytes();
                remote::pull_lazily(store.root(), &remote, place, &spec, None, &transfer).await
            } else {
                remote::pull(store.root(), &remote, &spec, &transfer).await
            }
        });
        let far = || (moved.done_blobs.load(Relaxed), moved.done_bytes.load(Relaxed));
        Ok(vec![match self.attend(job, far).await? {
            Ok(done) => Reply::Pulled(done),
            Err(error) => self.failed(&error),
        }])
    }

    /// Where a tree's contents were left; None when they are all here.
    pub fn origin(&self, manifest: &Hash) -> Result<Option<String>, StoreError> {
        let origin = self.shared.store.origin(manifest)?;
        Ok(origin.map(|origin| String::from_utf8_lossy(&origin.place).into_owned()))
    }

    /// Gets contents of a tree that was pulled without them.
    pub async fn prefetch(&mut self, manifest: Hash, blobs: Vec<Hash>) -> Result<Vec<Reply>, Gone> {
        let (store, transfer) = (Arc::clone(&self.shared.store), Arc::<Transfer>::default());
        let moved = Arc::clone(&transfer);
        let job =
            tokio::spawn(
                async move { remote::prefetch(&store, &manifest, &blobs, &transfer).await },
            );
        let far = || (moved.done_blobs.load(Relaxed), moved.done_bytes.load(Relaxed));
        Ok(vec![match self.attend(job, far).await? {
            Ok(done) => Reply::Fetched {
                blobs: done.new_blobs,
                bytes: done.new_bytes,
                absent: done.absent_blobs,
            },
            Err(error) => self.failed(&error),
        }])
    }

    /// Reads everything, or one tree, and gets what is damaged or missing.
    pub async fn repair(&mut self, place: String, tree: Option<Hash>) -> Result<Vec<Reply>, Gone> {
        let turn = self.turn().await?;
        let store = Arc::clone(&self.shared.store);
        let (read, moved) = (Arc::<Progress>::default(), Arc::<Transfer>::default());
        let (progress, transfer) = (Arc::clone(&read), Arc::clone(&moved));
        let job = tokio::spawn(async move {
            let _turn = turn;
            let remote = Remote::open(OsStr::new(&place), Options::default())?;
            let reader = Arc::clone(&store);
            let report =
                spawn_blocking(move || verify(&reader, tree.as_ref(), &progress)).await??;
            let done = match report.damage.is_empty() {
                true => Repaired::default(),
                false => {
                    let damage = report.damage.clone();
                    remote::repair(&store, &remote, damage, &transfer).await?
                }
            };
            Ok::<_, RemoteError>((report, done))
        });
        let far = || {
            let (entries, bytes) = far(&read);
            (entries + moved.done_blobs.load(Relaxed), bytes + moved.done_bytes.load(Relaxed))
        };
        Ok(match self.attend(job, far).await? {
            Ok((report, done)) => told(&report, &done),
            Err(error) => vec![self.failed(&error)],
        })
    }
}

fn told(report: &Verified, done: &Repaired) -> Vec<Reply> {
    let file = |path: &std::path::PathBuf| Bytes(path.as_os_str().as_bytes().to_vec());
    let repaired = done.files.iter().map(|path| Reply::Repaired { path: file(path) });
    let mut replies: Vec<Reply> = repaired.chain(done.left.iter().map(Reply::from)).collect();
    replies.push(Reply::Verified(Counts::from(report)));
    replies
}
