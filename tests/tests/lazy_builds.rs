//! A build whose compiler and sources are fetched while it runs comes out as with all of it there.

#![allow(clippy::tests_outside_test_module, reason = "this whole file is tests")]

#[path = "../../service/tests/common/s3.rs"]
mod s3;

use s3::{Server, environment};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use vrift_tests::builds::{Site, assert_same_artefacts};
use vrift_tests::lazily::{blobs, far, fetchers, noise, over, pull, summary};
use vrift_tests::{Job, World, need};

/// What the compiler runs.
const PROGRAMS: [&str; 4] = ["cc1", "collect2", "as", "ld"];
/// What it links with.
const PARTS: [&str; 11] = [
    "crt1.o",
    "Scrt1.o",
    "crti.o",
    "crtn.o",
    "crtbegin.o",
    "crtbeginS.o",
    "crtend.o",
    "crtendS.o",
    "libgcc.a",
    "libgcc_s.so",
    "liblto_plugin.so",
];
/// Files that no build reads, and their size.
const UNREAD: (usize, usize) = (120, 256 << 10);

/// Copies this machine's C compiler, as one directory that it works from.
fn compiler(to: &Path) -> Result<(), String> {
    let gcc = vrift_tests::skip::program("gcc")?;
    let ask = |what: String| {
        let said = Job::new([gcc.as_os_str(), OsStr::new(&what)]).run().ok().out();
        let path = PathBuf::from(said.trim());
        match path.is_absolute() {
            true => Ok(path),
            false => vrift_tests::skip::program(said.trim()),
        }
    };
    fs::create_dir_all(to.join("include")).expect("mkdir");
    fs::copy(&gcc, to.join("gcc")).expect("copy gcc");
    for name in PROGRAMS {
        fs::copy(ask(format!("-print-prog-name={name}"))?, to.join(name)).expect("copy");
    }
    for name in PARTS {
        fs::copy(ask(format!("-print-file-name={name}"))?, to.join(name)).expect("copy");
    }
    let headers = ask("-print-file-name=include".into())?;
    for header in fs::read_dir(headers).expect("gcc's headers").flatten() {
        if header.path().is_file() {
            fs::copy(header.path(), to.join("include").join(header.file_name())).expect("copy");
        }
    }
    Ok(())
}

/// A compiler, a program of some files, and much that the build doesn't need.
fn tree(world: &World) -> Result<(), String> {
    compiler(&world.path("src/tc"))?;
    let mut main =
        String::from("#include <stdarg.h>\n#include \"part.h\"\nint printf(const char *, ...);\n");
    let mut body = String::from("int main(void) { int sum = 0;\n");
    for n in 0..8 {
        main += &format!("int part{n}(int);\n");
        body += &format!("sum += part{n}({n});\n");
        let part =
            format!("#include \"part.h\"\nint part{n}(int x) {{ return x * {n} + BASE; }}\n");
        world.file(format!("src/app/part{n}.c"), part);
    }
    body += "printf(\"%d\\n\", sum); return 0; }\n";
    world.file("src/app/main.c", main + &body);
    world.file("src/app/part.h", "#define BASE 7\n");
    for n in 0..UNREAD.0 {
        world.file(format!("src/share/{n}"), noise(n, UNREAD.1));
    }
    Ok(())
}

fn script(at: &Path, out: &Path) -> String {
    let (at, out) = (at.display(), out.display());
    format!(
        "set -e; cd {out}; for f in {at}/app/*.c; do \
         {at}/tc/gcc -B{at}/tc/ -nostdinc -isystem {at}/tc/include -O1 -c $f; done; \
         {at}/tc/gcc -B{at}/tc/ -o app *.o; ./app"
    )
}

fn in_reach(job: Job, server: &Server) -> Job {
    environment(server.addr).into_iter().fold(job, |job, (name, value)| job.env(name, value))
}

#[test]
fn a_build_over_a_fetched_toolchain_matches_the_native_one() {
    let name = "a_build_over_a_fetched_toolchain_matches_the_native_one";
    let (world, server) = (World::new(), Server::start());
    need!(name, tree(&world));
    let far = far(&world);
    let push = world.vrift(["--store".as_ref(), far.as_os_str()]);
    in_reach(push.args(["push", "t", &server.url()]).timeout(120), &server).run().ok();
    let all = fs::read_dir(far.join("blobs")).expect("blobs").flatten();
    let all = all.flat_map(|dir| fs::read_dir(dir.path()).expect("blobs").flatten());
    let sizes: Vec<u64> = all.map(|blob| blob.metadata().expect("a blob").len()).collect();
    let (all, bytes) = (sizes.len(), sizes.iter().sum::<u64>());

    let site = Site::new(&world, "lazy");
    let native = world.dir("native");
    site.make_real(&world.path("src"));
    let want = world.sh(&script(&site.at, &native)).timeout(120).run().ok();
    site.clear();

    let pulled = in_reach(pull(&world, server.url(), &[]), &server).run().ok();
    assert!(pulled.out().contains(", 0 fetched"), "{pulled}");
    let mut mount = site.at.clone().into_os_string();
    mount.push("=t");
    let trace = world.path("trace").display().to_string();
    let projected = world.dir("projected");
    let options = ["--summary=json", "-o", &trace];
    let job = over(&world, &mount, &options, &script(&site.at, &projected)).timeout(120);
    let got = in_reach(job, &server).run().ok();
    assert_eq!(got.out(), want.out());
    assert_same_artefacts(&native, &projected, 10);
    let said = summary(&got);
    let fetched = blobs(&world);
    assert_eq!(said["blobs_fetched"], fetched, "{got}");
    assert_eq!(
        said["files_read"], fetched,
        "every file that was read has a content of its own: {got}"
    );
    assert!(fetched > 20 && fetched < all - UNREAD.0, "{fetched} of {all}");
    println!(
        "the manifest came in {:?}; {fetched} of {all} contents, {} of {} bytes were fetched in a \
         build of {:?}, natively {:?}",
        pulled.wall, said["bytes_fetched"], bytes, got.wall, want.wall
    );

    // What that build read, at once: then it needs nobody any more.
    let near = world.path("near");
    let options = [OsStr::new("--profile"), OsStr::new(&trace)];
    let job = pull(&world, server.url(), &options).env("VR_THE_SOURCE", &near);
    let pulled = in_reach(job, &server).run().ok();
    assert!(pulled.out().contains(&format!(", {fetched} fetched")), "{pulled}");
    drop(server);
    let again = world.dir("again");
    let job = over(&world, &mount, &["--summary=json"], &script(&site.at, &again));
    let got = job.env("VR_THE_SOURCE", &near).timeout(120).run().ok();
    assert_same_artefacts(&native, &again, 10);
    assert_eq!(summary(&got)["blobs_fetched"], 0, "{got}");
    assert!(fetchers(&world).is_empty());
}
