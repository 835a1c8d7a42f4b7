//! Changes to a tree of a store that this user may only read: the store's daemon takes them, if the
//! store's owner allows it.

use super::end::PublishError;
use super::ingest;
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};
use vrift_client::{Client, DaemonError, Upload};
use vrift_projection::overlay::{Overlay, Tree};
use vrift_store::{Hash, Manifest, Outlet, Store, StoreError};

/// A client that is silent for ten minutes is sent away.
const ASKED: Duration = Duration::from_secs(240);
/// How often a tree is put together before it is given up, when its contents are collected as fast as
/// they are stored.
const TRIES: u32 = 5;

/// Whether anything could be committed, to be known before a job has done its work.
///
/// # Errors
/// No, and why.
pub fn may_commit(store: &Store) -> Result<(), DaemonError> {
    Client::needed(store)?.may_ingest()
}

/// Who takes contents while the job runs; `None`: the store itself.
///
/// # Errors
/// There is nobody just now.
pub fn blobs(store: &Store) -> Result<Option<Upload<'_>>, DaemonError> {
    if store.is_writable() {
        return Ok(None);
    }
    // No tree goes this way, and so no name is used.
    Upload::new(store, "", None).map(Some)
}

/// Keeps the daemon from ending because nobody wants anything of it, while a job goes on that will: it
/// is asked something now and then. What goes wrong with that shows when the job ends.
pub struct Awake<'a> {
    /// None: the store itself takes what comes.
    store: Option<&'a Store>,
    client: Option<Client>,
    asked: Instant,
}

impl<'a> Awake<'a> {
    /// From now on.
    #[must_use]
    pub fn new(store: &'a Store) -> Awake<'a> {
        let store = Some(store).filter(|store| !store.is_writable());
        let client = store.and_then(|store| Client::connect(store).ok()?);
        Awake { store, client, asked: Instant::now() }
    }

    /// To be called more often than it has to be asked.
    pub fn keep(&mut self) {
        let Some(store) = self.store.filter(|_| self.asked.elapsed() > ASKED) else { return };
        self.asked = Instant::now();
        let client = self.client.take().or_else(|| Client::connect(store).ok()?);
        self.client = client.and_then(|mut client| client.may_ingest().ok().map(|()| client));
    }
}

/// Has the daemon publish the tree and move the ref `name` to it, if that still names `expected`.
///
/// # Errors
/// The daemon isn't there or says no, or the tree can't be put together.
pub fn commit(
    overlay: &Overlay,
    store: &Store,
    name: &str,
    expected: Option<&Hash>,
) -> Result<Tree, PublishError> {
    let upload = Upload::new(store, name, None).map_err(StoreError::from)?;
    let upload = upload.made_from(overlay.base().id(), expected.copied());
    for _ in 0..TRIES {
        let tree = overlay.tree(&|file| ingest::put(store, Some(&upload), file))?;
        if upload.tree(&tree.bytes, &tree.id)? {
            return Ok(tree);
        }
        overlay.forget_stored();
    }
    Err(StoreError::Vanishing { root: store.root().to_owned() }.into())
}

/// The tree as it is now and its manifest, of which nothing is stored.
///
/// # Errors
/// It can't be put together, or there is no memory for it.
pub fn look(overlay: &Overlay, store: &Store) -> Result<(Tree, Manifest), PublishError> {
    let tree = overlay.tree(&|file| ingest::put(store, Some(&Nowhere), file))?;
    // Else a commit would take them for stored.
    overlay.forget_stored();
    let memory = memfd_create("manifest", MFdFlags::MFD_CLOEXEC);
    let mut file = File::from(memory.map_err(|e| PublishError::Scratch(e.into()))?);
    file.write_all(&tree.bytes).map_err(PublishError::Scratch)?;
    let manifest = Manifest::open(Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd())))?;
    Ok((tree, manifest))
}

/// Contents are hashed, and that is all.
struct Nowhere;

impl Outlet for Nowhere {
    fn blob(
        &self,
        _hash: &Hash,
        _size: u64,
        _content: &mut dyn std::io::Read,
    ) -> Result<Option<bool>, StoreError> {
        Ok(Some(false))
    }

    fn tree(&self, _bytes: &[u8], _id: &Hash) -> Result<bool, StoreError> {
        Ok(false)
    }
}
