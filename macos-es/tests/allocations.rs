//! The core allocates nothing, whatever it is asked: this binary's allocator counts.

#![expect(clippy::tests_outside_test_module, reason = "an integration test is one test module")]

#[path = "../../projection/tests/counting/mod.rs"]
mod counting;
mod fake;

use counting::sys::{Counting, count};
use fake::tree::{paths, projection};
use fake::{PRIVATE, STORE};
use std::ffi::CStr;
use vrift_macos_es::shim::{Base, DARWIN, Identity, LINUX, Look, PathBuffer, Places, Shim, Sys};
use vrift_macos_es::shim::{darwin, symbols};
use vrift_policy::{Errno, Operation, RenameFlags, Target};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A system of constants, which allocates nothing itself.
struct Still;

fn write(path: &[u8], out: &mut [u8]) -> usize {
    out[..path.len()].copy_from_slice(path);
    path.len()
}

impl Sys for Still {
    fn read_link(&self, path: &CStr, out: &mut [u8]) -> Result<usize, Errno> {
        match path.to_bytes() {
            b"/tmp/in" => Ok(write(b"/vrift/deps/include", out)),
            b"/tmp/up" => Ok(write(b"..", out)),
            b"/tmp/st" => Ok(write(b"/store", out)),
            b"/tmp" | b"/tmp/dir" | b"/tmp/real" => Err(Errno::EINVAL),
            _ => Err(Errno::ENOENT),
        }
    }

    fn descriptor_path(&self, fd: i32, out: &mut [u8]) -> Result<usize, Errno> {
        match fd {
            3 => Ok(write(b"/job/d/0-0", out)),
            4 => Ok(write(b"/tmp/dir", out)),
            5 => Ok(write(b"/job/c/0/run", out)),
            6 => Ok(write(b"/store/refs/deps", out)),
            7 => Ok(write(b"/opt", out)),
            _ => Err(Errno::EBADF),
        }
    }

    fn current_path(&self, out: &mut [u8]) -> Result<usize, Errno> {
        Ok(write(b"/tmp", out))
    }

    fn identity(&self, fd: i32) -> Result<Identity, Errno> {
        let ino = u64::try_from(fd).map_err(|_| Errno::EBADF)?;
        Ok(Identity { dev: 1, ino })
    }

    fn kind(&self, _: &CStr) -> Result<Target, Errno> {
        Ok(Target::File)
    }

    fn user(&self) -> u32 {
        501
    }
}

#[test]
fn nothing_is_allocated() {
    let projection = projection();
    let paths = paths();
    let before = count();
    let made = Box::new(1);
    assert_eq!(count() - before, 1, "the counter counts");
    drop(made);

    for platform in [&LINUX, &DARWIN] {
        let places = Places { store: STORE, private: PRIVATE };
        let shim = Shim::new(Still, &projection, places, platform).map(Box::new);
        let shim = shim.expect("read-only mounts");
        let (mut out, mut second) = (PathBuffer::new(), PathBuffer::new());
        let (mut asked, mut answered) = (0, 0);
        let before = count();
        let mut tally = |ok: bool| {
            asked += 1;
            answered += u32::from(ok);
        };
        for path in &paths {
            for base in [Base::Current, Base::Descriptor(3), Base::Descriptor(4)] {
                let place = (base, path.as_bytes());
                for flags in [0, darwin::RDWR, darwin::CREAT, darwin::SYMLINK, darwin::DIRECTORY] {
                    let request = darwin::request(flags);
                    tally(shim.open(place, &request, Look::Quick, &mut out).is_ok());
                }
                for operation in Operation::ALL {
                    tally(shim.by_path(operation, place, true, Look::Quick, &mut out).is_ok());
                    tally(shim.by_path(operation, place, false, Look::Thorough, &mut out).is_ok());
                }
                tally(shim.access(place, 4, true, Look::Quick, &mut out).is_ok());
                let loads = shim.materialise(Operation::Read, place, Look::Quick, &mut out);
                tally(loads.is_ok());
                let to = (Base::Current, b"/tmp/dir/new".as_slice());
                let none = RenameFlags::NONE;
                tally(shim.rename(place, to, none, &mut out, &mut second).is_ok());
                tally(shim.link(to, place, true, &mut out, &mut second).is_ok());
                tally(shim.link_descriptor(5, place, &mut out, &mut second).is_ok());
            }
        }
        for fd in [-1, 3, 4, 5, 6, 7, 9, 100_000] {
            for operation in Operation::ALL {
                tally(shim.by_descriptor(operation, fd, &mut out).is_ok());
            }
            tally(shim.listing(fd, &mut out).is_ok());
            tally(shim.path_of_descriptor(fd, &mut out).is_ok());
            shim.duplicated(fd, 8);
            shim.closed(fd);
        }
        shim.lost_current();
        tally(shim.path_of_current(&mut out).is_ok());
        tally(symbols::find("open$NOCANCEL", symbols::Arch::Arm64).is_some());
        assert_eq!(count() - before, 0);
        assert!(answered > 500 && asked - answered > 500, "{answered} of {asked}");
    }
}
