//! A toolchain that is nowhere but in a projection: busybox, musl with its own loader, and
//! gcc's own tree, each run from the mount only.

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::{Path, PathBuf};
    use vrift_tests::{Guest, Job, World, guest, need, oracle, skip};

    fn run(dir: &Path, script: &str) {
        let done = Job::new(["sh", "-ec", script, "sh"]).arg(dir).timeout(120).run();
        assert!(done.code() == 0, "preparing: {done}");
    }

    /// Over the projection and over a bind mount: the same output.
    fn same(name: &str, world: &World, source: &Path, p: &Path, script: &str) -> Option<String> {
        let argv = ["sh".as_ref(), "-ec".as_ref(), script.as_ref(), "sh".as_ref(), p.as_os_str()];
        let got = world.trace(&[(p, "tools")], argv).timeout(180).run().ok();
        fs::remove_dir_all(world.path("tmp"))
            .and_then(|()| fs::create_dir(world.path("tmp")))
            .expect("tmp");
        let job = match oracle::bound(world, source, p, argv) {
            Ok(job) => job,
            Err(reason) => {
                skip::record(name, &reason);
                return None;
            }
        };
        let kernel = job.timeout(180).run().ok();
        assert_eq!(got.out(), kernel.out());
        Some(got.out())
    }

    #[test]
    fn a_projected_busybox_is_a_whole_userland() {
        let name = "toolchains::a_projected_busybox_is_a_whole_userland";
        let busybox = need!(name, skip::program("busybox"));
        let world = World::new();
        let (source, p) = (world.dir("src"), world.path("p"));
        fs::create_dir(source.join("bin")).expect("mkdir");
        fs::copy(busybox, source.join("bin/busybox")).expect("busybox");
        for applet in [
            "sh",
            "ls",
            "cat",
            "find",
            "sort",
            "sed",
            "awk",
            "tar",
            "wc",
            "env",
            "xargs",
            "stat",
            "sha256sum",
            "cp",
            "rm",
            "mkdir",
            "touch",
            "grep",
        ] {
            symlink("busybox", source.join("bin").join(applet)).expect("symlink");
        }
        fs::create_dir_all(source.join("etc/deep")).expect("mkdir");
        fs::write(source.join("etc/deep/file"), "one\ntwo\n").expect("write");
        world.ingest(&source, "tools");
        let script = "p=$1; export PATH=$p/bin; cd $p; exec $p/bin/sh -ec '
            p=$1; cd $p; ls -1 bin | sort | xargs; cat etc/deep/file | wc -l; find . -type f | sort; awk \"{ print NR, \\$0 }\" etc/deep/file
            sed s/one/three/ etc/deep/file; tar cf - etc | tar tf -; stat -c \"%s %a %F\" bin/sh etc; sha256sum bin/busybox; readlink /proc/self/exe
            touch etc/new 2>&1 || echo refused; mkdir -p $TMPDIR/x && cp -r etc $TMPDIR/x/ && grep -r two $TMPDIR/x | sed s=$TMPDIR=T=; rm -r $TMPDIR/x; for i in 1 2 3; do env sh -c \"echo $i \\$0\" & wait; done' sh $p";
        let said = same(name, &world, &source, &p, script);
        if let Some(said) = said {
            assert!(said.contains("Read-only file system\nrefused"), "{said}");
        }
    }

    /// The programs' PT_INTERP names the projected loader, which exists nowhere else.
    #[test]
    fn a_projected_musl_with_its_own_loader_compiles_and_runs() {
        let name = "toolchains::a_projected_musl_with_its_own_loader_compiles_and_runs";
        need!(name, skip::program("musl-gcc"));
        let world = World::new();
        let (source, p) = (world.dir("src"), world.path("p"));
        run(
            &source,
            "cd $1; mkdir -p lib include; libc=$(readlink -f /lib/ld-musl-x86_64.so.1); cp $libc lib/libc.so; ln -s libc.so lib/ld-musl-x86_64.so.1
             cp -a /usr/lib/x86_64-linux-musl/*.o /usr/lib/x86_64-linux-musl/*.a lib/; cp -a /usr/include/x86_64-linux-musl/. include/",
        );
        let text = "#include <stdio.h>\n#include <unistd.h>\nint main(int c, char **v) { char b[999]; long n = readlink(\"/proc/self/exe\", b, 998); b[n] = 0; printf(\"%s %d %s\\n\", v[0], c, b); return 0; }\n";
        fs::write(source.join("main.c"), text).expect("main.c");
        world.ingest(&source, "tools");
        let script = "p=$1; gcc=$(gcc -print-libgcc-file-name); cd $TMPDIR
            gcc -nostdinc -isystem $p/include -isystem $(gcc -print-file-name=include) -O2 -c -o main.o $p/main.c
            gcc -nostdlib -no-pie -o fixed $p/lib/crt1.o $p/lib/crti.o main.o -L$p/lib -lc $gcc $p/lib/crtn.o -Wl,--dynamic-linker=$p/lib/ld-musl-x86_64.so.1
            gcc -nostdlib -static -o static $p/lib/crt1.o $p/lib/crti.o main.o $p/lib/libc.a $gcc $p/lib/crtn.o
            sha256sum fixed static main.o; ./fixed a | sed s=$TMPDIR=T=g; ./static b | sed s=$TMPDIR=T=g; $p/lib/ld-musl-x86_64.so.1 ./fixed c | cut -d' ' -f2
            cp fixed $TMPDIR/again; $TMPDIR/again x | cut -d' ' -f2";
        same(name, &world, &source, &p, script);
    }

    /// What gcc is made of, by its own word: the driver, cc1, as, ld, crt files, headers, libgcc.
    const COPY_GCC: &str = r#"
        cd "$1"
        put() { for f in "$@"; do [ -e "$f" ] || continue; mkdir -p ".$(dirname "$f")"; cp -aLn "$f" ".$f" 2>/dev/null || cp -aL "$f" ".$f"; done; }
        version=$(gcc -dumpversion | cut -d. -f1); triple=$(gcc -dumpmachine)
        libgcc=$(dirname "$(realpath "$(gcc -print-libgcc-file-name)")")
        cc1=$(realpath "$(gcc -print-prog-name=cc1)"); collect2=$(realpath "$(gcc -print-prog-name=collect2)")
        put /usr/bin/gcc /usr/bin/as /usr/bin/ld
        put "$cc1" "$collect2" "$(dirname "$cc1")"/lto-wrapper "$(dirname "$cc1")"/liblto_plugin.so
        put "$libgcc"/crt*.o "$libgcc"/libgcc*.a "$libgcc"/libgcc_s.so "$libgcc"/include
        # ld's own libraries, and what a program is linked with
        for program in /usr/bin/as /usr/bin/ld "$cc1"; do
            ldd "$program" | sed -n 's/.*=> \(\/[^ ]*\).*/\1/p'
        done | sort -u | while read -r library; do put "$library"; done
        put /lib64/ld-linux-x86-64.so.2 /usr/lib/$triple/*crt*.o /usr/lib/$triple/libc.so /usr/lib/$triple/libc_nonshared.a /usr/lib/$triple/libc.a
        put /lib/$triple/libc.so.6 /usr/lib/$triple/libm.so.6 /usr/lib/$triple/libgcc_s.so.1 /lib/$triple/libgcc_s.so.1
        put /usr/include
    "#;

    #[test]
    fn a_projected_gcc_run_from_the_mount_only() {
        let name = "toolchains::a_projected_gcc_run_from_the_mount_only";
        if !cfg!(target_arch = "x86_64") {
            skip!(name, "the copy of gcc's tree is written for x86_64");
        }
        need!(name, skip::program("gcc"));
        let world = World::new();
        let (source, p) = (world.dir("src"), world.path("vrift/gcc"));
        run(&source, COPY_GCC);
        world.ingest(&source, "tools");
        fs::write(world.path("main.c"), "#include <stdio.h>\n#include <stdlib.h>\nint main(void) { printf(\"built by a projected gcc %d\\n\", atoi(\"42\")); return 0; }\n").expect("main.c");
        // No program but the projected ones can be found; ld is asked which files it used.
        let script = "p=$1; c=$PWD/main.c; cd $TMPDIR; gcc=$p/usr/bin/gcc; path=$PATH
            export PATH=$p/usr/bin LD_LIBRARY_PATH=$p/usr/lib/x86_64-linux-gnu:$p/lib/x86_64-linux-gnu
            $gcc --sysroot=$p -O2 -g -c -o main.o $c; $gcc --sysroot=$p -O2 -S -o main.s $c; $gcc --sysroot=$p -M $c >deps
            $gcc --sysroot=$p -o dynamic main.o -Wl,--trace >used; $gcc --sysroot=$p -static -o static main.o
            $gcc --sysroot=$p -print-prog-name=cc1; command -v as; command -v ld
            unset LD_LIBRARY_PATH; PATH=$path
            ./dynamic; ./static; sha256sum main.o main.s dynamic static; tr ' ' '\\n' <deps | grep '^/' | grep -v \"^$p\\|main.c\" || echo all-headers-projected
            grep -v \"^$p\\|^main.o\" used || echo all-linked-files-projected";
        let Some(said) = same(name, &world, &source, &p, script) else { return };
        assert_eq!(said.matches("built by a projected gcc 42").count(), 2, "{said}");
        assert!(
            said.contains("all-headers-projected") && said.contains("all-linked-files-projected"),
            "{said}"
        );
        let projected = |program: &str| {
            said.lines().any(|l| l.starts_with(p.to_str().expect("UTF-8")) && l.ends_with(program))
        };
        assert!(projected("cc1") && projected("as") && projected("ld"), "{said}");
    }

    /// A dynamic program that runs by the projected copy of the system's loader and libc only.
    #[test]
    fn a_program_with_a_projected_glibc() {
        let name = "toolchains::a_program_with_a_projected_glibc";
        let program = need!(name, guest("self", Guest::Dynamic));
        let world = World::new();
        let (source, p) = (world.dir("src"), world.path("p"));
        let copy = "cd $1; mkdir -p lib bin; ldd \"$2\" | sed -n 's/.*=> \\(\\/[^ ]*\\).*/\\1/p; s/^[ \\t]*\\(\\/[^ ]*ld-linux[^ ]*\\).*/\\1/p' | sort -u | while read -r l; do cp -L $l lib/; done; ls lib | grep -q ld-linux";
        let done = Job::new(["sh", "-ec", copy, "sh"]).arg(&source).arg(&program).run();
        assert_eq!(done.code(), 0, "{done}");
        let loader: PathBuf = fs::read_dir(source.join("lib"))
            .expect("lib")
            .flatten()
            .map(|e| e.file_name())
            .find(|n| n.to_string_lossy().starts_with("ld-linux"))
            .expect("the loader")
            .into();
        let flags = [
            "-O1".to_owned(),
            vrift_tests::guests::fixtures().join("guests/self.c").display().to_string(),
            format!("-Wl,--dynamic-linker={}", p.join("lib").join(&loader).display()),
            format!("-Wl,-rpath,{}", p.join("lib").display()),
        ];
        let built = need!(name, vrift_tests::guests::compile("self", "cc", &flags, true));
        fs::copy(built, source.join("bin/self")).expect("self");
        world.ingest(&source, "tools");
        let said = same(
            name,
            &world,
            &source,
            &p,
            "$1/bin/self a; $1/lib/ld-linux* $1/bin/self b | head -3; $1/lib/ld-linux* --list $1/bin/self | sed 's/ (0x.*//'",
        );
        if let Some(said) = said {
            assert!(said.contains(&format!("{}/lib/libc.so.6", p.display())), "{said}");
        }
    }
}
