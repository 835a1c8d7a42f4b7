//! Changed files go to the store while the job runs: when who could write to them has closed them,
//! and not each time.

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::ffi::OsString;
    use std::fs;
    use std::io::{BufRead, BufReader, Write};
    use std::path::{Path, PathBuf};
    use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
    use std::time::{Duration, Instant};
    use vrift_tests::guests::{Guest, guest};
    use vrift_tests::job::{MARK, PATH, expect_no_leftovers, new_mark, patience};
    use vrift_tests::{World, binaries, need};

    /// A file is left alone for so long after it was closed (`QUIET` of the supervisor's).
    const QUIET: Duration = Duration::from_millis(200);

    fn world() -> (World, PathBuf) {
        let world = World::new();
        world.file("src/f", "as it was\n");
        world.file("src/g", "as it was, too\n");
        world.ingest(world.path("src"), "t");
        let p = world.path("p");
        (world, p)
    }

    /// A job whose program (`fixtures/guests/writers.c`) does one thing after another, as it is told.
    struct Writers {
        child: Child,
        stdin: ChildStdin,
        said: BufReader<ChildStdout>,
        mark: String,
    }

    impl Writers {
        fn start(world: &World, program: &Path, p: &Path, options: &str) -> Writers {
            let mark = new_mark();
            let mut mount = OsString::from(p);
            mount.push(format!("=t,mode=overlay,{options}"));
            let mut child = Command::new(binaries::vrift_trace())
                .args(["--quiet", "-m"])
                .arg(&mount)
                .arg("--")
                .arg(program)
                .env_clear()
                .env("PATH", PATH)
                .env("VR_THE_SOURCE", world.store())
                .env("TMPDIR", world.path("tmp"))
                .env(MARK, &mark)
                .current_dir(world.path(""))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("vrift-trace starts");
            let stdin = child.stdin.take().expect("piped");
            let said = BufReader::new(child.stdout.take().expect("piped"));
            Writers { child, stdin, said, mark }
        }

        #[track_caller]
        fn tell(&mut self, command: &str) {
            writeln!(self.stdin, "{command}").expect("the program listens");
            let mut line = String::new();
            self.said.read_line(&mut line).expect("the program answers");
            assert_eq!(line, "ok\n", "{command}");
        }

        fn end(self) {
            let Writers { mut child, stdin, said, mark } = self;
            drop((stdin, said));
            let deadline = Instant::now() + Duration::from_secs(60) * patience();
            let status = loop {
                match child.try_wait().expect("wait") {
                    Some(status) => break status,
                    None if Instant::now() > deadline => {
                        child.kill().expect("kill");
                        panic!("the job did not end");
                    }
                    None => std::thread::sleep(Duration::from_millis(5)),
                }
            };
            assert!(status.success(), "{status}");
            expect_no_leftovers(&mark, "writers");
        }
    }

    fn blob(world: &World, content: &str) -> PathBuf {
        let hash = blake3::hash(content.as_bytes()).to_hex();
        world.store().join("blobs").join(&hash[..2]).join(hash.as_str())
    }

    fn blobs(world: &World) -> HashSet<PathBuf> {
        let list = |dir: &Path| -> Vec<PathBuf> {
            let entries = fs::read_dir(dir).expect("the store").map(|entry| entry.expect("entry"));
            entries.map(|entry| entry.path()).collect()
        };
        list(&world.store().join("blobs")).iter().flat_map(|dir| list(dir)).collect()
    }

    #[track_caller]
    fn comes(world: &World, content: &str) {
        let deadline = Instant::now() + Duration::from_secs(20) * patience();
        while !blob(world, content).exists() {
            assert!(Instant::now() < deadline, "{content:?} has not come to the store");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[track_caller]
    fn comes_not(world: &World, content: &str) {
        std::thread::sleep(QUIET * 4);
        assert!(!blob(world, content).exists(), "{content:?} is in the store already");
    }

    fn committed(world: &World, name: &str) -> Vec<u8> {
        let out = world.path(format!("out-{name}"));
        world.vrift(["export", "after"]).arg(&out).run().ok();
        fs::read(out.join(name)).expect("a committed file")
    }

    #[test]
    fn the_last_close_or_unmapping_sends_it() {
        let program = need!("ingest::the_last_close", guest("writers", Guest::Dynamic));
        for options in ["commit=after", "upper=upper"] {
            let (world, p) = world();
            let mut job = Writers::start(&world, &program, &p, options);
            let at = p.display();
            job.tell(&format!("open 0 {at}/f"));
            job.tell("write 0 closed");
            comes_not(&world, "closed");
            // Of two that could write, one closes.
            job.tell(&format!("open 1 {at}/f"));
            job.tell("close 1");
            comes_not(&world, "closed");
            job.tell("close 0");
            comes(&world, "closed");
            // A new file, which is written through a mapping that outlives the descriptor.
            job.tell(&format!("open 2 {at}/new"));
            job.tell("write 2 ......");
            job.tell("map 0 2");
            job.tell("close 2");
            job.tell("poke 0 mapped");
            comes_not(&world, "mapped");
            job.tell("unmap 0");
            comes(&world, "mapped");
            job.end();
            if options.starts_with("commit") {
                assert_eq!(committed(&world, "f"), b"closed");
                assert_eq!(committed(&world, "new"), b"mapped");
            }
        }
    }

    /// Neither a descriptor that is closed while a mapping goes on, nor the times, which a page that
    /// was written to once already doesn't change, make the supervisor believe that nothing came
    /// after.
    #[test]
    fn what_a_mapping_writes_later_is_not_lost() {
        let program = need!("ingest::mapping", guest("writers", Guest::Dynamic));
        let (world, p) = world();
        let mut job = Writers::start(&world, &program, &p, "commit=after");
        let at = p.display();
        job.tell(&format!("open 0 {at}/f"));
        job.tell("map 0 0");
        job.tell("poke 0 1st");
        job.tell(&format!("open 1 {at}/f"));
        job.tell("close 1");
        std::thread::sleep(QUIET * 4);
        job.tell("poke 0 2nd");
        job.end();
        assert_eq!(String::from_utf8_lossy(&committed(&world, "f")), "2ndit was\n");
    }

    #[test]
    fn many_rewrites_are_stored_once() {
        let program = need!("ingest::many_rewrites", guest("writers", Guest::Dynamic));
        let (world, p) = world();
        let before = blobs(&world);
        let mut job = Writers::start(&world, &program, &p, "commit=after");
        let at = p.display();
        let began = Instant::now();
        for n in 0..200 {
            job.tell(&format!("open 0 {at}/f"));
            job.tell(&format!("write 0 content {n}"));
            job.tell("close 0");
        }
        let took = began.elapsed();
        comes(&world, "content 199");
        job.end();
        let new = blobs(&world).difference(&before).count();
        // Once, unless the machine let so much time go by between two.
        let most = 1 + usize::try_from(took.as_millis() / QUIET.as_millis()).expect("some");
        eprintln!("{new} stored of 200 in {took:?}");
        assert!((1..=most).contains(&new), "{new} stored of 200 in {took:?}");
        assert_eq!(committed(&world, "f"), b"content 199");
    }

    #[test]
    fn what_is_on_its_way_is_waited_for_at_the_end() {
        let (world, p) = world();
        let script = "cd $0; for n in $(seq 300); do echo file $n >n$n; done";
        let argv: [OsString; 4] = ["sh".into(), "-ec".into(), script.into(), p.clone().into()];
        let upper = format!("t,mode=overlay,upper={}", world.path("upper").display());
        world.trace(&[(&p, &upper)], argv).run().ok();
        let missing: Vec<u32> =
            (1..=300).filter(|n| !blob(&world, &format!("file {n}\n")).exists()).collect();
        assert!(missing.is_empty(), "not in the store: {missing:?}");
    }
}
