//! Runnable twins: copies of projected programs outside the blobs, which are never executable.
//!
//! A twin is a clone (FICLONE) or copy of the blob with mode 0555, made once for each content in
//! the store's `exec` directory, and shown to a job as a hard link in its private tree under the
//! name it was called by. Where the program's interpreter is projected too, the twin's PT_INTERP
//! header is pointed at the interpreter's own twin by a string appended to the file: the kernel
//! opens that, while the loader still reads the projected name from memory.

use crate::job::Job;
use crate::program::InterpHeader;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};
use vrift_projection::NodeRef;

/// The twins of a job.
#[derive(Default)]
pub struct Twins {
    /// Where shared twins are made: the store's `exec` directory, or the job's own tree where
    /// the store can't be written.
    shared: Option<PathBuf>,
    /// Names in the private tree that are ready.
    ready: Mutex<HashMap<(NodeRef, Vec<u8>), PathBuf>>,
    /// Twins of real programs, whose interpreter is projected, and what they stand for.
    real: Mutex<HashMap<PathBuf, PathBuf>>,
}

/// How a twin's interpreter is changed.
pub struct Interpreter<'a> {
    /// The interpreter's own twin.
    pub twin: &'a Path,
    /// Where the program names it.
    pub header: InterpHeader,
}

impl Twins {
    /// Twins made in `shared`.
    pub fn new(shared: PathBuf) -> Twins {
        Twins { shared: Some(shared), ..Twins::default() }
    }

    /// The shared twin of the content `key`, copied from `source` if it is not there.
    pub fn shared(
        &self,
        key: &str,
        source: &File,
        interpreter: Option<&Interpreter<'_>>,
    ) -> io::Result<PathBuf> {
        let dir = self.shared.as_ref().ok_or_else(|| io::Error::other("no place for twins"))?;
        let mut name = key.to_owned();
        if let Some(i) = interpreter {
            // The interpreter's path is part of what the twin is.
            let of = blake3_of(i.twin.as_os_str().as_bytes());
            name.push('-');
            name.push_str(&of[..16]);
        }
        let path = dir.join(name);
        if !is_as_made(&path) {
            make(dir, &path, source, interpreter, Keep::ForLater)?;
        }
        Ok(path)
    }

    /// `twin` is run in the place of the real program `path`.
    pub fn stands_for(&self, twin: &Path, path: &Path) {
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        self.real.lock().unwrap_or_else(PoisonError::into_inner).insert(twin.to_owned(), path);
    }

    /// The real program that the twin at this path stands for.
    pub fn real_of(&self, twin: &[u8]) -> Option<PathBuf> {
        let twin = Path::new(OsStr::from_bytes(twin));
        self.real.lock().unwrap_or_else(PoisonError::into_inner).get(twin).cloned()
    }

    /// The twin of `node` in the job's tree under `name`, linked from the shared one.
    pub fn link(
        &self,
        job: &Job,
        node: NodeRef,
        name: &[u8],
        shared: &Path,
    ) -> io::Result<PathBuf> {
        let key = (node, name.to_vec());
        if let Some(path) = self.ready.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(path.clone());
        }
        let private = job.private.as_ref().ok_or_else(|| io::Error::other("no private tree"))?;
        let dir = private.twin_directory(node)?;
        let path = dir.join(OsStr::from_bytes(name));
        match fs::hard_link(shared, &path) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            // Another file system, too many links, or a store of somebody else's.
            Err(_) => make(&dir, &path, &File::open(shared)?, None, Keep::ForTheJob)?,
        }
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).insert(key, path.clone());
        Ok(path)
    }
}

/// The modification time of every twin: one that somebody wrote to has another, and is made anew.
/// (Its change time says nothing, as every link to it changes that.)
const MADE: Duration = Duration::from_secs(1);

fn is_as_made(twin: &Path) -> bool {
    twin.symlink_metadata().and_then(|m| m.modified()).is_ok_and(|t| t == UNIX_EPOCH + MADE)
}

fn blake3_of(bytes: &[u8]) -> String {
    vrift_store::Hash::of(bytes).to_string()
}

/// How long a copy is wanted.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Keep {
    /// By later jobs too: a name on disk must mean the whole content on disk, whatever happens to
    /// the machine.
    ForLater,
    /// By this one.
    ForTheJob,
}

/// Makes the file `path` whole or not at all.
fn make(
    dir: &Path,
    path: &Path,
    source: &File,
    interpreter: Option<&Interpreter<'_>>,
    keep: Keep,
) -> io::Result<()> {
    let made = tempfile::Builder::new().prefix(".twin-").make_in(dir, |p| {
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(p)
    })?;
    let mut file = made.as_file();
    if crate::sys::clone::clone_file(file, source).is_err() {
        let mut reader = source.try_clone()?;
        reader.seek(SeekFrom::Start(0))?;
        io::copy(&mut reader, &mut file)?;
    }
    if let Some(interpreter) = interpreter {
        point(file, interpreter)?;
    }
    file.set_permissions(fs::Permissions::from_mode(0o555))?;
    file.set_modified(UNIX_EPOCH + MADE)?;
    if keep == Keep::ForLater {
        file.sync_all()?;
    }
    // Closed before it gets its name: a file that is open for writing can't be run (ETXTBSY).
    let temporary = made.into_temp_path();
    match fs::rename(&temporary, path) {
        Ok(()) => {
            let _ = temporary.keep();
            Ok(())
        }
        Err(e) => Err(e),
    }
}

/// Points the program header at the interpreter's twin.
fn point(file: &File, interpreter: &Interpreter<'_>) -> io::Result<()> {
    let mut text = interpreter.twin.as_os_str().as_bytes().to_vec();
    text.push(0);
    let end = file.metadata()?.len();
    let mut writer = file;
    writer.seek(SeekFrom::End(0))?;
    writer.write_all(&text)?;
    let header = &interpreter.header;
    let width = if header.wide { 8 } else { 4 };
    let put = |at: usize, value: u64| file.write_all_at(&value.to_le_bytes()[..width], at as u64);
    put(header.offset_at, end)?;
    put(header.size_at, text.len() as u64)
}

/// A content's key for a file that is not a blob: what it is now.
pub fn key_of_real(file: &File) -> io::Result<String> {
    use std::os::unix::fs::MetadataExt;
    let m = file.metadata()?;
    let text = format!(
        "{}:{}:{}:{}:{}",
        m.dev(),
        m.ino(),
        m.size(),
        m.mtime_nsec() + m.mtime() * 1_000_000_000,
        m.ctime_nsec() + m.ctime() * 1_000_000_000
    );
    Ok(format!("real-{}", blake3_of(text.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::{Kind, inspect};

    #[test]
    fn a_twin_runs_and_names_the_other_interpreter() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let twins = Twins::new(dir.path().to_owned());
        let source = File::open("/bin/true").expect("true is everywhere");
        let plain = twins.shared("true", &source, None).expect("a twin");
        assert!(std::process::Command::new(&plain).status().expect("it runs").success());
        assert_eq!(plain.metadata().expect("it is there").permissions().mode() & 0o777, 0o555);

        fs::remove_file(&plain).expect("ours");
        fs::write(&plain, "damaged").expect("ours");
        let again = twins.shared("true", &source, None).expect("a twin");
        assert!(std::process::Command::new(&again).status().expect("made anew").success());

        let Kind::Dynamic { interpreter, header } = inspect(&source).expect("readable") else {
            panic!("true is dynamic");
        };
        let loader = dir.path().join("loader");
        fs::copy(OsStr::from_bytes(&interpreter), &loader).expect("the loader is there");
        let pointed = twins
            .shared("true", &source, Some(&Interpreter { twin: &loader, header }))
            .expect("a twin");
        assert_ne!(plain, pointed);
        let Kind::Dynamic { interpreter, .. } =
            inspect(&File::open(&pointed).expect("readable")).expect("readable")
        else {
            panic!("still dynamic");
        };
        assert_eq!(interpreter, loader.as_os_str().as_bytes());
        assert!(std::process::Command::new(&pointed).status().expect("it runs").success());
    }
}
