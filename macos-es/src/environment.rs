//! The two variables that a process of a job has to hand on, whatever it does with its environment:
//! the loader's, which names the shim, and the job's own.

use crate::job::VARIABLE;
use crate::shim::PathBuffer;
use vrift_policy::Errno;

/// The loader's variable (dyld(1)), with its `=`.
const INSERT: &[u8] = b"DYLD_INSERT_LIBRARIES=";

/// What an environment has of them, and what it is to have.
#[derive(Copy, Clone, Debug)]
pub struct Environment<'a> {
    library: &'a [u8],
    job: &'a [u8],
    /// The libraries that are inserted, as the variable has them.
    inserted: Option<&'a [u8]>,
}

impl<'a> Environment<'a> {
    /// Looks through the entries of an environment. `library` is the shim, `job` the job's file.
    pub fn of(
        entries: impl Iterator<Item = &'a [u8]>,
        library: &'a [u8],
        job: &'a [u8],
    ) -> Environment<'a> {
        // The first one of a name counts, as for getenv.
        let inserted = entries.filter_map(|entry| entry.strip_prefix(INSERT)).next();
        Environment { library, job, inserted }
    }

    /// Does an entry go on as it is? Of the two variables none does: they are made anew.
    #[must_use]
    pub fn keeps(entry: &[u8]) -> bool {
        let ours = entry.strip_prefix(VARIABLE.as_bytes());
        !entry.starts_with(INSERT) && ours.is_none_or(|rest| rest.first() != Some(&b'='))
    }

    /// The loader's variable: the shim before all others, once. Without the shim, where a program
    /// would end for it (`with` false): what others inserted, or nothing to be set.
    ///
    /// # Errors
    /// E2BIG: it does not fit into the buffer.
    pub fn insert(&self, with: bool, out: &mut PathBuffer) -> Result<bool, Errno> {
        out.clear();
        let big = |_| Errno::E2BIG;
        let all = self.inserted.unwrap_or_default().split(|&byte| byte == b':');
        let mut others = all.filter(|one| !one.is_empty() && *one != self.library).peekable();
        if !with && others.peek().is_none() {
            return Ok(false);
        }
        out.push(INSERT).map_err(big)?;
        let own = with.then_some(self.library);
        for (number, one) in own.into_iter().chain(others).enumerate() {
            if number > 0 {
                out.push(b":").map_err(big)?;
            }
            out.push(one).map_err(big)?;
        }
        Ok(true)
    }

    /// The job's variable.
    ///
    /// # Errors
    /// E2BIG: it does not fit into the buffer.
    pub fn job(&self, out: &mut PathBuffer) -> Result<(), Errno> {
        out.clear();
        for part in [VARIABLE.as_bytes(), b"=", self.job] {
            out.push(part).map_err(|_| Errno::E2BIG)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Environment;
    use crate::shim::{CAPACITY, PathBuffer};
    use vrift_policy::Errno;

    const LIBRARY: &[u8] = b"/l/shim.dylib";

    fn inserted(entries: &[&[u8]], with: bool) -> Option<Vec<u8>> {
        let found = Environment::of(entries.iter().copied(), LIBRARY, b"/p/job");
        let mut out = PathBuffer::new();
        found.insert(with, &mut out).expect("room").then(|| out.bytes().to_vec())
    }

    #[test]
    fn the_shim_is_inserted_once_and_first() {
        let just = b"DYLD_INSERT_LIBRARIES=/l/shim.dylib".to_vec();
        assert_eq!(inserted(&[b"PATH=/bin"], true), Some(just.clone()));
        assert_eq!(inserted(&[b"DYLD_INSERT_LIBRARIES="], true), Some(just.clone()));
        assert_eq!(inserted(&[&just], true), Some(just.clone()));
        let two = b"DYLD_INSERT_LIBRARIES=/l/shim.dylib:/o.dylib".to_vec();
        assert_eq!(inserted(&[b"DYLD_INSERT_LIBRARIES=/o.dylib:/l/shim.dylib"], true), Some(two));
        assert_eq!(inserted(&[b"DYLD_INSERT_LIBRARIES_=/x"], true), Some(just));
    }

    #[test]
    fn a_program_that_would_end_for_it_does_without() {
        assert_eq!(inserted(&[b"DYLD_INSERT_LIBRARIES=/l/shim.dylib"], false), None);
        assert_eq!(inserted(&[], false), None);
        let other = b"DYLD_INSERT_LIBRARIES=/o.dylib".to_vec();
        assert_eq!(
            inserted(&[b"DYLD_INSERT_LIBRARIES=/l/shim.dylib:/o.dylib"], false),
            Some(other)
        );
    }

    #[test]
    fn both_are_made_anew_and_all_else_is_kept() {
        for entry in [&b"PATH=/bin"[..], b"", b"VRIFT_SHIM_JOBS=1", b"DYLD_LIBRARY_PATH=/x"] {
            assert!(Environment::keeps(entry));
        }
        for entry in [&b"VRIFT_SHIM_JOB=/other"[..], b"DYLD_INSERT_LIBRARIES=/x"] {
            assert!(!Environment::keeps(entry));
        }
        let mut out = PathBuffer::new();
        let environment = Environment::of(core::iter::empty(), LIBRARY, b"/p/job");
        environment.job(&mut out).expect("room");
        assert_eq!(out.bytes(), b"VRIFT_SHIM_JOB=/p/job");
        let long = vec![b'x'; CAPACITY];
        let environment = Environment::of(core::iter::empty(), &long, b"/p/job");
        assert_eq!(environment.insert(true, &mut out), Err(Errno::E2BIG));
    }
}
