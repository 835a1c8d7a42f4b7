//! Refs of a remote: read, and moved only from where they were seen.
//!
//! Object stores compare and swap by themselves (conditional puts). In a directory a lock on `refs/`
//! does, as in a store: whoever moves a ref there with this program holds it.

use std::fs::File;
use std::path::Path as FilePath;

use object_store::path::Path;
use object_store::{PutMode, PutOptions, PutPayload, UpdateVersion};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use tokio::task::spawn_blocking;
use vrift_store::{Hash, StoreError};

use super::error::RemoteError;
use super::place::{Kind, Remote};

/// A ref as it was seen.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// The manifest; None for a ref that names nonsense.
    pub target: Option<Hash>,
    content: Vec<u8>,
    version: UpdateVersion,
}

fn object(name: &str) -> String {
    format!("refs/{name}")
}

/// The ref `name` as it is now; None when there is none.
pub(super) async fn see(remote: &Remote, name: &str) -> Result<Option<Seen>, RemoteError> {
    let Some((content, version)) = remote.read_small(&object(name)).await? else { return Ok(None) };
    let text = std::str::from_utf8(&content).ok().and_then(|text| text.strip_suffix('\n'));
    let target = text.and_then(|text| text.parse().ok());
    Ok(Some(Seen { target, content, version }))
}

/// What the ref `name` names.
pub(super) async fn target(remote: &Remote, name: &str) -> Result<Hash, RemoteError> {
    let (url, name) = (remote.url().to_owned(), name.to_owned());
    match see(remote, &name).await? {
        None => Err(RemoteError::NoRef { name, url }),
        Some(seen) => {
            let nonsense = || remote.junk(object(&name), "its content is not a manifest's hash");
            seen.target.ok_or_else(nonsense)
        }
    }
}

/// Makes `name` name `target` if it is still as it was `seen`.
pub(super) async fn set(
    remote: &Remote,
    name: &str,
    seen: Option<&Seen>,
    target: &Hash,
) -> Result<(), RemoteError> {
    if seen.is_some_and(|seen| seen.target == Some(*target)) {
        return Ok(());
    }
    let object = object(name);
    let path = remote.path(&object)?;
    let mode = match (&remote.kind, seen) {
        (Kind::Directory(root), seen) => {
            let _lock = lock(root).await?;
            let now = see(remote, name).await?;
            if now.as_ref().map(|now| &now.content) != seen.map(|seen| &seen.content) {
                return moved(remote, name, target).await;
            }
            return put(remote, &path, target, PutMode::Overwrite)
                .await
                .map_err(|error| remote.failed("write", &object, &error));
        }
        (_, None) => PutMode::Create,
        (_, Some(seen)) => PutMode::Update(seen.version.clone()),
    };
    match put(remote, &path, target, mode).await {
        Ok(()) => Ok(()),
        Err(
            object_store::Error::AlreadyExists { .. }
            | object_store::Error::Precondition { .. }
            | object_store::Error::NotFound { .. },
        ) => moved(remote, name, target).await,
        Err(error) => Err(remote.failed("write", &object, &error)),
    }
}

async fn put(
    remote: &Remote,
    path: &Path,
    target: &Hash,
    mode: PutMode,
) -> Result<(), object_store::Error> {
    let content = PutPayload::from(format!("{target}\n"));
    let options = PutOptions { mode, ..PutOptions::default() };
    remote.durable.put_opts(path, content, options).await.map(|_| ())
}

/// The service says that the ref isn't what it was: somebody moved it, or our own request arrived
/// twice as its answer was lost.
async fn moved(remote: &Remote, name: &str, target: &Hash) -> Result<(), RemoteError> {
    match see(remote, name).await? {
        Some(now) if now.target == Some(*target) => Ok(()),
        _ => Err(RemoteError::RefMoved { name: name.to_owned(), url: remote.url().to_owned() }),
    }
}

/// Waits until nobody else moves a ref of this directory.
async fn lock(root: &FilePath) -> Result<File, RemoteError> {
    let dir = root.join("refs");
    spawn_blocking(move || {
        std::fs::create_dir_all(&dir).map_err(StoreError::io("create", &dir))?;
        let file = File::open(&dir).map_err(StoreError::io("open", &dir))?;
        loop {
            match rustix::fs::flock(&file, FlockOperation::LockExclusive) {
                Ok(()) => return Ok(file),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(StoreError::io("lock", &dir)(errno).into()),
            }
        }
    })
    .await?
}
