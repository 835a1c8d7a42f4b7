//! What a process of a job is told of it: a file in the job's private directory, `job`, that is named
//! by one variable of its environment. Who starts the job writes it; the shim reads it once, when it
//! is loaded.
//!
//! It is strings that end in a NUL: a first line with the version, the store, the private directory,
//! the shim itself, what becomes of programs that refuse it, then a manifest's file and a mount
//! point by turns. All paths are absolute and without links.

use thiserror::Error;
use vrift_policy::Restricted;

/// The variable that names the file.
pub const VARIABLE: &str = "VRIFT_SHIM_JOB";

const FIRST: &[u8] = b"vrift shim 1";

/// A job's description, in the bytes of its file.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Job<'a> {
    /// The store's root.
    pub store: &'a [u8],
    /// The job's private directory.
    pub private: &'a [u8],
    /// The shim.
    pub library: &'a [u8],
    /// What becomes of programs that refuse it.
    pub restricted: Restricted,
    mounts: &'a [u8],
}

/// Why a file describes no job.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
pub enum JobError {
    /// It begins otherwise: another program wrote it, or another version of this one.
    #[error("it does not begin with the words of this version")]
    Version,
    /// It ends in the middle.
    #[error("it ends too soon")]
    Short,
    /// A path is relative.
    #[error("a path in it is not absolute")]
    Relative,
    /// Its word for programs that refuse the shim is none of them.
    #[error("what it says of restricted programs is none of observe, clone, refuse")]
    Restricted,
}

fn next<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], JobError> {
    let end = bytes.iter().position(|&byte| byte == 0).ok_or(JobError::Short)?;
    let (word, rest) = bytes.split_at(end);
    *bytes = &rest[1..];
    Ok(word)
}

fn path<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], JobError> {
    let path = next(bytes)?;
    if path.first() == Some(&b'/') { Ok(path) } else { Err(JobError::Relative) }
}

impl<'a> Job<'a> {
    /// Reads a file's bytes. Nothing is allocated.
    ///
    /// # Errors
    /// It describes no job.
    pub fn read(mut bytes: &'a [u8]) -> Result<Job<'a>, JobError> {
        let rest = &mut bytes;
        if next(rest) != Ok(FIRST) {
            return Err(JobError::Version);
        }
        let (store, private, library) = (path(rest)?, path(rest)?, path(rest)?);
        let word = next(rest)?;
        let restricted = Restricted::ALL.into_iter().find(|one| one.as_str().as_bytes() == word);
        let restricted = restricted.ok_or(JobError::Restricted)?;
        let mounts = *rest;
        while !rest.is_empty() {
            path(rest)?;
            path(rest)?;
        }
        Ok(Job { store, private, library, restricted, mounts })
    }

    /// The manifests' files and where they are mounted.
    pub fn mounts(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let mut rest = self.mounts;
        core::iter::from_fn(move || Some((next(&mut rest).ok()?, next(&mut rest).ok()?)))
    }

    /// The file's bytes for a job.
    #[must_use]
    pub fn write(
        (store, private, library): (&[u8], &[u8], &[u8]),
        restricted: Restricted,
        mounts: &[(&[u8], &[u8])],
    ) -> Vec<u8> {
        let mut words = vec![FIRST, store, private, library, restricted.as_str().as_bytes()];
        words.extend(mounts.iter().flat_map(|(manifest, at)| [*manifest, *at]));
        words.into_iter().flat_map(|word| [word, b"\0"].concat()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Job, JobError};
    use vrift_policy::Restricted;

    #[test]
    fn what_is_written_is_read() {
        let mounts: [(&[u8], &[u8]); 2] =
            [(b"/s/manifests/1", b"/a:b=c"), (b"/s/manifests/2", b"/\xff")];
        for restricted in Restricted::ALL {
            let bytes = Job::write((b"/s", b"/s/jobs/1", b"/lib/shim.dylib"), restricted, &mounts);
            let job = Job::read(&bytes).expect("a job");
            assert_eq!((job.store, job.private), (&b"/s"[..], &b"/s/jobs/1"[..]));
            assert_eq!((job.library, job.restricted), (&b"/lib/shim.dylib"[..], restricted));
            assert!(job.mounts().eq(mounts));
        }
    }

    #[test]
    fn what_is_cut_or_wrong_is_no_job() {
        let whole = Job::write((b"/s", b"/p", b"/l"), Restricted::Observe, &[(b"/m", b"/at")]);
        let without_mounts = Job::write((b"/s", b"/p", b"/l"), Restricted::Observe, &[]).len();
        for end in (0..whole.len()).filter(|end| *end != without_mounts) {
            assert!(Job::read(&whole[..end]).is_err(), "{end}");
        }
        assert_eq!(Job::read(b"vrift shim 2\0/s\0/p\0/l\0observe\0"), Err(JobError::Version));
        assert_eq!(Job::read(b"vrift shim 1\0s\0/p\0/l\0observe\0"), Err(JobError::Relative));
        assert_eq!(Job::read(b"vrift shim 1\0/s\0/p\0/l\0hide\0"), Err(JobError::Restricted));
    }
}
