//! An ingest by who may only read the store: what the store lacks goes to the daemon, over a few
//! connections, so that its threads don't wait for each other.

use std::io::Read;
use std::num::NonZeroUsize;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use vrift_store::{Hash, Outlet, Store, StoreError};

use crate::client::Client;
use crate::error::DaemonError;
use crate::message::{RefIs, Reply, Request};

/// Most connections of one ingest.
const MOST: usize = 4;
/// One that was idle for longer is opened anew: the daemon may have closed it.
const OLD: Duration = Duration::from_secs(60);

/// The daemon as somewhere to store.
pub struct Upload<'a> {
    store: &'a Store,
    /// The ref that a tree gets.
    name: &'a str,
    /// What that has to be until then.
    only_if: Option<RefIs>,
    /// What it was made from.
    base: Option<Hash>,
    pool: Mutex<Pool>,
    free: Condvar,
    /// The connection for which collections are held off, since one took blobs of the tree.
    held: Mutex<Option<(Client, Instant)>>,
}

struct Pool {
    idle: Vec<(Client, Instant)>,
    /// Connections that may be opened yet.
    more: usize,
}

/// A connection in use; given back, used or not, when it is dropped.
struct Slot<'a> {
    upload: &'a Upload<'a>,
    client: Option<Client>,
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut pool = self.upload.pool.lock().unwrap_or_else(PoisonError::into_inner);
        match self.client.take() {
            Some(client) => pool.idle.push((client, Instant::now())),
            None => pool.more += 1,
        }
        self.upload.free.notify_one();
    }
}

impl<'a> Upload<'a> {
    /// To the daemon of `store`, which has to run; `name` is the ref that the tree gets.
    ///
    /// # Errors
    /// It doesn't, or can't be spoken with.
    pub fn new(
        store: &'a Store,
        name: &'a str,
        jobs: Option<NonZeroUsize>,
    ) -> Result<Upload<'a>, DaemonError> {
        let first = Client::needed(store)?;
        let most = jobs.map_or(MOST, |jobs| jobs.get().min(MOST));
        let pool = Pool { idle: vec![(first, Instant::now())], more: most - 1 };
        Ok(Upload {
            store,
            name,
            only_if: None,
            base: None,
            pool: Mutex::new(pool),
            free: Condvar::new(),
            held: Mutex::default(),
        })
    }

    /// The tree is made from `base`, and the ref is set only if it still names `was`, or still isn't
    /// there.
    #[must_use]
    pub fn made_from(self, base: Hash, was: Option<Hash>) -> Upload<'a> {
        Upload { only_if: Some(RefIs { manifest: was }), base: Some(base), ..self }
    }

    fn slot(&self) -> Slot<'_> {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some((client, since)) = pool.idle.pop() {
                let client = (since.elapsed() < OLD).then_some(client);
                return Slot { upload: self, client };
            }
            if pool.more > 0 {
                pool.more -= 1;
                return Slot { upload: self, client: None };
            }
            pool = self.free.wait(pool).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn hand(
        &self,
        request: &Request,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<Reply, DaemonError> {
        let mut slot = self.slot();
        let mut client = match slot.client.take() {
            Some(client) => client,
            None => Client::needed(self.store)?,
        };
        let reply = client.hand(request, size, content)?;
        // One that failed isn't used again.
        slot.client = Some(client);
        Ok(reply)
    }
}

impl Outlet for Upload<'_> {
    fn blob(
        &self,
        hash: &Hash,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<Option<bool>, StoreError> {
        match self.hand(&Request::Blob { hash: *hash, size }, size, content)? {
            Reply::Stored { new } => Ok(Some(new)),
            Reply::Other => Ok(None),
            other => Err(DaemonError::odd(self.store.root(), &other).into()),
        }
    }

    fn tree(&self, bytes: &[u8], id: &Hash) -> Result<bool, StoreError> {
        let (size, name) = (bytes.len() as u64, self.name.to_owned());
        let (only_if, base) = (self.only_if, self.base);
        let request = Request::Tree { manifest: *id, size, name, only_if, base };
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let mut client = match held.take() {
            Some((client, since)) if since.elapsed() < OLD => client,
            _ => Client::needed(self.store)?,
        };
        match client.hand(&request, size, &mut &*bytes)? {
            Reply::Done => Ok(true),
            Reply::Moved { why } => Err(StoreError::Outlet {
                why: format!(
                    "{why}; the tree is in the store as {id}: `vrift tag {id} NAME` gives it a name"
                ),
            }),
            Reply::Missing { .. } => {
                *held = Some((client, Instant::now()));
                Ok(false)
            }
            other => Err(DaemonError::odd(self.store.root(), &other).into()),
        }
    }
}
