//! What the guest `calls` does: single system calls, timed one kind at a time.
//!
//! Each kind runs in batches of about ten milliseconds; the result is the least and the median time
//! of one operation over the batches. Every answer is checked while it is timed: an answer that
//! differs from the fixture is an error, however fast it came.

pub mod crowd;

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::hint::black_box;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::sys::calls;

/// Names below the base directory that the guest needs; the runner makes them.
pub mod fixture {
    /// A file of [`SIZE`] bytes, three components down.
    pub const FILE: &str = "include/sys/file.h";
    /// The size of [`FILE`] in bytes.
    pub const SIZE: usize = 4096;
    /// A name that is not there, beside [`FILE`].
    pub const MISSING: &str = "include/sys/missing.h";
    /// A symbolic link beside [`FILE`] with [`TARGET`] as its target.
    pub const LINK: &str = "include/sys/link.h";
    /// What [`LINK`] says.
    pub const TARGET: &str = "file.h";
    /// Directories of so many files.
    pub const DIRECTORIES: [(&str, usize); 3] =
        [("ten", 10), ("thousand", 1000), ("hundred-thousand", 100_000)];
    /// The operation that takes the last of them, which is long to make.
    pub const OF_THE_LAST: &str = "readdir_100000";
    /// A copy of `/bin/true`.
    pub const TRUE: &str = "bin/true";
    /// A program that ends at once and that no loader loads.
    pub const STATIC: &str = "bin/true-static";
    /// The operation that takes [`STATIC`], which takes a compiler and a static libc.
    pub const OF_STATIC: &str = "spawn_static";
}

/// The time of one operation, in nanoseconds.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Time {
    /// The least over the batches.
    pub min: f64,
    /// The median over the batches.
    pub median: f64,
}

/// What was measured, by the name of the operation.
pub type Times = BTreeMap<String, Time>;

/// How long and how often.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Batches for each operation.
    pub batches: usize,
    /// The aimed-at length of a batch.
    pub batch: Duration,
}

/// Measures every operation, on the fixture at `base` and on the real file `other`, which has
/// [`fixture::SIZE`] bytes. Only operations whose name contains one of `only` (empty: all) and is none
/// of `without`.
///
/// # Errors
/// The first call that fails or answers something else than the fixture holds.
pub fn measure(
    base: &Path,
    other: &Path,
    effort: Effort,
    only: &[String],
    without: &[String],
) -> Result<Times, Failure> {
    let bench = Bench::new(base, other)?;
    let mut times = Times::new();
    for (name, operation) in OPERATIONS {
        let wanted = only.is_empty() || only.iter().any(|part| name.contains(part.as_str()));
        if wanted && !without.iter().any(|other| other == name) {
            times.insert((*name).to_owned(), bench.time(*operation, effort)?);
        }
    }
    Ok(times)
}

type Operation = fn(&Bench) -> Result<(), Failure>;

/// The operations by name. `other_*` are on a path that is under no mount.
const OPERATIONS: &[(&str, Operation)] = &[
    ("stat", |b| is_file("stat", calls::stat(&b.file, 0), &b.file)),
    ("stat_missing", |b| is_missing("stat_missing", &calls::stat(&b.missing, 0), &b.missing)),
    ("access", |b| calls::access(&b.file, libc::R_OK).map_err(at("access", &b.file))),
    ("fstat", |b| is_file("fstat", calls::fstat(b.opened.as_fd()), &b.file)),
    ("fstat_empty_path", |b| {
        is_file("fstat_empty_path", calls::stat_empty_path(b.opened.as_fd()), &b.file)
    }),
    ("open_close", |b| calls::open(&b.file, 0).map(drop).map_err(at("open", &b.file))),
    ("open_read_close", |b| open_read_close("open_read_close", &b.file)),
    ("open_missing", |b| is_missing("open_missing", &calls::open(&b.missing, 0), &b.missing)),
    ("readlink", Bench::readlink),
    ("readlink_file", Bench::readlink_file),
    ("readdir_10", |b| b.readdir("readdir_10", 0)),
    ("readdir_1000", |b| b.readdir("readdir_1000", 1)),
    (fixture::OF_THE_LAST, |b| b.readdir(fixture::OF_THE_LAST, 2)),
    ("chdir_twice", |b| {
        let [_, directory, _] = &b.directories;
        calls::chdir(directory).map_err(at("chdir", directory))?;
        calls::chdir(c"/").map_err(at("chdir", c"/"))
    }),
    ("spawn_true", |b| spawn("spawn_true", &b.program)),
    (fixture::OF_STATIC, |b| spawn(fixture::OF_STATIC, &b.static_program)),
    ("other_stat", |b| is_file("other_stat", calls::stat(&b.other, 0), &b.other)),
    ("other_stat_missing", |b| {
        is_missing("other_stat_missing", &calls::stat(&b.other_missing, 0), &b.other_missing)
    }),
    ("other_open_read_close", |b| open_read_close("other_open_read_close", &b.other)),
    ("other_spawn_true", |_| spawn("other_spawn_true", c"/bin/true")),
];

struct Bench {
    file: CString,
    missing: CString,
    link: CString,
    directories: [CString; 3],
    program: CString,
    static_program: CString,
    other: CString,
    other_missing: CString,
    opened: std::os::fd::OwnedFd,
}

impl Bench {
    fn new(base: &Path, other: &Path) -> Result<Self, Failure> {
        let below = |name: &str| c_path(&base.join(name));
        let file = below(fixture::FILE)?;
        let opened = calls::open(&file, 0).map_err(at("open", &file))?;
        let [ten, thousand, last] = fixture::DIRECTORIES.map(|(name, _)| name);
        Ok(Self {
            file,
            missing: below(fixture::MISSING)?,
            link: below(fixture::LINK)?,
            directories: [below(ten)?, below(thousand)?, below(last)?],
            program: below(fixture::TRUE)?,
            static_program: below(fixture::STATIC)?,
            other: c_path(other)?,
            other_missing: c_path(&other.with_extension("missing"))?,
            opened,
        })
    }

    fn readlink(&self) -> Result<(), Failure> {
        let mut buffer = [0; 128];
        let length =
            calls::readlink(&self.link, &mut buffer).map_err(at("readlink", &self.link))?;
        expect("readlink", &buffer[..length] == fixture::TARGET.as_bytes(), fixture::TARGET, || {
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        })
    }

    /// The most frequent call of a C build: gcc asks of every component whether it is a link.
    fn readlink_file(&self) -> Result<(), Failure> {
        let mut buffer = [0; 128];
        let done = calls::readlink(&self.file, &mut buffer);
        let refused = matches!(&done, Err(error) if error.raw_os_error() == Some(libc::EINVAL));
        expect("readlink_file", refused, "EINVAL", || format!("{done:?}"))
    }

    fn readdir(&self, operation: &'static str, which: usize) -> Result<(), Failure> {
        // What glibc's readdir asks for at a time.
        let mut buffer = [0; 32 * 1024];
        let directory = &self.directories[which];
        let entries = calls::list(directory, &mut buffer).map_err(at("list", directory))?;
        // With `.` and `..`.
        let whole = entries == fixture::DIRECTORIES[which].1 + 2;
        expect(operation, whole, "all of its entries", || entries.to_string())
    }

    /// Times one operation: a batch size that lasts as long as asked for, then the batches.
    fn time(&self, operation: Operation, effort: Effort) -> Result<Time, Failure> {
        let mut count: u32 = 1;
        loop {
            let took = self.batch(operation, count)?;
            if took >= effort.batch / 4 {
                let scale = effort.batch.as_secs_f64() / took.as_secs_f64();
                count = scaled(count, scale);
                break;
            }
            count = count.saturating_mul(4);
        }
        let mut each = Vec::with_capacity(effort.batches);
        for _ in 0..effort.batches.max(1) {
            each.push(self.batch(operation, count)?.as_secs_f64() * 1e9 / f64::from(count));
        }
        each.sort_by(f64::total_cmp);
        Ok(Time { min: each[0], median: each[each.len() / 2] })
    }

    fn batch(&self, operation: Operation, count: u32) -> Result<Duration, Failure> {
        let start = Instant::now();
        for _ in 0..count {
            operation(black_box(self))?;
        }
        Ok(start.elapsed())
    }
}

/// `count` times `scale`, at least one.
fn scaled(count: u32, scale: f64) -> u32 {
    let wanted = (f64::from(count) * scale).round().clamp(1.0, f64::from(u32::MAX));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped above")]
    let count = wanted as u32;
    count
}

fn open_read_close(call: &'static str, path: &CStr) -> Result<(), Failure> {
    let mut buffer = [0; fixture::SIZE];
    let file = calls::open(path, 0).map_err(at("open", path))?;
    let count = calls::read(file.as_fd(), &mut buffer).map_err(at("read", path))?;
    expect(call, count == fixture::SIZE, "4096 bytes", || format!("{count} bytes"))
}

fn spawn(call: &'static str, program: &CStr) -> Result<(), Failure> {
    let path = std::ffi::OsStr::from_bytes(program.to_bytes());
    let status = Command::new(path).status().map_err(at("spawn", program))?;
    expect(call, status.success(), "exit status 0", || status.to_string())
}

fn is_file(call: &'static str, stat: io::Result<libc::stat>, path: &CStr) -> Result<(), Failure> {
    let stat = stat.map_err(at(call, path))?;
    expect(call, usize::try_from(stat.st_size) == Ok(fixture::SIZE), "4096 bytes", || {
        format!("{} bytes", stat.st_size)
    })
}

fn is_missing<T: std::fmt::Debug>(
    call: &'static str,
    done: &io::Result<T>,
    path: &CStr,
) -> Result<(), Failure> {
    let missing = matches!(done, Err(error) if error.raw_os_error() == Some(libc::ENOENT));
    expect(call, missing, "ENOENT", || format!("{done:?} for {}", path.to_string_lossy()))
}

fn expect(
    call: &'static str,
    right: bool,
    expected: &str,
    got: impl FnOnce() -> String,
) -> Result<(), Failure> {
    if right {
        Ok(())
    } else {
        Err(Failure::WrongAnswer { call, expected: expected.to_owned(), got: got() })
    }
}

fn at(call: &str, path: &CStr) -> impl FnOnce(io::Error) -> Failure {
    move |source| Failure::Io { doing: format!("{call} {}", path.to_string_lossy()), source }
}

fn c_path(path: &Path) -> Result<CString, Failure> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|error| Failure::io(format!("bad path {}", path.display()))(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_scaled_to_the_wanted_length_and_never_empty() {
        assert_eq!(scaled(100, 4.0), 400);
        assert_eq!(scaled(1, 0.01), 1);
        assert_eq!(scaled(u32::MAX, 10.0), u32::MAX);
    }
}
