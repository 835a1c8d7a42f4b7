//! One open file becomes a blob: its extents are shared where the file systems can, else it is read
//! once. Who opened it is told when it changed meanwhile.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, SystemTime};

use rustix::fs::{self, FileType, Stat};
use rustix::io::Errno;

use super::{Outlet, Reason};
use crate::content::{self, Cloned, CopyError, FromStart};
use crate::error::StoreError;
use crate::hash::Hash;
use crate::manifest::{Entry, LinkKey};
use crate::platform;
use crate::publish::{Draft, Published};
use crate::store::{Store, blob_name};

/// Up to this size a file is read into memory, hashed, and written only if its blob is missing.
const IN_MEMORY: u64 = 2 << 20;
/// From this size on it is worth asking for shared extents.
const CLONE_FROM: u64 = 128 << 10;
/// Linux stamps files with the time of its last clock tick, at most this long ago.
const TICK: Duration = Duration::from_millis(10);

/// Why one file couldn't be stored: its own fault, or the store's.
pub(super) enum Failed {
    /// This file can't be stored; others can.
    File(&'static str, Reason),
    /// No file can.
    Store(StoreError),
}

impl Failed {
    pub fn io<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Failed {
        move |error| Failed::File(what, Reason::Io(error.into()))
    }

    pub fn changing() -> Failed {
        Failed::File("read", Reason::Changing)
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Failed {
        Failed::Store(error)
    }
}

/// What [`Store::put_file`] did.
#[derive(Debug)]
pub struct PutFile {
    /// The file as a manifest has it: mode, time of modification, size, blob and `user.*`
    /// attributes, all of one moment. Its `link` is left to the caller.
    pub entry: Entry,
    /// Didn't the store have the content yet?
    pub new: bool,
}

/// Why [`Store::put_file`] stored nothing. The caller knows the file's name and puts it in front.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The store failed: no other file can be stored either.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// This file can't be read.
    #[error("can't {what} it: {source}")]
    Source {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// It was changed while it was read: another try may do.
    #[error("it changed while it was read")]
    Changed,
}

impl From<Failed> for PutError {
    fn from(failed: Failed) -> PutError {
        match failed {
            Failed::Store(error) => PutError::Store(error),
            Failed::File(what, Reason::Io(source)) => PutError::Source { what, source },
            Failed::File(_, Reason::Changing) => PutError::Changed,
        }
    }
}

impl Store {
    /// Stores the content of an open regular file as a blob, as an ingest does: its extents are
    /// shared where the file systems can (FICLONE), else it is copied, holes kept as holes; it is
    /// never hard-linked. The file's offset is neither used nor moved. Not durable before
    /// [`Store::sync`].
    ///
    /// A file that was changed within the last clock tick is looked at when the tick is over, so
    /// this may sleep for 10 ms.
    ///
    /// # Errors
    /// The store can't be written, the file can't be read, or its size, mtime or ctime changed
    /// meanwhile ([`PutError::Changed`]; nothing is tried twice here).
    pub fn put_file(&self, file: &File) -> Result<PutFile, PutError> {
        self.put_file_to(None, file)
    }

    /// As [`Store::put_file`], but what the store lacks goes to `outlet`.
    ///
    /// # Errors
    /// As [`Store::put_file`], and what `outlet` fails with.
    pub fn put_file_through(&self, outlet: &dyn Outlet, file: &File) -> Result<PutFile, PutError> {
        self.put_file_to(Some(outlet), file)
    }

    fn put_file_to(&self, outlet: Option<&dyn Outlet>, file: &File) -> Result<PutFile, PutError> {
        let stat = fs::fstat(file).map_err(Failed::io("look at"))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
            return Err(PutError::Source { what: "store", source });
        }
        match try_store(&Target { store: self, outlet }, file, stat)? {
            Some(stored) => Ok(PutFile { entry: stored.entry, new: stored.new }),
            None => Err(PutError::Changed),
        }
    }
}

/// Where contents go.
pub(super) struct Target<'a> {
    pub store: &'a Store,
    /// Who stores what `store` lacks, where this process may only read it.
    pub outlet: Option<&'a dyn Outlet>,
}

/// A stored file.
pub(super) struct Stored {
    pub entry: Entry,
    /// Device and inode.
    pub id: LinkKey,
    /// Names the inode has, in the tree or outside.
    pub nlink: u64,
    pub new: bool,
}

/// The part of a stat that tells whether a file was changed.
fn stamp(stat: &Stat) -> (i64, i64, u64, i64, u64) {
    #[allow(
        clippy::unnecessary_cast,
        clippy::cast_sign_loss,
        reason = "the fields' types differ between architectures and systems"
    )]
    (
        stat.st_size as i64,
        stat.st_mtime as i64,
        stat.st_mtime_nsec as u64,
        stat.st_ctime as i64,
        stat.st_ctime_nsec as u64,
    )
}

pub(super) fn unchanged(before: &Stat, after: &Stat) -> bool {
    stamp(before) == stamp(after)
}

/// Modification time as a manifest holds it.
pub(super) fn mtime(stat: &Stat) -> (i64, u32) {
    #[allow(clippy::unnecessary_cast, reason = "the field's type differs between architectures")]
    let seconds = stat.st_mtime as i64;
    (seconds, u32::try_from(stat.st_mtime_nsec).unwrap_or(0))
}

/// A change within the clock tick of the last one leaves no trace in the times; so a file that was
/// changed just now is looked at when the tick is over.
///
/// Gives what is seen of the file from then on.
fn settle(file: &File, stat: Stat) -> Stat {
    let changed = Duration::new(
        u64::try_from(stat.st_ctime).unwrap_or(0),
        u32::try_from(stat.st_ctime_nsec).unwrap_or(0),
    );
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    match now.checked_sub(changed) {
        Some(age) if age < TICK => {
            std::thread::sleep(TICK - age);
            fs::fstat(file).unwrap_or(stat)
        }
        _ => stat,
    }
}

/// Stores a file that looked like `stat` when it was opened. None when it changed meanwhile.
pub(super) fn try_store(
    to: &Target<'_>,
    file: &File,
    stat: Stat,
) -> Result<Option<Stored>, Failed> {
    let before = settle(file, stat);
    if FileType::from_raw_mode(before.st_mode) != FileType::RegularFile {
        return Err(Failed::changing());
    }
    let size = u64::try_from(before.st_size).unwrap_or(0);
    let xattrs = user_xattrs(file).map_err(Failed::io("read the attributes of"))?;
    let Some((blob, new)) = store_content(to, file, size, platform::device_of(&before))? else {
        return Ok(None);
    };
    let after = fs::fstat(file).map_err(Failed::io("look at"))?;
    if !unchanged(&before, &after) {
        return Ok(None);
    }
    let mut entry = Entry::file(platform::mode_of(&before), mtime(&before), size, blob);
    entry.xattrs = xattrs;
    #[allow(clippy::useless_conversion, reason = "the type differs between architectures")]
    let nlink = u64::from(before.st_nlink);
    let id = LinkKey::new(platform::device_of(&before), before.st_ino);
    Ok(Some(Stored { entry, id, nlink, new }))
}

/// The blob and whether it is new; None when the file isn't `size` bytes long any more.
fn store_content(
    to: &Target<'_>,
    file: &File,
    size: u64,
    device: u64,
) -> Result<Option<(Hash, bool)>, Failed> {
    let store = to.store;
    if let Some(outlet) = to.outlet {
        return if size <= IN_MEMORY {
            store_small(file, size, |content, hash| {
                let lacks = !store.has_blob(hash, size)?;
                Ok(if lacks { outlet.blob(hash, size, &mut &*content)? } else { Some(false) })
            })
        } else {
            hand_large(store, outlet, file, size)
        };
    }
    if size >= CLONE_FROM
        && store.may_clone(device)
        && let Some(result) = store_clone(store, file, size, device)?
    {
        return Ok(Some(result));
    }
    if size > IN_MEMORY {
        return store_large(store, file, size);
    }
    store_small(file, size, |content, hash| Ok(Some(store.put_hashed(content, hash)?)))
}

/// `keep` stores a content and says whether it was new.
fn store_small(
    file: &File,
    size: u64,
    keep: impl FnOnce(&[u8], &Hash) -> Result<Option<bool>, StoreError>,
) -> Result<Option<(Hash, bool)>, Failed> {
    thread_local!(static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) });
    BUFFER.with_borrow_mut(|buffer| {
        let len = usize::try_from(size).unwrap_or(0);
        // One byte more, to see that the file ends where it should: if it goes on without telling, as
        // what a file system makes up does, and not where the look afterwards will tell.
        if buffer.len() <= len {
            buffer.resize(len + 1, 0);
        }
        let mut from = FromStart::new(file);
        let filled = content::read_at_least(&mut from, &mut buffer[..=len], len.max(1))
            .map_err(|error| Failed::File("read", Reason::Io(error)))?;
        if filled != len {
            return Ok(None);
        }
        let hash = Hash::of(&buffer[..len]);
        Ok(keep(&buffer[..len], &hash)?.map(|new| (hash, new)))
    })
}

fn store_large(store: &Store, file: &File, size: u64) -> Result<Option<(Hash, bool)>, Failed> {
    let read = |error| Failed::File("read", Reason::Io(error));
    let draft = Draft::new(store)?;
    let sparse = content::is_sparse(file).map_err(read)?;
    let copied = content::copy_hashed(&mut FromStart::new(file), draft.file(), size, sparse);
    let (hash, len) = copied.map_err(|error| match error {
        CopyError::Read(error) => read(error),
        CopyError::Write(error) => write_failed(store, error),
    })?;
    if len != size {
        return Ok(None);
    }
    publish(draft, &hash, size).map(Some)
}

/// Reads a file twice if the store lacks it: its hash is said before its content.
fn hand_large(
    store: &Store,
    outlet: &dyn Outlet,
    file: &File,
    size: u64,
) -> Result<Option<(Hash, bool)>, Failed> {
    let (hash, len) = content::hash_rest(&mut FromStart::new(file), size)
        .map_err(|error| Failed::File("read", Reason::Io(error)))?;
    if len != size {
        return Ok(None);
    }
    if store.has_blob(&hash, size)? {
        return Ok(Some((hash, false)));
    }
    Ok(outlet.blob(&hash, size, &mut FromStart::new(file))?.map(|new| (hash, new)))
}

/// None when the file system can't, or not for this file.
fn store_clone(
    store: &Store,
    file: &File,
    size: u64,
    device: u64,
) -> Result<Option<(Hash, bool)>, Failed> {
    let draft = Draft::new(store)?;
    match content::clone(file, draft.file()).map_err(|error| write_failed(store, error))? {
        Cloned::Done => {}
        Cloned::NotThis => return Ok(None),
        Cloned::Never => {
            store.never_clone(device);
            return Ok(None);
        }
    }
    // The clone is ours and doesn't change any more: what is hashed is what is published.
    let (hash, len) =
        content::hash_rest(&mut draft.file(), size).map_err(|error| write_failed(store, error))?;
    if len != size {
        return Ok(None);
    }
    publish(draft, &hash, size).map(Some)
}

fn publish(draft: Draft<'_>, hash: &Hash, size: u64) -> Result<(Hash, bool), Failed> {
    let published = draft.publish_or_repair(&blob_name(hash), size)?;
    Ok((*hash, published == Published::New))
}

fn write_failed(store: &Store, error: io::Error) -> Failed {
    Failed::Store(StoreError::io("write to", store.root())(error))
}

/// Names and values.
pub type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// The `user.*` attributes of an open file or directory, which are all that a manifest keeps, as
/// names and values; none where the file system has no attributes.
///
/// # Errors
/// They can't be read: flistxattr(2) and fgetxattr(2).
pub fn user_xattrs(file: impl AsFd) -> io::Result<Xattrs> {
    let names = match list_xattrs(&file) {
        // A file system without attributes.
        Err(platform::UNSUPPORTED) => return Ok(Vec::new()),
        names => names?,
    };
    let mut found = Vec::new();
    for name in names.split(|&c| c == 0).filter(|name| name.starts_with(b"user.")) {
        let mut value = vec![0; 256];
        loop {
            match fs::fgetxattr(&file, name, &mut value[..]) {
                Ok(len) => {
                    value.truncate(len);
                    found.push((name.to_vec(), value));
                    break;
                }
                // 64 KiB is the most the kernel has.
                Err(Errno::RANGE) if value.len() < 65536 => value.resize(65536, 0),
                // Removed meanwhile; the file's ctime tells.
                Err(platform::NO_XATTR) => break,
                Err(errno) => return Err(errno.into()),
            }
        }
    }
    Ok(found)
}

fn list_xattrs(file: impl AsFd) -> Result<Vec<u8>, Errno> {
    let mut small = [0u8; 512];
    match fs::flistxattr(&file, &mut small[..]) {
        Err(Errno::RANGE) => {
            let mut names = vec![0; 65536];
            let len = fs::flistxattr(&file, &mut names[..])?;
            names.truncate(len);
            Ok(names)
        }
        len => Ok(small[..len?].to_vec()),
    }
}
