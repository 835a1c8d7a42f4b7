//! The tools that people would take instead, where they are installed: the same C build and the same
//! walk over a large tree, natively, under vrift-trace and under each of them.
//!
//! What they give differs, and the table says so: strace and `vrift-trace -o` write down what was
//! asked, the others show a tree where there is none.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::guest::Times;

use super::build::{Cost, Place};
use super::calls::{Ground, times};
use super::fixture::{make_large, mount_point, put_aside};
use super::process::{Done, Job};
use super::sources;
use super::stats::Samples;
use super::tools::Tools;

/// A tool beside the others.
#[derive(Debug, Deserialize, Serialize)]
pub struct Peer {
    /// Its name.
    pub name: Cow<'static, str>,
    /// What it does with the tree.
    pub gives: Cow<'static, str>,
    /// The number that its `--version` says.
    pub version: String,
    /// The C build.
    pub build: Cost,
    /// `find` with a stat of each file.
    pub walk: Cost,
    /// Single operations of the guest `calls`, by name: nanoseconds, a median for each round.
    #[serde(default)]
    pub calls: BTreeMap<String, Samples>,
}

/// All of them.
#[derive(Debug, Deserialize, Serialize)]
pub struct Peers {
    /// What was built.
    pub project: String,
    /// How many files were walked over.
    pub files: usize,
    /// Native first.
    pub peers: Vec<Peer>,
    /// The programs that are not installed.
    pub absent: Vec<Cow<'static, str>>,
}

/// How a tool runs a job.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum How {
    Native,
    Projected,
    Recorded,
    Mounted,
    Strace,
    Syd,
    Proot,
    Copied,
    FuseOverlay,
}

const TOOLS: [(How, &str, &str, &str); 9] = [
    (How::Native, "native", "", "the real tree"),
    (How::Projected, "vrift-trace", "", "a stored tree, read-only"),
    (How::Recorded, "vrift-trace -o", "", "the same, and a record of each access"),
    (How::Mounted, "vrift-trace --view mount", "", "a stored tree as a file system, read-only"),
    (How::Strace, "strace -f --seccomp-bpf", "strace", "a record of each call with a path"),
    (How::Syd, "syd -p off, with path rules", "syd", "the real tree, and a check of each path"),
    (How::Proot, "proot -b", "proot", "the real tree at another path, writable"),
    (How::Copied, "cp -a, bwrap", "bwrap", "a copy, read-only, in a mount namespace"),
    (How::FuseOverlay, "fuse-overlayfs", "fuse-overlayfs", "a merged view of the real tree"),
];

/// Measures in turn. What keeps a tool from being measured goes to `problems`.
///
/// # Errors
/// When the sources cannot be had, or the native build fails.
pub fn measure(
    tools: &Tools,
    work: &Path,
    rounds: usize,
    files: usize,
    problems: &mut Vec<String>,
) -> Result<Peers, Failure> {
    let source = work.join("peers-source");
    let sources = sources::prepare(&source)?;
    let large = work.join("peers-large");
    make_large(&large, files)?;
    let place = Place::new(&work.join("peers"), &source, &sources)?;
    // Without the directory of 100,000: a tool that copies would be measured by nothing else.
    let single = Ground::prepare(&work.join("peers-calls/base"), false, problems)?;
    let trees = [(&source, "peers/source"), (&large, "peers/large"), (&single.base, "peers/calls")];
    for (tree, name) in trees {
        if let Err(error) = tools.ingest(tree, name) {
            problems.push(error.to_string());
        }
    }
    let mut table = Peers { project: sources.name, files, peers: Vec::new(), absent: Vec::new() };
    let mut ways = Vec::new();
    for (how, name, program, gives) in TOOLS {
        let Some(version) = version(how, program, tools) else {
            if !program.is_empty() {
                table.absent.push(program.into());
            }
            continue;
        };
        ways.push(Some(how));
        let (build, walk) = (Cost::default(), Cost::default());
        let (name, gives, calls) = (name.into(), gives.into(), BTreeMap::new());
        table.peers.push(Peer { name, gives, version, build, walk, calls });
    }
    let native = place.make(&source);
    let (_, expected) = place.build(&native)?;
    for round in 1..=rounds {
        eprintln!("peers: round {round} of {rounds}");
        for (way, peer) in ways.iter_mut().zip(&mut table.peers) {
            let Some(how) = *way else { continue };
            let once = || -> Result<([Done; 2], Times), Failure> {
                let (built, outputs) =
                    around(how, tools, &source, "peers/source", work, |at, by| {
                        place.build(&by(place.make(at)))
                    })?;
                if outputs != expected {
                    return Err(Failure::Differs { what: "the objects of the build".into() });
                }
                let walked =
                    around(how, tools, &large, "peers/large", work, |at, by| by(walk(at)).run())?;
                let found = walked.stdout.iter().filter(|byte| **byte == b'\n').count();
                if found != files {
                    return Err(Failure::Differs { what: format!("{found} of {files} files") });
                }
                let (_, called) =
                    around(how, tools, &single.base, "peers/calls", work, |at, by| {
                        times(&by(single.guest(tools, at)))
                    })?;
                Ok(([built, walked], called))
            };
            match once() {
                Ok(([built, walked], called)) => {
                    for (operation, time) in called {
                        peer.calls.entry(operation).or_default().push(time.median);
                    }
                    for (cost, done) in [(&mut peer.build, built), (&mut peer.walk, walked)] {
                        cost.add(&done);
                    }
                }
                Err(error) if how == How::Native => return Err(error),
                Err(error) => {
                    problems.push(format!("{}: {error}", peer.name));
                    *way = None;
                }
            }
        }
    }
    Ok(table)
}

/// Lists every file with its size, which takes a stat of each.
fn walk(at: &Path) -> Job {
    Job::new("find").arg(at).args(["-type", "f", "-size", "-1000", "-print"])
}

fn version(how: How, program: &str, tools: &Tools) -> Option<String> {
    let job = match how {
        How::Native => return Some(String::new()),
        How::Projected | How::Recorded | How::Mounted => tools.trace()?,
        _ => Job::new(program),
    };
    let text = job.arg("--version").run().ok()?.stdout;
    let text = String::from_utf8_lossy(&text).into_owned();
    // proot draws its name first, and fuse-overlayfs tells of others before itself.
    let numbered = || text.lines().filter(|line| line.chars().any(|c| c.is_ascii_digit()));
    let line = numbered().find(|line| line.contains(program)).or_else(|| numbered().next())?;
    let version = line.split(' ').rfind(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    Some(version.unwrap_or(line).to_owned())
}

/// Has `tree` at a path by the tool's means, and takes them away again afterwards. `work` is told the
/// path, and how a job is run there. What setting up takes counts only where it grows with the tree.
fn around<T: Timed>(
    how: How,
    tools: &Tools,
    tree: &Path,
    name: &str,
    scratch: &Path,
    work: impl FnOnce(&Path, &dyn Fn(Job) -> Job) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let make = |path: &Path| {
        fs::create_dir_all(path).map_err(Failure::io(format!("cannot make {}", path.display())))
    };
    let at = mount_point(tree);
    match how {
        How::Native => work(tree, &|job| job),
        How::Strace => {
            let log = scratch.join("strace.log");
            let strace = Job::new("strace").args(["-f", "--seccomp-bpf", "-qq", "-e"]);
            let strace = strace.args(["trace=%file,getdents64", "-o"]).arg(log);
            work(tree, &|job| job.under(strace.clone()))
        }
        How::Syd => {
            // Asked for each path, all of which is allowed. gcc is no position-independent program. A
            // make of root's is ended by it, for it sets its ids: an ordinary user's it lets be.
            let syd = Job::new("syd").args(["-p", "off", "-p", "nopie"]);
            let syd = syd.args(["-m", "sandbox/lpath,rpath,wpath,cpath:on"]);
            let syd = syd.args(["-m", "allow/all+/***", "-m", "allow/all+!*"]);
            work(tree, &|job| job.under(syd.clone()))
        }
        How::Projected | How::Recorded | How::Mounted => {
            let trace = tools.trace().ok_or(Failure::Differs { what: "no vrift-trace".into() })?;
            // A file system is mounted at a directory that is there.
            let at = if how == How::Mounted { beside(tree) } else { at };
            let mut mount = at.clone().into_os_string();
            mount.push("=");
            mount.push(name);
            let trace = trace.arg("-m").arg(mount);
            let trace = match how {
                How::Recorded => trace.arg("-o").arg(scratch.join("peers.trace")),
                How::Mounted => {
                    make(&at)?;
                    trace.args(["--view", "mount"])
                }
                _ => trace,
            };
            work(&at, &|job| job.under(trace.clone()))
        }
        How::Proot => {
            let mut bind = tree.to_owned().into_os_string();
            bind.push(":");
            bind.push(&at);
            // env, for proot does not take `--`.
            let proot = Job::new("proot").arg("-b").arg(bind).arg("env");
            work(&at, &|job| job.under(proot.clone()))
        }
        How::Copied => {
            let (copy, at) = (scratch.join("peers-copy"), beside(tree));
            make(&at)?;
            let copied = Job::new("cp").arg("-a").arg(tree).arg(&copy).run()?;
            let bwrap = Job::new("bwrap").args(["--dev-bind", "/", "/", "--ro-bind"]);
            let bwrap = bwrap.arg(&copy).arg(&at);
            let done = work(&at, &|job| job.under(bwrap.clone()));
            put_aside(&copy, &scratch.join("peers-aside"))?;
            done.map(|done| done.with(&copied))
        }
        How::FuseOverlay => {
            let at = beside(tree);
            make(&at)?;
            let mut lower = std::ffi::OsString::from("lowerdir=");
            lower.push(tree);
            Job::new("fuse-overlayfs").arg("-o").arg(lower).arg(&at).run()?;
            let done = work(&at, &|job| job);
            let left = Job::new("fusermount3").arg("-u").arg(&at).run();
            let done = done?;
            left.map(|_| done)
        }
    }
}

/// An empty directory as deep as the tree.
fn beside(tree: &Path) -> PathBuf {
    let mut name = tree.file_name().unwrap_or_default().to_owned();
    name.push("-at");
    tree.with_file_name(name)
}

/// What setting up a copy took counts too.
trait Timed {
    fn with(self, more: &Done) -> Self;
}

impl Timed for Done {
    fn with(self, more: &Done) -> Self {
        Done { took: self.took + more.took, cpu: self.cpu + more.cpu, ..self }
    }
}

impl<T> Timed for (Done, T) {
    fn with(self, more: &Done) -> Self {
        (self.0.with(more), self.1)
    }
}
