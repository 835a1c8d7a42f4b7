//! Plain structures from bytes.

/// A plain C structure that any bytes are a valid value of.
///
/// # Safety
/// The type has no padding requirement, niche or pointer that makes some bytes invalid.
pub unsafe trait Plain: Sized {}

// SAFETY: C structures of integers.
unsafe impl Plain for libc::stat {}
// SAFETY: C structures of integers.
unsafe impl Plain for libc::statx {}

/// The value that `bytes` are the memory of.
pub fn from_bytes<T: Plain>(bytes: &[u8]) -> T {
    assert!(bytes.len() >= size_of::<T>(), "enough bytes");
    // SAFETY: there are enough bytes (asserted) and any are a valid `T` (the trait's promise);
    // the read does not need alignment.
    unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) }
}
