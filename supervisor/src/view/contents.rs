//! The contents of mounted trees: what is read comes from the store, hashed at its first use, or is
//! fetched there while who reads it waits.

use super::told::{Answer, errno};
use crate::fetch::{self, Waited};
use crate::job::Job;
use crate::status::Status;
use fuser::{Errno, ReplyData};
use nix::fcntl::OFlag;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};
use vrift_projection::NodeRef;
use vrift_projection::overlay::Content;
use vrift_store::Hash;
use vrift_store::asking::Asked;

/// How many contents are hashed at the same time, at most.
const TURNS: usize = 16;
/// Of a thread that waits for a content, hashes it and reads it.
const STACK: usize = 512 * 1024;

/// A part of a file: where it begins, and how long it may be.
type Part = (NodeRef, u64, u32);

/// The contents of one tree.
pub struct Contents {
    job: Arc<Job>,
    /// Whose turn it is to hash contents that begin alike.
    turns: [Mutex<()>; TURNS],
}

impl Contents {
    /// Of a job's trees.
    pub fn of(job: &Arc<Job>) -> Contents {
        Contents { job: Arc::clone(job), turns: Default::default() }
    }

    /// Answers with the part of a file's content that is asked for; what lies beyond the end is left
    /// out. `task` is who reads. Where the content has to be fetched a thread waits for it, so that
    /// whoever serves the tree answers others meanwhile.
    pub fn read(contents: &Arc<Contents>, part: Part, task: u32, reply: ReplyData) {
        let (node, ..) = part;
        let (hash, length) = match contents.blob_of(node) {
            Ok(blob) => blob,
            Err(e) => return reply.error(e),
        };
        let Some((_, asked)) = fetch::left_elsewhere(&contents.job, node, (&hash, length)) else {
            return give(contents.part(part, &hash, length), reply);
        };
        let ours = Arc::clone(contents);
        let thread = std::thread::Builder::new().name("view-fetch".into()).stack_size(STACK);
        // Without a thread the answer is EIO: fuser gives it for what is dropped unanswered.
        let waiting = thread.spawn(move || {
            let here = ours.wait_for(node, &asked, task);
            give(here.and_then(|()| ours.part(part, &hash, length)), reply);
        });
        if let Err(e) = waiting {
            fetch::tell(
                &contents.job,
                node,
                &hash,
                &format!("there is no thread to wait for it: {e}"),
            );
        }
    }

    /// Whether a content has to be fetched first.
    pub fn is_elsewhere(&self, node: NodeRef, hash: &Hash, size: u64) -> bool {
        fetch::left_elsewhere(&self.job, node, (hash, size)).is_some()
    }

    /// Waits until a content is in the store, if it isn't.
    pub fn here(&self, node: NodeRef, (hash, size): (&Hash, u64), task: u32) -> Answer<()> {
        match fetch::left_elsewhere(&self.job, node, (hash, size)) {
            None => Ok(()),
            Some((_, asked)) => self.wait_for(node, &asked, task),
        }
    }

    fn blob_of(&self, node: NodeRef) -> Answer<(Hash, u64)> {
        match self.job.check(self.job.projection.content(node)) {
            Ok(Some(Content::Blob(hash, length))) => Ok((hash, length)),
            Ok(_) => Err(Errno::EINVAL),
            Err(e) => Err(errno(e)),
        }
    }

    /// Waits until a blob is in the store. A task that is killed meanwhile waits no more: it is the
    /// kernel that lets it go, and for no other signal.
    fn wait_for(&self, node: NodeRef, asked: &Asked, task: u32) -> Answer<()> {
        let fail = |reason: &str| {
            fetch::tell(&self.job, node, &asked.blob, reason);
            Err(Errno::EIO)
        };
        let Some(fetcher) = &self.job.fetcher else { return fail("nobody fetches for this job") };
        match fetcher.fetch(asked, || has_ended(task).then_some(())) {
            Waited::Here => Ok(()),
            Waited::Failed(reason) => fail(&reason),
            Waited::Away(()) => Err(Errno::EINTR),
        }
    }

    fn part(&self, (node, offset, size): Part, hash: &Hash, length: u64) -> Answer<Vec<u8>> {
        let blob = self.open(hash)?;
        self.job.counters.content(node, length);
        let count = u64::from(size).min(length.saturating_sub(offset));
        let mut bytes = vec![0; usize::try_from(count).map_err(|_| Errno::EINVAL)?];
        let read = File::from(blob).read_exact_at(&mut bytes, offset);
        let read = read.map_err(|e| format!("blob {hash} of the store: {e}; run `vrift verify`"));
        self.job.check(read).map_err(errno)?;
        Ok(bytes)
    }

    /// Opens a blob, hashed at its first use. Several requests may ask for a large one at once: the
    /// others wait for the first.
    pub fn open(&self, hash: &Hash) -> Answer<OwnedFd> {
        let known = self.job.store.as_ref().is_some_and(|view| view.known_whole(hash));
        let turn = &self.turns[usize::from(hash.as_bytes()[0]) % TURNS];
        let _alone = (!known).then(|| turn.lock().unwrap_or_else(PoisonError::into_inner));
        self.job.open_blob(hash, OFlag::O_RDONLY).map_err(errno)
    }
}

fn give(bytes: Answer<Vec<u8>>, reply: ReplyData) {
    match bytes {
        Ok(bytes) => reply.data(&bytes),
        Err(e) => reply.error(e),
    }
}

/// Is this thread gone, or will its end be all that comes of it? One without a number is the kernel's.
fn has_ended(task: u32) -> bool {
    task != 0 && Status::of(task).is_none_or(|status| status.is_dead() || status.is_killed())
}
