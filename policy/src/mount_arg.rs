//! `--mount AT=REF[,mode=M][,upper=DIR][,commit=REF]`.
//!
//! The text up to the first `,` names the mount: up to its first `=` the mount point, after it
//! the manifest; without `=` it is the manifest alone, at the default mount point. A `,`, an `=`
//! (in a mount point, or in a manifest named alone) or a `\` that belongs to a name is written
//! with a `\` before it; any other character after a `\` stands for itself, too. Names are bytes
//! and need not be UTF-8.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::error::MountArgError;
use crate::mount::{Mode, MountSpec, OnExit, Origin};
use crate::prefix::check_mount_point;
use crate::shown::shown;
use crate::suggest::nearest;

/// The options after the manifest.
const OPTIONS: [&str; 3] = ["mode", "upper", "commit"];

impl MountSpec {
    /// Reads the argument of `--mount`. Where it names no mount point, `default_prefix` is taken.
    ///
    /// # Errors
    /// One line that repeats the argument and says what to write instead.
    pub fn parse_arg(argument: &OsStr, default_prefix: &Path) -> Result<MountSpec, MountArgError> {
        let written = argument;
        let argument = shown(written.as_bytes());
        let fields = split(written.as_bytes())
            .ok_or_else(|| MountArgError::LoneBackslash { argument: argument.clone() })?;
        let mut fields = fields.into_iter();
        let (at, manifest) = match fields.next() {
            Some(Field { key: Some(at), value }) => (Some(at), value),
            Some(Field { key: None, value }) => (None, value),
            None => (None, Vec::new()),
        };
        if manifest.is_empty() {
            return Err(MountArgError::NoManifest { argument });
        }
        let given = at.is_some();
        let at = at.map_or_else(|| default_prefix.to_owned(), path);
        check_mount_point(&at).map_err(|source| {
            let hint = if given && at.is_relative() {
                " (an `=` that belongs to a manifest's name is written `\\=`)"
            } else if given {
                ""
            } else {
                " (no mount point was given, so this default was taken)"
            };
            MountArgError::MountPoint { argument: argument.clone(), source, hint }
        })?;
        let mut spec = MountSpec {
            at,
            manifest: OsString::from_vec(manifest),
            mode: Mode::ReadOnly,
            upper: None,
            on_exit: None,
            origin: Origin::Argument(written.to_owned()),
        };
        let mut seen = Vec::new();
        for field in fields {
            let name = option_name(&field, &argument)?;
            if seen.contains(&name) {
                return Err(MountArgError::Twice { argument, option: name });
            }
            seen.push(name);
            set_option(&mut spec, name, field.value, &argument)?;
        }
        Ok(spec)
    }
}

/// One part between unescaped commas, cut at its first unescaped `=`.
struct Field {
    key: Option<Vec<u8>>,
    value: Vec<u8>,
}

/// Cuts the argument and removes the backslashes; `None` when it ends in a lone one.
fn split(argument: &[u8]) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    let mut field = Field { key: None, value: Vec::new() };
    let mut bytes = argument.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => field.value.push(bytes.next()?),
            b',' => {
                let next = Field { key: None, value: Vec::new() };
                fields.push(std::mem::replace(&mut field, next));
            }
            b'=' if field.key.is_none() => field.key = Some(std::mem::take(&mut field.value)),
            _ => field.value.push(byte),
        }
    }
    fields.push(field);
    Some(fields)
}

fn option_name(field: &Field, argument: &str) -> Result<&'static str, MountArgError> {
    let written = field.key.as_ref().unwrap_or(&field.value);
    let text = String::from_utf8_lossy(written);
    let known = OPTIONS.into_iter().find(|option| *option == text);
    match (known, &field.key) {
        (Some(name), Some(_)) => Ok(name),
        (Some(name), None) => Err(MountArgError::UnknownOption {
            argument: argument.to_owned(),
            option: shown(written),
            hint: format!("write `{name}=…`"),
        }),
        (None, _) => {
            let hint = match nearest(&text, OPTIONS) {
                Some(near) => format!("did you mean `{near}=…`?"),
                None => "the options are `mode=`, `upper=` and `commit=` (a `,` that belongs to a \
                         name is written `\\,`)"
                    .to_owned(),
            };
            let option = shown(written);
            Err(MountArgError::UnknownOption { argument: argument.to_owned(), option, hint })
        }
    }
}

fn set_option(
    spec: &mut MountSpec,
    option: &'static str,
    value: Vec<u8>,
    argument: &str,
) -> Result<(), MountArgError> {
    let bad = |value: &[u8], hint: &str| MountArgError::BadValue {
        argument: argument.to_owned(),
        option,
        value: shown(value),
        hint: hint.to_owned(),
    };
    match option {
        "mode" => {
            spec.mode = Mode::of_word(&value).ok_or_else(|| {
                let text = String::from_utf8_lossy(&value);
                match nearest(&text, Mode::ALL.map(Mode::as_str)) {
                    Some(near) => bad(&value, &format!("did you mean `{near}`?")),
                    None => bad(&value, "use `read-only`, `copy-on-write` or `overlay`"),
                }
            })?;
        }
        "upper" => {
            if value.is_empty() {
                return Err(bad(&value, "name a directory"));
            }
            spec.upper = Some(path(value));
        }
        _ => {
            let name = String::from_utf8(value)
                .map_err(|error| bad(error.as_bytes(), "a ref's name is UTF-8"))?;
            if name.is_empty() {
                return Err(bad(b"", "name a ref"));
            }
            spec.on_exit = Some(OnExit::Commit(name));
        }
    }
    Ok(())
}

fn path(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes))
}
