//! The daemon's life: it becomes the only one of its store, lets clients in, and ends when nobody has
//! wanted anything for a while, or when it is told to.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant as Moment, sleep_until, timeout};
use vrift_client::DaemonError;
use vrift_store::text::shown;
use vrift_store::{Stats, Store};

use super::counters::{Clients, Counters, THREADS};
use super::home::Home;
use super::rights::{Peer, Rights};
use super::session;
use super::work::Lane;

/// So long a daemon that is told to end waits for what is being done.
const LAST: Duration = Duration::from_secs(30);

/// How a daemon runs.
pub struct Settings {
    /// Without a client for so long, it ends; None: never.
    pub idle: Option<Duration>,
}

/// What all sessions share.
pub(super) struct Shared {
    pub store: Arc<Store>,
    pub rights: Rights,
    pub idle: Option<Duration>,
    pub started: Instant,
    pub counters: Counters,
    pub clients: Clients,
    /// What is done one after the other.
    pub lane: Lane,
    /// How much the store held when it was counted last.
    pub stats: Mutex<Option<(Instant, Stats)>>,
    /// Is the daemon to end? Then who has asked for nothing is let go.
    pub ending: watch::Receiver<bool>,
    /// A client has gone.
    gone: Notify,
    sessions: AtomicU64,
}

/// Runs the daemon of `store` until it ends. `ready` is called as soon as clients can come.
///
/// # Errors
/// The store is somebody else's, has a daemon already, or its configuration is wrong; or something
/// that it takes can't be had.
pub fn run(store: Store, settings: &Settings, ready: impl FnOnce()) -> Result<(), DaemonError> {
    let (root, owner) = (store.root().to_owned(), store.owner()?);
    let home = Home::make(&store)?;
    let only = home.lock()?;
    let rights = match home.config()? {
        Some((path, text)) => Rights::parse(owner, &path, &text)?,
        None => Rights::none(owner),
    };
    // What killed ones left.
    store.sweep()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(THREADS)
        .thread_name("daemon")
        .enable_all()
        .build()
        .map_err(DaemonError::io("start the threads of", &root))?;
    let (end, ending) = watch::channel(false);
    let shared = Arc::new(Shared {
        store: Arc::new(store),
        rights,
        idle: settings.idle,
        started: Instant::now(),
        counters: Counters::default(),
        clients: Clients::default(),
        lane: Lane::default(),
        stats: Mutex::default(),
        ending,
        gone: Notify::new(),
        sessions: AtomicU64::new(0),
    });
    let listener = home.listen(&only)?;
    let life = async {
        let listener = UnixListener::from_std(listener)?;
        live(&shared, &listener, ready).await?;
        // Who connected before the socket went is served yet.
        let hidden = home.hide(&only);
        while let Ok(Ok((stream, _))) = timeout(Duration::ZERO, listener.accept()).await {
            admit(&shared, stream);
        }
        drop(listener);
        Ok::<_, std::io::Error>(hidden)
    };
    let hidden = runtime.block_on(life).map_err(DaemonError::io("run", &root))?;
    let _ = end.send(true);
    runtime.block_on(last(&shared));
    tell(&root, "ended");
    runtime.shutdown_background();
    hidden
}

/// Where a daemon without anybody who listens writes its lines: `daemon/log` in the store.
///
/// # Errors
/// It can't be opened.
pub fn log(store: &Store) -> Result<std::fs::File, DaemonError> {
    Home::make(store)?.log()
}

/// One line for whoever reads the log.
pub(super) fn tell(root: &Path, line: &str) {
    use std::io::Write;
    let (root, pid) = (shown(root), std::process::id());
    // Nobody may read it any more.
    let _ = writeln!(std::io::stderr(), "vrift: daemon {pid} of store {root}: {line}");
}

async fn live(
    shared: &Arc<Shared>,
    listener: &UnixListener,
    ready: impl FnOnce(),
) -> std::io::Result<()> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    ready();
    tell(shared.store.root(), "started");
    let mut quiet = Moment::now();
    loop {
        let busy = shared.sessions.load(Relaxed) > 0;
        let idle = async {
            match shared.idle {
                Some(idle) if !busy => sleep_until(quiet + idle).await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => admit(shared, stream),
                // Out of descriptors: those that are open end some day.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            },
            () = shared.gone.notified() => quiet = Moment::now(),
            () = idle => return Ok(()),
            _ = term.recv() => return Ok(()),
            _ = int.recv() => return Ok(()),
        }
    }
}

/// Lets a client in, on a task of its own.
fn admit(shared: &Arc<Shared>, stream: UnixStream) {
    let Ok(peer) = Peer::of(&stream) else { return };
    let shared = Arc::clone(shared);
    shared.sessions.fetch_add(1, Relaxed);
    tokio::spawn(async move {
        let present = Present(&shared);
        session::serve(&shared, stream, peer).await;
        drop(present);
    });
}

/// A session; also one that panics comes to its end.
struct Present<'a>(&'a Shared);

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.0.sessions.fetch_sub(1, Relaxed);
        self.0.gone.notify_one();
    }
}

/// Waits for what is being done, but not for ever: nothing is lost by an end in between.
async fn last(shared: &Shared) {
    let all = async {
        while shared.sessions.load(Relaxed) > 0 {
            shared.gone.notified().await;
        }
    };
    // Asked once more, it is impatience.
    let Ok(mut term) = signal(SignalKind::terminate()) else { return };
    tokio::select! {
        _ = timeout(LAST, all) => {}
        _ = term.recv() => {}
    }
}
