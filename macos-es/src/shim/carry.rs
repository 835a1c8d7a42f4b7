//! From a question to what the caller is told: the part of an entry point that is the same for all.

use super::answer::Shim;
use super::buffer::PathBuffer;
use super::real::Sys;
use super::verdict::{Look, Verdict};
use core::ffi::CStr;
use vrift_policy::Errno;
use vrift_projection::NodeRef;

/// What the original call came to.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Real<R> {
    /// It is to be told as it is.
    Told(R),
    /// It failed with ENOENT or ENOTDIR: the path may lead through a real link into a mount.
    NotThere(R),
}

impl<R> Real<R> {
    fn told(self) -> R {
        match self {
            Real::Told(value) | Real::NotThere(value) => value,
        }
    }
}

impl<S: Sys> Shim<'_, S> {
    /// A call that names one path. `question` is asked of the core; `real` makes the original call,
    /// with the caller's own path or with one in its place; `answer` is asked for the rest, with
    /// what the verdict put into the buffer.
    ///
    /// # Errors
    /// What the process is told, where the original call was not made.
    pub fn carry<R>(
        &self,
        question: impl Fn(Look, &mut PathBuffer) -> Result<Verdict, Errno>,
        mut real: impl FnMut(Option<&CStr>) -> Real<R>,
        answer: impl FnOnce(NodeRef, &mut PathBuffer) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        let mut out = PathBuffer::new();
        let mut look = Look::Quick;
        loop {
            match question(look, &mut out)? {
                Verdict::Pass => match real(None) {
                    Real::NotThere(_) if look == Look::Quick => look = Look::Thorough,
                    result => return Ok(result.told()),
                },
                Verdict::PassAt => return Ok(real(Some(out.c_str()?)).told()),
                Verdict::Blob(node)
                | Verdict::Directory(node)
                | Verdict::Clone(node)
                | Verdict::Answer(node) => return answer(node, &mut out),
            }
        }
    }

    /// A call with a descriptor, the same way.
    ///
    /// # Errors
    /// What the process is told, where the original call was not made.
    pub fn carry_descriptor<R>(
        &self,
        question: impl FnOnce(&mut PathBuffer) -> Result<Verdict, Errno>,
        real: impl FnOnce() -> R,
        answer: impl FnOnce(NodeRef, &mut PathBuffer) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        let mut out = PathBuffer::new();
        match question(&mut out)? {
            Verdict::Pass | Verdict::PassAt => Ok(real()),
            Verdict::Blob(node)
            | Verdict::Directory(node)
            | Verdict::Clone(node)
            | Verdict::Answer(node) => answer(node, &mut out),
        }
    }
}
