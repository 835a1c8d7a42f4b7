//! Device and inode numbers that stay the same from run to run.
//!
//! A mount's device is an anonymous one (major 0, as of tmpfs or overlayfs) whose minor is made of
//! the mount point and the manifest's hash. The kernel hands minors out from 1 upwards; ours begin
//! at [`FIRST_MINOR`], which it reaches only with half a million file systems mounted. Where two
//! mounts of a projection would meet, the later one by path takes the next free number.

use std::collections::BTreeSet;

use vrift_store::Hash;

/// The lowest minor number of a mount's device.
pub const FIRST_MINOR: u32 = 0x8_0000;

/// The minor number of the one device that all synthetic directories share: the highest there is.
pub const SYNTHETIC_MINOR: u32 = 0xF_FFFF;

/// `st_ino` of a manifest node is its inode number plus this, because 0 means "no inode" to many
/// programs. A mount's root is therefore inode 1.
const INODE_OFFSET: u64 = 1;

/// `st_ino` of a manifest node.
pub(crate) fn inode(inode: u32) -> u64 {
    u64::from(inode) + INODE_OFFSET
}

/// `st_ino` of a synthetic directory: made of its path, so that it doesn't depend on how many
/// others there are. The top bit stays clear: some programs print it signed.
pub(crate) fn synthetic_inode(path: &[u8]) -> u64 {
    (fnv1a([path]) >> 1).max(1)
}

/// Encodes `makedev(0, minor)` as stat's 64-bit `st_dev` holds it (`new_encode_dev`, and glibc's
/// `makedev`, which agree as long as the minor has 20 bits).
pub(crate) const fn device(minor: u32) -> u64 {
    // Widening; `u64::from` is not const.
    #[allow(clippy::cast_lossless)]
    let minor = minor as u64;
    (minor & 0xff) | ((minor & !0xff) << 12)
}

/// The minor number of [`device`].
pub(crate) const fn minor(device: u64) -> u32 {
    let minor = (device & 0xff) | ((device >> 12) & 0xf_ff00);
    // Twenty bits.
    #[allow(clippy::cast_possible_truncation)]
    let minor = minor as u32;
    minor
}

/// Hands out the minors of one projection.
#[derive(Default)]
pub(crate) struct Minors {
    taken: BTreeSet<u32>,
}

impl Minors {
    /// The minor of the mount of `manifest` at `at`. There are eight times as many as mounts.
    pub(crate) fn take(&mut self, at: &[u8], manifest: &Hash) -> u32 {
        const COUNT: u64 = (SYNTHETIC_MINOR - FIRST_MINOR) as u64;
        // Less than 2^19.
        #[allow(clippy::cast_possible_truncation)]
        let mut offset = (fnv1a([at, b"\0", manifest.as_bytes()]) % COUNT) as u32;
        while !self.taken.insert(FIRST_MINOR + offset) {
            offset = (offset + 1) % (SYNTHETIC_MINOR - FIRST_MINOR);
        }
        FIRST_MINOR + offset
    }
}

/// FNV-1a, 64 bits, with a final mix: the low digits of plain FNV are weak. The numbers that
/// come of it are part of what users see, so it must never change.
fn fnv1a<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in parts.into_iter().flatten() {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::{FIRST_MINOR, Minors, SYNTHETIC_MINOR, device, fnv1a, minor, synthetic_inode};
    use vrift_store::Hash;

    fn hash(byte: char) -> Hash {
        byte.to_string().repeat(64).parse().expect("64 hex digits")
    }

    #[test]
    fn devices_are_encoded_as_the_kernel_does() {
        assert_eq!(device(0x8_0000), 0x8000_0000);
        assert_eq!(device(0xF_FFFF), 0xFFF0_00FF);
        assert_eq!(device(0x8_1234), 0x8120_0034);
        for number in [FIRST_MINOR, 0x8_1234, 0xA_BCDE, SYNTHETIC_MINOR] {
            assert_eq!(minor(device(number)), number);
        }
    }

    #[test]
    fn numbers_are_the_same_from_run_to_run() {
        // Written down once: were they to change, every stat cache of a user would be stale.
        assert_eq!(fnv1a([b"" as &[u8]]), 0xecba_3df2_c338_3c52);
        assert_eq!(fnv1a([b"/vrift".as_slice(), b"/deps"]), 0x6290_a631_5459_a1ea);
        let first = Minors::default().take(b"/vrift/deps", &hash('a'));
        assert_eq!(first, Minors::default().take(b"/vrift/deps", &hash('a')));
        assert!((FIRST_MINOR..SYNTHETIC_MINOR).contains(&first));
        assert_ne!(first, Minors::default().take(b"/vrift/deps", &hash('b')));
        assert_ne!(first, Minors::default().take(b"/vrift/dep", &hash('a')));
        assert_ne!(synthetic_inode(b"/a"), synthetic_inode(b"/b"));
    }

    #[test]
    fn no_two_mounts_share_a_device() {
        let mut minors = Minors::default();
        // The last hundred would all be one.
        let paths = (0..5000).map(|i| format!("/m{i}")).chain((0..100).map(|_| "/same".into()));
        let all: std::collections::BTreeSet<u32> =
            paths.map(|at| minors.take(at.as_bytes(), &hash('0'))).collect();
        assert_eq!(all.len(), 5100);
        assert!(all.iter().all(|minor| (FIRST_MINOR..SYNTHETIC_MINOR).contains(minor)));
    }
}
