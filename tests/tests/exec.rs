//! exec of projected programs: every kind of program, every way of calling, and what the
//! program then knows of itself.

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::{Path, PathBuf};
    use vrift_tests::guests::{self, compile};
    use vrift_tests::{Guest, World, guest, need, oracle};

    fn install(program: &Path, to: &Path) {
        fs::create_dir_all(to.parent().expect("parent")).expect("mkdir");
        fs::copy(program, to)
            .unwrap_or_else(|e| panic!("{} to {}: {e}", program.display(), to.display()));
    }

    fn script(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
        fs::write(path, text).expect("script");
        fs::set_permissions(path, Permissions::from_mode(0o755)).expect("chmod");
    }

    /// Every way of calling, over the projection and over a bind mount: the same output. A
    /// descriptor's number (AT_EXECFN of fexecve) is the one thing that may differ.
    fn every_way(name: &str, prepare: impl Fn(&World, &Path, &Path) -> Result<PathBuf, String>) {
        let execs = need!(name, guest("execs", Guest::Dynamic));
        let world = World::new();
        let (source, p) = (world.dir("src"), world.path("p"));
        let program = need!(name, prepare(&world, &source, &p));
        world.ingest(&source, "t");
        let argv = [execs.as_os_str(), program.as_os_str(), "one".as_ref(), "two three".as_ref()];
        let got = world.trace(&[(&p, "t")], argv).run();
        let kernel = need!(name, oracle::bound(&world, &source, &p, argv)).run();
        assert!(kernel.out().matches("status=0").count() >= 9, "the oracle fails: {kernel}");
        // How the interpreter of a script is told of it may be another descriptor's name.
        for (got_line, kernel_line) in got.out().lines().zip(kernel.out().lines()) {
            let fd = |line: &str| line.contains("/dev/fd/") || line.contains("/proc/self/fd/");
            assert!(
                got_line == kernel_line || fd(kernel_line),
                "the kernel: {kernel_line}\nthe projection: {got_line}\n{got}"
            );
        }
        assert_eq!(got.out().lines().count(), kernel.out().lines().count(), "{got}\n{kernel}");
        assert_eq!(got.code(), kernel.code());
    }

    fn every_way_of_self(how: Guest) {
        let name = format!("exec::{how:?}");
        every_way(&name, |_, source, p| {
            install(&guest("self", how)?, &source.join("bin/self"));
            Ok(p.join("bin/self"))
        });
    }

    #[test]
    fn dynamic() {
        every_way_of_self(Guest::Dynamic);
    }

    #[test]
    fn fixed_position() {
        every_way_of_self(Guest::FixedPosition);
    }

    #[test]
    fn static_linked() {
        every_way_of_self(Guest::Static);
    }

    #[test]
    fn static_pie() {
        every_way_of_self(Guest::StaticPie);
    }

    #[test]
    fn musl() {
        every_way_of_self(Guest::Musl);
    }

    #[test]
    fn thirty_two_bits() {
        every_way_of_self(Guest::Bits32);
    }

    #[test]
    fn script_of_a_real_interpreter() {
        every_way("script_of_a_real_interpreter", |_, source, p| {
            script(&source.join("bin/tool"), "#!/bin/sh -e\necho \"$0|$#|$1|$2\"\npwd\n");
            Ok(p.join("bin/tool"))
        });
    }

    #[test]
    fn script_of_a_projected_interpreter() {
        every_way("script_of_a_projected_interpreter", |_, source, p| {
            install(&guest("self", Guest::Dynamic)?, &source.join("bin/self"));
            script(
                &source.join("bin/tool"),
                &format!("#! {}/bin/self  an option \nnothing\n", p.display()),
            );
            Ok(p.join("bin/tool"))
        });
    }

    #[test]
    fn script_of_a_script() {
        every_way("script_of_a_script", |_, source, p| {
            install(&guest("self", Guest::Static)?, &source.join("bin/self"));
            script(&source.join("bin/one"), &format!("#!{}/bin/self -1\n", p.display()));
            script(&source.join("bin/two"), &format!("#!{}/bin/one -2\n", p.display()));
            script(&source.join("bin/three"), &format!("#!{}/bin/two\n", p.display()));
            Ok(p.join("bin/three"))
        });
    }

    #[test]
    fn env_script() {
        every_way("env_script", |_, source, p| {
            script(&source.join("bin/tool"), "#!/usr/bin/env bash\necho \"$0 $BASH_SOURCE $*\"\n");
            Ok(p.join("bin/tool"))
        });
    }

    #[test]
    fn program_reached_by_links() {
        every_way("program_reached_by_links", |world, source, p| {
            install(&guest("self", Guest::Dynamic)?, &source.join("lib/self-1.2"));
            symlink("self-1.2", source.join("lib/self")).expect("symlink");
            fs::create_dir(source.join("bin")).expect("mkdir");
            symlink("../lib/self", source.join("bin/self")).expect("symlink");
            symlink(p.join("bin"), world.path("real-bin")).expect("symlink");
            Ok(world.path("real-bin/self"))
        });
    }

    /// PT_INTERP points into the projection, where musl's loader is, and nowhere else.
    #[test]
    fn projected_loader() {
        let name = "projected_loader";
        let world = World::new();
        let (source, p) = (world.dir("src"), world.path("p"));
        let loader = Path::new("/lib/ld-musl-x86_64.so.1");
        let loader =
            if loader.exists() { Ok(loader) } else { Err("musl is not installed".to_owned()) };
        let loader = need!(name, loader);
        let libc = fs::canonicalize(loader).expect("musl's libc.so");
        install(&libc, &source.join("lib/ld-musl-x86_64.so.1"));
        let text = guests::fixtures().join("guests/self.c").display().to_string();
        let interp = format!("-Wl,--dynamic-linker={}/lib/ld-musl-x86_64.so.1", p.display());
        for (built, extra) in [("pie", "-fPIE"), ("fixed", "-no-pie")] {
            let program = need!(
                name,
                compile(
                    "self",
                    "musl-gcc",
                    &["-O1".into(), extra.into(), text.clone(), interp.clone()],
                    true
                )
            );
            install(&program, &source.join("bin").join(built));
        }
        world.ingest(&source, "t");
        for built in ["pie", "fixed"] {
            let program = p.join("bin").join(built);
            let got = world.trace(&[(&p, "t")], [&program]).run().ok();
            let oracle = need!(name, oracle::bound(&world, &source, &p, [&program])).run().ok();
            assert_eq!(got.out(), oracle.out(), "{built}");
            let maps = world.trace(
                &[(&p, "t")],
                [
                    Path::new("sh"),
                    "-c".as_ref(),
                    format!("{} >/dev/null && echo ran", program.display()).as_ref(),
                ],
            );
            assert_eq!(maps.run().ok().out(), "ran\n");
        }
    }

    #[test]
    fn origin_finds_the_projected_library_and_dlopen_a_projected_plugin() {
        let name = "origin_finds_the_projected_library_and_dlopen_a_projected_plugin";
        let world = World::new();
        let (source, p) = (world.dir("src"), world.path("p"));
        let [main, lib, plugin] = need!(name, guests::origin());
        install(&main, &source.join("app/main"));
        install(&lib, &source.join("app/lib/liborigin.so"));
        install(&plugin, &source.join("plugins/plugin.so"));
        world.ingest(&source, "t");
        let at = p.join("plugins/plugin.so");
        let got = world.trace(&[(&p, "t")], [p.join("app/main"), at.clone()]).run().ok();
        let want = format!(
            "liborigin speaking\nplugin: plugin speaking\nloaded {}/app/lib/liborigin.so\nloaded {}\n",
            p.display(),
            at.display()
        );
        assert_eq!(got.out(), want);
    }

    #[test]
    fn what_may_not_run_says_so() {
        let world = World::new();
        world.file("src/plain", "#!/bin/sh\necho ran\n");
        script(&world.path("src/bad-interp"), "#!/no/such/interpreter\n");
        script(&world.path("src/garbage"), "\x01\x02 not a program\n");
        script(
            &world.path("src/bad-projected"),
            &format!("#!{}/plain\n", world.path("p").display()),
        );
        script(&world.path("src/loop"), &format!("#!{}/loop\n", world.path("p").display()));
        world.ingest(world.path("src"), "t");
        let p = world.path("p");
        let ops = guest("ops", Guest::Dynamic).expect("the plain compiler");
        let calls: String =
            ["plain", "bad-interp", "garbage", "bad-projected", "loop", "absent", "plain/x", "."]
                .iter()
                .map(|name| format!("exec {}/{name} {name}\n", p.display()))
                .collect();
        let got = world.trace(&[(&p, "t")], [&ops]).stdin(&calls).run().ok();
        let kernel = need!(
            "what_may_not_run_says_so",
            oracle::bound(&world, &world.path("src"), &p, [&ops])
        );
        assert_eq!(got.out(), kernel.stdin(&calls).run().ok().out());
    }

    #[test]
    fn a_hundred_execs_of_one_program_at_once() {
        let world = World::new();
        install(
            &guest("self", Guest::Dynamic).expect("the plain compiler"),
            &world.path("src/self"),
        );
        world.ingest(world.path("src"), "t");
        let p = world.path("p");
        let script = format!("for i in $(seq 100); do {}/self $i & done; wait", p.display());
        let got = world.trace_sh(&[(&p, "t")], &script).run().ok();
        assert_eq!(got.out().matches("exe-is-itself=yes").count(), 100, "{got}");
    }

    /// A program's own directory listing, of /proc/self/exe's directory, must be the projected one.
    #[test]
    fn the_path_search_of_a_shell_finds_projected_programs() {
        let world = World::new();
        script(&world.path("src/bin/tool"), "#!/bin/sh\necho tool at $0\n");
        world.ingest(world.path("src"), "t");
        let p = world.path("p");
        let script = format!(
            "PATH=/nowhere:{0}/bin:{0}/absent:$PATH; tool; command -v tool; env tool; nice tool",
            p.display()
        );
        let got = world.trace_sh(&[(&p, "t")], &script).run().ok();
        let at = format!("{}/bin/tool", p.display());
        assert_eq!(got.out(), format!("tool at {at}\n{at}\ntool at {at}\ntool at {at}\n"));
    }
}
