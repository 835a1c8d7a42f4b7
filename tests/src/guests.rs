//! Guest programs: compiled from fixtures/guests with the system's compilers, once for each
//! content, flags and compiler, and kept in a cache.

use crate::skip::program;
use crate::world::World;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How a guest is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guest {
    /// Dynamic and position-independent, as the system's compiler does it.
    Dynamic,
    /// `-no-pie`.
    FixedPosition,
    /// `-static`.
    Static,
    /// `-static-pie`.
    StaticPie,
    /// Through syscall(2) and the oldest numbers only.
    Raw,
    /// `-static` with musl.
    Musl,
    /// A 32-bit program.
    Bits32,
}

impl Guest {
    /// All builds that run on any machine with a C compiler.
    pub const PLAIN: [Self; 5] =
        [Self::Dynamic, Self::FixedPosition, Self::Static, Self::StaticPie, Self::Raw];

    fn compiler(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Dynamic => ("cc", &[]),
            Self::FixedPosition => ("cc", &["-no-pie"]),
            Self::Static => ("cc", &["-static"]),
            Self::StaticPie => ("cc", &["-static-pie"]),
            Self::Raw => ("cc", &["-DRAW"]),
            Self::Musl => ("musl-gcc", &["-static"]),
            Self::Bits32 => ("cc", &["-m32", "-D_FILE_OFFSET_BITS=64", "-D_TIME_BITS=64"]),
        }
    }
}

/// The directory of the fixtures.
pub fn fixtures() -> PathBuf {
    std::env::var_os("VRIFT_FIXTURES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures"), PathBuf::from)
}

/// Where what is dear to make is kept between runs, a directory of the present user's.
///
/// # Panics
/// When it can't be made.
pub fn cache() -> PathBuf {
    let dir = std::env::var_os("VRIFT_TEST_CACHE").map_or_else(
        || {
            std::env::temp_dir()
                .join(format!("vrift-test-cache-{}", rustix::process::getuid().as_raw()))
        },
        PathBuf::from,
    );
    fs::create_dir_all(&dir).unwrap_or_else(|e| panic!("test cache {}: {e}", dir.display()));
    dir
}

/// The program made from `fixtures/guests/NAME.c`.
///
/// # Errors
/// Why this machine can't build it: a sentence for [`skip!`](crate::skip!).
pub fn guest(name: &str, how: Guest) -> Result<PathBuf, String> {
    let dir = fixtures().join("guests");
    let (compiler, flags) = how.compiler();
    let mut args: Vec<String> = ["-O1", "-g", "-Wall", "-Wextra", "-Wno-unused-result", "-pthread"]
        .iter()
        .chain(flags)
        .map(ToString::to_string)
        .collect();
    args.push(dir.join(format!("{name}.c")).display().to_string());
    // A 32-bit compiler or a static libc may be missing, and that is the machine's affair;
    // a guest that the plain compiler refuses is ours.
    compile(name, compiler, &args, how == Guest::Dynamic)
}

/// Compiles with `compiler ARGS -o CACHED/NAME` unless the cache has it. `VRIFT_TEST_CC` is called
/// in the place of `cc`: the cache can be filled for another machine (see `examples/prebuild.rs`),
/// which needs the same sources for that, wherever they are, and no compiler.
///
/// # Errors
/// When the compiler is missing, or fails and `must` isn't set.
///
/// # Panics
/// When it fails and `must` is set, or the sources can't be read.
pub fn compile(name: &str, compiler: &str, args: &[String], must: bool) -> Result<PathBuf, String> {
    let mut key = blake3::Hasher::new();
    let mut sources: Vec<_> = fs::read_dir(fixtures().join("guests"))
        .unwrap_or_else(|e| panic!("{}: {e}", fixtures().display()))
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect();
    sources.sort();
    for source in &sources {
        key.update(&fs::read(source).expect("guest source"));
    }
    let here = |arg: &String| {
        arg.replace(&*cache().to_string_lossy(), "CACHE")
            .replace(&*fixtures().to_string_lossy(), "FIXTURES")
    };
    let spelled: Vec<String> = args.iter().map(here).collect();
    key.update(format!("{name} {compiler} {spelled:?}").as_bytes());
    let home = cache().join("guests").join(&key.finalize().to_hex()[..20]);
    let built = home.join(name);
    if built.exists() {
        return Ok(built);
    }
    let compiler_path = match std::env::var_os("VRIFT_TEST_CC") {
        Some(other) if compiler == "cc" => PathBuf::from(other),
        Some(other) => return Err(format!("{} is no {compiler}", other.display())),
        None => program(compiler)?,
    };
    fs::create_dir_all(&home).expect("guest cache");
    // Built aside and renamed: tests run at once, and none may see half a program.
    let aside = tempfile::Builder::new().prefix(".build-").tempdir_in(&home).expect("guest cache");
    let temporary = aside.path().join(name);
    let done = Command::new(&compiler_path)
        .args(args)
        .arg("-o")
        .arg(&temporary)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("{compiler}: {e}"))?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(!must, "{compiler} can't build the guest {name}: {said}");
        let first =
            said.lines().find(|l| l.contains("error") || l.contains("cannot")).unwrap_or("failed");
        return Err(format!("{compiler} {} can't build {name}: {first}", args.join(" ")));
    }
    fs::rename(&temporary, &built).expect("guest cache");
    Ok(built)
}

/// A program that is linked with a library of its own by `$ORIGIN/lib`, that library, and a plugin
/// that it can load: `origin_main`, `liborigin.so`, `plugin.so`.
///
/// # Errors
/// When there is no compiler.
///
/// # Panics
/// When there is one and it refuses.
pub fn origin() -> Result<[PathBuf; 3], String> {
    let file = |name: &str| fixtures().join("guests").join(name).display().to_string();
    let build = |name: &str, flags: &[&str]| {
        let flags: Vec<String> = flags.iter().map(ToString::to_string).collect();
        compile(name, "cc", &flags, true)
    };
    let source = file("origin_lib.c");
    let shared = ["-shared", "-fPIC", "-Wl,-soname,liborigin.so", &source];
    let library = build("liborigin.so", &shared)?;
    let says = "-DSAYS=\"plugin speaking\"";
    let plugin = build("plugin.so", &["-shared", "-fPIC", says, &source])?;
    let at = format!("-L{}", library.parent().expect("cache").display());
    let main = build(
        "origin_main",
        &[&file("origin_main.c"), "-Wl,-rpath,$ORIGIN/lib", &at, "-lorigin", "-ldl"],
    )?;
    Ok([main, library, plugin])
}

/// Ingests as `t` what the guests storm and dumpable are run in: `file`, `sub/`, and `prog`, a guest.
///
/// # Panics
/// When the file system refuses, or the plain compiler is missing.
pub fn storm_ground(world: &World) {
    world.file("src/file", "storm\n");
    world.dir("src/sub");
    let prog = guest("self", Guest::Dynamic).expect("the plain compiler");
    fs::copy(prog, world.path("src/prog")).expect("prog");
    world.ingest(world.path("src"), "t");
}

/// The static Go guest.
///
/// # Errors
/// When there is no Go compiler.
///
/// # Panics
/// When there is one and it fails.
pub fn go_guest() -> Result<PathBuf, String> {
    let go = program("go")?;
    let source = fixtures().join("guests/go/main.go");
    let key = blake3::hash(&fs::read(&source).expect("Go guest's source")).to_hex();
    let home = cache().join("guests").join(&key[..20]);
    let built = home.join("gofiles");
    if built.exists() {
        return Ok(built);
    }
    fs::create_dir_all(&home).expect("guest cache");
    let aside = tempfile::tempdir_in(&home).expect("guest cache");
    let temporary = aside.path().join("gofiles");
    let done = Command::new(go)
        .args(["build", "-o"])
        .arg(&temporary)
        .arg(&source)
        .env_clear()
        .env("PATH", crate::job::PATH)
        .env("HOME", aside.path())
        .env("GOCACHE", cache().join("go-build"))
        .env("GOFLAGS", "-mod=mod")
        .env("GO111MODULE", "off")
        .env("GOPROXY", "off")
        .env("CGO_ENABLED", "0")
        .stdin(Stdio::null())
        .output()
        .expect("go build");
    assert!(done.status.success(), "go build: {}", String::from_utf8_lossy(&done.stderr));
    fs::rename(&temporary, &built).expect("guest cache");
    Ok(built)
}
