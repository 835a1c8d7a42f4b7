//! Fetching for a running job: its supervisor asks over a pipe (`vrift_store::asking`) and waits, here
//! the fetches run beside each other.
//!
//! What must never happen here: a request stays without its answer, or an answer says that a blob is
//! there that isn't.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{self, Read, Write};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;
use vrift_store::asking::{Answer, Asked, HELLO};
use vrift_store::{Hash, Store};

use super::lazy::OnDemand;
use super::place::Options;

/// The trees that were asked about so far, and where their blobs come from.
struct Trees {
    store: Arc<Store>,
    options: Options,
    limit: Duration,
    known: HashMap<Hash, Arc<OnDemand>>,
}

impl Trees {
    /// What fetches for a tree. One that can't be had isn't remembered: the environment stays as it
    /// is, but a note can be written later.
    fn of(&mut self, manifest: Hash) -> Result<Arc<OnDemand>, String> {
        let place = match self.known.entry(manifest) {
            Entry::Occupied(known) => return Ok(Arc::clone(known.get())),
            Entry::Vacant(place) => place,
        };
        match OnDemand::open(&self.store, &manifest, self.options.clone(), self.limit) {
            Ok(Some(opened)) => Ok(Arc::clone(place.insert(Arc::new(opened)))),
            Ok(None) => Err(format!(
                "the store has no note of where the blobs of {manifest} are; `vrift pull` its tree again"
            )),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Answers `requests` until they end; each fetch takes no longer than `limit`. Runs in a thread of
/// its own beside the runtime, where the fetches are.
///
/// # Errors
/// The requests can't be read, or nobody takes the answers.
pub fn serve(
    runtime: &Handle,
    store: Store,
    options: Options,
    limit: Duration,
    mut requests: impl Read,
    mut answers: impl Write + Send + 'static,
) -> io::Result<()> {
    answers.write_all(HELLO)?;
    answers.flush()?;
    let store = Arc::new(store);
    let mut trees = Trees { store: Arc::clone(&store), options, limit, known: HashMap::new() };
    // As many as there are requests without an answer: the supervisor bounds those.
    let (done, finished) = mpsc::channel::<Answer>();
    let writing = thread::spawn(move || {
        finished.iter().try_for_each(|answer: Answer| answer.write(&mut answers))
    });
    while let Some(Asked { manifest, blob, size }) = Asked::read(&mut requests)? {
        let done = done.clone();
        let answer = move |failed| {
            // Where nobody takes answers any more, there will be no requests either.
            let _ = done.send(Answer { blob, failed });
        };
        // Another job may have fetched it, or a pull; then nothing has to be known of its tree.
        if store.has_blob(&blob, size).is_ok_and(|here| here) {
            answer(None);
            continue;
        }
        match trees.of(manifest) {
            Err(reason) => answer(Some(reason)),
            Ok(tree) => drop(runtime.spawn(async move {
                answer(tree.fetch(blob, size).await.err().map(|error| error.to_string()));
            })),
        }
        if writing.is_finished() {
            break;
        }
    }
    drop(done);
    if writing.is_finished() {
        return writing.join().map_err(|_| io::Error::other("a thread failed"))?;
    }
    // Nobody waits for what is still under way.
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use vrift_store::{IngestOptions, Progress};

    use super::super::place::Remote;
    use super::super::pull::pull_lazily;
    use super::super::transfer::RefSpec;
    use super::*;

    fn ask(at: &mut UnixStream, asked: Asked) -> Option<String> {
        at.write_all(&asked.to_bytes()).expect("somebody reads");
        let answer = Answer::read(at).expect("an answer").expect("one");
        assert_eq!(answer.blob, asked.blob);
        answer.failed
    }

    #[test]
    fn each_request_has_its_answer_and_the_end_ends_it() {
        let temp = tempfile::tempdir().expect("tempdir");
        let open = |name: &str| Store::open_or_create(&temp.path().join(name)).expect("store");
        let (there, here) = (open("there"), open("here"));
        let tree = temp.path().join("tree");
        std::fs::create_dir(&tree).expect("mkdir");
        for (name, content) in [("a", "content"), ("b", "as it was")] {
            std::fs::write(tree.join(name), content).expect("write");
        }
        let (usual, progress) = (IngestOptions::default(), Progress::default());
        there.ingest_as(Some("t"), &tree, &usual, &progress).expect("ingest");
        let (blob, damaged) = (Hash::of(b"content"), Hash::of(b"as it was"));
        let path = there.root().join(Store::blob_path(&damaged));
        std::fs::remove_file(&path).expect("remove");
        std::fs::write(&path, "as it is.").expect("damage");
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("rt");
        let place = there.root().as_os_str();
        let remote = Remote::open(place, Options::default()).expect("a remote");
        let (spec, progress) = (RefSpec::parse("t".as_ref()).expect("t"), Arc::default());
        let place = place.as_encoded_bytes();
        let pulling = pull_lazily(here.root(), &remote, place, &spec, None, &progress);
        let manifest = runtime.block_on(pulling).expect("pulled").manifest;
        let (mut ours, theirs) = UnixStream::pair().expect("a pair");
        ours.set_read_timeout(Some(Duration::from_secs(60))).expect("a limit");
        let (handle, answers) = (runtime.handle().clone(), theirs.try_clone().expect("dup"));
        let root = here.root().to_owned();
        let serving = thread::spawn(move || {
            let store = Store::open(&root).expect("store");
            let limit = Duration::from_secs(30);
            serve(&handle, store, Options::default(), limit, theirs, answers)
        });
        let mut hello = [0; 16];
        ours.read_exact(&mut hello).expect("a greeting");
        assert_eq!(&hello, HELLO);
        let asked = Asked { manifest, blob, size: 7 };
        let other = Asked { manifest: Hash::of(b"any tree"), ..asked };
        let said = ask(&mut ours, other).expect("nothing is noted");
        assert!(said.contains("no note of where"), "{said}");
        assert_eq!(ask(&mut ours, asked), None);
        assert!(here.has_blob(&blob, 7).expect("look"));
        let said = ask(&mut ours, Asked { blob: damaged, size: 9, ..asked }).expect("damaged");
        assert!(said.contains("another hash") && !said.contains('\n'), "{said}");
        assert!(!here.has_blob(&damaged, 9).expect("look"));
        let said = ask(&mut ours, Asked { blob: Hash::of(b"none"), ..asked }).expect("not there");
        assert!(said.contains("it isn't there"), "{said}");
        ours.shutdown(std::net::Shutdown::Write).expect("the end");
        serving.join().expect("no panic").expect("an end");
    }
}
