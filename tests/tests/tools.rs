//! The tools of a build, static and interpreted ones too, list, read and run a projected tree.

#[cfg(test)]
mod tests {
    use std::path::Path;
    use vrift_tests::guests::go_guest;
    use vrift_tests::{Guest, World, guest, need, oracle, skip, tree};

    fn project(world: &World) {
        tree::sample(&world.path("src"));
        world.file("src/py/pkg/__init__.py", "from .mod import answer\n");
        world.file("src/py/pkg/mod.py", "def answer():\n    return 42\n");
        world.file("src/pl/My/Mod.pm", "package My::Mod; sub answer { 42 } 1;\n");
        world.file(
            "src/js/node_modules/dep/package.json",
            "{\"name\":\"dep\",\"main\":\"lib/index.js\"}\n",
        );
        world.file("src/js/node_modules/dep/lib/index.js", "exports.answer = () => 42;\n");
        world.file(
            "src/js/main.mjs",
            "import dep from 'dep';\nconsole.log('esm', dep.answer(), import.meta.url);\n",
        );
        world.file("src/sh/lib.sh", "answer() { echo 42; }\n");
        world.ingest(world.path("src"), "project");
    }

    /// Runs a command over the projection and over a bind mount; $P in it is the tree.
    fn as_over_a_bind_mount(name: &str, tool: &str, argv: &[&str]) {
        need!(name, skip::program(tool));
        let world = World::new();
        project(&world);
        let p = world.path("p");
        let argv: Vec<_> =
            argv.iter().map(|a| a.replace("$P", p.to_str().expect("UTF-8"))).collect();
        let got = world.trace(&[(&p, "project")], &argv).run();
        let kernel = need!(name, oracle::bound(&world, &world.path("src"), &p, &argv)).run().ok();
        assert!(!kernel.stdout.is_empty(), "it says nothing: {kernel}");
        assert_eq!(got.out(), kernel.out(), "{got}");
        // Where a tool meets its entries in another order, it complains in another order.
        let complaints = |text: String| {
            text.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(complaints(got.err()), complaints(kernel.err()));
        assert_eq!(got.code(), 0);
    }

    #[test]
    fn python() {
        let code = "
import os, sys, subprocess, pathlib, shutil, stat, glob, mmap
p = sys.argv[1]
sys.path.insert(0, p + '/py')
import pkg; print(pkg.answer(), pkg.__file__)
for root, dirs, files in sorted(os.walk(os.fsencode(p))):
    print(root, sorted(dirs), sorted(files))
for e in sorted(os.scandir(p), key=lambda e: e.name):
    s = e.stat(follow_symlinks=False)
    assert s.st_ino == e.inode(), e.name
    print(ascii(e.name), e.is_dir(follow_symlinks=False), e.is_file(follow_symlinks=False), e.is_symlink(), oct(s.st_mode), s.st_size, s.st_mtime_ns)
print(pathlib.Path(p, 'deeplink').resolve(), os.path.realpath(p + '/d/winding'))
with open(p + '/big', 'rb') as f:
    m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ); print(len(m), hash(bytes(m[-4:])) is not None, os.fstat(f.fileno()).st_size)
print(subprocess.run([p + '/exe', 'a'], capture_output=True, text=True).stdout)
print(subprocess.run(['./exe', 'b'], cwd=p, capture_output=True, text=True).stdout)
fd = os.open(p + '/d', os.O_RDONLY); print(sorted(os.listdir(fd)), os.stat('x', dir_fd=fd).st_size)
os.chdir(fd); print(os.getcwd()); print(open('../f').read())
t = os.environ['TMPDIR'] + '/copy'; shutil.copytree(p, t, symlinks=True); print(len(list(os.walk(t)))); shutil.rmtree(t)
for f in (lambda: open(p + '/f', 'w'), lambda: os.mkdir(p + '/n'), lambda: os.remove(p + '/f'), lambda: os.rename(p + '/f', p + '/g')):
    try: f(); print('allowed!')
    except OSError as e: print(e.errno, e.strerror)
print(os.access(p + '/f', os.W_OK), os.access(p + '/exe', os.X_OK), sorted(glob.glob(p + '/d/*')))
";
        as_over_a_bind_mount(
            "tools::python",
            "python3",
            &["/usr/bin/python3", "-B", "-c", code, "$P"],
        );
    }

    #[test]
    fn perl() {
        let code = "use strict; use File::Find; use Cwd; my $p = shift; unshift @INC, \"$p/pl\"; require My::Mod; print My::Mod::answer(), \" $INC{'My/Mod.pm'}\\n\";
            my @all; find({ wanted => sub { my @s = lstat $_; push @all, \"$File::Find::name $s[2] $s[3] $s[7] $s[9]\\n\" }, no_chdir => 0 }, $p); print sort @all;
            open my $f, '<', \"$p/f\" or die $!; print <$f>; print `$p/exe x`; chdir \"$p/d\" or die $!; print getcwd, \"\\n\"; opendir my $d, '.' or die; print join(' ', sort readdir $d), \"\\n\";
            open(my $w, '>', \"$p/f\") or print \"$!\\n\"; unlink \"$p/f\" or print \"$!\\n\"; print -e \"$p/absent\" ? 1 : 0, -x \"$p/exe\" ? 1 : 0, -w \"$p/f\" ? 1 : 0, \"\\n\"";
        as_over_a_bind_mount("tools::perl", "perl", &["/usr/bin/perl", "-e", code, "$P"]);
    }

    #[test]
    fn bash() {
        let code = "cd $P; source sh/lib.sh; answer; shopt -s globstar dotglob nullglob; for f in **/*; do printf '%q %s\\n' \"$f\" \"$([[ -d $f ]] && echo d)$([[ -x $f ]] && echo x)$([[ -L $f ]] && echo l)\"; done
            while read -r l; do echo \"> $l\"; done <f; mapfile -t a <d/x; echo \"${a[@]}\"; ./exe 1; (cd d/e && pwd && cat g); pushd d >/dev/null; popd; : >f || echo refused; echo $(<f); [[ f -ef hard ]] && echo same; [[ f -ef twin ]] || echo other; cat <(cat f) | wc -c; exec 7<f; read -u 7 x; echo $x; trap 'echo bye' EXIT; type -p ./exe";
        as_over_a_bind_mount("tools::bash", "bash", &["/bin/bash", "-c", code]);
    }

    #[test]
    fn node() {
        let code = "const fs = require('fs'), path = require('path'), cp = require('child_process'); const p = process.argv[1];
            const dep = require(p + '/js/node_modules/dep'); console.log(dep.answer(), require.resolve(p + '/js/node_modules/dep'));
            const walk = d => fs.readdirSync(d, { withFileTypes: true }).sort((a, b) => a.name < b.name ? -1 : 1).forEach(e => { const f = path.join(d, e.name); if (!f.includes('\\ufffd')) { const s = fs.lstatSync(f); console.log(JSON.stringify(f), s.mode, s.size, s.mtimeMs); } if (e.isDirectory()) walk(f); });
            walk(p); console.log(fs.readFileSync(p + '/f', 'utf8'), fs.realpathSync.native(p + '/deeplink'), fs.realpathSync(p + '/d/winding'));
            console.log(cp.execFileSync(p + '/exe', ['n']).toString(), cp.execFileSync(process.execPath, [p + '/js/main.mjs']).toString());
            for (const f of [() => fs.writeFileSync(p + '/f', 'x'), () => fs.mkdirSync(p + '/n'), () => fs.unlinkSync(p + '/f')]) { try { f(); console.log('allowed!') } catch (e) { console.log(e.code) } }
            Promise.all(Array.from({ length: 200 }, () => fs.promises.readFile(p + '/big'))).then(all => { console.log(all.every(b => b.length === 1200000)); process.chdir(p + '/d'); console.log(process.cwd()); });";
        as_over_a_bind_mount("tools::node", "node", &["node", "-e", code, "$P"]);
    }

    #[test]
    fn find() {
        let code = "cd $P && find . -name '*.js' | sort && find . -type f -size +100k -exec wc -c {} + && find -L . -maxdepth 2 -type d 2>/dev/null | sort && find . -name g -execdir pwd \\; && find . -type l -xtype l | sort && find . -name f -exec ./exe {} \\;";
        as_over_a_bind_mount("tools::find", "find", &["/bin/sh", "-c", code]);
    }

    #[test]
    fn grep_sed_awk_sort_xargs_make() {
        let code = "cd $P && grep -rn --include='*.py' return . && sed -n 1p f && awk '{print FILENAME, $0}' d/x d/e/g && sort f d/x && echo f twin | xargs cat && head -c 3 big | od -c && cmp f twin && diff f d/x; printf 'all: f\\n\\t@cat $<\\n\\t@./exe made\\n' | make -s -f -";
        as_over_a_bind_mount("tools::coreutils", "make", &["/bin/sh", "-c", code]);
    }

    #[test]
    fn a_c_compiler_over_projected_sources_and_headers() {
        let name = "a_c_compiler_over_projected_sources_and_headers";
        let world = World::new();
        world.file("src/inc/a.h", "#include \"b.h\"\n#define A (B + 1)\n");
        world.file("src/inc/b.h", "#define B 41\n");
        world.file("src/main.c", "#include <stdio.h>\n#include <a.h>\nint main(void) { printf(\"%d %s\\n\", A, __FILE__); return 0; }\n");
        world.ingest(world.path("src"), "c");
        let (p, out) = (world.path("p"), world.dir("out"));
        let script = "cd \"$1\" && cc -g -MD -I \"$2/inc\" -o main \"$2/main.c\" && ./main && cat *.d && cd \"$2\" && cc -g -I inc -c ../p/main.c -o ../out/relative.o && cc -xc -Iinc -E - < main.c | tail -1 && cd \"$1\" && sha256sum main relative.o";
        let argv = |out: &Path| {
            [
                "sh".into(),
                "-c".into(),
                script.into(),
                "sh".into(),
                out.as_os_str().to_owned(),
                p.as_os_str().to_owned(),
            ]
        };
        let got = world.trace(&[(&p, "c")], argv(&out)).run().ok();
        let kernel =
            need!(name, oracle::bound(&world, &world.path("src"), &p, argv(&out))).run().ok();
        assert_eq!(got.out(), kernel.out());
    }

    #[test]
    fn a_static_go_program() {
        let name = "a_static_go_program";
        let program = need!(name, go_guest());
        let world = World::new();
        project(&world);
        let p = world.path("p");
        let argv = [program.clone(), p.clone(), p.join("exe")];
        let got = world.trace(&[(&p, "project")], &argv).run().ok();
        let kernel = need!(name, oracle::bound(&world, &world.path("src"), &p, &argv)).run().ok();
        assert_eq!(got.out(), kernel.out());
        assert!(got.out().contains("from-go"), "{got}");
        // And from the projection itself.
        world.file("go/bin/gofiles", std::fs::read(&program).expect("go guest"));
        std::fs::set_permissions(
            world.path("go/bin/gofiles"),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .expect("chmod");
        world.ingest(world.path("go"), "go");
        let g = world.path("g");
        let inside = world.trace(
            &[(&p, "project"), (&g, "go")],
            [g.join("bin/gofiles"), p.clone(), p.join("exe")],
        );
        assert_eq!(inside.run().ok().out(), got.out());
    }

    #[test]
    fn a_static_c_program() {
        let name = "a_static_c_program";
        let program = need!(name, guest("ops", Guest::Static));
        let world = World::new();
        project(&world);
        let p = world.path("p");
        let script = format!(
            "chdir {}\nopen 1 . O_RDONLY|O_DIRECTORY\nlist 1\nstat f\nopen 2 f O_RDONLY\nread 2 100\nexec ./exe exe\n",
            p.display()
        );
        let got = world.trace(&[(&p, "project")], [&program]).stdin(&script).run().ok();
        let kernel = need!(name, oracle::bound(&world, &world.path("src"), &p, [&program]))
            .stdin(&script)
            .run()
            .ok();
        assert_eq!(got.out(), kernel.out());
    }

    #[test]
    fn strace_and_gdb_style_tracing_still_work_on_the_job() {
        let name = "strace_and_gdb_style_tracing_still_work_on_the_job";
        need!(name, skip::program("strace"));
        let world = World::new();
        project(&world);
        let p = world.path("p");
        let script = format!(
            "strace -f -e trace=openat -o {}/log cat {}/f",
            world.path("tmp").display(),
            p.display()
        );
        let got = world.trace_sh(&[(&p, "project")], &script).run().ok();
        assert_eq!(got.out(), "hello\n");
        let log = std::fs::read_to_string(world.path("tmp/log")).expect("strace's log");
        assert!(log.contains(&format!("{}/f\", O_RDONLY) = ", p.display())), "{log}");
    }
}
