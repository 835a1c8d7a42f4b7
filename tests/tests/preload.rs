//! The macOS shim's core under libc's names, on Linux: programs over a projected tree give what they
//! give under the supervisor. (What is done inside of libc, and by the kernel with a file that it
//! opens by itself, is not the same on both, so there are no scripts with `#!` and no static
//! programs here.)

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::path::{Path, PathBuf};
    use vrift_tests::job::Job;
    use vrift_tests::skip::program;
    use vrift_tests::{World, binaries, need, tree};

    /// A world with the sample tree at `AT`, whose parent is a real directory.
    struct Place {
        world: World,
        at: PathBuf,
        manifest: PathBuf,
        library: PathBuf,
    }

    impl Place {
        fn new(more: &[(&str, &str)]) -> Result<Place, String> {
            let library = binaries::preload()?;
            let world = World::new();
            let source = world.path("source");
            tree::sample(&source);
            for (name, content) in more {
                world.file(Path::new("source").join(name), content);
            }
            std::fs::create_dir(source.join("bin")).expect("mkdir");
            // Linked dynamically: a static one would not be seen.
            std::fs::copy("/bin/cat", source.join("bin/cat")).expect("cp");
            world.ingest(&source, "tree");
            world.dir("mounts");
            world.dir("private/d");
            world.dir("private/c");
            let manifests = std::fs::read_dir(world.path("store/manifests")).expect("manifests");
            let manifest = manifests.flatten().next().expect("a manifest").path();
            let at = world.path("mounts/tree");
            Ok(Place { world, at, manifest, library })
        }

        fn supervised(&self, script: &str) -> Job {
            self.world.trace_sh(&[(&self.at, "tree")], script)
        }

        fn preloaded(&self, script: &str) -> Job {
            let mut mount = OsString::from(&self.manifest);
            mount.push("=");
            mount.push(&self.at);
            self.world
                .sh(script)
                .env("LD_PRELOAD", &self.library)
                .env("VRIFT_PRELOAD_STORE", self.world.store())
                .env("VRIFT_PRELOAD_PRIVATE", self.world.path("private"))
                .env("VRIFT_PRELOAD_MOUNTS", mount)
        }

        /// Runs a script both ways and compares all that it says. `$P` is the mount.
        fn same(&self, script: &str) -> String {
            let script = format!("P={}; LC_ALL=C; export LC_ALL\n{script}", self.at.display());
            let clear = || {
                let _ = std::fs::remove_dir_all(self.world.path("out"));
                self.world.dir("out");
            };
            clear();
            let expected = self.supervised(&script).run();
            clear();
            let got = self.preloaded(&script).run();
            assert_eq!(got.out(), expected.out(), "{script}\n{}", got.err());
            assert_eq!(got.err(), expected.err(), "{script}");
            assert_eq!(got.code(), expected.code(), "{script}");
            assert!(!expected.out().is_empty(), "the script says something: {script}");
            expected.out()
        }
    }

    #[test]
    fn reading_is_the_supervisors() {
        let place = need!("reading_is_the_supervisors", Place::new(&[]));
        for script in [
            "cat $P/f $P/d/x $P/link $P/d/up $P/dirlink/e/g; cat $P/absent $P/f/x $P/dangling",
            "cat $P/loop-a $P/chain-39; cat $P/chain-41 | head -1; cat $P//./d/../f; echo $?",
            "cksum $P/big $P/empty \"$P/with space\" $P/twin; wc -c < $P/big",
            "ls -a $P | sort; ls -l --time-style=full-iso $P/ | sed 's/ *root *root */ /'",
            "ls -lai --time-style=+%s.%N $P/d $P/existing $P/void; ls -l $P; ls mounts",
            "stat -c '%n %F %a %s %h %i %Y %b %d' $P $P/* $P/d/e/g; stat -L -c %s $P/link",
            "find $P -printf '%p %y %m %s %l %T@\\n' | sort | cksum; find $P -name g",
            "readlink $P/link $P/d/winding $P/out; readlink $P/f; realpath $P/dirlink/e $P/link",
            "[ -r $P/f ] && [ ! -w $P/f ] && [ ! -x $P/f ] && [ -d $P/d ] && [ -h $P/link ]; echo $?",
            "cd $P/d && pwd && /bin/pwd && cat ../f e/g && cd e && cat ../x && cd ../.. && ls -d d",
            "cd $P/dirlink/e && cat g ../../f && cat ../../../../mounts/tree/f; cd /; cat $P/f",
            "ln -s $P/d out/in; cat out/in/x out/in/../f; ls out/in; cat out/../out/in/e/g",
            "grep -r hello $P/d/.. 2>/dev/null | sort; diff $P/f $P/hard && echo same",
            "tar -C $P -cf - d existing | cksum; tar -C $P -cf - f | tar -tvf - | cut -c1-10",
        ] {
            place.same(script);
        }
    }

    #[test]
    fn changing_is_refused_as_the_supervisor_does() {
        let place = need!("changing_is_refused_as_the_supervisor_does", Place::new(&[]));
        for script in [
            "echo x > $P/f; echo x >> $P/f; echo x > $P/new; echo x > $P/none/new; echo $?",
            "touch $P/f; touch $P/new; mkdir $P/new; mkdir $P/d; mkdir -p $P/d/e; echo $?",
            "rm -f $P/f; rm $P/absent; rmdir $P/d; rmdir $P; rm -rf $P/void; echo $?",
            "mv $P/f out/f; ls out; mv out/f $P/new; ln $P/f out/l; ln out/f $P/l; echo $?",
            "mv $P out/t; mv mounts out/m; ls mounts; rmdir mounts; echo $?",
            "chmod 600 $P/f; chown 1 $P/f; truncate -s 0 $P/f; ln -s x $P/s; cat $P/f",
            "cp $P/f out/copy && cat out/copy && cp -r $P/d out/d && find out | sort; echo $?",
            "ln -s $P/f out/to; echo x > out/to; ln -s $P/made out/made; echo x > out/made; echo $?",
            "cd $P/d; echo x > ../f; touch new; rm x; mv x ../../../out/x; ls ../../../out; echo $?",
            "S=store; cat $S/format; ls $S; echo x > $S/refs/tree; rm -rf $S; ls -d $S; echo $?",
        ] {
            place.same(script);
        }
    }

    #[test]
    fn python_sees_what_the_supervisor_shows() {
        let name = "python_sees_what_the_supervisor_shows";
        let python = need!(name, program("python3"));
        let module = "def say():\n    return 'from a module'\n";
        let place = need!(name, Place::new(&[("lib/made.py", module)]));
        let said = place.same(&format!(
            "exec {} -B - $P <<'END'
import errno, os, sys, threading
at = sys.argv[1]
sys.path.insert(0, at + '/lib')
import made
print(made.say(), made.__file__ == at + '/lib/made.py')
for dir, dirs, files in sorted(os.walk(os.fsencode(at))):
    for name in sorted(dirs + files):
        s = os.lstat(os.path.join(dir, name))
        print(name, oct(s.st_mode), s.st_size, s.st_ino, s.st_nlink, s.st_mtime_ns)
def tries(what, *args):
    try:
        print(what.__name__, what(*args))
    except OSError as e:
        print(what.__name__, errno.errorcode[e.errno])
for path in ['f', 'd', 'absent', 'link', 'f/x', 'none/x', 'loop-a']:
    path = at + '/' + path
    for what in [os.unlink, os.rmdir, os.mkdir, os.listdir, os.chdir, os.readlink]:
        tries(what, path)
    for flags in [os.O_RDONLY, os.O_WRONLY, os.O_RDWR | os.O_CREAT, os.O_CREAT | os.O_EXCL,
                  os.O_TRUNC, os.O_DIRECTORY, os.O_NOFOLLOW]:
        tries(lambda p, f: os.close(os.open(p, f)), path, flags)
    tries(os.rename, path, 'out/x')
    tries(os.rename, 'out', path)
    tries(os.link, path, 'out/y')
    tries(os.truncate, path, 0)
    tries(os.chmod, path, 0o600)
    tries(os.access, path, os.W_OK)
os.chdir(at + '/d')
print(os.getcwd() == at + '/d', os.listdir('.'), open('../f').read())
fd = os.open('.', os.O_RDONLY)
print(os.stat('x', dir_fd=fd).st_size, os.fstat(fd).st_ino == os.stat('.').st_ino)
file = os.open('x', os.O_RDONLY)
copy = os.dup(file)
print(os.fstat(copy).st_ino == os.stat('x').st_ino)
tries(os.fchmod, copy, 0o600)
if os.fork() == 0:
    print('child', os.getcwd() == at + '/d', os.fstat(copy).st_ino == os.stat('x').st_ino, flush=True)
    os._exit(0)
os.wait()
def reads():
    for _ in range(200):
        assert open(at + '/f').read() == 'hello\\n' and os.stat(at + '/d/x').st_size == 7
threads = [threading.Thread(target=reads) for _ in range(8)]
for t in threads: t.start()
for t in threads: t.join()
print('threads done')
END",
            python.display()
        ));
        for part in ["from a module True", "EROFS", "EXDEV", "threads done", "child True True"] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }

    #[test]
    fn gcc_makes_the_same_object() {
        let name = "gcc_makes_the_same_object";
        need!(name, program("gcc"));
        let place = need!(
            name,
            Place::new(&[
                ("include/a.h", "#include \"deep/b.h\"\n#define A (B + 1)\n"),
                ("include/deep/b.h", "#define B 41\n"),
                (
                    "src/main.c",
                    "#include <stdio.h>\n#include \"a.h\"\nint main(void) { printf(\"%d\\n\", A); return 0; }\n"
                ),
            ])
        );
        let said = place.same(
            "gcc -g -I$P/include -c $P/src/main.c -o out/main.o && cksum out/main.o
             gcc -MM -I$P/include $P/src/main.c; gcc out/main.o -o out/main && out/main
             cd $P/src && gcc -I../include -fsyntax-only main.c && gcc -I../none -c main.c -o /dev/null
             echo $?; gcc -c main.c -I../include -o main.o; echo $?",
        );
        assert!(said.contains("42\n"), "{said}");
    }

    #[test]
    fn make_and_git_work() {
        let name = "make_and_git_work";
        need!(name, program("make"));
        need!(name, program("git"));
        let makefile = "out: src/a.c src/b.c\n\tcat $^ > $(OUT)/all\n";
        let place = need!(
            name,
            Place::new(&[("Makefile", makefile), ("src/a.c", "a\n"), ("src/b.c", "b\n")])
        );
        let said = place.same(
            "make -s -C $P OUT=$PWD/out out && cat out/all; cd $P && make -n OUT=/x; cd - >/dev/null
             git -c safe.directory='*' diff --no-index --stat $P/src out | cat
             git init -q out/r 2>/dev/null && cp -r $P/src out/r && cd out/r && git add -A
             git -c user.name=n -c user.email=e commit -q -m m && git ls-tree -r HEAD
             git --work-tree=$P/src -c core.safecrlf=false status --short | cat; echo $?",
        );
        assert!(said.starts_with("a\nb\n"), "{said}");
        assert!(said.contains("src/a.c"), "{said}");
    }

    #[test]
    fn a_projected_program_runs() {
        let place = need!("a_projected_program_runs", Place::new(&[]));
        let said = place.same("$P/bin/cat $P/f $P/link; cd $P/bin && ./cat ../d/x; $P/f; echo $?");
        assert!(said.starts_with("hello\nhello\nx in d\n"), "{said}");
    }
}
