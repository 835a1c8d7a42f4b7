//! The fetcher against a process that stands in for `vrift fetch`.

use super::*;
use std::io::Read;
use std::process::{Command, Stdio};

/// A fetcher whose process is `cat`, with what reads its requests; answers are made by the test.
fn fetcher(limit: Duration) -> (Arc<Fetcher>, std::process::Child, std::process::ChildStdout) {
    let mut child = Command::new("cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("cat is everywhere");
    let requests = Mutex::new(child.stdin.take().expect("piped"));
    let asked = child.stdout.take().expect("piped");
    let fetcher = Fetcher {
        process: child.id(),
        limit,
        requests,
        state: Mutex::default(),
        blobs: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
    };
    (Arc::new(fetcher), child, asked)
}

fn asked(n: u8) -> Asked {
    Asked { manifest: Hash::of(b"tree"), blob: Hash::of(&[n]), size: n.into() }
}

fn stays() -> Option<()> {
    None
}

#[test]
fn those_who_want_one_blob_share_its_fetch() {
    let (fetcher, mut child, mut requests) = fetcher(Duration::from_secs(60));
    std::thread::scope(|scope| {
        let wanting: Vec<_> =
            (0..8).map(|i| (i, scope.spawn(|| fetcher.fetch(&asked(7), stays)))).collect();
        let other = scope.spawn(|| fetcher.fetch(&asked(8), stays));
        let mut seen = [Asked::read(&mut requests), Asked::read(&mut requests)]
            .map(|asked| asked.expect("read").expect("one"));
        seen.sort_by_key(|asked| asked.size);
        assert_eq!(seen, [asked(7), asked(8)]);
        let failed = Some("no such thing".to_owned());
        fetcher.answered(Answer { blob: asked(8).blob, failed });
        assert_eq!(other.join().expect("no panic"), Waited::Failed("no such thing".into()));
        // All of them wait by now, or will find it under way still.
        let all = Instant::now() + Duration::from_secs(60);
        while Arc::strong_count(&fetcher.state().under_way[&asked(7).blob]) < 9 {
            assert!(Instant::now() < all, "they don't all wait");
            std::thread::sleep(Duration::from_millis(1));
        }
        fetcher.answered(Answer { blob: asked(7).blob, failed: None });
        for (i, waiting) in wanting {
            assert_eq!(waiting.join().expect("no panic"), Waited::Here, "{i}");
        }
    });
    assert_eq!((fetcher.blobs.load(Relaxed), fetcher.bytes.load(Relaxed)), (1, 7));
    drop(fetcher);
    // Not one request more.
    assert_eq!(requests.read(&mut [0; 1]).expect("read"), 0);
    child.wait().expect("ours");
}

#[test]
fn nobody_waits_without_an_end() {
    let (fetcher, mut child, _requests) = fetcher(Duration::ZERO);
    let began = Instant::now();
    let said = fetcher.fetch(&asked(1), || (began.elapsed() > LOOK * 3).then_some(5));
    assert_eq!(said, Waited::Away(5));
    let Waited::Failed(reason) = fetcher.fetch(&asked(2), stays) else { panic!("no answer came") };
    assert!(reason.contains("no answer"), "{reason}");
    assert!(began.elapsed() >= GRACE);
    // The first is still under way; its end is that of who would answer.
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| fetcher.fetch(&asked(1), stays));
        fetcher.ended("gone");
        assert_eq!(waiting.join().expect("no panic"), Waited::Failed("gone".into()));
    });
    assert_eq!(fetcher.fetch(&asked(3), stays), Waited::Failed("gone".into()));
    drop(fetcher);
    child.wait().expect("ours");
}
