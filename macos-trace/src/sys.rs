//! The call that needs `unsafe`.

/// Takes the flags off a file that would keep it from being removed.
pub fn clear_flags(path: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the path ends.
    match unsafe { libc::lchflags(path.as_ptr(), 0) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}
