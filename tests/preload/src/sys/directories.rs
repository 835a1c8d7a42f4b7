//! opendir and readdir: of what stands for a projected directory, and of real ones that hold a mount
//! point.

use super::files::open_call;
use super::run::next;
use super::{State, fail, state};
use libc::{AT_FDCWD, DIR, c_char, c_int, c_void, dirent};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use vrift_macos_es::shim::{Listing, PathBuffer};
use vrift_policy::Errno;
use vrift_projection::{Kind, NodeRef};

/// A stream that has something of ours to show: the whole listing, made when it begins.
struct Stream {
    entries: Vec<dirent>,
    at: usize,
}

/// Streams by their address. None of them: the real one's own entries are all there is.
static STREAMS: Mutex<Option<HashMap<usize, Option<Stream>>>> = Mutex::new(None);

type Streams = MutexGuard<'static, Option<HashMap<usize, Option<Stream>>>>;

fn streams() -> Streams {
    STREAMS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn key(dir: *mut DIR) -> usize {
    dir.addr()
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn opendir(path: *const c_char) -> *mut DIR {
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
    let fd = open_call(AT_FDCWD, path, flags, 0);
    if fd < 0 {
        return std::ptr::null_mut();
    }
    // SAFETY: an open directory.
    unsafe { libc::fdopendir(fd) }
}

fn entry(name: &[u8], ino: u64, kind: Kind, next: u64) -> dirent {
    // SAFETY: a dirent is numbers and bytes, for which zeroes are good.
    let mut entry: dirent = unsafe { std::mem::zeroed() };
    entry.d_ino = ino;
    entry.d_off = next.cast_signed();
    entry.d_reclen = u16::try_from(size_of::<dirent>()).unwrap_or(0);
    entry.d_type = match kind {
        Kind::Directory => libc::DT_DIR,
        Kind::Symlink => libc::DT_LNK,
        _ => libc::DT_REG,
    };
    for (to, from) in entry.d_name.iter_mut().zip(name) {
        *to = from.cast_signed();
    }
    entry
}

fn projected(state: &State, node: NodeRef) -> Result<Vec<dirent>, Errno> {
    let mut entries = Vec::new();
    let listed = state.shim.projection().list(node, 0, |found| {
        entries.push(entry(found.name, found.ino, found.kind, found.next));
        true
    });
    listed.map(|()| entries).map_err(|_| Errno::EIO)
}

/// The real directory's entries, and the mount points that hang there in their places.
fn edge(state: &State, dir: *mut DIR, path: &[u8]) -> Result<Vec<dirent>, Errno> {
    let ours = state.shim.projection().edge(path);
    let mut entries = Vec::new();
    loop {
        let found = real_readdir(dir);
        if found.is_null() {
            break;
        }
        // SAFETY: readdir's entry stands until the next call.
        let found = unsafe { &*found };
        let name = found.d_name.map(c_char::cast_unsigned);
        let name = &name[..name.iter().position(|&byte| byte == 0).unwrap_or(name.len())];
        if !ours.iter().any(|entry| *entry.name == *name) {
            entries.push(*found);
        }
    }
    for (held, at) in ours.iter().zip(u64::from(u32::MAX)..) {
        let ino = state.shim.attr(held.node)?.ino;
        entries.push(entry(&held.name, ino, Kind::Directory, at));
    }
    Ok(entries)
}

fn real_readdir(dir: *mut DIR) -> *mut dirent {
    type Original = unsafe extern "C" fn(*mut DIR) -> *mut dirent;
    let original = next(c"readdir");
    // SAFETY: libc's own readdir has this type.
    let original = unsafe { std::mem::transmute::<*mut c_void, Original>(original) };
    // SAFETY: the caller's own stream.
    unsafe { original(dir) }
}

fn begin(state: &State, dir: *mut DIR) -> Result<Option<Stream>, Errno> {
    let mut out = PathBuffer::new();
    // SAFETY: the caller's own stream.
    let fd = unsafe { libc::dirfd(dir) };
    let entries = match state.shim.listing(fd, &mut out)? {
        Listing::Real => return Ok(None),
        Listing::Edge => edge(state, dir, out.bytes())?,
        Listing::Node(node) => projected(state, node)?,
    };
    Ok(Some(Stream { entries, at: 0 }))
}

fn read(dir: *mut DIR) -> *mut dirent {
    let Some(state) = state() else { return real_readdir(dir) };
    let mut streams = streams();
    let all = streams.get_or_insert_with(HashMap::new);
    let stream = match all.entry(key(dir)) {
        std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
        std::collections::hash_map::Entry::Vacant(place) => match begin(state, dir) {
            Ok(stream) => place.insert(stream),
            Err(errno) => {
                fail(errno);
                return std::ptr::null_mut();
            }
        },
    };
    let Some(stream) = stream else {
        drop(streams);
        return real_readdir(dir);
    };
    let Some(entry) = stream.entries.get_mut(stream.at) else { return std::ptr::null_mut() };
    stream.at += 1;
    &raw mut *entry
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn readdir(dir: *mut DIR) -> *mut dirent {
    read(dir)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn readdir64(dir: *mut DIR) -> *mut dirent {
    read(dir)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn rewinddir(dir: *mut DIR) {
    if let Some(all) = streams().as_mut() {
        all.remove(&key(dir));
    }
    type Original = unsafe extern "C" fn(*mut DIR);
    let original = next(c"rewinddir");
    // SAFETY: libc's own rewinddir has this type.
    let original = unsafe { std::mem::transmute::<*mut c_void, Original>(original) };
    // SAFETY: the caller's own stream.
    unsafe { original(dir) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn closedir(dir: *mut DIR) -> c_int {
    if let Some(all) = streams().as_mut() {
        all.remove(&key(dir));
    }
    if let Some(state) = state() {
        // SAFETY: the caller's own stream.
        state.shim.closed(unsafe { libc::dirfd(dir) });
    }
    type Original = unsafe extern "C" fn(*mut DIR) -> c_int;
    let original = next(c"closedir");
    // SAFETY: libc's own closedir has this type.
    let original = unsafe { std::mem::transmute::<*mut c_void, Original>(original) };
    // SAFETY: the caller's own stream.
    unsafe { original(dir) }
}
