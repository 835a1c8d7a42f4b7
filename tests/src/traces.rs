//! Traces of jobs, read as a user of the format would: line by line, as plain JSON.

use crate::binaries;
use crate::job::Job;
use crate::schema::Schema;
use crate::world::World;
use serde_json::Value;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// `vrift-trace` in `world` with `-o TRACE`, more options, and a command.
pub fn traced<S: AsRef<OsStr>>(
    world: &World,
    trace: &Path,
    options: &[&str],
    argv: impl IntoIterator<Item = S>,
) -> Job {
    let program = binaries::vrift_trace();
    world
        .native([program.as_os_str(), "-o".as_ref(), trace.as_os_str()])
        .args(options)
        .arg("--")
        .args(argv)
}

/// `vrift-trace report TRACE` or another subcommand, with more arguments.
pub fn about<S: AsRef<OsStr>>(
    world: &World,
    subcommand: &str,
    trace: &Path,
    more: impl IntoIterator<Item = S>,
) -> Job {
    let program = binaries::vrift_trace();
    world.native([program.as_os_str(), subcommand.as_ref(), trace.as_os_str()]).args(more)
}

/// The events of a trace, each held against the schema.
///
/// # Panics
/// When the file is not there, or a line is not as the schema says.
pub fn events(trace: &Path) -> Vec<Value> {
    let text =
        std::fs::read_to_string(trace).unwrap_or_else(|e| panic!("{}: {e}", trace.display()));
    let schema = Schema::of_traces();
    let read = |(at, line): (usize, &str)| {
        let event: Value =
            serde_json::from_str(line).unwrap_or_else(|e| panic!("line {}: {e}: {line}", at + 1));
        schema.check(&event).unwrap_or_else(|wrong| panic!("line {}: {wrong}\n{line}", at + 1));
        event
    };
    text.lines().enumerate().map(read).collect()
}

/// Fails unless the event `exit` says this of a process's end. Before Linux 6.15 it may know nothing.
///
/// # Panics
/// With the event.
#[track_caller]
pub fn expect_end(events: &[Value], exit: &Value, key: &str, value: i64) {
    let kernel = events[0]["kernel"].as_str().unwrap_or_default();
    let mut parts = kernel.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let knows = (parts.next(), parts.next()) >= (Some(6), Some(15));
    let nothing = exit.get("status").is_none() && exit.get("signal").is_none();
    assert!(exit[key] == value || (nothing && !knows), "{key} {value} on Linux {kernel}: {exit}");
}

/// Where an operation led.
pub fn place(op: &Value) -> &Value {
    op.get("resolved").unwrap_or(&op["path"])
}

/// The operations of calls whose name begins with `call`, on places whose path ends with `path`, as they
/// were called.
pub fn of<'a>(events: &'a [Value], call: &str, path: &str) -> Vec<&'a Value> {
    let suits = |e: &&Value| {
        e["call"].as_str().is_some_and(|name| name.starts_with(call))
            && place(e).as_str().is_some_and(|p| p.ends_with(path))
    };
    in_order(events.iter().filter(suits).collect())
}

/// A task may go on, and be told of again, before its call is told.
fn in_order(mut calls: Vec<&Value>) -> Vec<&Value> {
    calls.sort_by_key(|e| e["n"].as_u64());
    calls
}

/// The operations with this access that did not fail.
pub fn done<'a>(events: &'a [Value], access: &'a str) -> impl Iterator<Item = &'a Value> {
    let done = events.iter().filter(|e| e["access"] == access && e.get("err").is_none());
    in_order(done.collect()).into_iter()
}

/// The files that were opened for reading or run, as a trace says.
pub fn files_read(events: &[Value]) -> BTreeSet<PathBuf> {
    let opened = done(events, "read").filter(|op| {
        op["kind"] != "dir" && op["call"].as_str().is_some_and(|call| call.starts_with("open"))
    });
    let all = opened.chain(done(events, "exec")).filter_map(|op| place(op).as_str());
    all.map(PathBuf::from).filter(|path| counts(path)).collect()
}

/// The same as strace says, of the logs that `strace -ff -y -o PREFIX` wrote to `dir`.
///
/// # Panics
/// When there is none.
pub fn files_read_by_strace(dir: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut logs = 0;
    for entry in std::fs::read_dir(dir).expect("strace's logs").flatten() {
        logs += 1;
        let bytes = std::fs::read(entry.path()).expect("a log");
        found.extend(String::from_utf8_lossy(&bytes).lines().filter_map(read_by_line));
    }
    assert!(logs > 0, "strace wrote nothing to {}", dir.display());
    found.retain(|path| counts(path));
    found
}

/// The file that a line of strace's opens for reading, or runs.
fn read_by_line(line: &str) -> Option<PathBuf> {
    let (call, result) = line.rsplit_once(" = ")?;
    if let Some(rest) = call.strip_prefix("execve(\"") {
        let path = rest.split('"').next()?;
        return if result == "0" { std::fs::canonicalize(path).ok() } else { None };
    }
    let reads = call.starts_with("open") && call.contains("O_RDONLY") && !call.contains("O_PATH");
    let path = result.split_once('<')?.1.strip_suffix('>')?;
    let path = path.split('<').next()?;
    if reads && !Path::new(path).is_dir() { Some(path.into()) } else { None }
}

/// Not the kernel's own, which have the process's number in them, and not the temporary files of
/// compilers, whose names are other ones in each run.
fn counts(path: &Path) -> bool {
    let temporary = path.components().any(|part| part.as_os_str() == "tmp-of-the-build");
    path.is_absolute() && !path.starts_with("/proc") && !path.starts_with("/sys") && !temporary
}
