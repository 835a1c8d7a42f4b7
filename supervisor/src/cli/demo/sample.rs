//! The sample project that the program carries: a configure script, a Makefile, C sources.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// One file of the sample.
struct Entry {
    path: &'static str,
    text: &'static str,
    executable: bool,
}

macro_rules! entry {
    ($path:literal, $executable:literal) => {
        Entry {
            path: $path,
            text: include_str!(concat!("../../../demo/", $path)),
            executable: $executable,
        }
    };
}

/// `supervisor/demo`.
static FILES: &[Entry] = &[
    entry!("Makefile.in", false),
    entry!("VERSION", false),
    entry!("configure", true),
    entry!("include/table.h", false),
    entry!("include/words.h", false),
    entry!("src/main.c", false),
    entry!("src/table.c", false),
    entry!("src/words.c", false),
    entry!("text/words.txt", false),
    entry!("tools/version", true),
];

/// Writes the sample below `dir`, which is made.
pub fn write(dir: &Path) -> io::Result<()> {
    fs::create_dir(dir)?;
    for file in FILES {
        let path = dir.join(file.path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, file.text)?;
        let mode = if file.executable { 0o755 } else { 0o644 };
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_program_carries_every_file_of_the_sample_with_its_mode() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo");
        let mut there = BTreeSet::new();
        let mut open = vec![source.clone()];
        while let Some(dir) = open.pop() {
            for entry in fs::read_dir(dir).expect("the sample's sources") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    open.push(path);
                    continue;
                }
                let mode = path.metadata().expect("it is there").permissions().mode();
                let name = path.strip_prefix(&source).expect("below it").to_owned();
                there.insert((name, mode & 0o100 != 0));
            }
        }
        let carried = FILES.iter().map(|f| (f.path.into(), f.executable)).collect();
        assert_eq!(there, carried);
    }
}
