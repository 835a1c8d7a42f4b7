//! The trees that are measured on.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::Failure;
use crate::guest::fixture;

/// Makes the tree for the guest `calls` at `base`, and beside it the real file that is under no
/// mount, `other.h`; the path of the latter.
///
/// # Errors
/// Those of making files; `base` must not exist.
pub fn make_calls(base: &Path) -> Result<PathBuf, Failure> {
    let other = base.with_file_name("other.h");
    let make = || -> io::Result<()> {
        fs::create_dir_all(base.with_file_name(""))?;
        for directory in ["", "include", "include/sys", "bin", fixture::DIRECTORY] {
            fs::create_dir(base.join(directory))?;
        }
        let text = vec![b'#'; fixture::SIZE];
        fs::write(base.join(fixture::FILE), &text)?;
        fs::write(&other, &text)?;
        symlink(fixture::TARGET, base.join(fixture::LINK))?;
        fs::copy("/bin/true", base.join(fixture::TRUE))?;
        for number in 0..fixture::ENTRIES {
            let name = format!("{}/entry-{number:04}.h", fixture::DIRECTORY);
            fs::write(base.join(name), format!("{}\n", number % 10))?;
        }
        Ok(())
    };
    make().map_err(Failure::io(format!("cannot make a fixture at {}", base.display())))?;
    Ok(other)
}

/// Makes a tree of `files` small files in directories of a thousand, with few different contents:
/// what counts is the number of names.
///
/// # Errors
/// Those of making files.
pub fn make_large(root: &Path, files: usize) -> Result<(), Failure> {
    let make = || -> io::Result<()> {
        for number in 0..files {
            let directory = root.join(format!("package-{:03}", number / 1000));
            if number % 1000 == 0 {
                fs::create_dir_all(&directory)?;
            }
            let content = format!("module {}\n", number % 64);
            fs::write(directory.join(format!("file-{number:06}.js")), content)?;
        }
        Ok(())
    };
    make().map_err(Failure::io(format!("cannot make {files} files in {}", root.display())))
}

/// Where to project `real`: a path where nothing is, with as many components, since what a build
/// asks grows with the depth of its paths.
#[must_use]
pub fn mount_point(real: &Path) -> PathBuf {
    // The root, and the name itself.
    let between = real.components().count().saturating_sub(2).max(1);
    let mut point = PathBuf::from("/vrift");
    for _ in 1..between {
        point.push("bench");
    }
    if let Some(name) = real.file_name() {
        point.push(name);
    }
    point
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_is_as_deep_as_the_real_tree() {
        for real in ["/tmp/base", "/tmp/x/base", "/var/tmp/y/z/base"] {
            let point = mount_point(Path::new(real));
            assert_eq!(point.components().count(), Path::new(real).components().count());
            assert!(point.starts_with("/vrift") && point.ends_with("base"), "{point:?}");
        }
    }
}
