//! The forms of an exported profile, what is recorded for it, and the facts about libseccomp and the
//! runtimes that it is made with, measured again.

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::path::Path;
    use vrift_tests::containers::{Bundle, Runtime};
    use vrift_tests::skip::program;
    use vrift_tests::traces::{events, traced};
    use vrift_tests::{Outcome, World, binaries, need};

    /// A trace of `script` with its calls.
    fn record(world: &World, name: &str, script: &str) {
        let options = ["-q", "--record-syscalls"];
        traced(world, &world.path(name), &options, ["sh", "-c", script]).run().ok();
    }

    fn profile(world: &World, args: &[&str]) -> Outcome {
        let job = world.native([binaries::vrift_trace()]).arg("profile").args(args);
        job.cwd(world.path(".")).run()
    }

    fn names(profile: &[u8]) -> BTreeSet<String> {
        let profile: Value = serde_json::from_slice(profile).expect("JSON");
        let rules = profile["syscalls"].as_array().expect("rules");
        let names = rules.iter().flat_map(|rule| rule["names"].as_array().expect("names"));
        names.map(|name| name.as_str().expect("text").to_owned()).collect()
    }

    /// The trace without the calls that are named.
    fn less(world: &World, from: &str, to: &str, without: &[&str]) {
        let text = fs::read_to_string(world.path(from)).expect("a trace");
        let kept = text.lines().filter(|line| {
            let event: Value = serde_json::from_str(line).expect("JSON");
            event["event"] != "syscall" || !without.iter().any(|name| event["call"] == *name)
        });
        world.file(to, kept.map(|line| format!("{line}\n")).collect::<String>());
    }

    #[test]
    fn bpf_is_loaded_by_bwrap() {
        need!("a program for bwrap", program("bwrap"));
        let world = World::new();
        let script = format!("mkdir {0} && rmdir {0} && echo made", world.path("d").display());
        record(&world, "t", &script);
        less(&world, "t", "less", &["mkdir", "mkdirat"]);
        let under = |trace: &str| {
            let made = profile(&world, &["export", "--format", "bpf", "--runtime", "none", trace]);
            assert_eq!(made.code(), 0, "{made:?}");
            assert!(made.stdout.len() > 800 && made.stdout.len().is_multiple_of(8));
            world.file("program", &made.stdout);
            let load = "exec bwrap --bind / / --seccomp 9 sh -c \"$1\" 9<program";
            world.native(["sh", "-c", load, "sh", &script]).cwd(world.path(".")).run()
        };
        let told = under("t").ok();
        assert_eq!(told.out(), "made\n", "{told:?}");
        let told = under("less");
        assert!(told.err().contains("Function not implemented") && told.code() != 0, "{told:?}");
    }

    #[test]
    fn clone_that_makes_namespaces_is_recorded_and_allowed() {
        need!("clone of bwrap", program("bwrap"));
        let world = World::new();
        record(&world, "t", "bwrap --ro-bind / / --unshare-uts true");
        let clone: Vec<u64> = events(&world.path("t"))
            .iter()
            .filter(|event| event["event"] == "syscall" && event["call"] == "clone")
            .map(|event| event["value"].as_u64().expect("flags"))
            .collect();
        // CLONE_NEWNS and CLONE_NEWUTS.
        assert!(clone.iter().any(|flags| flags & 0x0402_0000 == 0x0402_0000), "{clone:x?}");
        let made = profile(&world, &["export", "--runtime", "none", "t"]).ok();
        let exported: Value = serde_json::from_slice(&made.stdout).expect("JSON");
        let rules = exported["syscalls"].as_array().expect("rules");
        let of_clone = rules.iter().filter(|rule| rule["names"][0] == "clone");
        let allowed: BTreeSet<u64> =
            of_clone.filter_map(|rule| rule["args"][0]["valueTwo"].as_u64()).collect();
        let want: BTreeSet<u64> =
            clone.iter().map(|flags| flags & 0x7e02_0000).chain([0]).collect();
        assert_eq!(allowed, want);
        world.file("p.json", &made.stdout);
        let again = ["verify", "p.json", "--", "bwrap", "--ro-bind", "/", "/", "--unshare-uts"];
        let told = profile(&world, &[&again[..], &["true"][..]].concat());
        assert!(!told.err().contains("refused: clone"), "{told:?}");
        let told = profile(&world, &[&again[..], &["--unshare-net", "true"][..]].concat());
        assert_eq!(told.code(), 1);
        assert!(told.err().contains("refused: clone: SCMP_ACT_ERRNO 38"), "{told:?}");
    }

    #[test]
    fn why_says_who_with_what_how_often_and_whether_it_succeeded() {
        let world = World::new();
        world.file("tree/there", "content\n");
        world.ingest(world.path("tree"), "tree");
        let mount = format!("{}=tree", world.path("mnt").display());
        let options = ["-q", "--record-syscalls", "-m", &mount];
        let script = "cat mnt/there; mkdir mnt/new; true";
        let job = traced(&world, &world.path("t1"), &options, ["sh", "-c", script]);
        job.cwd(world.path(".")).run().ok();
        record(&world, "t2", "true");
        let told = profile(&world, &["export", "--why", "t1", "t2"]).ok().out();
        let of = |name: &str| {
            let line = told.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.to_owned()
        };
        // aarch64 has no mkdir.
        let mkdir = of(if cfg!(target_arch = "aarch64") { "mkdirat: " } else { "mkdir: " });
        assert!(mkdir.contains("/mkdir (process ") && mkdir.contains("/mnt/new, "), "{mkdir}");
        assert!(mkdir.ends_with("in 1 of 2 runs; never succeeded: EROFS"), "{mkdir}");
        let openat = of("openat: ");
        assert!(openat.ends_with("in 2 of 2 runs; succeeded"), "{openat}");
        let brk = of("brk: ");
        assert!(brk.ends_with("in 2 of 2 runs; whether it succeeded is not recorded"), "{brk}");
    }

    #[test]
    fn other_architectures_and_runs_are_told_of() {
        let world = World::new();
        record(&world, "t1", "cat /dev/null");
        record(&world, "t2", "mkdir d; rmdir d");
        let both = profile(&world, &["export", "--arch", "aarch64,x86_64", "t1"]).ok();
        let exported: Value = serde_json::from_slice(&both.stdout).expect("JSON");
        let list = ["X86_64", "X86", "X32", "AARCH64", "ARM"].map(|a| format!("SCMP_ARCH_{a}"));
        assert_eq!(exported["architectures"], serde_json::json!(list));
        if cfg!(target_arch = "x86_64") {
            assert!(
                both.err().contains("aarch64 has no access: faccessat, faccessat2"),
                "{both:?}"
            );
            assert!(both.err().contains("aarch64 has no arch_prctl"), "{both:?}");
        }
        for (name, trace) in [("p1", "t1"), ("p2", "t2")] {
            let made = profile(&world, &["export", "--runtime", "none", trace]).ok();
            world.file(name, &made.stdout);
        }
        let told = profile(&world, &["merge", "p1", "p2"]).ok();
        assert!(told.err().contains("mkdir: in 1 of 2\n") && !told.err().contains("openat"));
        assert!(names(&told.stdout).contains("mkdir"));
        let told = profile(&world, &["lint", "--libseccomp", "2.5.1", "p1"]);
        assert_eq!(told.code(), 0, "{told:?}");
        let named = fs::read_to_string(world.path("p1")).expect("text").replace("brk", "mseal");
        world.file("p3", named);
        let told = profile(&world, &["lint", "--libseccomp", "2.5.1", "p3"]);
        assert!(told.out().starts_with("mseal: libseccomp 2.6.0 knows it, not 2.5.1"), "{told:?}");
    }

    /// The schema as Debian has it; its references are to files beside it.
    const VALIDATE: &str = r#"
import json, os, sys
from jsonschema import Draft4Validator, RefResolver
directory = "/usr/share/gocode/src/github.com/opencontainers/runtime-spec/schema/"
def local(uri):
    with open(directory + os.path.basename(uri)) as file:
        return json.load(file)
root = local("config-schema.json")
resolver = RefResolver("https://schema/config-schema.json", root, handlers={"https": local})
validator = Draft4Validator(root, resolver=resolver)
for name in sys.argv[1:]:
    with open(name) as file:
        bundle = {"ociVersion": "1.0.2", "linux": {"seccomp": json.load(file)}}
    for error in validator.iter_errors(bundle):
        print(name, "/".join(map(str, error.absolute_path)), error.message)
"#;

    #[test]
    fn the_oci_schema_holds() {
        let schema = "/usr/share/gocode/src/github.com/opencontainers/runtime-spec/schema";
        let there = Path::new(schema).is_dir().then_some(());
        need!("OCI schema", there.ok_or("golang-github-opencontainers-specs-dev is not installed"));
        let python = "/usr/bin/python3";
        let has = std::process::Command::new(python).args(["-c", "import jsonschema"]).output();
        let has = has.is_ok_and(|told| told.status.success()).then_some(());
        need!("OCI schema", has.ok_or("python3-jsonschema is not installed"));
        let world = World::new();
        record(&world, "t", "ls / | cat; python3 -c 'import socket; socket.socket()' || true");
        let mut files = Vec::new();
        for (name, args) in [
            ("plain", &["export", "t"][..]),
            ("narrow", &["export", "--arguments", "--arch", "x86_64,aarch64", "t"]),
            ("k8s", &["export", "--format", "k8s", "--localhost-profile", "p.json", "t"]),
            ("notify", &["notify", "--listener", "/run/v.sock", "--metadata", "a=b"]),
            ("killable", &["notify", "--listener", "/run/v.sock", "--wait-killable"]),
        ] {
            let made = profile(&world, args).ok();
            files.push(world.file(name, &made.stdout));
        }
        let check = |files: &[std::path::PathBuf]| {
            world.native([python, "-c", VALIDATE]).args(files).run().ok().out()
        };
        assert_eq!(check(&files), "");
        let text = fs::read_to_string(&files[0]).expect("text");
        let bad = world.file("bad", text.replace("SCMP_ACT_ERRNO", "SCMP_ACT_ERROR"));
        assert!(check(&[bad]).contains("'SCMP_ACT_ERROR' is not one of"), "the check can fail");
    }

    /// Asks the libseccomp that is installed: its version, then the names that it resolves.
    const RESOLVE: &str = r#"
import ctypes, sys
lib = ctypes.CDLL("libseccomp.so.2")
class Version(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint) for name in ("major", "minor", "micro")]
lib.seccomp_version.restype = ctypes.POINTER(Version)
version = lib.seccomp_version().contents
print("%d.%d.%d" % (version.major, version.minor, version.micro))
for name in sys.stdin.read().split():
    if lib.seccomp_syscall_resolve_name(name.encode()) != -1:
        print(name)
"#;

    #[test]
    fn libseccomp_knows_the_names_that_it_is_said_to() {
        let python = "/usr/bin/python3";
        need!("names of libseccomp", Path::new(python).exists().then_some(()).ok_or("no python3"));
        let data = include_str!("../../supervisor/src/profile/defaults/libseccomp.txt");
        let lines = data.lines().filter(|line| !line.starts_with('#'));
        let since: BTreeMap<&str, &str> = lines.filter_map(|line| line.split_once(' ')).collect();
        let all: Vec<&str> = since.keys().copied().chain(["no_such_call"]).collect();
        let world = World::new();
        let told = world.native([python, "-c", RESOLVE]).stdin(all.join("\n")).run();
        if told.err().contains("libseccomp.so.2") {
            vrift_tests::skip!("names of libseccomp", "libseccomp2 is not installed");
        }
        let told = told.ok().out();
        let mut lines = told.lines();
        let version = lines.next().expect("a version");
        if !since.values().any(|measured| *measured == version) {
            vrift_tests::skip!("names of libseccomp", "{version} was not measured");
        }
        let known: BTreeSet<&str> = lines.collect();
        // Releases are compared as text: each of their numbers has one digit.
        let want: BTreeSet<&str> =
            since.iter().filter(|(_, since)| **since <= version).map(|(name, _)| *name).collect();
        assert_eq!(known, want, "libseccomp {version}");
    }

    /// The calls of the process that loads a filter, and its threads, from there to its exec.
    fn after_the_filter(log: &str) -> BTreeSet<String> {
        let mut group: BTreeMap<u32, u32> = BTreeMap::new();
        let mut begun: BTreeMap<u32, String> = BTreeMap::new();
        let mut confined = None;
        let mut calls = BTreeSet::new();
        for line in log.lines() {
            let Some((tid, rest)) = line.split_once(' ') else { continue };
            let Ok(tid) = tid.parse::<u32>() else { continue };
            let rest = rest.trim_start();
            let whole = if let Some(call) = rest.strip_suffix(" <unfinished ...>") {
                begun.insert(tid, call.to_owned());
                None
            } else if let Some((_, end)) = rest.split_once(" resumed>") {
                begun.remove(&tid).map(|call| call + end)
            } else {
                Some(rest.to_owned())
            };
            let own = *group.entry(tid).or_insert(tid);
            let name = rest.trim_start_matches("<... ");
            let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let name = name.get(..end.unwrap_or(0)).unwrap_or_default();
            if confined == Some(own) && !name.is_empty() {
                calls.insert(name.to_owned());
                if name == "execve" {
                    return calls;
                }
            }
            let Some(call) = whole else { continue };
            let child = call.rsplit_once(" = ").and_then(|(_, n)| n.trim().parse::<u32>().ok());
            if call.contains("CLONE_THREAD") {
                group.extend(child.map(|child| (child, own)));
            }
            let loads = ["seccomp(SECCOMP_SET_MODE_FILTER,", "prctl(PR_SET_SECCOMP,"];
            // A null program only asks whether a flag is known.
            if loads.iter().any(|load| call.starts_with(load)) && child == Some(0) {
                confined = Some(own);
            }
        }
        panic!("no filter was loaded, or nothing executed:\n{log}");
    }

    #[test]
    fn what_runtimes_need_is_what_they_are_said_to() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let runtimes = need!("what runtimes need", Runtime::all_usable());
        need!("what runtimes need", program("strace"));
        let world = World::new();
        record(&world, "t", "true");
        let free = names(&profile(&world, &["export", "--runtime", "none", "t"]).ok().stdout);
        // Everything passes; one rule, or there is no filter.
        let open = serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["kexec_load"], "action": "SCMP_ACT_ERRNO"}]});
        for runtime in runtimes {
            for no_new_privileges in [true, false] {
                let mut args = vec!["export", "--runtime", runtime.name(), "t"];
                args.extend(no_new_privileges.then_some("--no-new-privileges"));
                let allowed = names(&profile(&world, &args).ok().stdout);
                assert!(allowed.is_superset(&free));
                let bundle = Bundle::new(&world, runtime, &["/bin/true"])
                    .no_new_privileges(no_new_privileges)
                    .profile(open.clone());
                bundle.write();
                let log = world.path(format!("log-{}", bundle.id()));
                let job = runtime.job(&world, ["run", bundle.id()]).cwd(&bundle.dir);
                let file = log.display().to_string();
                job.behind(["strace", "-f", "-qq", "-s", "0", "-o", &file]).run().ok();
                bundle.delete(&world);
                let log = fs::read_to_string(log).expect("a log");
                let needed = after_the_filter(&log);
                assert!(needed.contains("execve") && needed.len() >= 2, "{needed:?}");
                let missing: Vec<_> = needed.difference(&allowed).collect();
                assert!(missing.is_empty(), "{runtime:?} {no_new_privileges}: {missing:?}");
            }
        }
    }
}
