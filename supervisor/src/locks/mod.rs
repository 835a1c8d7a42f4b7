//! flock(2) on projected files, and by which path a descriptor was opened: kept by the kernel.
//!
//! A projected file's descriptor is the blob's, which files of equal content share, in this job
//! and in others; flock(2) of the blob would be one lock for all of them. So a lock is a record
//! lock of the open file description (fcntl(2), `F_OFD_SETLK`) on a byte far beyond the end of
//! any file, at a place made of the mount's device number and the inode number, which are the
//! same in each job that mounts the same manifest at the same path. Such a lock goes where the
//! description goes, by dup, fork and SCM_RIGHTS, ends with it, and is seen by every job.
//!
//! Blobs are opened for reading only, so these are read locks, which never exclude each other:
//! who wants a lock looks whether a description but its own has one that bars it, takes it, and
//! looks again. Two that meet there both step back, and try again after a moment.
//!
//! In the same way a descriptor of content that several paths have is marked with the one that it
//! was opened by.

mod directory;
mod marks;

use crate::private::Private;
use directory::Directory;
pub use marks::{Marks, marked};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::Read;
use std::ops::RangeInclusive;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use vrift_projection::{Attr, NodeRef};

/// From here on the bytes of files are ours; offsets are below 2^63.
pub const OURS: u64 = 1 << 60;
/// From here on they are marks.
const MARKS: u64 = 1 << 61;
/// A byte that is locked for as long as it takes to see how the kernel calls the file.
const NAMING: u64 = OURS - 1;
/// How often somebody who met another one tries again. Each time both wait for some other while.
const TRIES: u32 = 16;

/// What flock(2) asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wanted {
    /// `LOCK_SH`.
    Shared,
    /// `LOCK_EX`.
    Exclusive,
}

/// Where the lock of a projected file is: two bytes, the first for shared locks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Place(u64);

impl Place {
    /// That of the file with these attributes; None: nothing that a manifest has.
    pub fn of(attr: &Attr) -> Option<Place> {
        let inode = u32::try_from(attr.ino.checked_sub(1)?).ok()?;
        Some(Place(OURS | number(attr.dev_minor(), inode) << 1))
    }

    fn byte(self, wanted: Wanted) -> u64 {
        match wanted {
            Wanted::Shared => self.0,
            Wanted::Exclusive => self.0 + 1,
        }
    }

    /// The bytes that bar who wants this: the first, and how many.
    fn barring(self, wanted: Wanted) -> (u64, i64) {
        match wanted {
            Wanted::Shared => (self.0 + 1, 1),
            Wanted::Exclusive => (self.0, 2),
        }
    }
}

/// 20 bits of the device's number and 32 of what is in it.
fn number(minor: u32, inside: u32) -> u64 {
    u64::from(minor) << 32 | u64::from(inside)
}

fn record(kind: i32, start: u64, len: i64) -> Result<libc::flock, Errno> {
    // The constants are an int in C and a short in the structure.
    let l_type = i16::try_from(kind).map_err(|_| Errno::EINVAL)?;
    let l_start = i64::try_from(start).map_err(|_| Errno::EOVERFLOW)?;
    Ok(libc::flock { l_type, l_whence: 0, l_start, l_len: len, l_pid: 0 })
}

fn set(fd: BorrowedFd<'_>, kind: i32, byte: u64) -> Result<(), Errno> {
    fcntl(fd, FcntlArg::F_OFD_SETLK(&record(kind, byte, 1)?)).map(drop)
}

/// Has a description but this one a lock that bars who wants this?
fn barred(fd: BorrowedFd<'_>, place: Place, wanted: Wanted) -> Result<bool, Errno> {
    let (start, len) = place.barring(wanted);
    let mut found = record(libc::F_WRLCK, start, len)?;
    fcntl(fd, FcntlArg::F_OFD_GETLK(&mut found))?;
    if i32::from(found.l_type) == libc::F_UNLCK {
        return Ok(false);
    }
    // The kernel tells of one lock. A task's record lock of the whole file may hide ours.
    let ours = found.l_len == 1 && found.l_pid == -1;
    Ok(ours || is_listed(fd, start..=start + len.unsigned_abs() - 1)?)
}

/// The same by the list of all locks: has another description one on exactly one of these bytes?
fn is_listed(fd: BorrowedFd<'_>, bytes: RangeInclusive<u64>) -> Result<bool, Errno> {
    let Some(name) = name_of(fd)? else { return Ok(false) };
    let own = information("self", fd.as_raw_fd());
    let list = std::fs::read_to_string("/proc/locks").map_err(|e| os_errno(&e))?;
    let these = |r: &Record<'_>| r.start == r.end && bytes.contains(&r.start) && r.file == name;
    Ok(records(&list).filter(these).count() > records(&own).filter(these).count())
}

/// How the kernel's list of locks calls the file: it tells so of a description that has a lock.
fn name_of(fd: BorrowedFd<'_>) -> Result<Option<String>, Errno> {
    set(fd, libc::F_RDLCK, NAMING)?;
    let own = information("self", fd.as_raw_fd());
    set(fd, libc::F_UNLCK, NAMING)?;
    let named = records(&own).find(|r| r.start <= NAMING && NAMING <= r.end);
    Ok(named.map(|r| r.file.to_owned()))
}

fn os_errno(e: &std::io::Error) -> Errno {
    Errno::from_raw(e.raw_os_error().unwrap_or(0))
}

/// The locks that a job takes, one after the other: tasks of one job never meet.
#[derive(Default)]
pub struct Locks(Mutex<()>);

/// Nobody else of the job takes a lock meanwhile.
pub struct Turn<'l> {
    _alone: MutexGuard<'l, ()>,
}

impl Locks {
    /// Waits for who is at it.
    pub fn turn(&self) -> Turn<'_> {
        Turn { _alone: self.0.lock().unwrap_or_else(PoisonError::into_inner) }
    }
}

/// The pauses of one that met somebody: each for a while that nobody else waits.
struct Pause;

impl Pause {
    fn all() -> impl Iterator<Item = Pause> {
        (0..TRIES).map(|_| Pause)
    }

    fn wait(self) {
        let random = RandomState::new().build_hasher().finish();
        std::thread::sleep(Duration::from_micros(20 + random % 200));
    }
}

/// What flock(2) locks.
pub enum Lock {
    /// A projected file.
    File(Place),
    /// A projected directory.
    Directory(Directory),
}

impl Lock {
    /// That of a directory with these attributes, for which `private` has a stand-in.
    pub fn of_directory(private: &Private, node: NodeRef, attr: &Attr) -> Result<Lock, Errno> {
        Directory::of(private, node, attr).map(Lock::Directory)
    }

    /// Takes the lock for the description of `fd`, in the place of one that it has; false: others
    /// have one that bars it, and the one it had is given up, as the kernel does.
    pub fn take(&self, turn: &Turn<'_>, fd: BorrowedFd<'_>, wanted: Wanted) -> Result<bool, Errno> {
        match self {
            Lock::File(place) => place.take(turn, fd, wanted),
            Lock::Directory(directory) => directory.take(turn, fd, wanted),
        }
    }

    /// Gives up the lock of the description of `fd`.
    pub fn release(&self, fd: BorrowedFd<'_>) -> Result<(), Errno> {
        match self {
            Lock::File(place) => place.release(fd),
            Lock::Directory(_) => directory::release(fd),
        }
    }

    /// Has the description of our own descriptor `fd` this lock?
    pub fn holds(&self, fd: BorrowedFd<'_>, wanted: Wanted) -> bool {
        match self {
            Lock::File(place) => place.holds(fd, wanted),
            Lock::Directory(_) => directory::holds(fd, wanted),
        }
    }
}

impl Place {
    fn take(self, _: &Turn<'_>, fd: BorrowedFd<'_>, wanted: Wanted) -> Result<bool, Errno> {
        let other = match wanted {
            Wanted::Shared => Wanted::Exclusive,
            Wanted::Exclusive => Wanted::Shared,
        };
        set(fd, libc::F_UNLCK, self.byte(other))?;
        let byte = self.byte(wanted);
        for pause in Pause::all() {
            if barred(fd, self, wanted)? {
                return Ok(false);
            }
            set(fd, libc::F_RDLCK, byte)?;
            if !barred(fd, self, wanted)? {
                return Ok(true);
            }
            set(fd, libc::F_UNLCK, byte)?;
            pause.wait();
        }
        Ok(false)
    }

    fn release(self, fd: BorrowedFd<'_>) -> Result<(), Errno> {
        fcntl(fd, FcntlArg::F_OFD_SETLK(&record(libc::F_UNLCK, self.0, 2)?)).map(drop)
    }

    fn holds(self, fd: BorrowedFd<'_>, wanted: Wanted) -> bool {
        let byte = self.byte(wanted);
        records(&information("self", fd.as_raw_fd())).any(|r| r.start <= byte && byte <= r.end)
    }
}

/// The text of `/proc/TASK/fdinfo/FD`; empty where there is no such descriptor.
///
/// The kernel makes it in one piece, which one read gets where there is room for it: this is a part
/// of many an answer to fstat(2).
pub fn information(task: impl std::fmt::Display, fd: i32) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(format!("/proc/{task}/fdinfo/{fd}"))?;
        let mut buf = [0; 1024];
        let n = file.read(&mut buf)?;
        let mut text = String::from_utf8_lossy(&buf[..n]).into_owned();
        if n == buf.len() {
            file.read_to_string(&mut text)?;
        }
        Ok(text)
    };
    read().unwrap_or_default()
}

/// A record lock of an open file description.
#[derive(Debug, Eq, PartialEq)]
struct Record<'t> {
    /// Device and inode, as the kernel writes them.
    file: &'t str,
    /// Its first byte.
    start: u64,
    /// Its last byte.
    end: u64,
}

/// The record locks of descriptions that a text of the kernel's tells of, /proc/locks or fdinfo:
/// lines such as `1: OFDLCK  ADVISORY  READ -1 fe:00:77 128 128`; in the latter
/// `lock:` comes before it.
fn records(text: &str) -> impl Iterator<Item = Record<'_>> {
    text.lines().filter_map(|line| {
        let line = line.strip_prefix("lock:").unwrap_or(line);
        let mut words = line.split_ascii_whitespace();
        (words.nth(1)? == "OFDLCK").then_some(())?;
        let end = match words.next_back()? {
            "EOF" => u64::MAX,
            number => number.parse().ok()?,
        };
        let start = words.next_back()?.parse().ok()?;
        Some(Record { file: words.next_back()?, start, end })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::sync::atomic::{AtomicU32, Ordering};

    const HERE: Place = Place(OURS | 77 << 1);
    const THERE: Place = Place(OURS | 78 << 1);

    pub fn file() -> (tempfile::NamedTempFile, impl Fn() -> File) {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let path = file.path().to_owned();
        (file, move || File::open(&path).expect("it is there"))
    }

    fn take(fd: &File, place: Place, wanted: Wanted) -> bool {
        // A job of its own for each, which only the kernel keeps apart.
        place.take(&Locks::default().turn(), fd.as_fd(), wanted).expect("a lock")
    }

    #[test]
    fn locks_are_those_of_a_place_and_a_description() {
        use Wanted::{Exclusive, Shared};
        let (_file, open) = file();
        let (a, b) = (open(), open());
        assert!(take(&a, HERE, Exclusive) && take(&a, HERE, Exclusive));
        assert!(!take(&b, HERE, Exclusive) && !take(&b, HERE, Shared));
        assert!(take(&b, THERE, Exclusive), "another file with the same content");
        assert!(HERE.holds(a.as_fd(), Exclusive) && !HERE.holds(b.as_fd(), Exclusive));
        assert!(take(&a, HERE, Shared) && take(&b, HERE, Shared));
        assert!(!take(&a, HERE, Exclusive), "another one reads");
        assert!(!HERE.holds(a.as_fd(), Shared), "what it had is given up");
        HERE.release(b.as_fd()).expect("unlocked");
        let copy = a.try_clone().expect("a duplicate");
        assert!(take(&a, HERE, Exclusive));
        drop(a);
        assert!(!take(&b, HERE, Shared), "the duplicate has it");
        drop(copy);
        assert!(take(&b, HERE, Exclusive));
    }

    #[test]
    fn at_most_one_has_it_and_somebody_does() {
        let (_file, open) = file();
        let (inside, times) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let fd = open();
                    while times.load(Ordering::SeqCst) < 400 {
                        if take(&fd, HERE, Wanted::Exclusive) {
                            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                            times.fetch_add(1, Ordering::SeqCst);
                            assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1);
                            HERE.release(fd.as_fd()).expect("unlocked");
                        }
                    }
                });
            }
        });
    }

    #[test]
    fn the_kernels_lines_are_read() {
        let text = "pos:\t0\nlock:\t1: OFDLCK  ADVISORY  READ -1 fe:00:77 0 EOF\n\
                    lock:\t2: POSIX  ADVISORY  READ 1 fe:00:77 5 5\n\
                    lock:\t3: FLOCK  ADVISORY  WRITE 1 fe:00:77 0 EOF\n\
                    4: OFDLCK ADVISORY  READ -1 fe:00:78 7 8\n4: -> OFDLCK ADVISORY\nlock:\t\n";
        let read: Vec<_> = records(text).map(|r| (r.file, r.start, r.end)).collect();
        assert_eq!(read, [("fe:00:77", 0, u64::MAX), ("fe:00:78", 7, 8)]);
    }

    #[test]
    fn a_record_lock_of_the_whole_file_hides_nothing() {
        use Wanted::{Exclusive, Shared};
        let (_file, open) = file();
        let (a, b, c) = (open(), open(), open());
        let whole = record(libc::F_RDLCK, 0, 0).expect("a record");
        fcntl(&c, FcntlArg::F_OFD_SETLK(&whole)).expect("a lock");
        assert!(take(&a, HERE, Shared) && take(&b, HERE, Shared));
        assert!(!take(&a, HERE, Exclusive));
        assert!(take(&b, HERE, Exclusive) && take(&b, HERE, Exclusive));
        assert!(!take(&a, HERE, Shared) && take(&a, THERE, Exclusive));
    }
}
