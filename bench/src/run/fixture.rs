//! The trees that are measured on.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::Failure;
use crate::guest::fixture;

use super::process::Job;

/// Makes the tree for the guest `calls` at `base`, with directories of so many files, and beside it the
/// real file that is under no mount, `other.h`; the path of the latter.
///
/// # Errors
/// Those of making files; `base` must not exist.
pub fn make_calls(base: &Path, directories: &[(&str, usize)]) -> Result<PathBuf, Failure> {
    let other = base.with_file_name("other.h");
    let make = || -> io::Result<()> {
        fs::create_dir_all(base.with_file_name(""))?;
        for directory in ["", "include", "include/sys", "bin"] {
            fs::create_dir(base.join(directory))?;
        }
        let text = vec![b'#'; fixture::SIZE];
        fs::write(base.join(fixture::FILE), &text)?;
        fs::write(&other, &text)?;
        symlink(fixture::TARGET, base.join(fixture::LINK))?;
        fs::copy("/bin/true", base.join(fixture::TRUE))?;
        for (name, files) in directories {
            let directory = base.join(name);
            fs::create_dir(&directory)?;
            for number in 0..*files {
                let file = directory.join(format!("entry-{number:04}.h"));
                fs::write(file, format!("{}\n", number % 10))?;
            }
        }
        Ok(())
    };
    make().map_err(Failure::io(format!("cannot make a fixture at {}", base.display())))?;
    Ok(other)
}

/// Adds the static program to the tree for `calls`.
///
/// # Errors
/// When there is no C compiler, or no static libc.
pub fn make_static(base: &Path) -> Result<(), Failure> {
    let source = base.with_file_name("true.c");
    fs::write(&source, "int main(void) { return 0; }\n")
        .map_err(Failure::io(format!("cannot write {}", source.display())))?;
    let program = base.join(fixture::STATIC);
    Job::new("cc").arg("-static").arg("-o").arg(program).arg(source).run().map(drop)
}

/// Makes room for another tree at `path`: what is there goes to the directory `aside`, to be removed
/// when nothing more is measured. ext4 tries each inode that was freed in the last minutes before it takes
/// one that wasn't (`recently_deleted` in fs/ext4/ialloc.c), and who makes files next would pay for it.
///
/// # Errors
/// Those of mkdir(2) and rename(2).
pub fn put_aside(path: &Path, aside: &Path) -> Result<(), Failure> {
    let put = || -> io::Result<()> {
        fs::create_dir_all(aside)?;
        let number = fs::read_dir(aside)?.count();
        match fs::rename(path, aside.join(number.to_string())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    };
    put().map_err(Failure::io(format!("cannot put {} aside", path.display())))
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

/// Makes a tree of `files` small files in directories of a hundred, every one with a content of its
/// own, of 100 to 4,000 bytes of text; the same every time.
///
/// # Errors
/// Those of making files.
pub fn make_small(root: &Path, files: usize) -> Result<(), Failure> {
    let make = || -> io::Result<()> {
        fs::create_dir_all(root)?;
        let mut random = Random::default();
        let mut content = String::new();
        for number in 0..files {
            let directory =
                root.join(format!("part-{:02}/section-{:04}", number / 10_000, number / 100));
            if number % 100 == 0 {
                fs::create_dir_all(&directory)?;
            }
            content.clear();
            content.push_str(&format!("file {number}\n"));
            // Most are short.
            let length = 100 + (random.below(3900) * random.below(3900)) / 3900;
            while content.len() < length {
                content.push_str(WORDS[random.below(WORDS.len())]);
                content.push(if random.below(10) == 0 { '\n' } else { ' ' });
            }
            fs::write(directory.join(format!("file-{number:06}.txt")), &content)?;
        }
        Ok(())
    };
    make().map_err(Failure::io(format!("cannot make {files} files in {}", root.display())))
}

/// Makes `count` files of `size` bytes each, whose content no compression makes shorter; the same every
/// time.
///
/// # Errors
/// Those of making files.
pub fn make_big(root: &Path, count: usize, size: usize) -> Result<(), Failure> {
    let make = || -> io::Result<()> {
        fs::create_dir_all(root)?;
        let mut random = Random::default();
        for number in 0..count {
            let words = size.div_ceil(8);
            let mut content: Vec<u8> =
                (0..words).flat_map(|_| random.next().to_le_bytes()).collect();
            content.truncate(size);
            fs::write(root.join(format!("big-{number:02}.bin")), content)?;
        }
        Ok(())
    };
    make().map_err(Failure::io(format!("cannot make {count} big files in {}", root.display())))
}

const WORDS: [&str; 16] = [
    "tree",
    "store",
    "blob",
    "manifest",
    "build",
    "path",
    "name",
    "call",
    "mount",
    "file",
    "link",
    "directory",
    "process",
    "answer",
    "content",
    "hash",
];

/// Marsaglia's xorshift64*: numbers that look random and are the same in every run.
struct Random(u64);

impl Default for Random {
    fn default() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }
}

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Less than `end`, which is above 0.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() >> 32).unwrap_or(0) % end
    }
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
    fn small_files_are_all_different_and_the_same_every_time() {
        let work = tempfile::tempdir().unwrap();
        let read = |name: &str| {
            let root = work.path().join(name);
            make_small(&root, 250).unwrap();
            let file =
                |n: usize| root.join(format!("part-00/section-{:04}/file-{n:06}.txt", n / 100));
            (0..250).map(|n| fs::read(file(n)).unwrap()).collect::<Vec<_>>()
        };
        let (one, other) = (read("one"), read("other"));
        assert_eq!(one, other);
        let different: std::collections::BTreeSet<_> = one.iter().collect();
        assert_eq!(different.len(), 250);
        assert!(one.iter().all(|content| (100..=4100).contains(&content.len())));
    }

    #[test]
    fn big_files_have_the_size_that_was_asked_for() {
        let work = tempfile::tempdir().unwrap();
        make_big(work.path(), 3, 1001).unwrap();
        for number in 0..3 {
            let file = work.path().join(format!("big-{number:02}.bin"));
            assert_eq!(fs::metadata(file).unwrap().len(), 1001);
        }
    }

    #[test]
    fn a_mount_point_is_as_deep_as_the_real_tree() {
        for real in ["/tmp/base", "/tmp/x/base", "/var/tmp/y/z/base"] {
            let point = mount_point(Path::new(real));
            assert_eq!(point.components().count(), Path::new(real).components().count());
            assert!(point.starts_with("/vrift") && point.ends_with("base"), "{point:?}");
        }
    }
}
