//! One client: who it is, what it asks for, whether it may, and what it is told.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::net::UnixStream;
use tokio::time::{Instant, sleep_until};
use vrift_store::Hold;

use super::counters::Counted;
use super::message::{PROTOCOL, Reply, Request};
use super::rights::{Peer, Right};
use super::server::Shared;
use super::talk::{Gone, Talk};
use crate::remote::RefSpec;

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
            } else if let Request::Pull { remote, .. } = &request
                && !rights.may_pull_from(peer, remote)
            {
                let what =
                    "allowed to pull from there; the store's owner allows it by `remotes = […]`";
                self.refuse(peer, what.to_owned()).await?;
            } else {
                self.answer(request).await?;
            }
        }
    }

    async fn refuse(&mut self, peer: &Peer, what: String) -> Result<(), Gone> {
        self.shared.counters.refused.fetch_add(1, Relaxed);
        let why = format!("uid {} isn't {what} in daemon/config.toml of the store", peer.uid);
        self.talk.say(&Reply::Refused { why }).await
    }

    async fn answer(&mut self, request: Request) -> Result<(), Gone> {
        let shared = Arc::clone(self.shared);
        let counters = &shared.counters;
        if request == Request::Status {
            let reply = self.status().await?;
            return self.talk.say(&reply).await;
        }
        let running = Counted::one(&counters.running);
        let replies = match request {
            Request::Blob { hash, size } => self.blob(hash, size).await,
            Request::Tree { manifest, size, name } => self.tree(manifest, size, name).await,
            Request::Pull { remote, source, name, lazy } => {
                self.pull(remote, RefSpec { source, name }, lazy).await
            }
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
        Request::Blob { .. } | Request::Tree { .. } => Some(Right::Ingest),
        Request::SetRef { .. } | Request::RemoveRef { .. } => Some(Right::Refs),
        Request::Protect { .. } | Request::Unprotect { .. } => Some(Right::Protect),
        Request::Collect { .. } => Some(Right::Collect),
        Request::Quarantine { .. } => Some(Right::Quarantine),
        Request::Pull { .. } => Some(Right::Pull),
    }
}
