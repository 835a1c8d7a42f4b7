//! On a terminal: Ctrl-C exactly once, job control, the summary by default.

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::path::{Path, PathBuf};
    use vrift_tests::job::patience;
    use vrift_tests::terminal::Terminal;
    use vrift_tests::{Guest, World, binaries, guest, need};

    fn world() -> (World, PathBuf) {
        let world = World::new();
        world.file("src/f", "text\n");
        world.ingest(world.path("src"), "t");
        let p = world.path("p");
        (world, p)
    }

    fn start(
        world: &World,
        p: &Path,
        options: &[&str],
        command: &[OsString],
    ) -> Result<Terminal, String> {
        let mut argv: Vec<OsString> = vec![binaries::vrift_trace().into()];
        argv.extend(options.iter().map(OsString::from));
        argv.extend(["-m".into(), format!("{}=t", p.display()).into(), "--".into()]);
        argv.extend_from_slice(command);
        Terminal::start(argv, &[("VR_THE_SOURCE", &world.store()), ("HOME", &world.path("home"))])
    }

    #[test]
    fn ctrl_c_reaches_the_command_exactly_once() {
        let name = "ctrl_c_reaches_the_command_exactly_once";
        let (world, p) = world();
        let program = guest("interrupts", Guest::Dynamic).expect("the plain compiler");
        let mut terminal = need!(name, start(&world, &p, &["--quiet"], &[program.into()]));
        terminal.wait_for("ready tty=1 foreground=1");
        terminal.type_keys(b"\x03");
        let (status, shown) = terminal.finish();
        assert!(shown.contains("interrupts=1"), "{shown}");
        assert_eq!(status.code(), Some(0), "{shown}");
    }

    #[test]
    fn ctrl_c_ends_a_command_that_does_not_catch_it() {
        let name = "ctrl_c_ends_a_command_that_does_not_catch_it";
        let (world, p) = world();
        let script = format!("echo ready; while :; do cat {}/f >/dev/null; done", p.display());
        let mut terminal = need!(
            name,
            start(&world, &p, &["--quiet"], &["sh".into(), "-c".into(), script.into()])
        );
        terminal.wait_for("ready");
        terminal.type_keys(b"\x03");
        let (status, shown) = terminal.finish();
        assert_eq!(status.code(), Some(130), "{shown}");
    }

    #[test]
    fn a_shell_has_job_control() {
        let name = "a_shell_has_job_control";
        let (world, p) = world();
        let mut terminal = need!(
            name,
            start(&world, &p, &["--quiet"], &["bash".into(), "--norc".into(), "-i".into()])
        );
        terminal.type_keys(b"PS1=; stty -echo; echo re''ady\n");
        terminal.wait_for("ready");
        terminal.type_keys(format!("cat {}/f; sleep 100\n", p.display()).as_bytes());
        terminal.wait_for("text");
        std::thread::sleep(std::time::Duration::from_millis(300) * patience().min(10));
        terminal.type_keys(b"\x1a");
        terminal.wait_for("Stopped");
        terminal.type_keys(b"bg; jobs; kill %1; wait; echo af''ter; exit 5\n");
        terminal.wait_for("after");
        let (status, shown) = terminal.finish();
        assert_eq!(status.code(), Some(5), "{shown}");
        assert!(!shown.contains("no job control"), "{shown}");
    }

    #[test]
    fn the_summary_comes_by_default() {
        let name = "the_summary_comes_by_default";
        let (world, p) = world();
        let cat: [OsString; 2] = ["cat".into(), p.join("f").into()];
        let (status, shown) = need!(name, start(&world, &p, &[], &cat)).finish();
        assert_eq!(status.code(), Some(0), "{shown}");
        assert!(shown.starts_with("text\r\n"), "{shown}");
        assert!(shown.contains("process"), "no summary: {shown}");
        let (_, shown) = need!(name, start(&world, &p, &["--quiet"], &cat)).finish();
        assert_eq!(shown, "text\r\n");
    }
}
