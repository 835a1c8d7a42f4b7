//! Jobs over trees that were pulled without their contents: what is read is fetched, and nothing
//! else; and it is as if all had been there.

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;
    use std::path::Path;
    use vrift_tests::lazily::{
        blob, blobs, expect_no_fetchers, far, fetchers, job, over, pull, summary, wait_for,
    };
    use vrift_tests::{World, binaries, need, view};

    /// A tree of some files, pulled lazily from a directory.
    fn world() -> World {
        let world = World::new();
        for n in 0..20 {
            world.file(format!("src/d{}/f{n}", n % 4), format!("content {n}\n"));
        }
        world.file("src/same/one", "content 3\n");
        world.dir("p");
        std::os::unix::fs::symlink("d0/f0", world.path("src/link")).expect("link");
        pull(&world, far(&world), &[]).run().ok();
        assert_eq!(blobs(&world), 0);
        world
    }

    #[test]
    fn what_is_opened_is_fetched_and_nothing_else() {
        only_what_is_read("notify");
    }

    #[test]
    fn what_is_read_of_a_mounted_tree_is_fetched_and_nothing_else() {
        need!("what_is_read_of_a_mounted_tree_is_fetched_and_nothing_else", view::possible());
        only_what_is_read("mount");
    }

    fn only_what_is_read(view: &str) {
        let options = ["--summary=json", "--view", view];
        let world = world();
        let p = world.path("p").display().to_string();
        let look = format!(
            "ls -lR {p} >/dev/null && stat -L {p}/link >/dev/null && test -r {p}/d0/f0 \
             && readlink {p}/link && find {p} -size +0 | wc -l && cd {p}/d1 && pwd"
        );
        let looked = job(&world, &options, &look).run().ok();
        assert!(looked.out().starts_with("d0/f0\n"), "{looked}");
        let said = summary(&looked);
        assert_eq!((blobs(&world), &said["blobs_fetched"]), (0, &0.into()), "{looked}");
        let read = format!("cat {p}/d0/f0 {p}/link {p}/d3/f3 {p}/same/one {p}/d3/f3");
        let read_there = job(&world, &options, &read).run().ok();
        assert_eq!(read_there.out(), "content 0\ncontent 0\ncontent 3\ncontent 3\ncontent 3\n");
        let said = summary(&read_there);
        assert_eq!((blobs(&world), &said["blobs_fetched"]), (2, &2.into()), "{read_there}");
        assert_eq!(said["bytes_fetched"], 20, "{read_there}");
        // They are here from now on.
        fs::rename(world.path("far"), world.path("gone")).expect("rename");
        let again = job(&world, &["--summary", "--view", view], &read).run().ok();
        assert_eq!(again.out(), read_there.out());
        assert!(!again.err().contains("fetched:"), "{again}");
        world.vrift(["verify"]).run().ok();
        expect_no_fetchers(&world);
    }

    #[test]
    fn programs_and_their_interpreters_are_fetched() {
        programs("notify");
    }

    #[test]
    fn programs_of_a_mounted_tree_are_fetched() {
        need!("programs_of_a_mounted_tree_are_fetched", view::possible());
        programs("mount");
    }

    fn programs(view: &str) {
        let world = World::new();
        fs::create_dir(world.path("src")).expect("mkdir");
        fs::copy("/bin/sh", world.path("src/shell")).expect("a shell is everywhere");
        fs::copy("/bin/echo", world.path("src/echo")).expect("echo is everywhere");
        let p = world.path("p").display().to_string();
        let script = world.file("src/script", format!("#!{p}/shell\n{p}/echo \"$1 and more\"\n"));
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(script, mode).expect("chmod");
        world.file("src/unused", "unused");
        pull(&world, far(&world), &[]).run().ok();
        world.dir("p");
        let script = format!("{p}/script this; exec {p}/echo that");
        let got = job(&world, &["-q", "--view", view], &script).run().ok();
        assert_eq!(got.out(), "this and more\nthat\n");
        assert_eq!(blobs(&world), 3);
    }

    #[test]
    fn what_is_changed_is_fetched_before_and_what_is_cut_is_not() {
        let world = world();
        let p = world.path("p").display().to_string();
        let mut mount = world.path("p").into_os_string();
        mount.push("=t,mode=overlay,commit=changed");
        let script = format!(
            "echo more >>{p}/d0/f0; echo new >{p}/d1/f1; chmod 600 {p}/d2/f2; rm {p}/d3/f3; \
             mv {p}/d0/f4 {p}/moved; cat {p}/d0/f0"
        );
        let got = over(&world, &mount, &["-q"], &script).run().ok();
        assert_eq!(got.out(), "content 0\nmore\n");
        let fetched = |n| blob(&world.store(), format!("content {n}\n").as_bytes()).exists();
        let there: Vec<usize> = (0..20).filter(|n| fetched(*n)).collect();
        assert_eq!(there, [0, 2], "what was appended to and what got another mode");
        // What was committed has the rest at the same place.
        let mut mount = world.path("p").into_os_string();
        mount.push("=changed");
        let script = format!("cd {p}; cat d0/f0 d1/f1 d2/f2 moved d1/f5; ls d3");
        let got = over(&world, &mount, &["-q"], &script).run().ok();
        let want = "content 0\nmore\nnew\ncontent 2\ncontent 4\ncontent 5\nf11\nf15\nf19\nf7\n";
        assert_eq!(got.out(), want);
        world.vrift(["verify"]).run().ok();
    }

    #[test]
    fn what_was_made_on_top_of_a_tree_in_packs_is_whole_without_it() {
        let world = World::new().without_store_check();
        for n in 0..1200 {
            world.file(format!("src/d{}/f{n}", n % 10), format!("content {n}\n").repeat(40));
        }
        let (far, shelf) = (far(&world), world.dir("shelf"));
        let push =
            world.vrift(["--store".as_ref(), far.as_os_str(), "push".as_ref(), "t".as_ref()]);
        push.arg(&shelf).timeout(120).run().ok();
        assert!(!shelf.join("blobs").exists() && shelf.join("packs").exists(), "in packs");
        pull(&world, &shelf, &[]).run().ok();
        let mut mount = world.path("p").into_os_string();
        mount.push("=t,mode=overlay,commit=made");
        let p = world.path("p").display().to_string();
        over(&world, &mount, &["-q"], &format!("echo new >{p}/d1/f1; rm {p}/d2/f2")).run().ok();
        world.vrift(["rm", "t"]).run().ok();
        world.vrift(["gc", "--grace", "0"]).run().ok();
        let mut mount = world.path("p").into_os_string();
        mount.push("=made");
        let script = format!("cat {p}/d3/f3 {p}/d1/f1 | sort -u");
        let got = over(&world, &mount, &["--summary=json"], &script).run().ok();
        assert_eq!(got.out(), "content 3\nnew\n");
        // What lies beside it in its pack came along, and no more.
        let there = blobs(&world);
        assert!((3..400).contains(&there), "{there} blobs");
        world.vrift(["verify"]).run().ok();
    }

    #[test]
    fn the_job_sees_nothing_of_what_fetches() {
        let world = world();
        let p = world.path("p").display().to_string();
        let sync = world.dir("sync").display().to_string();
        let script = format!(
            "cat {p}/d0/f0; ls /proc/self/fd; \
             echo >{sync}/ready; until [ -e {sync}/pid ]; do sleep 0.01; done; pid=$(cat {sync}/pid); \
             kill -TERM $pid && echo signalled; ls -d /proc/$pid && echo seen; cat {p}/d0/f4"
        );
        std::thread::scope(|scope| {
            let running = scope.spawn(|| job(&world, &["-q"], &script).run());
            wait_for("the job doesn't get ready", || world.path("sync/ready").exists());
            let [fetcher] = fetchers(&world)[..] else { panic!("{:?}", fetchers(&world)) };
            let group = rustix::process::getpgid(rustix::process::Pid::from_raw(fetcher));
            assert_eq!(group.ok(), rustix::process::Pid::from_raw(fetcher), "a group of its own");
            world.file("sync/pid.new", fetcher.to_string());
            fs::rename(world.path("sync/pid.new"), world.path("sync/pid")).expect("rename");
            let got = running.join().expect("the job").ok();
            // Natively the shell was given the same.
            let descriptors = world.sh("ls /proc/self/fd").run().ok().out();
            assert_eq!(got.out(), format!("content 0\n{descriptors}content 4\n"), "{got}");
        });
        expect_no_fetchers(&world);
    }

    #[test]
    fn what_a_job_fetched_is_not_collected_under_it() {
        let world = world().without_store_check();
        let p = world.path("p").display().to_string();
        let sync = world.dir("sync").display().to_string();
        let script = format!(
            "cat {p}/d0/f0; echo >{sync}/ready; until [ -e {sync}/go ]; do sleep 0.01; done; \
             cat {p}/d0/f0 {p}/d1/f1"
        );
        std::thread::scope(|scope| {
            let running = scope.spawn(|| job(&world, &["-q"], &script).run());
            wait_for("the job doesn't get ready", || world.path("sync/ready").exists());
            world.vrift(["rm", "t"]).run().ok();
            world.vrift(["gc", "--grace", "0"]).run().ok();
            assert_eq!(blobs(&world), 1);
            world.file("sync/go", "");
            let got = running.join().expect("the job").ok();
            assert_eq!(got.out(), "content 0\ncontent 0\ncontent 1\n");
        });
        world.vrift(["gc", "--grace", "0"]).run().ok();
        assert_eq!(blobs(&world), 0);
    }

    #[test]
    fn what_an_earlier_job_read_can_be_had_at_once() {
        let world = world();
        let p = world.path("p").display().to_string();
        let trace = world.path("trace").display().to_string();
        let read = format!("cat {p}/d0/f0 {p}/d1/f1 {p}/same/one; stat {p}/d2/f2 >/dev/null");
        let first = job(&world, &["-q", "-o", &trace], &read).run().ok();
        assert_eq!(blobs(&world), 3);
        // In another store, of a tree in which one of the files was changed meanwhile.
        world.file("src/d0/f0", "other content\n");
        let (far, near) = (far(&world), world.path("near"));
        let options = [OsStr::new("--profile"), OsStr::new(&trace)];
        let pulled = pull(&world, &far, &options).env("VR_THE_SOURCE", &near).run().ok();
        assert!(pulled.out().contains("20 blobs, 3 fetched"), "{pulled}");
        assert!(pulled.out().contains("17 left at"), "{pulled}");
        fs::rename(far, world.path("gone")).expect("rename");
        let again = job(&world, &["-q"], &read).env("VR_THE_SOURCE", &near).run().ok();
        assert_eq!(again.out(), first.out().replacen("content 0", "other content", 1));

        let said = pull(&world, "x", &["--profile".as_ref(), "/dev/null".as_ref()]).run();
        let said = said.expect(125).err();
        assert!(said.contains("/dev/null:1: it is empty") && said.lines().count() == 1, "{said}");
        world.vrift(["pull", "--profile", &trace, "x", "t"]).run().expect(125);
    }

    #[test]
    fn without_what_fetches_nothing_is_begun() {
        let world = world();
        let alone = world.dir("alone").join("vrift-trace");
        fs::copy(binaries::vrift_trace(), &alone).expect("copy the program");
        let mut mount = world.path("p").into_os_string();
        mount.push("=t");
        let argv = |mount: &OsStr| {
            [alone.as_os_str(), "-q".as_ref(), "-m".as_ref(), mount, "--".as_ref(), "true".as_ref()]
                .map(OsStr::to_owned)
        };
        let path = |dirs: &str| world.native(argv(&mount)).env("PATH", dirs).run();
        let said = path("/usr/bin:/bin").expect(125).err();
        assert!(said.contains("there is no program `vrift`"), "{said}");
        assert!(said.contains("vrift pull") && said.lines().count() == 1, "{said}");
        let beside = binaries::vrift();
        let beside = beside.parent().map(Path::display).expect("a directory");
        path(&format!("/usr/bin:/bin:{beside}")).ok();
        // Another program of that name.
        let other = world.file("other/vrift", "#!/bin/sh\necho 'no such command' >&2; exit 3\n");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(other, mode).expect("chmod");
        let said = path(&world.path("other").display().to_string()).expect(125).err();
        assert!(said.contains("ended at once (it says: no such command)"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        // A tree that is whole needs none.
        world.ingest(world.path("src"), "whole");
        let mut mount = world.path("p").into_os_string();
        mount.push("=whole");
        world.native(argv(&mount)).env("PATH", "/usr/bin:/bin").run().ok();
    }
}
