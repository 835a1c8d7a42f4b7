//! Traces of jobs that see their mounts as file systems of their own: they say what those say whose
//! calls the supervisor answers.

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};
    use vrift_tests::skip::program;
    use vrift_tests::{World, need, traces, view};

    /// The sample tree, and a file outside of it.
    fn world() -> (World, PathBuf) {
        let (world, p) = view::world();
        world.file("real", "outside\n");
        (world, p)
    }

    /// What a job does over the tree `t`, with these words for its mount, is written to a trace.
    fn trace(
        world: &World,
        (view, tree): (&str, &str),
        options: &[&str],
        argv: &[&str],
    ) -> Vec<Value> {
        let file = world.path(format!("{view}.trace"));
        let mut mount = world.path("p").into_os_string();
        mount.push(format!("={tree}"));
        let mount = mount.to_str().expect("UTF-8");
        let options = [&["-q", "--view", view, "-m", mount], options].concat();
        traces::traced(world, &file, &options, argv).run().ok();
        traces::events(&file)
    }

    /// What the operations on paths that `counts` come to, in a line each, without who did it when.
    fn told(events: &[Value], counts: impl Fn(&str) -> bool) -> BTreeSet<String> {
        let operations = events.iter().filter(|e| e.get("call").is_some());
        let of_interest = operations.filter(|op| traces::place(op).as_str().is_some_and(&counts));
        let line = |op: &Value| {
            let keys = [
                "call", "access", "path", "resolved", "mount", "kind", "asks", "reads", "err",
                "blob", "refused", "through",
            ];
            // Of a real path the kind is known where somebody looked, which need not be.
            let kept = |key: &&&str| **key != "kind" || op.get("mount").is_some();
            let said = keys.iter().filter(kept);
            let said = said.filter_map(|key| Some(format!("{key}={}", op.get(*key)?)));
            let argv = op.pointer("/exec/argv").map(|argv| format!("argv={argv}"));
            let interpreters = op.pointer("/exec/interpreters").map(|all| format!("by={all}"));
            said.chain(argv).chain(interpreters).collect::<Vec<_>>().join(" ")
        };
        of_interest.map(line).collect()
    }

    fn same(world: &World, p: &Path, options: &[&str], argv: &[&str]) -> BTreeSet<String> {
        same_over(world, (p, "t"), options, argv)
    }

    fn same_over(
        world: &World,
        (p, tree): (&Path, &str),
        options: &[&str],
        argv: &[&str],
    ) -> BTreeSet<String> {
        let within =
            |path: &str| path.starts_with(p.to_str().expect("UTF-8")) || path.ends_with("/real");
        let [notified, mounted] = ["notify", "mount"]
            .map(|view| told(&trace(world, (view, tree), options, argv), within));
        let show = |lines: &BTreeSet<String>, other: &BTreeSet<String>| {
            lines.difference(other).cloned().collect::<Vec<_>>().join("\n  ")
        };
        assert!(
            notified == mounted,
            "only by notification:\n  {}\nonly mounted:\n  {}",
            show(&notified, &mounted),
            show(&mounted, &notified)
        );
        mounted
    }

    #[test]
    fn they_say_the_same() {
        let name = "view_trace::they_say_the_same";
        need!(name, view::possible());
        let (world, p) = world();
        let script = "cd $0 && cat f d/e/g chain-39 >/dev/null; cat none f/below loop-1; ls d >/dev/null
            test -x exe && ./exe one two >/dev/null; readlink d/winding; stat -c %s . d/../f; test -w f
            cat $0/../real >/dev/null; (cd d/e && cat ../../f g >/dev/null); cat <f >/dev/null
            echo more >>f; echo >new; mkdir new; mkdir d; rmdir d; rm -f f; ln -s f new; chmod 600 f
            touch f; true";
        let argv = ["sh", "-c", script, p.to_str().expect("UTF-8")];
        let lines = same(&world, &p, &[], &argv);
        let has = |parts: &[&str]| {
            let all = |line: &&String| parts.iter().all(|part| line.contains(part));
            assert!(lines.iter().any(|line| all(&line)), "{parts:?}: {lines:#?}");
        };
        has(&["access=\"read\"", "/p/d/e/g\"", "blob=", "mount="]);
        has(&["access=\"probe\"", "/p/none\"", "err=\"ENOENT\""]);
        has(&["access=\"exec\"", "/p/exe\"", "argv=[\"./exe\",\"one\",\"two\"]"]);
        has(&["access=\"create\"", "/p/new\"", "err=\"EROFS\"", "the mount is read-only"]);
        has(&["access=\"read\"", "/real\""]);
    }

    #[test]
    fn they_say_the_same_of_an_overlay() {
        let name = "view_trace::they_say_the_same_of_an_overlay";
        need!(name, view::possible());
        let (world, p) = world();
        let script = "cd $0 && cat f >/dev/null; echo more >>f; cat f >/dev/null; echo new >new
            mkdir made d; echo x >made/x; cat made/x none >/dev/null; mv made/x made/y; mv f d/f
            rm -f made/y none; rmdir made d/none; ln -s f link; ln new hard; chmod 600 new; touch new
            cp exe run; ./run one >/dev/null; test -w new; rm -r d; readlink link; mkdir new; rm new/x
            true";
        let argv = ["sh", "-c", script, p.to_str().expect("UTF-8")];
        let lines = same_over(&world, (&p, "t,mode=overlay"), &[], &argv);
        let has = |parts: &[&str]| {
            let all = |line: &&String| parts.iter().all(|part| line.contains(part));
            assert!(lines.iter().any(|line| all(&line)), "{parts:?}: {lines:#?}");
        };
        has(&["access=\"create\"", "/p/new\""]);
        has(&["access=\"exec\"", "/p/run\""]);
    }

    #[test]
    fn they_say_the_same_of_what_is_refused() {
        let name = "view_trace::they_say_the_same_of_what_is_refused";
        need!(name, view::possible().and(program("python3").map(drop)));
        let (world, p) = world();
        let script = "import os, sys, fcntl, socket
os.chdir(sys.argv[1])
real = '../real'
def tried(call, *arguments, **more):
    try: call(*arguments, **more)
    except OSError: pass
f = os.open('f', os.O_RDONLY)
d = os.open('d', os.O_RDONLY | os.O_DIRECTORY)
tried(os.rename, 'f', 'g'); tried(os.rename, 'f', real + '2'); tried(os.rename, real, 'g')
tried(os.rename, 'd', 'new'); tried(os.link, 'f', 'g'); tried(os.symlink, 'x', 'new')
tried(os.open, 'f', os.O_WRONLY); tried(os.open, 'f', os.O_RDWR | os.O_CREAT)
tried(os.open, 'f', os.O_RDONLY | os.O_CREAT | os.O_EXCL); tried(os.open, 'd', os.O_WRONLY)
tried(os.open, 'f', os.O_RDONLY | os.O_TRUNC); tried(os.open, 'f', os.O_RDONLY | os.O_CREAT)
tried(os.open, 'f', os.O_DIRECTORY); tried(os.open, 'chain-1', os.O_NOFOLLOW)
tried(os.open, 'e/g', os.O_RDONLY, dir_fd=d); tried(os.open, 'e/none', os.O_RDONLY, dir_fd=d)
tried(os.open, '.', os.O_TMPFILE | os.O_RDWR); tried(os.open, 'f', os.O_PATH)
tried(os.truncate, 'f', 0); tried(os.utime, 'f'); tried(os.chown, 'f', os.getuid(), -1)
tried(os.fchmod, f, 0o600); tried(os.access, 'f', os.W_OK); tried(os.access, 'f', os.X_OK)
tried(os.access, 'none', os.F_OK); tried(os.unlink, 'none'); tried(os.rmdir, 'f')
tried(os.stat, 'f/below'); tried(os.stat, 'x' * 300); tried(os.mkfifo, 'new')
tried(fcntl.flock, f, fcntl.LOCK_SH | fcntl.LOCK_NB)
tried(socket.socket(socket.AF_UNIX).bind, 'new')
with open(f'/proc/self/fd/{f}') as again: again.read()
os.chdir('/')
tried(os.stat, 'e/g', dir_fd=d); tried(os.fchmod, d, 0o700)";
        let argv = ["/usr/bin/python3", "-Sc", script, p.to_str().expect("UTF-8")];
        let lines = same(&world, &p, &[], &argv);
        let refused = lines.iter().filter(|line| line.contains("refused=")).count();
        assert!(refused >= 15, "{refused}: {lines:#?}");
    }

    #[test]
    fn without_look_ups_only_what_is_opened_is_told() {
        let name = "view_trace::without_look_ups_only_what_is_opened_is_told";
        need!(name, view::possible());
        let (world, p) = world();
        let policy = world.file("v.toml", "version = 1\n[trace]\nprobes = false\n");
        let policy = ["-p", policy.to_str().expect("UTF-8")];
        let script =
            "ls -l $0/d >/dev/null; cat $0/f >/dev/null; test -e $0/none; $0/exe >/dev/null";
        let argv = ["sh", "-c", script, p.to_str().expect("UTF-8")];
        let lines = same(&world, &p, &policy, &argv);
        assert!(!lines.iter().any(|line| line.contains("\"stat\"")), "{lines:#?}");
        assert!(lines.iter().any(|line| line.contains("/p/f\"")), "{lines:#?}");
    }
}
