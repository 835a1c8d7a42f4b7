//! The byte layouts in which the kernel hands out a file's metadata.
//!
//! `struct stat` of arch/x86/include/uapi/asm/stat.h and include/uapi/asm-generic/stat.h,
//! `struct statx` of include/uapi/linux/stat.h. Written field by field: no padding of ours
//! reaches the job.

use vrift_projection::Attr;

/// Size of the native `struct stat`.
pub const STAT_SIZE: usize = size_of::<libc::stat>();
const STATX_SIZE: usize = 256;

struct Out<const N: usize>([u8; N]);

impl<const N: usize> Out<N> {
    fn put(&mut self, at: usize, value: &[u8]) {
        self.0[at..at + value.len()].copy_from_slice(value);
    }
    fn u16(&mut self, at: usize, v: u16) {
        self.put(at, &v.to_ne_bytes());
    }
    fn u32(&mut self, at: usize, v: u32) {
        self.put(at, &v.to_ne_bytes());
    }
    fn u64(&mut self, at: usize, v: u64) {
        self.put(at, &v.to_ne_bytes());
    }
    fn i64(&mut self, at: usize, v: i64) {
        self.put(at, &v.to_ne_bytes());
    }
}

fn mtime(attr: &Attr) -> (i64, u32) {
    (attr.mtime_sec, attr.mtime_nsec)
}

/// The native `struct stat`.
pub fn native(attr: &Attr, uid: u32, gid: u32) -> [u8; STAT_SIZE] {
    use std::mem::offset_of;
    let mut out = Out([0u8; STAT_SIZE]);
    out.u64(offset_of!(libc::stat, st_dev), attr.dev);
    out.u64(offset_of!(libc::stat, st_ino), attr.ino);
    out.u32(offset_of!(libc::stat, st_mode), attr.file_type() | attr.mode);
    out.u32(offset_of!(libc::stat, st_uid), uid);
    out.u32(offset_of!(libc::stat, st_gid), gid);
    out.u64(offset_of!(libc::stat, st_size), attr.size);
    out.u64(offset_of!(libc::stat, st_blocks), attr.blocks);
    // The widths of these two differ between architectures.
    #[cfg(target_arch = "x86_64")]
    {
        out.u64(offset_of!(libc::stat, st_nlink), u64::from(attr.nlink));
        out.u64(offset_of!(libc::stat, st_blksize), u64::from(attr.blksize));
    }
    #[cfg(target_arch = "aarch64")]
    {
        out.u32(offset_of!(libc::stat, st_nlink), attr.nlink);
        out.u32(offset_of!(libc::stat, st_blksize), attr.blksize);
    }
    out.u64(offset_of!(libc::stat, st_rdev), attr.rdev);
    for (sec, nsec, time) in [
        (offset_of!(libc::stat, st_atime), offset_of!(libc::stat, st_atime_nsec), attr.atime),
        (offset_of!(libc::stat, st_mtime), offset_of!(libc::stat, st_mtime_nsec), mtime(attr)),
        (offset_of!(libc::stat, st_ctime), offset_of!(libc::stat, st_ctime_nsec), attr.ctime),
    ] {
        out.i64(sec, time.0);
        out.u64(nsec, u64::from(time.1));
    }
    out.0
}

/// i386's `struct stat64` (arch/x86/include/uapi/asm/stat.h): packed, 96 bytes.
pub fn stat64(attr: &Attr, uid: u32, gid: u32) -> [u8; 96] {
    /// The inode number's lower half, for a field that nobody uses any more.
    fn lower(ino: u64) -> u32 {
        u32::try_from(ino & 0xffff_ffff).unwrap_or(0)
    }
    let mut out = Out([0u8; 96]);
    out.u64(0, attr.dev);
    out.u32(12, lower(attr.ino));
    out.u32(16, attr.file_type() | attr.mode);
    out.u32(20, attr.nlink);
    out.u32(24, uid);
    out.u32(28, gid);
    out.u64(32, attr.rdev);
    out.u64(44, attr.size);
    out.u32(52, attr.blksize);
    out.u64(56, attr.blocks);
    for (at, time) in [(64, attr.atime), (72, mtime(attr)), (80, attr.ctime)] {
        // 32-bit seconds wrap, as cp_new_stat64() lets them.
        out.u32(at, lower(time.0.cast_unsigned()));
        out.u32(at + 4, time.1);
    }
    out.u64(88, attr.ino);
    out.0
}

/// `struct statx` for the fields asked for by `mask`.
pub fn statx(attr: &Attr, uid: u32, gid: u32, mask: u64, mount_root: bool) -> [u8; STATX_SIZE] {
    const BASIC: u32 = 0x7ff;
    const MNT_ID: u32 = 0x1000;
    const MNT_ID_UNIQUE: u32 = 0x4000;
    const ATTR_MOUNT_ROOT: u64 = 0x2000;
    let mut out = Out([0u8; STATX_SIZE]);
    // The kernel gives it whatever is asked for; the unique form only on request.
    let filled = BASIC | if mask & u64::from(MNT_ID_UNIQUE) != 0 { MNT_ID_UNIQUE } else { MNT_ID };
    out.u64(144, u64::from(attr.dev_minor()));
    out.u32(0, filled);
    out.u32(4, attr.blksize);
    out.u64(8, if mount_root { ATTR_MOUNT_ROOT } else { 0 });
    out.u32(16, attr.nlink);
    out.u32(20, uid);
    out.u32(24, gid);
    out.u16(28, u16::try_from((attr.file_type() | attr.mode) & 0xffff).unwrap_or(0));
    out.u64(32, attr.ino);
    out.u64(40, attr.size);
    out.u64(48, attr.blocks);
    out.u64(56, ATTR_MOUNT_ROOT);
    for (at, time) in [(64, attr.atime), (96, attr.ctime), (112, mtime(attr))] {
        out.i64(at, time.0);
        out.u32(at + 8, time.1);
    }
    out.u32(128, libc::major(attr.rdev));
    out.u32(132, libc::minor(attr.rdev));
    out.u32(136, attr.dev_major());
    out.u32(140, attr.dev_minor());
    out.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use vrift_projection::Kind;

    #[test]
    fn fields_are_where_the_kernel_puts_them() {
        let attr = Attr {
            dev: libc::makedev(0, 0x8_1234),
            ino: 42,
            kind: Kind::File,
            mode: 0o4755,
            nlink: 3,
            size: 5_000_000_000,
            blocks: 9_765_632,
            blksize: 4096,
            mtime_sec: -5,
            mtime_nsec: 123_456_789,
            atime: (7, 8),
            ctime: (9, 10),
            owner: None,
            rdev: libc::makedev(5, 1),
        };
        let x = statx(&attr, 1000, 100, 0x1fff, true);
        let s: libc::statx = crate::sys::plain::from_bytes(&x);
        assert_eq!((s.stx_ino, s.stx_size, s.stx_nlink), (42, 5_000_000_000, 3));
        assert_eq!(u32::from(s.stx_mode), 0o104_755);
        assert_eq!((s.stx_uid, s.stx_gid), (1000, 100));
        assert_eq!((s.stx_mtime.tv_sec, s.stx_mtime.tv_nsec), (-5, 123_456_789));
        assert_eq!(libc::makedev(s.stx_dev_major, s.stx_dev_minor), attr.dev);
        assert_eq!((s.stx_atime.tv_sec, s.stx_atime.tv_nsec), (7, 8));
        assert_eq!((s.stx_ctime.tv_sec, s.stx_ctime.tv_nsec), (9, 10));
        assert_eq!((s.stx_rdev_major, s.stx_rdev_minor), (5, 1));
        assert_eq!(s.stx_attributes & s.stx_attributes_mask, 0x2000);
        let n: libc::stat = crate::sys::plain::from_bytes(&native(&attr, 1000, 100));
        assert_eq!((n.st_dev, n.st_ino, n.st_mode), (attr.dev, 42, 0o104_755));
        assert_eq!((n.st_mtime, n.st_mtime_nsec), (-5, 123_456_789));
        assert_eq!((n.st_atime, n.st_ctime_nsec, n.st_rdev), (7, 10, attr.rdev));
        assert_eq!((n.st_size, n.st_blocks, n.st_blksize), (5_000_000_000, 9_765_632, 4096));
    }
}
