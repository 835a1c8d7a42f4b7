//! Which manifests are wanted because changes to them are kept: the upper directories of jobs, in the
//! store's `uppers/` or anywhere.
//!
//! What is in an upper directory is its maker's business; the store reads its head only, which says
//! of which manifest it has the changes. Of one that lies elsewhere a note in `uppers/` tells, so that
//! a collection finds it when no job runs. What must never happen here: a manifest passes for
//! unwanted because a place couldn't be looked at.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{self, AtFlags, FileType};

use crate::error::StoreError;
use crate::hash::Hash;
use crate::publish::Draft;
use crate::store::Store;

/// First line of a head, with its format's version.
const HEAD: &str = "vrift upper 1";
/// First line of a note.
const NOTE: &[u8] = b"vrift upper at 1\n";
/// How notes are called.
const NOTE_PREFIX: &str = "at-";
/// A note of a directory that isn't there is kept for so long: its disk may come back.
const ABSENT: Duration = Duration::from_secs(30 * 24 * 3600);
/// No head and no note is longer: a line and a hash, or a path.
const LONGEST: u64 = 8192;

/// The head of an upper directory over `manifest`, as it stands in the file `upper`.
#[must_use]
pub fn head(manifest: &Hash) -> String {
    format!("{HEAD}\n{manifest}\n")
}

/// The manifest that a head names; None when it is no head.
#[must_use]
pub fn manifest_of_head(head: &str) -> Option<Hash> {
    head.strip_prefix(HEAD)?.trim().parse().ok()
}

/// Does this begin as a head does? Its maker may not have written the rest yet.
#[must_use]
pub fn is_head(text: &str) -> bool {
    text.starts_with(HEAD)
}

/// An upper directory that keeps a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Where it is; relative to the store's root when it is in the store.
    pub path: PathBuf,
    /// The manifest of whose tree it has the changes.
    pub manifest: Hash,
    /// Has it any changes? Without, it is nobody's loss when the manifest is gone.
    pub changed: bool,
}

impl Store {
    /// Notes that the directory at `path`, which lies outside of the store, has changes to
    /// `manifest`. Again does no harm.
    ///
    /// # Errors
    /// The note can't be written, as by a user who may only read the store.
    pub fn note_upper(&self, path: &Path, manifest: &Hash) -> Result<(), StoreError> {
        self.make_dir("uppers")?;
        let mut draft = Draft::named(self)?;
        draft.write(NOTE)?;
        draft.write(format!("{manifest}\n").as_bytes())?;
        draft.write(path.as_os_str().as_bytes())?;
        draft.sync()?;
        let name = Hash::of(path.as_os_str().as_bytes()).to_hex();
        draft.replace(&format!("uppers/{NOTE_PREFIX}{}", &name.as_str()[..32]))?;
        self.sync_dir("uppers")
    }

    /// All upper directories that the store knows of. `forget` removes notes of those that haven't
    /// been there for 30 days.
    ///
    /// # Errors
    /// One can't be read, or its head is damaged.
    pub(crate) fn kept_uppers(&self, forget: bool) -> Result<Vec<Kept>, StoreError> {
        let mut kept = Vec::new();
        for (name, kind) in self.list("uppers")? {
            let path = Path::new("uppers").join(OsStr::from_bytes(&name));
            match kind {
                FileType::Directory => kept.extend(self.upper_inside(&path)?),
                _ if name.starts_with(NOTE_PREFIX.as_bytes()) => {
                    kept.extend(self.upper_noted(&path, forget)?);
                }
                _ => {}
            }
        }
        Ok(kept)
    }

    /// None for a directory without a head: no job has finished making it, or one has begun to
    /// remove it.
    fn upper_inside(&self, path: &Path) -> Result<Option<Kept>, StoreError> {
        let at = self.root().join(path);
        match read_head(&at) {
            Ok(Some(manifest)) => {
                Ok(Some(Kept { path: path.to_owned(), manifest, changed: is_changed(&at) }))
            }
            Ok(None) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(StoreError::DamagedUpper { path: at })
            }
            Err(error) => Err(StoreError::io("read", at)(error)),
        }
    }

    fn upper_noted(&self, note: &Path, forget: bool) -> Result<Option<Kept>, StoreError> {
        let at = self.root().join(note);
        let damaged = || StoreError::DamagedUpper { path: at.clone() };
        let Some(file) = self.open_file(note.to_str().ok_or_else(damaged)?)? else {
            return Ok(None);
        };
        let age = file.metadata().and_then(|meta| meta.modified());
        let age = age.map_err(StoreError::io("look at", &at))?;
        let mut text = Vec::new();
        file.take(LONGEST).read_to_end(&mut text).map_err(StoreError::io("read", &at))?;
        let rest = text.strip_prefix(NOTE).ok_or_else(damaged)?;
        let end = rest.iter().position(|&c| c == b'\n').ok_or_else(damaged)?;
        let noted = std::str::from_utf8(&rest[..end]).ok().and_then(|hash| hash.parse().ok());
        let noted = noted.ok_or_else(damaged)?;
        let path = PathBuf::from(OsStr::from_bytes(&rest[end + 1..]));
        let manifest = match read_head(&path) {
            Ok(Some(manifest)) => manifest,
            // What is there now is something else, or can't be looked at: the note is what is known.
            Err(_) => noted,
            Ok(None) => {
                let old = SystemTime::now().duration_since(age).is_ok_and(|age| age > ABSENT);
                if !old {
                    return Ok(Some(Kept { path, manifest: noted, changed: false }));
                }
                if forget {
                    fs::unlinkat(self.root_fd(), note, AtFlags::empty())
                        .map_err(StoreError::io("remove", &at))?;
                }
                return Ok(None);
            }
        };
        let changed = is_changed(&path);
        Ok(Some(Kept { path, manifest, changed }))
    }
}

/// The manifest that an upper directory's head names; None when there is no head.
fn read_head(upper: &Path) -> io::Result<Option<Hash>> {
    // The second is its name while a job makes or empties the directory.
    for name in ["upper", ".upper"] {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
        let file = match File::options().read(true).custom_flags(flags).open(upper.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file?,
        };
        let mut text = String::new();
        file.take(LONGEST).read_to_string(&mut text)?;
        return match manifest_of_head(&text) {
            Some(manifest) => Ok(Some(manifest)),
            // Its maker hasn't written it yet.
            None if name == ".upper" => Ok(None),
            None => Err(io::ErrorKind::InvalidData.into()),
        };
    }
    Ok(None)
}

fn is_changed(upper: &Path) -> bool {
    std::fs::metadata(upper.join("journal")).map_or(true, |journal| journal.len() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let temp = tempfile::tempdir().expect("tempdir");
        let store = Store::open_or_create(&temp.path().join("s")).expect("store");
        (temp, store)
    }

    fn upper(path: &Path, manifest: &Hash) {
        std::fs::create_dir_all(path).expect("mkdir");
        std::fs::write(path.join("upper"), head(manifest)).expect("head");
        std::fs::write(path.join("journal"), "x").expect("journal");
    }

    #[test]
    fn uppers_are_found_inside_and_elsewhere() {
        let (temp, store) = store();
        let [a, b, c] = [b"a", b"b", b"c"].map(|text| Hash::of(text));
        upper(&store.root().join("uppers/1-2"), &a);
        std::fs::create_dir(store.root().join("uppers/unmade")).expect("mkdir");
        let elsewhere = temp.path().join("else\nwhere");
        upper(&elsewhere, &b);
        store.note_upper(&elsewhere, &b).expect("note");
        store.note_upper(&elsewhere, &b).expect("again");
        let found = store.kept_uppers(true).expect("uppers");
        assert_eq!(found.iter().map(|kept| kept.manifest).collect::<Vec<_>>(), [a, b]);
        assert!(found.iter().all(|kept| kept.changed));

        // A commit gave it another manifest: its head knows better than the note.
        upper(&elsewhere, &c);
        assert_eq!(store.kept_uppers(true).expect("uppers")[1].manifest, c);
        // Gone, but perhaps not for good.
        std::fs::remove_dir_all(&elsewhere).expect("rm");
        assert_eq!(store.kept_uppers(true).expect("uppers")[1].manifest, b);
        let note = std::fs::read_dir(store.root().join("uppers")).expect("list");
        let note = note.flatten().find(|e| e.file_name().as_bytes().starts_with(b"at-"));
        let note = note.expect("a note").path();
        let old = SystemTime::now() - ABSENT - Duration::from_secs(60);
        File::open(&note).and_then(|file| file.set_modified(old)).expect("utimes");
        assert_eq!(store.kept_uppers(false).expect("uppers").len(), 1);
        assert!(note.exists(), "only looked at");
        assert_eq!(store.kept_uppers(true).expect("uppers").len(), 1);
        assert!(!note.exists());
    }

    #[test]
    fn a_damaged_head_is_an_error() {
        let (_temp, store) = store();
        let path = store.root().join("uppers/1-2");
        upper(&path, &Hash::of(b"a"));
        std::fs::write(path.join("upper"), "vrift upper 1\nabc\n").expect("head");
        let error = store.kept_uppers(true).expect_err("damaged");
        assert!(error.to_string().contains("uppers/1-2"), "{error}");
    }
}
