//! Reading a directory. libc's opendir, readdir and scandir come here through `__getdirentries64`.
//!
//! The position is the descriptor's own offset, so that it is shared after dup and fork and moved by
//! lseek: in a projected directory what the projection counts by; in a real one with mount points in
//! it the system's, until its entries are told, and then [`OURS`] and a number.

use super::{Answer, State, entry, errno, set_errno, state};
use crate::sys::interpose::interpose;
use core::ffi::{c_char, c_int, c_long, c_uint, c_void};
use core::slice;
use vrift_macos_es::shim::{Form, Listing, PathBuffer};
use vrift_policy::Errno;
use vrift_projection::{Entry, Kind, NodeRef};

/// Offsets from here on count the mount points that a real directory holds.
const OURS: i64 = 1 << 62;

/// The kernel tells in the last four bytes of a buffer of at least 1024 whether all was told
/// (`GETDIRENTRIES64_EOF` of `bsd/sys/dirent.h`).
const FLAGS_FROM: usize = 1024;
const ALL_TOLD: u32 = 1;

/// A reader's buffer, which the system writes to, too.
struct Buffer {
    form: Form,
    to: *mut u8,
    length: usize,
    /// Where the kernel's flags stand, if there is room for them.
    flags: Option<usize>,
}

impl Buffer {
    fn new(form: Form, to: *mut c_char, length: usize) -> Buffer {
        let flags = (form == Form::Inode64 && length >= FLAGS_FROM).then(|| length - 4);
        Buffer { form, to: to.cast(), length, flags }
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the caller's own buffer, of that size; while this is borrowed nothing writes there.
        unsafe { slice::from_raw_parts_mut(self.to, self.length) }
    }

    /// Without the flags.
    fn room(&mut self) -> &mut [u8] {
        let end = self.flags.unwrap_or(self.length);
        &mut self.bytes()[..end]
    }

    fn set_all_told(&mut self, all: bool) {
        if let Some(at) = self.flags {
            let flags = if all { ALL_TOLD } else { 0 };
            self.bytes()[at..].copy_from_slice(&flags.to_le_bytes());
        }
    }
}

fn position(fd: c_int) -> Result<i64, Errno> {
    // SAFETY: the caller's own descriptor.
    let at = unsafe { libc::lseek(fd, 0, libc::SEEK_CUR) };
    if at < 0 { Err(super::last_error()) } else { Ok(at) }
}

fn set_position(fd: c_int, to: i64) -> Result<(), Errno> {
    // SAFETY: as above.
    let at = unsafe { libc::lseek(fd, to, libc::SEEK_SET) };
    if at < 0 { Err(super::last_error()) } else { Ok(()) }
}

/// What was told: bytes, and the position before.
struct Told {
    length: usize,
    from: i64,
}

fn projected(state: &State, node: NodeRef, fd: c_int, buffer: &mut Buffer) -> Result<Told, Errno> {
    let from = position(fd)?;
    let (mut length, mut next, mut all) = (0, from.cast_unsigned(), true);
    let form = buffer.form;
    let room = buffer.room();
    let listed = state.shim.projection().list(node, next, |entry| {
        match form.write(entry, &mut room[length..]) {
            Some(size) => {
                length += size;
                next = entry.next;
            }
            None => all = false,
        }
        all
    });
    listed.map_err(|_| Errno::EIO)?;
    if length == 0 && !all {
        // Not even one fits.
        return Err(Errno::EINVAL);
    }
    set_position(fd, next.cast_signed())?;
    buffer.set_all_told(all);
    Ok(Told { length, from })
}

/// The real directory's entries without those that mount points hide, then the mount points.
fn edge(
    state: &State,
    dir: &[u8],
    fd: c_int,
    buffer: &mut Buffer,
    real: &impl Fn() -> isize,
) -> Result<Told, Errno> {
    let ours = state.shim.projection().edge(dir);
    let from = position(fd)?;
    if from < OURS {
        loop {
            let length = usize::try_from(real()).map_err(|_| super::last_error())?;
            if length == 0 {
                break;
            }
            let (form, hidden) =
                (buffer.form, |name: &[u8]| ours.iter().any(|one| *one.name == *name));
            let left = form.without(&mut buffer.bytes()[..length], hidden);
            if left > 0 {
                // There is more: ours.
                buffer.set_all_told(false);
                return Ok(Told { length: left, from });
            }
        }
    }
    let start = usize::try_from(from.max(OURS) - OURS).unwrap_or(usize::MAX);
    let (mut length, mut told, form) = (0, start, buffer.form);
    for one in ours.get(start..).unwrap_or_default() {
        let next = u64::try_from(told + 1).unwrap_or(0) | OURS.cast_unsigned();
        let ino = state.shim.attr(one.node)?.ino;
        let entry = Entry { name: &one.name, ino, kind: Kind::Directory, next };
        match form.write(&entry, &mut buffer.room()[length..]) {
            Some(size) => {
                length += size;
                told += 1;
            }
            None if length == 0 => return Err(Errno::EINVAL),
            None => break,
        }
    }
    set_position(fd, i64::try_from(told).unwrap_or(0) | OURS)?;
    buffer.set_all_told(told >= ours.len());
    Ok(Told { length, from })
}

fn read(
    form: Form,
    fd: c_int,
    (to, room): (*mut c_char, usize),
    base: *mut i64,
    real: impl Fn() -> isize,
) -> isize {
    let Some(state) = state() else { return real() };
    entry(|| {
        let before = errno();
        let mut dir = PathBuffer::new();
        let listing = state.shim.listing(fd, &mut dir)?;
        set_errno(before);
        if listing == Listing::Real {
            return Ok(real());
        }
        let mut buffer = Buffer::new(form, to, room);
        let told = match listing {
            Listing::Node(node) => projected(state, node, fd, &mut buffer)?,
            _ => edge(state, dir.bytes(), fd, &mut buffer, &real)?,
        };
        if !base.is_null() {
            // SAFETY: the caller's own.
            unsafe { base.write(told.from) };
        }
        Ok(told.length.cast_signed())
    })
}

/// The calls that give attributes with the names: who asks reads the plain way on ENOTSUP, as fts(3).
fn with_attributes<R: Answer>(fd: c_int, real: impl FnOnce() -> R) -> R {
    let Some(state) = state() else { return real() };
    entry(|| {
        let before = errno();
        let listing = state.shim.listing(fd, &mut PathBuffer::new());
        set_errno(before);
        match listing {
            Ok(Listing::Real) => Ok(real()),
            Ok(_) => Err(Errno::EOPNOTSUPP),
            Err(errno) => Err(errno),
        }
    })
}

interpose! {
    ["__getdirentries64"] (fd: c_int, to: *mut c_char, room: usize, base: *mut i64) -> isize, real => {
        read(Form::Inode64, fd, (to, room), base, || real(fd, to, room, base))
    }
    ["getdirentries"] (fd: c_int, to: *mut c_char, room: c_int, base: *mut c_long) -> c_int, real => {
        let size = usize::try_from(room).unwrap_or(0);
        let length = read(Form::Inode32, fd, (to, size), base, || {
            isize::try_from(real(fd, to, room, base)).unwrap_or(-1)
        });
        c_int::try_from(length).unwrap_or(-1)
    }
    ["getdirentriesattr"] (fd: c_int, list: *mut c_void, to: *mut c_void, room: usize, count: *mut c_uint, base: *mut c_uint, state: *mut c_uint, options: c_uint) -> c_int, real => {
        with_attributes(fd, || real(fd, list, to, room, count, base, state, options))
    }
    ["getattrlistbulk"] (fd: c_int, list: *mut c_void, to: *mut c_void, room: usize, options: u64) -> c_int, real => {
        with_attributes(fd, || real(fd, list, to, room, options))
    }
}
