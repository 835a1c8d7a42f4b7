//! Where the programs under test are. Built once for each test process by cargo, which does
//! nothing when they are fresh, unless `VRIFT_BIN_DIR` says where they stand already.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The directory that holds `vrift` and `vrift-trace`.
///
/// # Panics
/// When they neither are there nor can be built.
pub fn dir() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| match std::env::var_os("VRIFT_BIN_DIR") {
        Some(dir) => {
            let dir = PathBuf::from(dir);
            for name in ["vrift", "vrift-trace"] {
                let path = dir.join(name);
                assert!(path.is_file(), "VRIFT_BIN_DIR has no {}", path.display());
            }
            dir
        }
        None => build(&["-p", "vrift-service", "-p", "vrift-supervisor", "--bins"]),
    })
}

/// The library that has the macOS shim's core under libc's names.
///
/// # Errors
/// A sentence for [`skip!`](crate::skip!) when it neither is there nor may be built.
pub fn preload() -> Result<PathBuf, String> {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    let dir = DIR.get_or_init(|| match std::env::var_os("VRIFT_BIN_DIR") {
        Some(dir) => dir.into(),
        None => build(&["-p", "vrift-preload"]),
    });
    let library = dir.join("libvrift_preload.so");
    if library.is_file() { Ok(library) } else { Err(format!("no {}", library.display())) }
}

/// The path of the program `vrift`.
pub fn vrift() -> PathBuf {
    dir().join("vrift")
}

/// The path of the program `vrift-trace`.
pub fn vrift_trace() -> PathBuf {
    dir().join("vrift-trace")
}

/// Builds what is named into the directory this test was built into: TARGET/PROFILE/deps/test-hash.
fn build(what: &[&str]) -> PathBuf {
    let me = std::env::current_exe().expect("the test's own path");
    let profile_dir = me.parent().and_then(Path::parent).expect("TARGET/PROFILE/deps").to_owned();
    let target = profile_dir.parent().expect("TARGET/PROFILE");
    let mut cargo = Command::new(option_env!("CARGO").unwrap_or("cargo"));
    cargo
        .args(["build", "--quiet", "--offline"])
        .args(what)
        .arg("--manifest-path")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml"))
        .arg("--target-dir")
        .arg(target)
        .stdin(Stdio::null());
    if profile_dir.ends_with("release") {
        cargo.arg("--release");
    }
    let done = cargo.output().expect("cargo build");
    assert!(
        done.status.success(),
        "{what:?} can't be built: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    profile_dir
}

/// The rows of `vrift-trace syscalls --json`.
///
/// # Panics
/// When it doesn't print them.
#[must_use]
pub fn table() -> Vec<serde_json::Value> {
    let out = Command::new(vrift_trace())
        .args(["syscalls", "--json"])
        .output()
        .expect("vrift-trace runs");
    serde_json::from_slice(&out.stdout).expect("a list in JSON")
}
