//! The two structures that make a look-up cheap: a Bloom filter for names that aren't there, and
//! an open-addressing hash table for those that are. Part of the format: a change of any constant
//! here is a new format version.

/// Words of one Bloom block.
pub(super) const BLOOM_WORDS: usize = 8;
/// Keys for each 256-bit block: 16 bits a key, about one false answer in a thousand.
pub(super) const KEYS_PER_BLOCK: u32 = 16;

// The split-block filter that Apache Parquet specifies, with its salts.
const SALT: [u32; BLOOM_WORDS] = [
    0x47b6_137b,
    0x4497_4d91,
    0x8824_ad5b,
    0xa2b7_289d,
    0x7054_95c7,
    0x2df1_424b,
    0x9efc_4947,
    0x5c6b_fb31,
];

const K: [u64; 3] = [0xa076_1d64_78bd_642f, 0xe703_7ed1_a0b4_28db, 0x8ebc_6af0_9c88_c6e3];

/// Low and high half of the 128-bit product, folded: every input bit reaches every output bit.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    #[expect(clippy::cast_possible_truncation, reason = "the halves are what is wanted")]
    let (low, high) = (product as u64, (product >> 64) as u64);
    low ^ high
}

/// The hash of one directory entry. Eight bytes of the name at a time, the last ones filled up
/// with zeros; the length goes in first, so that padding can't make two names equal.
pub(super) fn entry_hash(dir: u32, name: &[u8]) -> u64 {
    let mut hash = fold(u64::from(dir) ^ K[0], name.len() as u64 ^ K[1]);
    let mut words = name.chunks_exact(8);
    for word in &mut words {
        let mut bytes = [0u8; 8];
        bytes.copy_from_slice(word);
        hash = fold(hash ^ u64::from_le_bytes(bytes), K[2]);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        let mut bytes = [0u8; 8];
        bytes[..rest.len()].copy_from_slice(rest);
        hash = fold(hash ^ u64::from_le_bytes(bytes), K[2]);
    }
    fold(hash ^ K[0], K[1])
}

/// The upper half, which marks a slot and picks the Bloom block.
pub(super) fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// The lower half, which picks the slot and the bits inside a Bloom block.
pub(super) fn low(hash: u64) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is what is wanted")]
    let low = hash as u32;
    low
}

/// Which of `blocks` Bloom blocks a hash belongs to.
pub(super) fn bloom_block(hash: u64, blocks: u32) -> u32 {
    tag(u64::from(tag(hash)) * u64::from(blocks))
}

/// The one bit in each word of the block.
pub(super) fn bloom_mask(hash: u64) -> [u32; BLOOM_WORDS] {
    SALT.map(|salt| 1 << (low(hash).wrapping_mul(salt) >> 27))
}

/// Slots for `nodes` nodes: at most half full.
pub(super) fn slots_for(nodes: u32) -> Option<u32> {
    nodes.checked_mul(2)?.checked_next_power_of_two().map(|slots| slots.max(2))
}
