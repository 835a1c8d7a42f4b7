//! The tour and the checks, run as a user runs them: as the present user and, where the present
//! user is root, as nobody.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(180);
const NOBODY: u32 = 65534;

/// Runs the program with a temporary directory of its own; what it printed, and its status.
struct Ran {
    status: Option<i32>,
    out: String,
    err: String,
    /// What is left in the temporary directory.
    left: Vec<PathBuf>,
}

/// The surroundings of one run.
struct Scene {
    dir: tempfile::TempDir,
    nobody: bool,
}

impl Scene {
    fn new(nobody: bool) -> Scene {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).expect("chmod");
        let scene = Scene { dir, nobody };
        for name in ["tmp", "home"] {
            fs::create_dir(scene.path(name)).expect("a directory");
            if nobody {
                std::os::unix::fs::chown(scene.path(name), Some(NOBODY), Some(NOBODY))
                    .expect("chown");
            }
        }
        // Nobody may not be able to reach the place where it was built. Another process writes the
        // copy: were it this one, a fork for another test could hold it open (ETXTBSY).
        let copied = Command::new("cp")
            .args([env!("CARGO_BIN_EXE_vrift-trace").as_ref(), scene.path("vrift-trace").as_path()])
            .status();
        assert!(copied.expect("cp runs").success());
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = if self.nobody {
            let mut command = Command::new("setpriv");
            let id = NOBODY.to_string();
            command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]);
            command.arg(self.path("vrift-trace"));
            command
        } else {
            Command::new(self.path("vrift-trace"))
        };
        command
            .args(arguments)
            .current_dir(self.path("home"))
            .env("TMPDIR", self.path("tmp"))
            .env("HOME", self.path("home"))
            .env_remove("VR_THE_SOURCE")
            .env_remove("XDG_DATA_HOME")
            .env_remove("XDG_RUNTIME_DIR")
            .env_remove("VRIFT_DEBUG");
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        self.finish(self.command(arguments))
    }

    fn finish(&self, mut command: Command) -> Ran {
        let (out, err) = (self.path("out"), self.path("err"));
        let file = |path: &Path| fs::File::create(path).expect("a file for the output");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(file(&out))
            .stderr(file(&err))
            .spawn()
            .expect("it can be started");
        let began = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().expect("it can be waited for") {
                break status;
            }
            if began.elapsed() > LIMIT {
                child.kill().expect("it can be killed");
                panic!("it did not end; it said: {}", read(&out));
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let left = fs::read_dir(self.path("tmp"))
            .expect("the temporary directory")
            .map(|e| e.expect("an entry").path())
            .collect();
        Ran { status: status.code(), out: read(&out), err: read(&err), left }
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).expect("the output")).into_owned()
}

/// The present user and, for root, nobody.
fn users() -> Vec<bool> {
    if nix::unistd::geteuid().is_root() && has("setpriv") { vec![false, true] } else { vec![false] }
}

fn has(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(name).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_tour(ran: &Ran) {
        assert_eq!(ran.status, Some(0), "{}{}", ran.out, ran.err);
        assert!(ran.left.is_empty(), "left behind: {:?}", ran.left);
        let out = &ran.out;
        assert!(out.contains("touch: "), "{out}");
        assert!(out.matches("Read-only file system").count() >= 3, "{out}");
        assert!(out.contains("    linkat /vrift/demo/VERSION: EXDEV; copy instead"), "{out}");
        assert!(out.contains(": all whole\n"), "{out}");
    }

    #[test]
    fn the_tour_builds_and_refuses_and_leaves_nothing() {
        for nobody in users() {
            let ran = Scene::new(nobody).run(&["demo"]);
            check_tour(&ran);
            if has("cc") && has("make") {
                let built = "/vrift/demo/text/words.txt 3\n   6 the\n   4 build\n   4 tree\n";
                assert!(ran.out.contains(built), "{}", ran.out);
                assert!(ran.out.ends_with("# All of it went as it should.\n"), "{}", ran.out);
            }
        }
    }

    #[test]
    fn the_tour_without_a_compiler_says_so_and_shows_the_rest() {
        let scene = Scene::new(false);
        let bin = scene.path("bin");
        fs::create_dir(&bin).expect("a directory");
        let path = std::env::var_os("PATH").expect("PATH");
        for name in ["sh", "ls", "grep", "cat", "dirname", "touch", "mv", "ln"] {
            let found = std::env::split_paths(&path).map(|d| d.join(name)).find(|f| f.is_file());
            let found = found.expect("a tool that every system has");
            std::os::unix::fs::symlink(found, bin.join(name)).expect("a link");
        }
        let mut command = scene.command(&["demo"]);
        command.env("PATH", &bin);
        let ran = scene.finish(command);
        check_tour(&ran);
        assert!(ran.out.contains("There is no cc and no make here"), "{}", ran.out);
        assert!(ran.out.contains("/vrift/demo/tools/version\n1.0\n"), "{}", ran.out);
        assert!(!ran.out.contains("./tally"), "{}", ran.out);
    }

    #[test]
    fn a_kept_tour_can_be_gone_on_with() {
        let scene = Scene::new(false);
        let kept = scene.path("kept");
        let keep = kept.to_str().expect("a plain name");
        let ran = scene.run(&["demo", "--keep", keep]);
        check_tour(&ran);
        let mut command = scene.command(&["-q", "-m", "/vrift/demo=demo", "--", "cat"]);
        command.arg("/vrift/demo/VERSION").env("VR_THE_SOURCE", kept.join("store"));
        let again = scene.finish(command);
        assert_eq!((again.status, again.out.as_str()), (Some(0), "1.0\n"), "{}", again.err);
        // It is not made again over what is there.
        let ran = scene.run(&["demo", "--keep", keep]);
        assert_eq!(ran.status, Some(125));
        assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
        assert!(ran.err.contains("--keep wants a new directory"), "{}", ran.err);
    }

    #[test]
    fn a_tour_that_is_ended_leaves_nothing() {
        let scene = Scene::new(false);
        let mut command = scene.command(&["demo"]);
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("it starts");
        let mut first = [0u8; 1];
        let mut out = child.stdout.take().expect("a pipe");
        out.read_exact(&mut first).expect("it begins to tell");
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("kill");
        let mut rest = Vec::new();
        out.read_to_end(&mut rest).expect("it ends");
        assert_eq!(child.wait().expect("it ends").code(), Some(128 + 15));
        assert_eq!(fs::read_dir(scene.path("tmp")).expect("it is there").count(), 0);
    }

    #[test]
    fn a_tour_that_nobody_reads_ends_in_order() {
        let scene = Scene::new(false);
        let mut command = scene.command(&["demo"]);
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let status = command.stdin(Stdio::null()).stdout(writer).status().expect("it runs");
        assert_eq!(status.code(), Some(128 + 13));
        assert_eq!(fs::read_dir(scene.path("tmp")).expect("it is there").count(), 0);
    }

    #[test]
    fn the_checks_find_that_jobs_run_here() {
        for nobody in users() {
            let scene = Scene::new(nobody);
            let ran = scene.run(&["doctor"]);
            assert_eq!(ran.status, Some(0), "{}{}", ran.out, ran.err);
            assert!(ran.left.is_empty(), "left behind: {:?}", ran.left);
            assert!(ran.out.contains("\njobs can run here ("), "{}", ran.out);
            let json = scene.run(&["doctor", "--json"]);
            let json: serde_json::Value = serde_json::from_str(&json.out).expect("JSON");
            assert_eq!(json["ok"], true);
            let checks = json["checks"].as_array().expect("a list");
            let state = |name: &str| {
                let check = checks.iter().find(|c| c["name"] == name);
                check.unwrap_or_else(|| panic!("no check is called {name}: {json}"))["state"]
                    .clone()
            };
            for name in [
                "user notification",
                "ADDFD",
                "process_vm_readv",
                "ptrace",
                "pidfd_getfd",
                "job: open",
                "job: list",
                "job: chdir",
                "job: exec, dynamic",
                "job: exec, static",
                "job: exec, script",
                "job: refused write",
                "job: refused touch",
                "job: store",
            ] {
                assert_eq!(state(name), "ok", "{name}: {json}");
            }
            assert!(checks.iter().all(|c| (c["state"] == "ok") == c["fix"].is_null()), "{json}");
            let home = fs::read_dir(scene.path("home")).expect("it is there").count();
            assert_eq!(home, 0, "the user's store is not made");
        }
    }

    #[test]
    fn the_checks_inside_a_job_tell_that_there_is_a_supervisor() {
        let scene = Scene::new(false);
        let program = scene.path("vrift-trace");
        let program = program.to_str().expect("a plain name");
        let ran = scene.run(&["-q", "--", program, "doctor"]);
        assert_eq!(ran.status, Some(1), "{}{}", ran.out, ran.err);
        assert!(ran.out.starts_with("missing  user notification"), "{}", ran.out);
        assert!(ran.out.contains("EBUSY") && ran.out.contains("outside of it"), "{}", ran.out);
        assert!(ran.out.contains("skipped  job: open"), "{}", ran.out);
        assert!(ran.left.is_empty(), "left behind: {:?}", ran.left);
    }
}
