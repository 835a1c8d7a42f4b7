//! Reading one file of the user: opened without following a link and without touching its access
//! time, read once, and read again if it changed meanwhile.

use std::cell::RefCell;
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, SystemTime};

use rustix::fs::{self, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::{Reason, walk::Walk};
use crate::content::{self, Cloned, CopyError};
use crate::error::StoreError;
use crate::hash::Hash;
use crate::manifest::Entry;
use crate::publish::{Draft, Published};
use crate::store::blob_name;

/// Up to this size a file is read into memory, hashed, and written only if its blob is missing.
const IN_MEMORY: u64 = 2 << 20;
/// From this size on it is worth asking for shared extents.
const CLONE_FROM: u64 = 128 << 10;
/// How often a changing file is read before it is given up.
const TRIES: u32 = 5;
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
    pub fn io(what: &'static str) -> impl FnOnce(Errno) -> Failed {
        move |errno| Failed::File(what, Reason::Io(errno.into()))
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Failed {
        Failed::Store(error)
    }
}

/// A stored file.
pub(super) struct Stored {
    pub entry: Entry,
    /// Device and inode.
    pub id: (u64, u64),
    /// Names the inode has, in the tree or outside.
    pub nlink: u64,
    pub new: bool,
}

/// Opens an entry of a directory for reading, never following a link.
pub(super) fn open_entry(dir: impl AsFd, name: &CStr, extra: OFlags) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY
        | OFlags::CLOEXEC
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::NOCTTY
        | extra;
    // Only a file's owner may ask for its access time to stay.
    match fs::openat(&dir, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => fs::openat(&dir, name, flags, Mode::empty()),
        result => result,
    }
}

/// The part of a stat that tells whether a file was changed.
fn stamp(stat: &Stat) -> (i64, i64, u64, i64, u64) {
    #[allow(clippy::unnecessary_cast, reason = "the fields' types differ between architectures")]
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
fn settle(stat: &Stat) {
    let changed = Duration::new(
        u64::try_from(stat.st_ctime).unwrap_or(0),
        u32::try_from(stat.st_ctime_nsec).unwrap_or(0),
    );
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    if let Some(age) = now.checked_sub(changed)
        && age < TICK
    {
        std::thread::sleep(TICK - age);
    }
}

/// Stores the file `name` of `dir`.
pub(super) fn store(walk: &Walk<'_>, dir: &OwnedFd, name: &CStr) -> Result<Stored, Failed> {
    for _ in 0..TRIES {
        let fd = match open_entry(dir, name, OFlags::empty()) {
            Ok(fd) => fd,
            // It became a link or a socket since the directory was read.
            Err(Errno::LOOP | Errno::NXIO) => return Err(changing()),
            Err(errno) => return Err(Failed::io("open")(errno)),
        };
        if let Some(stored) = try_store(walk, fd)? {
            return Ok(stored);
        }
    }
    Err(changing())
}

fn changing() -> Failed {
    Failed::File("read", Reason::Changing)
}

/// None when the file changed meanwhile.
fn try_store(walk: &Walk<'_>, fd: OwnedFd) -> Result<Option<Stored>, Failed> {
    let mut file = File::from(fd);
    let mut before = fs::fstat(&file).map_err(Failed::io("look at"))?;
    if FileType::from_raw_mode(before.st_mode) != FileType::RegularFile {
        return Err(changing());
    }
    settle(&before);
    if let Ok(now) = fs::fstat(&file) {
        before = now;
    }
    let size = u64::try_from(before.st_size).unwrap_or(0);
    let xattrs = xattrs(&file)
        .map_err(|errno| Failed::File("read the attributes of", Reason::Io(errno.into())))?;
    let Some((blob, new)) = store_content(walk, &mut file, size, before.st_dev)? else {
        return Ok(None);
    };
    let after = fs::fstat(&file).map_err(Failed::io("look at"))?;
    if !unchanged(&before, &after) {
        return Ok(None);
    }
    let mut entry = Entry::file(before.st_mode & 0o7777, mtime(&before), size, blob);
    entry.xattrs = xattrs;
    #[allow(clippy::useless_conversion, reason = "the type differs between architectures")]
    let nlink = u64::from(before.st_nlink);
    Ok(Some(Stored { entry, id: (before.st_dev, before.st_ino), nlink, new }))
}

/// The blob and whether it is new; None when the file isn't `size` bytes long any more.
fn store_content(
    walk: &Walk<'_>,
    file: &mut File,
    size: u64,
    device: u64,
) -> Result<Option<(Hash, bool)>, Failed> {
    if size >= CLONE_FROM
        && walk.may_clone(device)
        && let Some(result) = store_clone(walk, file, size, device)?
    {
        return Ok(Some(result));
    }
    if size <= IN_MEMORY { store_small(walk, file, size) } else { store_large(walk, file, size) }
}

fn store_small(
    walk: &Walk<'_>,
    file: &mut File,
    size: u64,
) -> Result<Option<(Hash, bool)>, Failed> {
    thread_local!(static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) });
    BUFFER.with_borrow_mut(|buffer| {
        let len = usize::try_from(size).unwrap_or(0);
        // One byte more, to see that the file ends where it should.
        if buffer.len() <= len {
            buffer.resize(len + 1, 0);
        }
        let filled = content::read_full(file, &mut buffer[..=len])
            .map_err(|error| Failed::File("read", Reason::Io(error)))?;
        if filled != len {
            return Ok(None);
        }
        let hash = Hash::of(&buffer[..len]);
        Ok(Some((hash, walk.store.put_hashed(&buffer[..len], &hash)?)))
    })
}

fn store_large(
    walk: &Walk<'_>,
    file: &mut File,
    size: u64,
) -> Result<Option<(Hash, bool)>, Failed> {
    let read = |error| Failed::File("read", Reason::Io(error));
    let draft = Draft::new(walk.store)?;
    let sparse = content::is_sparse(file).map_err(read)?;
    let copied = content::copy_hashed(file, draft.file(), size, sparse);
    let (hash, len) = copied.map_err(|error| match error {
        CopyError::Read(error) => read(error),
        CopyError::Write(error) => write_failed(walk, error),
    })?;
    if len != size {
        return Ok(None);
    }
    publish(draft, &hash, size).map(Some)
}

/// None when the file system can't, or not for this file.
fn store_clone(
    walk: &Walk<'_>,
    file: &File,
    size: u64,
    device: u64,
) -> Result<Option<(Hash, bool)>, Failed> {
    let draft = Draft::new(walk.store)?;
    match content::clone(file, draft.file()).map_err(|error| write_failed(walk, error))? {
        Cloned::Done => {}
        Cloned::NotThis => return Ok(None),
        Cloned::Never => {
            walk.never_clone(device);
            return Ok(None);
        }
    }
    // The clone is ours and doesn't change any more: what is hashed is what is published.
    let (hash, len) =
        content::hash_rest(&mut draft.file(), size).map_err(|error| write_failed(walk, error))?;
    if len != size {
        return Ok(None);
    }
    publish(draft, &hash, size).map(Some)
}

fn publish(draft: Draft<'_>, hash: &Hash, size: u64) -> Result<(Hash, bool), Failed> {
    let published = draft.publish_or_repair(&blob_name(hash), size)?;
    Ok((*hash, published == Published::New))
}

fn write_failed(walk: &Walk<'_>, error: io::Error) -> Failed {
    Failed::Store(StoreError::io("write to", walk.store.root())(error))
}

/// Names and values.
type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// The `user.*` attributes of an open file or directory.
pub(super) fn xattrs(file: impl AsFd) -> Result<Xattrs, Errno> {
    let names = match list_xattrs(&file) {
        // A file system without attributes.
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
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
                Err(Errno::NODATA) => break,
                Err(errno) => return Err(errno),
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
