//! One blob on its way, up or down: small ones in one piece, large ones as a stream, each hashed on
//! the way. What must never happen here: bytes that don't hash to the blob's name arrive anywhere.

use std::fs::File;
use std::io::Read;
use std::path::Path as FilePath;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::{GetResult, ObjectStoreExt, WriteMultipart};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use vrift_store::{Hash, Incoming, IncomingError, Store, StoreError};

use super::error::RemoteError;
use super::place::Remote;
use super::transfer::Budget;

/// Up to this size a blob is one request when it is pushed; larger ones go up in parts of it.
pub(super) const PART: usize = 8 << 20;
/// Parts of one blob under way at once.
const PARTS_AT_ONCE: usize = 3;
/// S3 takes at most 10,000 parts.
const MOST_PARTS: u64 = 9_000;
/// Up to this size a blob is kept in memory when it is pulled.
const IN_MEMORY: u64 = 1 << 20;
/// Pieces of a larger one that wait for the disk.
const WAITING: usize = 16;

/// The object that holds a blob.
pub(super) fn blob_object(hash: &Hash) -> String {
    let hex = hash.to_hex();
    format!("blobs/{}/{}", &hex.as_str()[..2], hex.as_str())
}

/// Sends a blob up; what is damaged here stays here.
pub(super) async fn upload(
    remote: &Remote,
    store: Arc<Store>,
    hash: Hash,
    size: u64,
    budget: &Budget,
) -> Result<(), RemoteError> {
    let name = blob_object(&hash);
    if size <= PART as u64 {
        let _memory = budget.take(size).await;
        let content = spawn_blocking(move || read_whole(&store, &hash, size)).await??;
        let sent = remote.objects.put(&remote.path(&name)?, content.into()).await;
        return sent.map(|_| ()).map_err(|error| remote.failed("write", &name, &error));
    }
    let path = store.root().join(Store::blob_path(&hash));
    let file = spawn_blocking(move || store.open_blob(&hash)).await??;
    upload_file(remote, (file, &path), &name, size, budget, Some(hash)).await
}

/// A blob of `size` bytes, if it is that.
pub(super) fn read_whole(store: &Store, hash: &Hash, size: u64) -> Result<Vec<u8>, RemoteError> {
    let mut content = Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1);
    let file = store.open_blob(hash)?;
    // One byte more than there should be tells that it is longer.
    file.take(size + 1)
        .read_to_end(&mut content)
        .map_err(StoreError::io("read", store.root().join(Store::blob_path(hash))))?;
    if Hash::of(&content) == *hash {
        Ok(content)
    } else {
        Err(RemoteError::DamagedHere { hash: *hash })
    }
}

/// Sends a file up in parts. With a hash the object only appears if that is the content's.
pub(super) async fn upload_file(
    remote: &Remote,
    file: (File, &FilePath),
    name: &str,
    size: u64,
    budget: &Budget,
    hash: Option<Hash>,
) -> Result<(), RemoteError> {
    let part = usize::try_from(size / MOST_PARTS).unwrap_or(PART).max(PART);
    let _memory = budget.take((part * (PARTS_AT_ONCE + 2)) as u64).await;
    let failed = |error| remote.failed("write", name, &error);
    let upload = remote.durable.put_multipart(&remote.path(name)?).await.map_err(failed)?;
    let mut writer = WriteMultipart::new_with_chunk_size(upload, part);
    match send_parts(&mut writer, file, part, size, hash).await {
        // Finishing aborts by itself when it fails.
        Ok(()) => writer.finish().await.map(|_| ()).map_err(failed),
        Err(error) => {
            // What went wrong first is what is told.
            let _ = writer.abort().await;
            Err(match error {
                Sending::Service(error) => failed(error),
                Sending::Own(error) => error,
            })
        }
    }
}

enum Sending {
    Service(object_store::Error),
    Own(RemoteError),
}

async fn send_parts(
    writer: &mut WriteMultipart,
    (mut file, path): (File, &FilePath),
    part: usize,
    size: u64,
    hash: Option<Hash>,
) -> Result<(), Sending> {
    let mut hasher = blake3::Hasher::new();
    let mut sent = 0u64;
    loop {
        let (back, hashed, read) = spawn_blocking(move || {
            let mut buffer = Vec::with_capacity(part);
            let read = (&mut file).take(part as u64).read_to_end(&mut buffer);
            hasher.update(&buffer);
            (file, hasher, read.map(|_| Bytes::from(buffer)))
        })
        .await
        .map_err(|error| Sending::Own(error.into()))?;
        (file, hasher) = (back, hashed);
        let failed = |error| Sending::Own(StoreError::io("read", path)(error).into());
        let bytes = read.map_err(failed)?;
        if bytes.is_empty() {
            break;
        }
        sent += bytes.len() as u64;
        writer.wait_for_capacity(PARTS_AT_ONCE).await.map_err(Sending::Service)?;
        writer.put(bytes);
    }
    match hash {
        Some(hash) if sent != size || Hash::from(hasher.finalize()) != hash => {
            Err(Sending::Own(RemoteError::DamagedHere { hash }))
        }
        _ => Ok(()),
    }
}

/// Fetches a blob into the store; with `again` in the place of one that is there.
pub(super) async fn download(
    remote: &Remote,
    store: Arc<Store>,
    hash: Hash,
    size: u64,
    again: bool,
    budget: &Budget,
) -> Result<(), RemoteError> {
    let name = blob_object(&hash);
    let _memory = budget.take(size.min(IN_MEMORY)).await;
    let found = remote.objects.get(&remote.path(&name)?).await;
    let found = found.map_err(|error| remote.failed("read", &name, &error))?;
    if found.meta.size != size {
        let why = format!("it has {} bytes, the manifest says {size}", found.meta.size);
        return Err(remote.junk(name, why));
    }
    let publish = move |incoming: Incoming<'_>| {
        if again { incoming.into_blob_again(&hash) } else { incoming.into_blob(&hash).map(|_| ()) }
    };
    if size <= IN_MEMORY {
        let mut content = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        let mut pieces = Pieces::of(remote, &name, found);
        while let Some(bytes) = pieces.next().await? {
            content.extend_from_slice(&bytes);
            if content.len() as u64 > size {
                // The length is refused below.
                break;
            }
        }
        let written = spawn_blocking(move || {
            let mut incoming = store.incoming(size)?;
            incoming.write(&content)?;
            publish(incoming)
        });
        return taken(remote, &name, written.await?);
    }
    let (pieces, mut waiting) = mpsc::channel::<Bytes>(WAITING);
    let written = spawn_blocking(move || {
        let mut incoming = store.incoming(size)?;
        let mut ended = false;
        while let Some(bytes) = waiting.blocking_recv() {
            // An empty piece is the end; without it the sender was given up.
            ended = bytes.is_empty();
            incoming.write(&bytes)?;
        }
        if !ended {
            return Err(IncomingError::Length { expected: size, found: 0 });
        }
        publish(incoming)
    });
    let received = pass_on(Pieces::of(remote, &name, found), pieces).await;
    let written = written.await?;
    received?;
    taken(remote, &name, written)
}

/// Sends all bytes of an object to who writes them, and an empty piece after the last.
async fn pass_on(mut from: Pieces<'_>, pieces: mpsc::Sender<Bytes>) -> Result<(), RemoteError> {
    while let Some(bytes) = from.next().await? {
        if pieces.send(bytes).await.is_err() {
            // Who writes has given up, and says why.
            return Ok(());
        }
    }
    let _ = pieces.send(Bytes::new()).await;
    Ok(())
}

/// An object's bytes, as they come.
pub(super) struct Pieces<'r> {
    remote: &'r Remote,
    name: &'r str,
    stream: BoxStream<'static, object_store::Result<Bytes>>,
}

impl<'r> Pieces<'r> {
    pub fn of(remote: &'r Remote, name: &'r str, found: GetResult) -> Pieces<'r> {
        Pieces { remote, name, stream: found.into_stream() }
    }

    /// The next bytes, never none of them; None at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, RemoteError> {
        loop {
            match self.stream.next().await.transpose() {
                Ok(Some(bytes)) if bytes.is_empty() => {}
                Ok(bytes) => return Ok(bytes),
                Err(error) => return Err(self.remote.failed("read", self.name, &error)),
            }
        }
    }
}

/// What came is the remote's fault, what can't be kept the store's.
pub(super) fn taken<T>(
    remote: &Remote,
    name: &str,
    result: Result<T, IncomingError>,
) -> Result<T, RemoteError> {
    result.map_err(|error| match error {
        IncomingError::Store(error) => error.into(),
        error => remote.junk(name, error.to_string()),
    })
}
