//! The content of a projected file, for whatever needs its bytes: opening, running, interpreting,
//! copying up, watching. It is in the store, or is fetched into it while the task waits.
//!
//! Whatever leads to a blob's bytes begins with [`Call::need`], and nothing else does: who only asks
//! about a file, or lists it, needs none.

use super::Call;
use crate::fetch::{self, Waited};
use crate::listener::{Answer, Pending};
use crate::rewrite::{self, LetIn};
use crate::status::Status;
use crate::trace;
use nix::fcntl::OFlag;
use std::os::fd::OwnedFd;
use vrift_events::printable;
use vrift_policy::Errno;
use vrift_projection::NodeRef;
use vrift_store::Hash;

/// Why a task does not wait any more.
enum Away {
    /// It is gone, or was called away by the kernel.
    Gone,
    /// A signal waits for it.
    Signal,
}

impl Call<'_> {
    /// Opens the blob that is the content of `node`. A large one is hashed at its first use while
    /// another thread receives.
    pub fn open_blob(
        &self,
        node: NodeRef,
        (hash, size): (&Hash, u64),
        flags: OFlag,
    ) -> Result<OwnedFd, Errno> {
        const LARGE: u64 = 1 << 20;
        self.need(node, (hash, size))?;
        let known = || self.job.store.as_ref().is_some_and(|view| view.known_whole(hash));
        if size < LARGE || known() {
            self.job.open_blob(hash, flags)
        } else {
            self.pool.while_waiting(|| self.job.open_blob(hash, flags))
        }
    }

    /// Sees to it that the blob that is the content of `node` is in the store, as far as it can be
    /// fetched there. Others call meanwhile.
    ///
    /// # Errors
    /// EIO: it can't be had, which is told. EINTR: a signal ended the wait; the answer is
    /// [`give_way`]'s then.
    pub fn need(&self, node: NodeRef, (hash, size): (&Hash, u64)) -> Result<(), Errno> {
        let wanted = fetch::left_elsewhere(self.job, node, (hash, size));
        let Some((tree, asked)) = wanted else { return Ok(()) };
        let Some(fetcher) = &self.job.fetcher else {
            let place = printable(&tree.place);
            let reason = format!(
                "it is left at {place}, and what runs in a container fetches nothing; get it \
                 beforehand: vrift pull {place} REF"
            );
            return Err(self.can_not_have(node, hash, &reason));
        };
        match self.pool.while_waiting(|| fetcher.fetch(&asked, || self.is_away())) {
            Waited::Here => Ok(()),
            Waited::Failed(reason) => Err(self.can_not_have(node, hash, &reason)),
            Waited::Away(Away::Gone) => Err(Errno::EINTR),
            Waited::Away(Away::Signal) => {
                self.caller.called_away.set(true);
                Err(Errno::EINTR)
            }
        }
    }

    fn is_away(&self) -> Option<Away> {
        if self.caller.confirm().is_err() {
            return Some(Away::Gone);
        }
        let status = Status::of(self.caller.tid)?;
        // Of a task that a debugger holds, one that it alone will get can be let in.
        let can_be_let_in = || status.signal_is_its_own() || status.number("TracerPid:") == Some(0);
        (status.signal_waits() && can_be_let_in()).then_some(Away::Signal)
    }

    fn can_not_have(&self, node: NodeRef, hash: &Hash, reason: &str) -> Errno {
        let path = self.job.path(node);
        trace::current::refused(&path, Some(&format!("its content: {reason}")), None);
        fetch::tell(self.job, node, hash, reason);
        Errno::EIO
    }
}

/// Answers a call that a signal ended while it waited for content: the signal comes first, and the
/// call is made again or fails with EINTR, as its handler was set up.
pub fn give_way(call: &Call<'_>, pending: Pending<'_>) {
    match rewrite::let_signal_in(call, pending) {
        LetIn::Done => {}
        LetIn::NotNow(back) => back.answer(&Answer::Fail(Errno::EINTR)),
    }
}
