//! Events from the JSON that `eslogger` prints, one to a line.
//!
//! eslogger is no API: its manual says that the shape may change with any release. So everything that
//! is not needed is passed over, a line that can't be understood is an error with its number and does
//! not end the reading, and events that are not known are counted by name.

use super::event::{Action, Change, EsEvent, File, Look, Process, ProcessKey, What};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::io::{BufRead, Read};

/// The longest line that is read, bytes. An exec's arguments and environment have a mebibyte
/// (`ARG_MAX`), which escapes can make six times as long.
pub const LINE_MAX: u64 = 16 << 20;

/// How many unknown events are counted by name; the rest, together.
const NAMES: usize = 64;

/// Why a line is no event.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The file can't be read.
    #[error("line {line}: {source}")]
    Read {
        /// Counted from 1.
        line: u64,
        /// Why.
        source: std::io::Error,
    },
    /// It is longer than [`LINE_MAX`].
    #[error("line {line} is longer than {LINE_MAX} bytes; it was passed over")]
    TooLong {
        /// Counted from 1.
        line: u64,
    },
    /// It is no JSON.
    #[error("line {line} is no JSON: {source}")]
    Json {
        /// Counted from 1.
        line: u64,
        /// Why.
        source: serde_json::Error,
    },
    /// It is JSON and no event.
    #[error("line {line} is no event of eslogger's: {what}")]
    Shape {
        /// Counted from 1.
        line: u64,
        /// What is missing, or isn't what it should be.
        what: String,
    },
}

/// Reads events from lines.
#[derive(Debug)]
pub struct Reader<R> {
    lines: R,
    line: u64,
    buffer: Vec<u8>,
    unknown: BTreeMap<String, u64>,
    others: u64,
    over: bool,
}

impl<R: BufRead> Reader<R> {
    /// A reader from the first line.
    pub fn new(lines: R) -> Reader<R> {
        let (buffer, unknown) = (Vec::new(), BTreeMap::new());
        Reader { lines, line: 0, buffer, unknown, others: 0, over: false }
    }

    /// Events that were not known, by name: how often each came. The last, with an empty name, are
    /// those beyond the first 64 names.
    pub fn unknown(&self) -> impl Iterator<Item = (&str, u64)> {
        let others = (self.others > 0).then_some(("", self.others));
        self.unknown.iter().map(|(name, count)| (name.as_str(), *count)).chain(others)
    }

    fn count(&mut self, name: &str) {
        if let Some(count) = self.unknown.get_mut(name) {
            *count += 1;
        } else if self.unknown.len() < NAMES {
            self.unknown.insert(name.to_owned(), 1);
        } else {
            self.others += 1;
        }
    }

    /// One line, without its end. None: there is no more.
    fn read_line(&mut self) -> Option<Result<(), LineError>> {
        self.buffer.clear();
        self.line += 1;
        let line = self.line;
        let mut limited = self.lines.by_ref().take(LINE_MAX + 1);
        match limited.read_until(b'\n', &mut self.buffer) {
            Ok(0) => None,
            Ok(_) if self.buffer.len() as u64 > LINE_MAX => {
                // What follows up to the line's end is passed over, not kept.
                Some(match self.lines.skip_until(b'\n') {
                    Ok(_) => Err(LineError::TooLong { line }),
                    Err(source) => self.broken(source),
                })
            }
            Ok(_) => Some(Ok(())),
            Err(source) => Some(self.broken(source)),
        }
    }

    fn broken(&mut self, source: std::io::Error) -> Result<(), LineError> {
        self.over = true;
        Err(LineError::Read { line: self.line, source })
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<EsEvent, LineError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.over {
                return None;
            }
            if let Err(error) = self.read_line()? {
                return Some(Err(error));
            }
            if self.buffer.trim_ascii().is_empty() {
                continue;
            }
            let line = self.line;
            let value: Value = match serde_json::from_slice(&self.buffer) {
                Ok(value) => value,
                Err(source) => return Some(Err(LineError::Json { line, source })),
            };
            let event = event(&value).map_err(|what| LineError::Shape { line, what });
            if let Ok(EsEvent { what: What::Unknown(name), .. }) = &event {
                let name = name.clone();
                self.count(&name);
            }
            return Some(event);
        }
    }
}

/// What is wrong with a line.
type Shape<T> = Result<T, String>;

/// One event of eslogger's.
///
/// # Errors
/// What is missing, in words.
pub fn event(value: &Value) -> Shape<EsEvent> {
    let whole = value.as_object().ok_or("not an object")?;
    let process = process(get(whole, "process")?).map_err(|what| format!("process: {what}"))?;
    let body = get(whole, "event")?.as_object().ok_or("`event` is not an object")?;
    let (name, body) = body.iter().next().ok_or("`event` is empty")?;
    let what = what(name, body).map_err(|what| format!("{name}: {what}"))?;
    let number = |key: &str| whole.get(key).and_then(Value::as_u64);
    // eslogger itself only tells; `action_type` 0 is of recordings that other clients make.
    let asked = number("action_type") == Some(0);
    Ok(EsEvent {
        action: if asked { Action::Auth } else { Action::Notify },
        client: 0,
        name: name.clone(),
        seq: number("seq_num"),
        global_seq: number("global_seq_num"),
        at: number("mach_time").unwrap_or(0),
        deadline: if asked { number("deadline") } else { None },
        process,
        what,
    })
}

fn get<'v>(map: &'v Map<String, Value>, key: &str) -> Shape<&'v Value> {
    map.get(key).ok_or_else(|| format!("no `{key}`"))
}

fn text(value: &Value) -> Shape<Vec<u8>> {
    Ok(value.as_str().ok_or("a name is not a string")?.as_bytes().to_vec())
}

fn integer<T: TryFrom<i64>>(map: &Map<String, Value>, key: &str) -> Shape<T> {
    let number = get(map, key)?.as_i64().and_then(|number| T::try_from(number).ok());
    number.ok_or_else(|| format!("`{key}` is not a number that fits"))
}

fn process(value: &Value) -> Shape<Process> {
    let map = value.as_object().ok_or("not an object")?;
    let token = get(map, "audit_token")?.as_object().ok_or("`audit_token` is not an object")?;
    let flag = |key: &str| map.get(key).and_then(Value::as_bool).unwrap_or(false);
    let signing = map.get("codesigning_flags").and_then(Value::as_u64).unwrap_or(0);
    Ok(Process {
        key: ProcessKey { pid: integer(token, "pid")?, version: integer(token, "pidversion")? },
        parent: integer(map, "ppid")?,
        executable: file(get(map, "executable")?)?.path,
        platform: flag("is_platform_binary"),
        client: flag("is_es_client"),
        signing: u32::try_from(signing).unwrap_or(0),
    })
}

fn file(value: &Value) -> Shape<File> {
    let map = value.as_object().ok_or("a file is not an object")?;
    let stat = map.get("stat").and_then(Value::as_object);
    let mode = stat.and_then(|stat| stat.get("st_mode")).and_then(Value::as_u64).unwrap_or(0);
    Ok(File {
        path: text(get(map, "path")?)?,
        truncated: map.get("path_truncated").and_then(Value::as_bool).unwrap_or(false),
        kind: u32::try_from(mode & 0o170_000).unwrap_or(0),
    })
}

/// A name in a directory, which may not be there yet.
fn named(map: &Map<String, Value>, dir: &str, name: &str, kind: u32) -> Shape<File> {
    let dir = file(get(map, dir)?)?;
    let mut path = dir.path;
    if path != b"/" {
        path.push(b'/');
    }
    path.extend(text(get(map, name)?)?);
    Ok(File { path, truncated: dir.truncated, kind })
}

/// `es_event_create_t.destination` and `es_event_rename_t.destination`.
fn destination(map: &Map<String, Value>) -> Shape<File> {
    let to = get(map, "destination")?.as_object().ok_or("`destination` is not an object")?;
    if let Some(existing) = to.get("existing_file") {
        return file(existing);
    }
    let new = get(to, "new_path")?.as_object().ok_or("`new_path` is not an object")?;
    let mode = new.get("mode").and_then(Value::as_u64).unwrap_or(0);
    named(new, "dir", "filename", u32::try_from(mode & 0o170_000).unwrap_or(0))
}

fn words(map: &Map<String, Value>, key: &str) -> Shape<Vec<Vec<u8>>> {
    match map.get(key) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(words)) => words.iter().map(text).collect(),
        Some(_) => Err(format!("`{key}` is not a list")),
    }
}

fn optional(map: &Map<String, Value>, key: &str) -> Shape<Option<Vec<u8>>> {
    match map.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => Ok(Some(file(value)?.path)),
    }
}

fn exec(map: &Map<String, Value>) -> Shape<What> {
    let target_value = get(map, "target")?;
    let target = process(target_value).map_err(|what| format!("target: {what}"))?;
    let executable = target_value.as_object().and_then(|map| map.get("executable"));
    Ok(What::Exec {
        target,
        file: file(executable.ok_or("no `executable`")?)?,
        args: words(map, "args")?,
        env: words(map, "env")?,
        cwd: optional(map, "cwd")?,
        script: optional(map, "script")?,
    })
}

fn what(name: &str, body: &Value) -> Shape<What> {
    let empty = Map::new();
    let map = match body {
        Value::Null => &empty,
        body => body.as_object().ok_or("not an object")?,
    };
    let at = |key: &str| file(get(map, key)?);
    let change = |change: Change| Ok(What::Change(change, at("target")?));
    let look = |look: Look, key: &str| Ok(What::Look(look, at(key)?));
    match name {
        "open" => Ok(What::Open(at("file")?, integer(map, "fflag")?)),
        "close" => {
            let modified = map.get("modified").and_then(Value::as_bool).unwrap_or(false);
            Ok(What::Close(at("target")?, modified))
        }
        "create" => Ok(What::Create(destination(map)?)),
        "rename" => Ok(What::Rename(at("source")?, destination(map)?)),
        "unlink" => Ok(What::Unlink(at("target")?)),
        "link" => Ok(What::Link(at("source")?, named(map, "target_dir", "target_filename", 0)?)),
        "clone" => Ok(What::Clone(at("source")?, named(map, "target_dir", "target_name", 0)?)),
        "copyfile" => Ok(What::Clone(at("source")?, named(map, "target_dir", "target_name", 0)?)),
        "exchangedata" => Ok(What::Exchange(at("file1")?, at("file2")?)),
        "uipc_bind" => Ok(What::Create(named(map, "dir", "filename", 0o140_000)?)),
        "uipc_connect" => look(Look::Connect, "file"),
        "truncate" => change(Change::Truncate),
        "write" => change(Change::Write),
        "setmode" => change(Change::Mode),
        "setowner" => change(Change::Owner),
        "setflags" => change(Change::Flags),
        "setacl" => change(Change::Acl),
        "setattrlist" => change(Change::Attributes),
        "setextattr" | "deleteextattr" => change(Change::Xattr),
        "utimes" => change(Change::Times),
        "access" => Ok(What::Look(Look::Access(integer(map, "mode")?), at("target")?)),
        "stat" => look(Look::Stat, "target"),
        "readlink" => look(Look::ReadLink, "source"),
        "readdir" => look(Look::List, "target"),
        "chdir" => look(Look::Enter, "target"),
        "getextattr" | "listextattr" => look(Look::Xattr, "target"),
        "getattrlist" | "fsgetpath" => look(Look::Attributes, "target"),
        "mmap" => look(Look::Map, "source"),
        "exec" => exec(map),
        "fork" => Ok(What::Fork(process(get(map, "child")?)?)),
        "exit" => Ok(What::Exit(integer(map, "stat")?)),
        "mount" | "unmount" => {
            let at = get(map, "statfs")?.as_object().and_then(|map| map.get("f_mntonname"));
            Ok(What::Mount(text(at.ok_or("no `f_mntonname`")?)?))
        }
        name => Ok(What::Unknown(name.to_owned())),
    }
}
