//! One client: who it is, what it asks for, whether it may, and what it is told.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::net::UnixStream;
use tokio::time::{Instant, sleep_until};
use vrift_client::{PROTOCOL, Reply, Request};
use vrift_store::Hold;

use super::counters::Counted;
use super::rights::{Peer, Right};
use super::server::Shared;
use super::talk::{Gone, Talk};
use super::upload::Named;
use crate::remote::RefSpec;

const NOT_FROM_THERE: &str =
    "allowed to pull from there; the store's owner allows it by `remotes = […]`";

/// A client and what is shared with others.
pub(super) struct Session<'a> {
    pub shared: &'a Arc<Shared>,
    pub talk: Talk,
    /// Collections are held off while the client brings what one took from it, until then.
    pub held: Option<(Hold, Instant)>,
}

/// A client that was let in.
struct Inside<'a>(&'a Shared, u32);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.clients.leave(self.1);
    }
}

/// Serves a client until it goes.
pub(super) async fn serve(shared: &Arc<Shared>, stream: UnixStream, peer: Peer) {
    let mut session = Session { shared, talk: Talk::new(stream), held: None };
    let end = if shared.clients.enter(peer.uid, shared.rights.is_master(&peer)) {
        let _inside = Inside(shared, peer.uid);
        session.run(&peer).await
    } else {
        session.send_away().await
    };
    if end == Err(Gone::Away) {
        shared.counters.turned_away.fetch_add(1, Relaxed);
    }
}

impl Session<'_> {
    async fn send_away(&mut self) -> Result<(), Gone> {
        self.talk.greet().await?;
        let why = "too many clients are there just now: wait for some to end".to_owned();
        self.talk.say(&Reply::Refused { why }).await?;
        Err(Gone::Away)
    }

    async fn run(&mut self, peer: &Peer) -> Result<(), Gone> {
        if self.talk.greet().await?.vrift != PROTOCOL {
            // It has been told which one is spoken here.
            return Ok(());
        }
        let mut ending = self.shared.ending.clone();
        loop {
            let end = self.held.as_ref().map(|(_, end)| *end);
            let long_enough = async {
                match end {
                    Some(end) => sleep_until(end).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                begins = self.talk.begins() => begins?,
                () = long_enough => {
                    self.held = None;
                    continue;
                }
                _ = ending.wait_for(|ending| *ending) => return Ok(()),
            }
            let request = self.talk.receive::<Request>().await?;
            let rights = &self.shared.rights;
            if let Some(right) = right(&request).filter(|right| !rights.may(peer, *right)) {
                let key = right.key();
                self.refuse(
                    peer,
                    format!("allowed to; the store's owner allows it by `{key} = […]`"),
                )
                .await?;
            } else if let Request::Pull { remote, .. } | Request::Repair { remote, .. } = &request
                && !rights.may_pull_from(peer, remote)
            {
                self.refuse(peer, NOT_FROM_THERE.to_owned()).await?;
            } else {
                self.answer(peer, request).await?;
            }
        }
    }

    async fn refuse(&mut self, peer: &Peer, what: String) -> Result<(), Gone> {
        let refusal = self.refusal(peer, &what);
        self.talk.say(&refusal).await
    }

    fn refusal(&self, peer: &Peer, what: &str) -> Reply {
        self.shared.counters.refused.fetch_add(1, Relaxed);
        let why = format!("uid {} isn't {what} in daemon/config.toml of the store", peer.uid);
        Reply::Refused { why }
    }

    async fn answer(&mut self, peer: &Peer, request: Request) -> Result<(), Gone> {
        let shared = Arc::clone(self.shared);
        let counters = &shared.counters;
        if request == Request::Status {
            let reply = self.status().await?;
            return self.talk.say(&reply).await;
        }
        let running = Counted::one(&counters.running);
        let replies = match request {
            Request::Blob { hash, size } => self.blob(hash, size).await,
            Request::Tree { manifest, size, name, only_if, base } => {
                self.tree(manifest, size, Named { name, only_if, base }).await
            }
            Request::MayIngest => Ok(vec![Reply::Done]),
            Request::Pull { remote, source, name, lazy } => {
                self.pull(remote, RefSpec { source, name }, lazy).await
            }
            Request::Prefetch { manifest, blobs } => match self.origin(&manifest) {
                Ok(Some(place)) if !self.shared.rights.may_pull_from(peer, &place) => {
                    Ok(vec![self.refusal(peer, NOT_FROM_THERE)])
                }
                Ok(_) => self.prefetch(manifest, blobs).await,
                Err(error) => Ok(vec![self.failed(&error)]),
            },
            Request::Repair { tree, remote } => self.repair(remote, tree).await,
            other => self.work(other).await,
        };
        drop(running);
        let replies = replies?;
        let failed = matches!(replies.last(), Some(Reply::Failed { .. }));
        let counter = if failed { &counters.failed } else { &counters.done };
        counter.fetch_add(1, Relaxed);
        for reply in &replies {
            self.talk.say(reply).await?;
        }
        Ok(())
    }
}

/// What a client has to be allowed to.
fn right(request: &Request) -> Option<Right> {
    match request {
        Request::Status => None,
        Request::MayIngest | Request::Blob { .. } | Request::Tree { .. } => Some(Right::Ingest),
        Request::SetRef { .. } | Request::RemoveRef { .. } => Some(Right::Refs),
        Request::Protect { .. } | Request::Unprotect { .. } => Some(Right::Protect),
        Request::Collect { .. } => Some(Right::Collect),
        Request::Quarantine { .. } => Some(Right::Quarantine),
        Request::Pull { .. } | Request::Prefetch { .. } | Request::Repair { .. } => {
            Some(Right::Pull)
        }
    }
}
