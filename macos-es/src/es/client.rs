//! The client's loop: take a message, keep the tree and the numbers, answer in time, record.

use super::adapter::{Endpoint, EndpointError, Message};
use super::deadline::Budget;
use super::decide::{Guard, Reply, decide, late};
use super::event::{Action, EsEvent, What};
use super::gaps::Gaps;
use super::record::Recorder;
use super::tree::ProcessTree;

/// What the client has seen.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages.
    pub events: u64,
    /// Those that asked.
    pub asked: u64,
    /// Those of them that were refused, in part or in whole.
    pub refused: u64,
    /// Those that came out of the queue after four fifths of their time.
    pub late: u64,
    /// Answers that the framework did not take.
    pub failed: u64,
}

/// A job's client.
#[derive(Debug)]
pub struct Client<'g> {
    guard: &'g Guard,
    tree: ProcessTree,
    gaps: Gaps,
    tally: Tally,
}

impl<'g> Client<'g> {
    /// A client for the job that begins with this tree.
    #[must_use]
    pub fn new(guard: &'g Guard, tree: ProcessTree) -> Client<'g> {
        Client { guard, tree, gaps: Gaps::default(), tally: Tally::default() }
    }

    /// What it has seen.
    #[must_use]
    pub const fn tally(&self) -> Tally {
        self.tally
    }

    /// What is known of lost events.
    #[must_use]
    pub const fn gaps(&self) -> &Gaps {
        &self.gaps
    }

    /// The job's processes that are alive.
    #[must_use]
    pub const fn tree(&self) -> &ProcessTree {
        &self.tree
    }

    /// Deals with messages until there are no more.
    ///
    /// # Errors
    /// What the first answer that the framework did not take came to, after all were dealt with.
    pub fn run<E: Endpoint>(
        &mut self,
        endpoint: &mut E,
        recorder: &mut Recorder,
    ) -> Result<(), EndpointError> {
        let mut first = Ok(());
        while let Some(answered) = self.step(endpoint, recorder) {
            if first.is_ok() {
                first = answered;
            }
        }
        first
    }

    /// Deals with the next message. None: there will be no more.
    pub fn step<E: Endpoint>(
        &mut self,
        endpoint: &mut E,
        recorder: &mut Recorder,
    ) -> Option<Result<(), EndpointError>> {
        let message = endpoint.next()?;
        let answered = self.handle(endpoint.now(), message, recorder);
        self.tally.failed += u64::from(answered.is_err());
        Some(answered)
    }

    /// One message: the answer goes out before anything of it is recorded.
    fn handle<M: Message>(
        &mut self,
        now: u64,
        message: M,
        recorder: &mut Recorder,
    ) -> Result<(), EndpointError> {
        self.tally.events += 1;
        let event = message.event();
        self.gaps.note(event);
        let new = self.tree.note(event);
        let (reply, keep) = self.reply(now, event);
        let event = event.clone();
        let asked = event.action == Action::Auth;
        let answered = if asked { message.answer(reply, keep) } else { Ok(()) };
        for number in new {
            recorder.born(&event, number, &self.tree);
        }
        recorder.record(&event, reply, &self.tree);
        if let What::Exit(_) = event.what {
            self.tree.ended(event.process.key);
        }
        answered
    }

    /// The answer, and whether the framework may keep it.
    fn reply(&mut self, now: u64, event: &EsEvent) -> (Reply, bool) {
        if event.action == Action::Notify {
            return (Reply::Allow, false);
        }
        self.tally.asked += 1;
        let over = event.deadline.is_some_and(|by| Budget::new(event.at, by).left(now) == 0);
        let reply = if over { late(event) } else { decide(event, &self.tree, self.guard) };
        self.tally.late += u64::from(over);
        let refused = match (&event.what, reply) {
            (What::Open(_, flags), reply) => !reply.lets(*flags),
            (_, reply) => reply == Reply::Deny,
        };
        self.tally.refused += u64::from(refused);
        // A kept answer holds for every process, and what is the job's is not another's.
        (reply, false)
    }
}
