//! Which system calls the floor is notified of, where their path stands, and the filter for them.
//!
//! The set is the one that `vrift-trace` asks for with a mount: everything that names a file, the
//! descriptor forms that tell or change metadata, and directory streams. What takes no path argument
//! is answered without a read.

use libc::{
    BPF_ABS, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, SECCOMP_RET_ALLOW,
    SECCOMP_RET_USER_NOTIF, sock_filter,
};

/// Where a call's path is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Argument {
    /// In the argument with this index.
    Path(usize),
    /// It takes none, or none that a floor reads.
    Nothing,
}

/// What a prepared answer needs to know of a call beyond its path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Writes a `struct stat` to the argument with this index.
    Stat(usize),
    /// Tests for the mode in the argument with this index.
    Access(usize),
    /// Opens with the flags in the argument with this index.
    Open(usize),
    /// Writes a link's target to the argument with this index, at most as many bytes as the next says.
    ReadLink(usize),
    /// Anything else: CONTINUE.
    Other,
}

/// One notified call.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Its number here.
    pub number: u32,
    /// Where its path is.
    pub path: Argument,
    /// How it may be answered.
    pub kind: Kind,
}

/// The notified calls of one architecture, by number.
#[derive(Debug)]
pub struct Calls {
    shapes: Vec<Shape>,
    by_number: Vec<Option<u8>>,
}

#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCH: u32 = 0xc000_00b7;

/// The bit that marks an x32 call on x86_64. No other number is that high.
const X32: u32 = 0x4000_0000;

impl Calls {
    /// The table of the architecture that this was compiled for.
    #[must_use]
    pub fn of_this_machine() -> Self {
        let mut shapes = Vec::new();
        for &(number, path, kind) in COMMON.iter().chain(LEGACY) {
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            shapes.push(Shape { number, path, kind });
        }
        let highest = shapes.iter().map(|shape| shape.number).max().unwrap_or(0);
        let mut by_number = vec![None; highest as usize + 1];
        for (index, shape) in shapes.iter().enumerate() {
            by_number[shape.number as usize] = u8::try_from(index).ok();
        }
        Self { shapes, by_number }
    }

    /// The row of a notified number.
    #[must_use]
    pub fn shape(&self, number: i32) -> Option<Shape> {
        let number = usize::try_from(number).ok()?;
        let index = (*self.by_number.get(number)?)?;
        self.shapes.get(usize::from(index)).copied()
    }

    /// The filter: USER_NOTIF for the calls of the table, ALLOW for the rest and for every other
    /// architecture. It looks at no arguments, so that the kernel caches each ALLOW.
    #[must_use]
    pub fn program(&self) -> Vec<sock_filter> {
        let count = self.shapes.len();
        let mut program = vec![
            statement(BPF_LD | BPF_W | BPF_ABS, 4),
            jump(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH, 0, count + 2),
            statement(BPF_LD | BPF_W | BPF_ABS, 0),
            jump(BPF_JMP | BPF_JGE | BPF_K, X32, count, 0),
        ];
        for (index, shape) in self.shapes.iter().enumerate() {
            program.push(jump(BPF_JMP | BPF_JEQ | BPF_K, shape.number, count - index, 0));
        }
        program.push(statement(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
        program.push(statement(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF));
        program
    }
}

fn statement(code: u32, k: u32) -> sock_filter {
    jump(code, k, 0, 0)
}

/// # Panics
/// When a jump is longer than 255 instructions: the table above would be too long for this filter.
fn jump(code: u32, k: u32, yes: usize, no: usize) -> sock_filter {
    let short = |length: usize| u8::try_from(length).expect("a jump of at most 255 instructions");
    let code = u16::try_from(code).expect("an instruction code has 16 bits");
    sock_filter { code, jt: short(yes), jf: short(no), k }
}

type Row = (libc::c_long, Argument, Kind);

const fn path(number: libc::c_long, index: usize) -> Row {
    (number, Argument::Path(index), Kind::Other)
}

const fn bare(number: libc::c_long) -> Row {
    (number, Argument::Nothing, Kind::Other)
}

const fn like(number: libc::c_long, index: usize, kind: Kind) -> Row {
    (number, Argument::Path(index), kind)
}

/// Calls that both architectures have, the frequent ones first: the filter tries them in order.
const COMMON: &[Row] = &[
    like(libc::SYS_readlinkat, 1, Kind::ReadLink(2)),
    like(libc::SYS_openat, 1, Kind::Open(2)),
    like(libc::SYS_newfstatat, 1, Kind::Stat(2)),
    path(libc::SYS_statx, 1),
    like(libc::SYS_faccessat, 1, Kind::Access(2)),
    path(libc::SYS_faccessat2, 1),
    bare(libc::SYS_fstat),
    path(libc::SYS_openat2, 1),
    path(libc::SYS_execve, 0),
    path(libc::SYS_execveat, 1),
    bare(libc::SYS_getdents64),
    bare(libc::SYS_getcwd),
    path(libc::SYS_chdir, 0),
    bare(libc::SYS_fchdir),
    path(libc::SYS_chroot, 0),
    path(libc::SYS_statfs, 0),
    bare(libc::SYS_fstatfs),
    path(libc::SYS_mkdirat, 1),
    path(libc::SYS_mknodat, 1),
    path(libc::SYS_unlinkat, 1),
    path(libc::SYS_renameat, 1),
    path(libc::SYS_renameat2, 1),
    path(libc::SYS_linkat, 1),
    path(libc::SYS_symlinkat, 2),
    path(libc::SYS_truncate, 0),
    path(libc::SYS_fchmodat, 1),
    path(FCHMODAT2, 1),
    path(libc::SYS_fchownat, 1),
    path(libc::SYS_utimensat, 1),
    bare(libc::SYS_fchmod),
    bare(libc::SYS_fchown),
    path(libc::SYS_getxattr, 0),
    path(libc::SYS_lgetxattr, 0),
    path(libc::SYS_listxattr, 0),
    path(libc::SYS_llistxattr, 0),
    path(libc::SYS_setxattr, 0),
    path(libc::SYS_lsetxattr, 0),
    path(libc::SYS_removexattr, 0),
    path(libc::SYS_lremovexattr, 0),
    bare(libc::SYS_fsetxattr),
    bare(libc::SYS_fremovexattr),
    path(libc::SYS_name_to_handle_at, 1),
    path(libc::SYS_inotify_add_watch, 1),
];

/// Linux 6.6; newer than some libc crates' tables.
const FCHMODAT2: libc::c_long = 452;

/// Calls without a directory descriptor, which aarch64 never had.
#[cfg(target_arch = "x86_64")]
const LEGACY: &[Row] = &[
    like(libc::SYS_readlink, 0, Kind::ReadLink(1)),
    like(libc::SYS_open, 0, Kind::Open(1)),
    like(libc::SYS_stat, 0, Kind::Stat(1)),
    like(libc::SYS_lstat, 0, Kind::Stat(1)),
    like(libc::SYS_access, 0, Kind::Access(1)),
    path(libc::SYS_creat, 0),
    bare(libc::SYS_getdents),
    path(libc::SYS_mkdir, 0),
    path(libc::SYS_mknod, 0),
    path(libc::SYS_rmdir, 0),
    path(libc::SYS_unlink, 0),
    path(libc::SYS_rename, 0),
    path(libc::SYS_link, 0),
    path(libc::SYS_symlink, 1),
    path(libc::SYS_chmod, 0),
    path(libc::SYS_chown, 0),
    path(libc::SYS_lchown, 0),
    path(libc::SYS_utime, 0),
    path(libc::SYS_utimes, 0),
    path(libc::SYS_futimesat, 1),
];
#[cfg(target_arch = "aarch64")]
const LEGACY: &[Row] = &[];

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the filter as the kernel does: only what [`Calls::program`] uses.
    fn verdict(program: &[sock_filter], arch: u32, number: u32) -> u32 {
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let instruction = program[at];
            let code = u32::from(instruction.code);
            at += 1;
            if code == BPF_LD | BPF_W | BPF_ABS {
                accumulator = if instruction.k == 4 { arch } else { number };
            } else if code == BPF_RET | BPF_K {
                return instruction.k;
            } else {
                let taken = if code == BPF_JMP | BPF_JEQ | BPF_K {
                    accumulator == instruction.k
                } else {
                    assert_eq!(code, BPF_JMP | BPF_JGE | BPF_K);
                    accumulator >= instruction.k
                };
                at += usize::from(if taken { instruction.jt } else { instruction.jf });
            }
        }
    }

    #[test]
    fn the_filter_notifies_the_table_and_nothing_else() {
        let calls = Calls::of_this_machine();
        let program = calls.program();
        for number in 0..1000 {
            let listed = calls.shapes.iter().any(|shape| shape.number == number);
            let expected = if listed { SECCOMP_RET_USER_NOTIF } else { SECCOMP_RET_ALLOW };
            assert_eq!(verdict(&program, AUDIT_ARCH, number), expected, "call {number}");
            assert_eq!(verdict(&program, AUDIT_ARCH, number | X32), SECCOMP_RET_ALLOW);
            assert_eq!(verdict(&program, 0x4000_0003, number), SECCOMP_RET_ALLOW);
        }
    }

    #[test]
    fn every_row_is_found_by_its_number_and_stands_once() {
        let calls = Calls::of_this_machine();
        for shape in &calls.shapes {
            let number = i32::try_from(shape.number).unwrap();
            assert_eq!(calls.shape(number).map(|found| found.path), Some(shape.path));
            let same = calls.shapes.iter().filter(|other| other.number == shape.number);
            assert_eq!(same.count(), 1, "call {number}");
        }
        assert!(calls.shape(-1).is_none());
        assert!(calls.shape(i32::try_from(libc::SYS_read).unwrap()).is_none());
    }
}
