//! Running a command as a user would, with a time limit: for the tour and for the checks.
//!
//! A job is run by executing this very program again. What must never happen here: that a command
//! which does not end keeps us, or that we end by a signal before it does.

use crate::cli::Complaint;
use crate::sys::{caught, process};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// How long a child that was asked to end may take for it.
const GRACE: Duration = Duration::from_secs(5);

/// The surroundings of the commands: this program, the store, the directory they start in.
pub struct Surroundings {
    program: PathBuf,
    store: PathBuf,
    dir: PathBuf,
}

/// What became of a command.
pub struct Ran {
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed, on stdout and stderr.
    pub output: String,
    /// It was ended because its time was over.
    pub timed_out: bool,
}

impl Surroundings {
    /// Commands start in `dir` and use `store`.
    pub fn new(store: &Path, dir: &Path) -> Result<Surroundings, Complaint> {
        let program = std::env::current_exe()
            .map_err(|e| format!("can't find out where this program is: {e}; mount /proc"))?;
        Ok(Surroundings { program, store: store.to_owned(), dir: dir.to_owned() })
    }

    /// The command `argv`, which is not empty; `vrift-trace` is this program.
    pub fn command(&self, argv: &[&OsStr]) -> Command {
        let [name, arguments @ ..] = argv else { unreachable!("a command has a name") };
        let program = if *name == "vrift-trace" { self.program.as_os_str() } else { name };
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&self.dir);
        // Messages are compared, and the sample is built as it stands.
        command.env("LC_ALL", "C").env("VR_THE_SOURCE", &self.store);
        for name in ["VRIFT_VFS_PREFIX", "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "CC", "CDPATH"] {
            command.env_remove(name);
        }
        command
    }

    /// Runs `argv` for at most `limit`; with `show` its output goes to our stdout as it comes.
    pub fn run(&self, argv: &[&OsStr], limit: Duration, show: bool) -> Result<Ran, Complaint> {
        let name = argv.first().copied().unwrap_or_default().to_string_lossy().into_owned();
        let failed = |e: std::io::Error| format!("can't run {name}: {e}");
        let nothing = File::open("/dev/null").map_err(|e| {
            format!("/dev/null can't be read: {e}; give it back its mode: chmod 666 /dev/null")
        })?;
        let (reader, writer) = std::io::pipe().map_err(failed)?;
        let mut command = self.command(argv);
        command.stdin(nothing).stdout(writer.try_clone().map_err(failed)?).stderr(writer);
        let child = command.spawn().map_err(failed)?;
        // The command holds the other end of the pipe: without it there is no end to read.
        drop(command);
        attend(child, reader, limit, show).map_err(failed)
    }
}

/// Is there such a program in PATH?
pub fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/bin:/usr/bin"));
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| {
        file.is_file() && nix::unistd::access(file, nix::unistd::AccessFlags::X_OK).is_ok()
    })
}

/// Reads what the child prints until it has ended.
fn attend(
    mut child: Child,
    mut from: std::io::PipeReader,
    limit: Duration,
    show: bool,
) -> std::io::Result<Ran> {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0u8; 4096];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            if send.send(buffer[..n].to_vec()).is_err() {
                return;
            }
        }
    });
    let mut output = Vec::new();
    let mut ended = None;
    let mut over = Instant::now() + limit;
    let (mut asked, mut timed_out) = (false, false);
    loop {
        match receive.recv_timeout(Duration::from_millis(10)) {
            Ok(text) => {
                if show {
                    let mut out = std::io::stdout().lock();
                    // Nobody reads any more: SIGPIPE was noted, and ends us in order.
                    let _ = out.write_all(&text).and_then(|()| out.flush());
                }
                output.extend(text);
                continue;
            }
            Err(RecvTimeoutError::Disconnected) if ended.is_some() => break,
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(Duration::from_millis(2)),
            Err(RecvTimeoutError::Timeout) => {}
        }
        let late = Instant::now() > over;
        if ended.is_some() {
            // What it left behind may hold the pipe, but not for ever.
            if late {
                break;
            }
            continue;
        }
        ended = child.try_wait()?;
        if ended.is_some() {
            over = Instant::now() + GRACE;
        } else if asked && late {
            child.kill()?;
        } else if !asked && (late || caught::caught().is_some()) {
            asked = true;
            timed_out = caught::caught().is_none();
            over = Instant::now() + GRACE;
            let _ = process::kill(i32::try_from(child.id()).unwrap_or(0), libc::SIGTERM);
        }
    }
    let status = match ended {
        Some(status) => status,
        None => child.wait()?,
    };
    Ok(Ran { status, output: String::from_utf8_lossy(&output).into_owned(), timed_out })
}

/// The command as one types it.
pub fn as_typed(argv: &[&OsStr]) -> String {
    let mut line = String::new();
    for argument in argv {
        if !line.is_empty() {
            line.push(' ');
        }
        let text = argument.to_string_lossy();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:+@%".contains(c);
        if !text.is_empty() && text.chars().all(plain) {
            line.push_str(&text);
        } else {
            line.push('\'');
            line.push_str(&text.replace('\'', "'\\''"));
            line.push('\'');
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here() -> Surroundings {
        Surroundings::new(Path::new("/nowhere"), Path::new("/")).expect("this program is there")
    }

    fn argv<'a>(words: &[&'a str]) -> Vec<&'a OsStr> {
        words.iter().map(|w| OsStr::new(*w)).collect()
    }

    #[test]
    fn commands_are_shown_so_that_they_can_be_typed() {
        let typed = as_typed(&argv(&["sh", "-c", "echo 'a b' && ls", "", "/x-1.0/a=b"]));
        assert_eq!(typed, r"sh -c 'echo '\''a b'\'' && ls' '' /x-1.0/a=b");
    }

    #[test]
    fn output_of_both_kinds_and_the_status_are_kept() {
        let command = argv(&["sh", "-c", "echo $VR_THE_SOURCE; pwd >&2; exit 7"]);
        let ran = here().run(&command, Duration::from_secs(10), false).expect("sh runs");
        assert_eq!(ran.output, "/nowhere\n/\n");
        assert_eq!(ran.status.code(), Some(7));
        assert!(!ran.timed_out);
    }

    #[test]
    fn what_does_not_end_is_ended() {
        let began = Instant::now();
        let command = argv(&["sh", "-c", "echo started; exec sleep 60"]);
        let ran = here().run(&command, Duration::from_millis(300), false).expect("sh runs");
        assert!(ran.timed_out && !ran.status.success());
        assert_eq!(ran.output, "started\n");
        assert!(began.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_program_that_is_missing_is_named() {
        let command = argv(&["no-such-program"]);
        let complaint = here().run(&command, Duration::from_secs(1), false).err();
        assert!(complaint.is_some_and(|c| c.contains("no-such-program")));
        assert!(in_path("no-such-program").is_none() && in_path("sh").is_some());
    }
}
