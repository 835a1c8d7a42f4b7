//! The C programs that are built: Lua 5.4 as Debian or Ubuntu have it, else a generated one; Redis and
//! SQLite.
//!
//! The sources are fetched once, into a cache directory, by an apt configuration of its own: the
//! system's sources, with deb-src in the place of deb, and private lists. No file of the system
//! changes, and an ordinary user may do it.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Failure;

use super::process::Job;

/// Beyond this the network is taken to be absent.
const FETCH_LIMIT: Duration = Duration::from_secs(60);

/// A directory of C files that make one program.
#[derive(Debug)]
pub struct Sources {
    /// What it is, for the table.
    pub name: String,
    /// Compiler flags it wants.
    pub cflags: &'static str,
    /// Libraries it wants.
    pub libraries: &'static str,
    /// A C file with a `main` that is not wanted.
    pub left_out: Option<&'static str>,
}

/// Puts the sources at `directory`, which must not exist.
///
/// # Errors
/// Those of making files. That Lua cannot be had is none: the name says what was taken instead.
pub fn prepare(directory: &Path) -> Result<Sources, Failure> {
    match lua(directory) {
        Ok(name) => Ok(Sources {
            name,
            cflags: "-O2 -DLUA_COMPAT_5_3 -DLUA_USE_POSIX",
            libraries: "-lm",
            left_out: Some("luac.c"),
        }),
        Err(error) => {
            eprintln!("build: no Lua sources ({error}); a generated project instead");
            generate(directory)
                .map_err(Failure::io(format!("cannot write sources to {}", directory.display())))?;
            let name = format!("generated project of {FILES} files");
            Ok(Sources { name, cflags: "-O2", libraries: "", left_out: None })
        }
    }
}

/// Unpacks the `src` directory of Lua to `directory`; the name and version.
fn lua(directory: &Path) -> Result<String, Failure> {
    let unpacked = directory.with_extension("unpacked");
    let version = debian("lua5.4", &unpacked)?;
    fs::rename(unpacked.join("src"), directory)
        .map_err(Failure::io(format!("cannot make {}", directory.display())))?;
    Ok(format!("Lua {version}"))
}

/// Unpacks Redis to `directory`, which must not exist; the name and version.
///
/// # Errors
/// It cannot be fetched or unpacked.
pub fn redis(directory: &Path) -> Result<String, Failure> {
    Ok(format!("Redis {}", debian("redis", directory)?))
}

/// Unpacks SQLite to `directory`, which must not exist; the name and version.
///
/// # Errors
/// It cannot be fetched or unpacked.
pub fn sqlite(directory: &Path) -> Result<String, Failure> {
    Ok(format!("SQLite {}", debian("sqlite3", directory)?))
}

/// Unpacks the original sources of a Debian package to `directory`; the version.
fn debian(package: &str, directory: &Path) -> Result<String, Failure> {
    let cache = cache_directory()?;
    let archive = match find_archive(&cache, package) {
        Some(archive) => archive,
        None => {
            fetch(&cache, package)?;
            find_archive(&cache, package).ok_or_else(|| {
                Failure::io("cannot find what apt fetched")(io::ErrorKind::NotFound.into())
            })?
        }
    };
    fs::create_dir_all(directory)
        .map_err(Failure::io(format!("cannot make {}", directory.display())))?;
    let tar = Job::new("tar").arg("-xf").arg(&archive).arg("-C").arg(directory);
    tar.arg("--strip-components=1").run()?;
    let name = archive.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let version = name.split_once('_').map_or("", |(_, rest)| rest);
    Ok(version.split(".orig").next().unwrap_or_default().to_owned())
}

fn cache_directory() -> Result<PathBuf, Failure> {
    let base = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let base = base
        .or_else(|| env::home_dir().map(|home| home.join(".cache")))
        .unwrap_or_else(env::temp_dir);
    let cache = base.join("vrift-bench");
    fs::create_dir_all(&cache).map_err(Failure::io(format!("cannot make {}", cache.display())))?;
    Ok(cache)
}

fn find_archive(cache: &Path, package: &str) -> Option<PathBuf> {
    fs::read_dir(cache).ok()?.filter_map(Result::ok).map(|entry| entry.path()).find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(&format!("{package}_")) && name.contains(".orig.tar.")
    })
}

/// Fetches with apt into `cache`, which holds nothing that counts when this fails: apt gives a file
/// its name only when its checksum is right.
fn fetch(cache: &Path, package: &str) -> Result<(), Failure> {
    let apt = tempfile::Builder::new()
        .prefix("apt-")
        .tempdir_in(cache)
        .map_err(Failure::io(format!("cannot make a directory in {}", cache.display())))?;
    let configuration = configure_apt(apt.path())
        .map_err(Failure::io(format!("cannot set apt up in {}", apt.path().display())))?;
    let get = || {
        Job::new("apt-get")
            .args(["-q", "-o", "Acquire::http::Timeout=10", "-o", "Acquire::Retries=1"])
            .env("APT_CONFIG", &configuration)
            .cwd(cache)
            .limit(FETCH_LIMIT)
    };
    // Some source that has no deb-src makes this fail; what counts is the next command.
    let updated = get().arg("update").run();
    get()
        .args(["source", "--download-only", package])
        .run()
        .map_err(|error| updated.err().unwrap_or(error))?;
    Ok(())
}

fn configure_apt(root: &Path) -> io::Result<PathBuf> {
    let parts = root.join("sources.d");
    for directory in
        [&parts, &root.join("state/lists/partial"), &root.join("cache/archives/partial")]
    {
        fs::create_dir_all(directory)?;
    }
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(entries.filter_map(Result::ok).map(|entry| entry.path()));
    }
    for file in files {
        let extension = file.extension().unwrap_or_default();
        if (extension == "list" || extension == "sources") && file.is_file() {
            let text = fs::read_to_string(&file)?;
            let name = file.file_name().unwrap_or_default();
            fs::write(parts.join(name), as_source_entries(&text))?;
        }
    }
    let configuration = root.join("apt.conf");
    let path = root.display();
    let text = format!(
        "Dir::Etc::SourceList \"/dev/null\";\n\
         Dir::Etc::SourceParts \"{path}/sources.d\";\n\
         Dir::State \"{path}/state\";\n\
         Dir::State::Status \"/var/lib/dpkg/status\";\n\
         Dir::Cache \"{path}/cache\";\n\
         APT::Sandbox::User \"root\";\n"
    );
    fs::write(&configuration, text)?;
    Ok(configuration)
}

/// Both formats of apt's source files, asking for sources only.
fn as_source_entries(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        if line.starts_with("Types:") {
            out.push_str("Types: deb-src");
        } else if let Some(rest) = line.strip_prefix("deb ") {
            out.push_str("deb-src ");
            out.push_str(rest);
        } else if !line.starts_with("deb-src ") {
            out.push_str(line);
        }
        out.push('\n');
    }
    out
}

/// Files of the generated project.
const FILES: usize = 60;
/// Headers of the generated project; each file includes a third of them.
const HEADERS: usize = 30;

/// Writes a program of [`FILES`] files: the same every time.
fn generate(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory.join("include/parts"))?;
    for header in 0..HEADERS {
        let text = format!(
            "#ifndef PART_{header}\n#define PART_{header}\n#include <stddef.h>\n\
             struct part_{header} {{ size_t count; double value[{}]; }};\n#endif\n",
            header + 1
        );
        fs::write(directory.join(format!("include/parts/part_{header}.h")), text)?;
    }
    let mut main = String::from("#include <stdio.h>\n");
    let mut sum = String::from("0");
    for file in 0..FILES {
        let mut text = String::from(
            "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include <math.h>\n\
             #include <errno.h>\n#include <unistd.h>\n#include <sys/stat.h>\n#include <time.h>\n",
        );
        for header in (file % 3..HEADERS).step_by(3) {
            writeln!(text, "#include \"include/parts/part_{header}.h\"")
                .map_err(io::Error::other)?;
        }
        for function in 0..40 {
            let part = file % 3;
            write!(
                text,
                "static double step_{function}(struct part_{part} *p, const char *s) {{\n  \
                   double r = {function};\n  \
                   for (size_t i = 0; i < strlen(s); i++) {{\n    \
                     if (s[i] == '{}') r += p->value[i % {}] * {function}.5;\n    \
                     else r -= (double)(s[i] ^ {file}) / (r + 2.0);\n  }}\n  \
                   p->count += (size_t)r;\n  return r;\n}}\n",
                char::from(b'a' + u8::try_from(function % 26).unwrap_or(0)),
                part + 1,
            )
            .map_err(io::Error::other)?;
        }
        let part = file % 3;
        write!(text, "double work_{file}(const char *s) {{\n  struct part_{part} p = {{0}};\n  double r = 0;\n")
            .map_err(io::Error::other)?;
        for function in 0..40 {
            writeln!(text, "  r += step_{function}(&p, s);").map_err(io::Error::other)?;
        }
        text.push_str("  return r + (double)p.count;\n}\n");
        fs::write(directory.join(format!("work_{file}.c")), text)?;
        writeln!(main, "double work_{file}(const char *);").map_err(io::Error::other)?;
        write!(sum, " + work_{file}(v[0])").map_err(io::Error::other)?;
    }
    writeln!(main, "int main(int c, char **v) {{ (void)c; printf(\"%f\\n\", {sum}); return 0; }}")
        .map_err(io::Error::other)?;
    fs::write(directory.join("main.c"), main)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_of_apt_sources_ask_for_sources() {
        let deb822 = "Types: deb deb-src\nURIs: http://deb.debian.org/debian\nSuites: bookworm\n";
        assert!(as_source_entries(deb822).starts_with("Types: deb-src\nURIs: http://deb"));
        let list = "# main\ndeb http://a b main\ndeb-src http://a b main\n";
        assert_eq!(as_source_entries(list), "# main\ndeb-src http://a b main\n\n");
    }

    #[test]
    fn the_generated_project_is_a_program() {
        let work = tempfile::tempdir().unwrap();
        let sources = work.path().join("sources");
        generate(&sources).unwrap();
        // Two of its files, so that the test stays short.
        for file in ["work_0.c", "work_59.c", "main.c"] {
            let object = work.path().join("object.o");
            let compile = Job::new("cc").args(["-c", "-o"]).arg(object).arg(sources.join(file));
            compile.run().unwrap();
        }
    }
}
