//! What `--exclude` leaves out. A glob without a slash fits a name at any depth, one with a slash
//! the path relative to the ingested directory; `*` stays within a name, `**` doesn't. What fits
//! is left out with everything below it.

use std::ffi::OsStr;
use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::IngestError;

pub(super) struct Exclude {
    names: GlobSet,
    paths: GlobSet,
}

impl Exclude {
    pub fn new(globs: &[String]) -> Result<Exclude, IngestError> {
        let (mut names, mut paths) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        for glob in globs {
            let wrong =
                |why: &dyn ToString| IngestError::Glob { glob: glob.clone(), why: why.to_string() };
            // `target/` and `./target` are what people write for a directory.
            let trimmed = glob.strip_prefix("./").unwrap_or(glob).trim_end_matches('/');
            let anchored = trimmed.strip_prefix('/');
            let text = anchored.unwrap_or(trimmed);
            if text.is_empty() {
                return Err(wrong(&"it would leave out everything"));
            }
            let parsed = GlobBuilder::new(text)
                .literal_separator(true)
                .backslash_escape(true)
                .build()
                .map_err(|error| wrong(error.kind()))?;
            let set =
                if anchored.is_some() || text.contains('/') { &mut paths } else { &mut names };
            set.add(parsed);
        }
        let build = |set: GlobSetBuilder| {
            set.build().map_err(|error| IngestError::Glob {
                glob: globs.join(" "),
                why: error.kind().to_string(),
            })
        };
        Ok(Exclude { names: build(names)?, paths: build(paths)? })
    }

    /// Is the entry `name`, whose path from the top is `path`, left out?
    pub fn fits(&self, name: &OsStr, path: &Path) -> bool {
        self.names.is_match(Path::new(name)) || self.paths.is_match(path)
    }

    /// Saves making paths when there is nothing to ask.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.paths.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    fn fits(globs: &[&str], path: &str) -> bool {
        let globs: Vec<String> = globs.iter().map(ToString::to_string).collect();
        let path = Path::new(path);
        Exclude::new(&globs).expect("globs").fits(path.file_name().expect("name"), path)
    }

    #[test]
    fn names_and_paths() {
        assert!(fits(&["*.o"], "a.o") && fits(&["*.o"], "x/y/a.o"));
        assert!(!fits(&["*.o"], "a.o.c"));
        assert!(fits(&["target/"], "x/target") && !fits(&["/target"], "x/target"));
        assert!(fits(&["/target"], "target") && fits(&["./target"], "target"));
        assert!(fits(&["a/*"], "a/b") && !fits(&["a/*"], "a/b/c"));
        assert!(fits(&["a/**"], "a/b/c") && fits(&["**/b"], "b") && fits(&["**/b"], "x/y/b"));
        assert!(fits(&["*.{o,a}"], "lib.a"));
        assert!(!fits(&[], "a"));
    }

    #[test]
    fn names_are_bytes() {
        let exclude = Exclude::new(&["*.o".to_owned()]).expect("glob");
        let name = OsStr::from_bytes(b"\xff.o");
        assert!(exclude.fits(name, Path::new(name)));
    }

    #[test]
    fn what_is_no_glob_is_named() {
        for glob in ["[", "a{b", "", "/", "./"] {
            let Err(error) = Exclude::new(&[glob.to_owned()]) else { panic!("{glob}") };
            assert!(error.to_string().contains(&format!("{glob:?}")), "{error}");
        }
    }
}
