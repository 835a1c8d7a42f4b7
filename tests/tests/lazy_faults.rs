//! What waits for a content that is on its way, who doesn't, and what comes of one that can't be had.

#![allow(clippy::tests_outside_test_module, reason = "this whole file is tests")]

#[allow(dead_code, reason = "not every fault is needed here")]
#[path = "../../service/tests/common/proxy.rs"]
mod proxy;
#[path = "../../service/tests/common/s3.rs"]
mod s3;

use proxy::{Fault, Proxy};
use s3::{Server, environment};
use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use vrift_tests::job::patience;
use vrift_tests::lazily::{
    blob, blobs, expect_no_fetchers, far, fetchers, job, over, pull, summary, wait_for,
};
use vrift_tests::terminal::Terminal;
use vrift_tests::{Job, World, binaries, need, view};

/// How many files wait at once: more than the supervisor has threads to begin with.
const MANY: usize = 24;

/// A tree that was pulled lazily from an S3 server.
struct Scene {
    world: World,
    server: Server,
}

impl Scene {
    fn new() -> Scene {
        let (world, server) = (World::new(), Server::start());
        for n in 0..MANY {
            world.file(format!("src/f{n}"), format!("content {n}\n"));
        }
        world.file("src/here", "here\n");
        world.dir("p");
        let far = far(&world);
        let push = world.vrift(["--store".as_ref(), far.as_os_str()]);
        in_reach(push.args(["push", "t", &server.url()]), server.addr).run().ok();
        in_reach(pull(&world, server.url(), &[]), server.addr).run().ok();
        Scene { world, server }
    }

    /// The server, reached by nobody until the gate is opened.
    fn behind_a_gate(&self) -> (Proxy, Gate) {
        let gate = Gate(Arc::new(AtomicBool::new(false)));
        let opened = Arc::clone(&gate.0);
        let proxy = Proxy::start(self.server.addr, move |_| {
            while !opened.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(2));
            }
            Fault::None
        });
        (proxy, gate)
    }

    fn job(&self, addr: SocketAddr, options: &[&str], script: &str) -> Job {
        let p = self.world.path("p").display().to_string();
        in_reach(job(&self.world, options, &script.replace("%p", &p)), addr)
    }
}

/// Opened at the latest when the test ends, or a thread would spin on.
struct Gate(Arc<AtomicBool>);

impl Gate {
    fn open(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.open();
    }
}

fn in_reach(job: Job, addr: SocketAddr) -> Job {
    environment(addr).into_iter().fold(job, |job, (name, value)| job.env(name, value))
}

#[test]
fn who_waits_for_a_content_holds_nobody_else() {
    who_waits_holds_nobody_else("notify");
}

#[test]
fn who_waits_in_a_mounted_tree_holds_nobody_else() {
    need!("who_waits_in_a_mounted_tree_holds_nobody_else", view::possible());
    who_waits_holds_nobody_else("mount");
}

fn who_waits_holds_nobody_else(view: &str) {
    let scene = Scene::new();
    let (proxy, gate) = scene.behind_a_gate();
    scene.job(scene.server.addr, &["-q", "--view", view], "cat %p/here").run().ok();
    let done = scene.world.path("done").display().to_string();
    // Each file twice: they share a fetch.
    // A slow machine takes seconds for each look, and the fetches wait for a minute only.
    let looks = 50 / patience().min(10);
    let script = format!(
        "for n in $(seq 0 {}); do cat %p/f$n & cat %p/f$n & done; sleep 0.2; \
         for i in $(seq {looks}); do cat %p/here >/dev/null; ls -l %p >/dev/null; done; \
         echo >{done}; wait",
        MANY - 1
    );
    std::thread::scope(|scope| {
        let job = scene.job(proxy.addr, &["--summary=json", "--view", view], &script);
        let running = scope.spawn(|| job.run());
        wait_for("others wait, too", || Path::new(&done).exists());
        assert_eq!(blobs(&scene.world), 1);
        gate.open();
        let got = running.join().expect("the job").ok();
        let mut lines: Vec<_> = got.out().lines().map(str::to_owned).collect();
        lines.sort_unstable();
        let mut want: Vec<_> = (0..MANY * 2).map(|n| format!("content {}", n / 2)).collect();
        want.sort_unstable();
        assert_eq!(lines, want);
        assert_eq!(summary(&got)["blobs_fetched"], MANY, "{got}");
    });
    expect_no_fetchers(&scene.world);
}

#[test]
fn a_signal_ends_the_wait() {
    let name = "a_signal_ends_the_wait";
    need!(name, vrift_tests::skip::program("perl"));
    let scene = Scene::new();
    let (proxy, gate) = scene.behind_a_gate();
    // One that ends the task, one that is caught, and one with whose handler the call goes on.
    let script = "cat %p/f0 & pid=$!; sleep 0.3; kill -TERM $pid; wait $pid; echo ended $?
        perl -e '$SIG{ALRM} = sub { die \"caught\\n\" }; alarm 1; open(F, \"<\", \"%p/f1\"); \
                 print \"$!\\n\"' 2>&1
        rm -f %p.ready
        perl -MPOSIX -e 'sigaction(SIGUSR1, POSIX::SigAction->new(sub { $n++ }, \
                 POSIX::SigSet->new, SA_RESTART)); open(R, \">\", \"%p.ready\"); \
                 open(F, \"<\", \"%p/f2\") or die $!; print \"$n \", <F>' & waits=$!
        until test -e %p.ready; do sleep 0.05; done; sleep 0.3; kill -USR1 $waits; sleep 0.3
        echo >%p.caught; wait $waits";
    for without in ["", "wait-killable,sync-wake-up"] {
        let told = scene.world.path("p.caught");
        let _ = fs::remove_file(&told);
        std::thread::scope(|scope| {
            let job = scene.job(proxy.addr, &["-q"], script).env("VRIFT_WITHOUT", without);
            let running = scope.spawn(|| job.run());
            wait_for("the signals don't come", || told.exists());
            gate.open();
            let got = running.join().expect("the job").ok();
            assert_eq!(got.out(), "ended 143\ncaught\n1 content 2\n", "{without}: {got}");
        });
        if without.is_empty() {
            // The same once more, with nothing here.
            gate.0.store(false, Ordering::Relaxed);
            for n in 0..3 {
                let there = blob(&scene.world.store(), format!("content {n}\n").as_bytes());
                let _ = fs::remove_file(there);
            }
        }
    }
    expect_no_fetchers(&scene.world);
}

#[test]
fn in_a_mounted_tree_a_signal_that_ends_the_task_ends_the_wait() {
    let name = "in_a_mounted_tree_a_signal_that_ends_the_task_ends_the_wait";
    need!(name, view::possible());
    need!(name, vrift_tests::skip::program("perl"));
    let scene = Scene::new();
    let (proxy, gate) = scene.behind_a_gate();
    // One that is caught comes when the content is there, as from any disk.
    let script = "cat %p/f0 & pid=$!; sleep 0.3; kill -TERM $pid; wait $pid; echo ended $?
        perl -MPOSIX -e 'sigaction(SIGUSR1, POSIX::SigAction->new(sub { $n++ })); \
                 open(R, \">\", \"%p.ready\"); open(F, \"<\", \"%p/f2\") or die $!; \
                 $line = <F>; print \"$n $line\"' & waits=$!
        until test -e %p.ready; do sleep 0.05; done; sleep 0.3; kill -USR1 $waits
        cat %p/f3 & sleep 0.3; kill -KILL $!; echo >%p.caught; wait $waits";
    let told = scene.world.path("p.caught");
    std::thread::scope(|scope| {
        let job = scene.job(proxy.addr, &["--summary=text", "--view", "mount"], script);
        let running = scope.spawn(|| job.run());
        wait_for("the signals don't come", || told.exists());
        gate.open();
        let got = running.join().expect("the job").ok();
        assert_eq!(got.out(), "ended 143\n1 content 2\n", "{got}");
        // Nobody is told of contents that nobody waits for any more.
        assert!(!got.err().contains("can't be fetched"), "{got}");
    });
    expect_no_fetchers(&scene.world);
}

#[test]
fn ctrl_c_ends_who_waits() {
    ctrl_c("ctrl_c_ends_who_waits", "notify");
}

#[test]
fn ctrl_c_ends_who_waits_in_a_mounted_tree() {
    let name = "ctrl_c_ends_who_waits_in_a_mounted_tree";
    need!(name, view::possible());
    ctrl_c(name, "mount");
}

fn ctrl_c(name: &str, view: &str) {
    let scene = Scene::new();
    let (proxy, _gate) = scene.behind_a_gate();
    let script = format!("echo ready; cat {}/f0", scene.world.path("p").display());
    let mut argv: Vec<OsString> = vec!["env".into()];
    argv.extend(environment(proxy.addr).map(|(name, value)| format!("{name}={value}").into()));
    argv.push(binaries::vrift_trace().into());
    argv.extend(["-q", "--view", view, "-m"].map(OsString::from));
    argv.push(format!("{}=t", scene.world.path("p").display()).into());
    argv.extend(["--", "sh", "-c", &script].map(OsString::from));
    let (store, home) = (scene.world.store(), scene.world.path("home"));
    let env = [("VR_THE_SOURCE", store.as_path()), ("HOME", home.as_path())];
    let mut terminal = need!(name, Terminal::start(argv, &env));
    terminal.wait_for("ready");
    std::thread::sleep(Duration::from_millis(300) * patience().min(10));
    let began = Instant::now();
    terminal.type_keys(b"\x03");
    let (status, shown) = terminal.finish();
    assert_eq!(status.code(), Some(130), "{shown}");
    assert!(began.elapsed() < Duration::from_secs(5) * patience(), "{:?}", began.elapsed());
    expect_no_fetchers(&scene.world);
}

#[test]
fn a_remote_that_is_silent_is_an_error_after_a_time() {
    let scene = Scene::new();
    let proxy = Proxy::start(scene.server.addr, |_| Fault::Hang);
    let trace = scene.world.path("trace").display().to_string();
    let options = ["--summary=text", "--fetch-timeout", "2", "-o", &trace];
    let got = scene.job(proxy.addr, &options, "cat %p/f0; %p/f1; ls %p/f2").run().ok();
    assert!(got.err().contains("f0: Input/output error"), "{got}");
    // In the summary and in the trace.
    assert!(got.err().contains("can't be fetched: ") && got.err().contains("after 2 s"), "{got}");
    assert!(got.wall < Duration::from_secs(15) * patience(), "{got}");
    let said = scene.world.native([binaries::vrift_trace()]).args(["explain", &trace]).run().ok();
    assert!(said.out().contains("its content: ") && said.out().contains("--lazy"), "{said}");
    assert_eq!(blobs(&scene.world), 0);

    // The policy says the same.
    let policy = "version = 1\n[job]\nfetch_timeout = 1\n";
    let policy = scene.world.file("v.toml", policy).display().to_string();
    let got = scene.job(proxy.addr, &["-p", &policy], "cat %p/f0").run().expect(1);
    assert!(got.err().contains("after 1 s"), "{got}");
    expect_no_fetchers(&scene.world);
}

#[test]
fn what_can_not_be_had_in_a_mounted_tree_is_an_error_after_a_time() {
    let name = "what_can_not_be_had_in_a_mounted_tree_is_an_error_after_a_time";
    need!(name, view::possible());
    let scene = Scene::new();
    let silent = Proxy::start(scene.server.addr, |_| Fault::Hang);
    let options = ["--summary=text", "--view", "mount"];
    let timed = [&options[..], &["--fetch-timeout", "2"]].concat();
    let got = scene.job(silent.addr, &timed, "cat %p/f0; %p/f1; ls %p/f2").run().ok();
    assert!(got.err().contains("f0: Input/output error"), "{got}");
    assert!(got.err().contains("can't be fetched: ") && got.err().contains("after 2 s"), "{got}");
    assert!(got.wall < Duration::from_secs(15) * patience(), "{got}");
    assert_eq!(blobs(&scene.world), 0);

    let lost = blob(Path::new(""), b"content 0\n");
    fs::remove_file(scene.server.object(lost)).expect("lost");
    let script = "cat %p/f0; cat %p/f1; cp %p/f0 %p.copy; cat %p/f2";
    let got = scene.job(scene.server.addr, &options, script).run().ok();
    assert_eq!(got.out(), "content 1\ncontent 2\n", "{got}");
    assert!(got.err().contains("f0: blob") && got.err().contains("it isn't there"), "{got}");
    assert_eq!(fs::read(scene.world.path("p.copy")).expect("cp made it"), b"");
    expect_no_fetchers(&scene.world);
}

#[test]
fn what_the_remote_lacks_or_has_damaged_is_an_error() {
    let scene = Scene::new();
    let object = |n: usize| {
        let path = blob(Path::new(""), format!("content {n}\n").as_bytes());
        scene.server.object(path)
    };
    fs::remove_file(object(0)).expect("lost");
    fs::write(object(1), "CONTENT 1\n").expect("damaged");
    fs::write(object(2), "content").expect("cut");
    let script = "cat %p/f0; cat %p/f1; cat %p/f2; cat %p/f3; echo more >>%p/f1";
    let mut mount = scene.world.path("p").into_os_string();
    mount.push("=t,mode=overlay");
    let script = script.replace("%p", &scene.world.path("p").display().to_string());
    let options = ["--summary=text"];
    let got = in_reach(over(&scene.world, &mount, &options, &script), scene.server.addr).run();
    assert_eq!(got.out(), "content 3\n", "{got}");
    assert_ne!(got.code(), 0, "nothing is appended to what isn't there: {got}");
    for said in ["it isn't there", "another hash", "it has 7 bytes", "f1: blob", "f0: blob"] {
        assert!(got.err().contains(said), "{said}: {got}");
    }
    assert_eq!(blobs(&scene.world), 1);
    scene.world.vrift(["verify"]).run().ok();
}

#[test]
fn what_fetches_may_be_killed() {
    fetcher_is_killed("notify");
}

#[test]
fn what_fetches_for_a_mounted_tree_may_be_killed() {
    need!("what_fetches_for_a_mounted_tree_may_be_killed", view::possible());
    fetcher_is_killed("mount");
}

fn fetcher_is_killed(view: &str) {
    let scene = Scene::new();
    let (proxy, _gate) = scene.behind_a_gate();
    let go = scene.world.path("go").display().to_string();
    let script = format!("cat %p/f0; cat %p/f1; echo on >{go}; ls %p | wc -l");
    std::thread::scope(|scope| {
        let job = scene.job(proxy.addr, &["--summary=text", "--view", view], &script);
        let running = scope.spawn(|| job.run());
        wait_for("nobody fetches", || proxy_is_asked(&proxy) || Path::new(&go).exists());
        for fetcher in fetchers(&scene.world) {
            let pid = rustix::process::Pid::from_raw(fetcher).expect("a process id");
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill");
        }
        let got = running.join().expect("the job").ok();
        assert_eq!(got.out().trim(), (MANY + 1).to_string(), "{got}");
        assert_eq!(got.err().matches("Input/output error").count(), 2, "{got}");
        assert!(got.err().contains("has ended early; run the job again"), "{got}");
    });
    expect_no_fetchers(&scene.world);
}

/// A request is on its way.
fn proxy_is_asked(proxy: &Proxy) -> bool {
    proxy.count.load(Ordering::Relaxed) > 0
}

#[test]
fn what_fetches_dies_with_the_supervisor() {
    supervisor_is_killed("notify");
}

#[test]
fn what_fetches_for_a_mounted_tree_dies_with_the_supervisor() {
    need!("what_fetches_for_a_mounted_tree_dies_with_the_supervisor", view::possible());
    supervisor_is_killed("mount");
}

fn supervisor_is_killed(view: &str) {
    let scene = Scene::new();
    let (proxy, _gate) = scene.behind_a_gate();
    let pid = scene.world.path("pid").display().to_string();
    std::thread::scope(|scope| {
        // The supervisor is the process that the shell becomes.
        let p = scene.world.path("p").display().to_string();
        let trace = binaries::vrift_trace().display().to_string();
        let script =
            format!("echo $$ >{pid}; exec {trace} -q --view {view} -m {p}=t -- cat {p}/f0");
        let job = in_reach(scene.world.sh(&script), proxy.addr);
        let running = scope.spawn(|| job.run());
        wait_for("nobody fetches", || proxy_is_asked(&proxy));
        assert_eq!(fetchers(&scene.world).len(), 1);
        let pid = fs::read_to_string(&pid).expect("written").trim().parse().expect("a number");
        let pid = rustix::process::Pid::from_raw(pid).expect("a process id");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill");
        running.join().expect("the job").expect(137);
    });
    expect_no_fetchers(&scene.world);
    // The next job sweeps what the killed one may have left.
    scene.job(scene.server.addr, &["-q", "--view", view], "cat %p/f0").run().ok();
}
