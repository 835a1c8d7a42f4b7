//! What a program is started with: the environment with the loader's variable and the job's, and
//! what it takes where the system would open something by itself or the loader refuses the shim.
//!
//! It all stands in one mapping, for this runs between fork and exec. Scripts are taken apart here
//! where one of the two, script or interpreter, is projected: the kernel would find neither, and `$0`
//! is to be the path that the caller gave.

use super::arena::{give_back, pages};
use super::materialise::{node_at, whole};
use super::real::{checked, fstat};
use super::{State, bytes, last_error, materialise};
use core::ffi::{CStr, c_char, c_int};
use vrift_macos_es::environment::Environment;
use vrift_macos_es::program::{Program, examine, words};
use vrift_macos_es::shim::symbols::Arch;
use vrift_macos_es::shim::{Base, CAPACITY, Look, PathBuffer, Verdict};
use vrift_policy::{Errno, Operation, Restricted};

/// A list of strings that ends in null, as argv is.
pub type Strings = *const *const c_char;

#[cfg(target_arch = "aarch64")]
const ARCH: Arch = Arch::Arm64;
#[cfg(target_arch = "x86_64")]
const ARCH: Arch = Arch::X86_64;

/// The strings of a list; none if there is no list.
pub fn strings<'a>(list: Strings) -> impl Iterator<Item = &'a [u8]> {
    pointers(list).filter_map(bytes)
}

fn pointers(list: Strings) -> impl Iterator<Item = *const c_char> {
    let mut at = list;
    core::iter::from_fn(move || {
        if at.is_null() {
            return None;
        }
        // SAFETY: the list ends in null, which is the last that is read of it.
        let one = unsafe { *at };
        // SAFETY: not beyond the null.
        at = if one.is_null() { core::ptr::null() } else { unsafe { at.add(1) } };
        (!one.is_null()).then_some(one)
    })
}

/// What the original call is made with.
pub struct Launch {
    pub path: *const c_char,
    pub argv: Strings,
    pub envp: Strings,
    /// The directory that the program is to start in, if it is another one.
    pub directory: Option<*const c_char>,
    room: Room,
}

/// A mapping: lists of pointers from its beginning, text after them.
struct Room {
    memory: *mut u8,
    length: usize,
    used: usize,
}

impl Room {
    fn new(length: usize) -> Result<Room, Errno> {
        let memory = pages(length);
        if memory.is_null() { Err(Errno::ENOMEM) } else { Ok(Room { memory, length, used: 0 }) }
    }

    /// A copy of these bytes, with a NUL.
    fn text(&mut self, text: &[u8]) -> Result<*const c_char, Errno> {
        let end = self.used + text.len() + 1;
        if end > self.length {
            return Err(Errno::E2BIG);
        }
        // SAFETY: the bytes are within the mapping, and nothing else stands there.
        let at = unsafe { self.memory.add(self.used) };
        // SAFETY: as above; the mapping is zeroes, so the text ends.
        unsafe { core::ptr::copy_nonoverlapping(text.as_ptr(), at, text.len()) };
        self.used = end;
        Ok(at.cast_const().cast())
    }

    /// A list of these pointers, with a null.
    fn list(&mut self, all: impl Iterator<Item = *const c_char>) -> Result<Strings, Errno> {
        let start = self.used.next_multiple_of(align_of::<*const c_char>());
        let mut end = start;
        for one in all.chain([core::ptr::null()]) {
            if end + size_of::<*const c_char>() > self.length {
                return Err(Errno::E2BIG);
            }
            // SAFETY: within the mapping, which begins at a page, and aligned.
            unsafe { self.memory.add(end).cast::<*const c_char>().write(one) };
            end += size_of::<*const c_char>();
        }
        self.used = end;
        // SAFETY: within the mapping.
        Ok(unsafe { self.memory.add(start) }.cast_const().cast())
    }
}

impl Drop for Launch {
    fn drop(&mut self) {
        give_back(self.room.memory, self.room.length);
    }
}

/// A program as it is to be started: the file, and what comes before the caller's arguments.
struct Started {
    /// The file that the kernel is given.
    file: PathBuffer,
    /// A script's line, if the interpreter is to be started instead.
    line: PathBuffer,
    /// The loader refuses the shim.
    refused: bool,
}

/// What to start `program` with: a real file, which the caller called `named`.
pub fn prepare(
    state: &State,
    program: &CStr,
    named: &[u8],
    (argv, envp): (Strings, Strings),
) -> Result<Launch, Errno> {
    let started = started(state, program, named)?;
    let (arguments, entries) = (pointers(argv).count(), pointers(envp).count());
    let clones = started.refused && state.job.restricted == Restricted::Clone;
    if started.refused && state.job.restricted == Restricted::Refuse {
        return Err(Errno::EPERM);
    }
    // Pointers of both lists, the words of a line, two variables, two paths, and the arguments' new
    // paths. Pages that are not written to are not there.
    let texts = if clones { arguments * CAPACITY } else { 0 };
    let mut room = Room::new((arguments + entries + CAPACITY) * 8 + 6 * CAPACITY + texts)?;
    let path = room.text(started.file.bytes())?;
    let argv = argv_of(state, &mut room, argv, (&started, named), clones)?;
    let envp = envp_of(state, &mut room, envp, !started.refused)?;
    let directory = if clones { directory(state, &mut room)? } else { None };
    Ok(Launch { path, argv, envp, directory, room })
}

fn started(state: &State, program: &CStr, named: &[u8]) -> Result<Started, Errno> {
    let mut started = Started { file: PathBuffer::new(), line: PathBuffer::new(), refused: false };
    started.file.push(program.to_bytes())?;
    let mut line = [0u8; 512];
    let length = match look(program, &mut line)? {
        Program::Script(length) => length,
        found => {
            started.refused = matches!(found, Program::Closed(_));
            return Ok(started);
        }
    };
    let line = &line[..length];
    let Some(interpreter) = words(line).next() else { return Ok(started) };
    let mut real = PathBuffer::new();
    let place = (Base::Current, interpreter);
    let verdict = state.shim.materialise(Operation::Execute, place, Look::Thorough, &mut real)?;
    match verdict {
        Verdict::Clone(node) => materialise::file(state, node, &mut real)?,
        Verdict::PassAt => {}
        _ => {
            real.clear();
            real.push(interpreter)?;
        }
    }
    started.refused = matches!(look(real.c_str()?, &mut [0; 512])?, Program::Closed(_));
    // A real script of a real interpreter is the kernel's.
    let theirs = verdict == Verdict::Pass && named == program.to_bytes();
    if theirs && !(started.refused && state.job.restricted == Restricted::Clone) {
        return Ok(started);
    }
    // SAFETY: the path ends.
    checked(unsafe { libc::access(program.as_ptr(), libc::X_OK) })?;
    started.file.clear();
    started.file.push(real.bytes())?;
    started.line.push(line)?;
    Ok(started)
}

/// What a program's file is. One that can't be read is the kernel's to judge.
fn look(program: &CStr, line: &mut [u8; 512]) -> Result<Program, Errno> {
    // SAFETY: the path ends.
    let fd = unsafe { libc::open(program.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
    if fd < 0 {
        return match last_error() {
            errno @ (Errno::ENOENT | Errno::ENOTDIR) => Err(errno),
            _ => Ok(Program::Other),
        };
    }
    let read = &mut |at: u64, out: &mut [u8]| read_at(fd, at, out);
    let found =
        fstat(fd).and_then(|stat| examine((stat.st_mode.into(), stat.st_flags), ARCH, read, line));
    // SAFETY: it was opened above.
    unsafe { libc::close(fd) };
    match found {
        Err(Errno::ENOEXEC | Errno::EISDIR) => Ok(Program::Other),
        found => found,
    }
}

fn read_at(fd: c_int, at: u64, out: &mut [u8]) -> Result<usize, Errno> {
    let at = libc::off_t::try_from(at).map_err(|_| Errno::ENOEXEC)?;
    // SAFETY: the buffer has that room.
    let length = unsafe { libc::pread(fd, out.as_mut_ptr().cast(), out.len(), at) };
    usize::try_from(length).map_err(|_| last_error())
}

/// The arguments: a script's line and path in place of its name for itself, and with `clones` the
/// clones' paths for absolute ones of something projected. (From its clone of the directory the
/// program finds the others.)
fn argv_of(
    state: &State,
    room: &mut Room,
    argv: Strings,
    (started, named): (&Started, &[u8]),
    clones: bool,
) -> Result<Strings, Errno> {
    let script = !started.line.is_empty();
    if !script && !clones {
        return Ok(argv);
    }
    // A line of 512 bytes has at most 256 words, and the script's path comes after them.
    let mut first = [core::ptr::null::<c_char>(); 257];
    let mut count = 0;
    if script {
        for word in words(started.line.bytes()).chain([named]) {
            first[count] = room.text(word)?;
            count += 1;
        }
    }
    let rest = || pointers(argv).skip(usize::from(script));
    let list = room.list(first[..count].iter().copied().chain(rest()))?;
    // The first of them is what the program is called, not a file.
    for number in count.max(2) - 1..if clones { count + rest().count() } else { 0 } {
        // SAFETY: within the list.
        let one = unsafe { list.add(number) };
        // SAFETY: as above; the list is in our own mapping.
        let text = bytes(unsafe { *one }).unwrap_or_default();
        if let Some(path) = clone_of(state, room, text)? {
            // SAFETY: as above.
            unsafe { one.cast_mut().write(path) };
        }
    }
    Ok(list)
}

/// The path of the clone of what an absolute path names, if that is projected.
fn clone_of(state: &State, room: &mut Room, path: &[u8]) -> Result<Option<*const c_char>, Errno> {
    let Some(node) = path.starts_with(b"/").then(|| node_at(state, path)).flatten() else {
        return Ok(None);
    };
    let mut out = PathBuffer::new();
    whole(state, node, &mut out)?;
    room.text(out.bytes()).map(Some)
}

/// The clone of the current directory, if that is projected.
fn directory(state: &State, room: &mut Room) -> Result<Option<*const c_char>, Errno> {
    let mut path = PathBuffer::new();
    if state.shim.path_of_current(&mut path)? {
        clone_of(state, room, path.bytes())
    } else {
        Ok(None)
    }
}

/// The environment, with the two variables of a job; without the loader's where `with` is false.
fn envp_of(state: &State, room: &mut Room, envp: Strings, with: bool) -> Result<Strings, Errno> {
    let environment = Environment::of(strings(envp), state.job.library, state.job_file);
    let mut out = PathBuffer::new();
    environment.job(&mut out)?;
    let mut ours = [room.text(out.bytes())?, core::ptr::null()];
    if environment.insert(with, &mut out)? {
        ours[1] = room.text(out.bytes())?;
    }
    let kept = pointers(envp).filter(|entry| bytes(*entry).is_some_and(Environment::keeps));
    room.list(kept.chain(ours.into_iter().filter(|entry| !entry.is_null())))
}
