//! From the framework's messages to events of our own: plain data, nothing borrowed.
//!
//! The same as what is made of `eslogger`'s JSON (`vrift_macos_es::es::json`), which prints the same
//! structures.

use super::{key, kinds};
use endpoint_sec::{
    Action as Answer, Event, EventCopyFile, EventCreate, EventCreateDestinationFile, EventExec,
    EventRename, EventRenameDestinationFile, File as Named, Message, Process as Actor,
};
use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::time::Instant;
use vrift_macos_es::es::event::{Action, Change, EsEvent, File, Look, Process, What};

/// The bits of `st_mode` that say what a file is.
const S_IFMT: u32 = 0o170_000;
const S_IFSOCK: u32 = 0o140_000;

/// Nanoseconds from one moment to another; 0 for what was before.
pub fn nanos(at: Instant, began: Instant) -> u64 {
    u64::try_from(at.saturating_duration_since(began).as_nanos()).unwrap_or(u64::MAX)
}

/// A message as an event. `client` was told, times are counted from `began`.
pub fn event(message: &Message, client: u8, began: Instant) -> EsEvent {
    // A time that can't be told counts as the first: of a deadline that is the careful way.
    let time = |at: Result<Instant, _>| at.map_or(0, |at| nanos(at, began));
    let action = match message.action() {
        Some(Answer::Auth(_)) => Action::Auth,
        Some(Answer::Notify(_)) | None => Action::Notify,
    };
    let name = kinds::name(message.event_type());
    let known = message.event().and_then(|event| what(&event));
    EsEvent {
        action,
        client,
        seq: message.seq_num(),
        global_seq: message.global_seq_num(),
        at: time(message.mach_time()),
        deadline: (action == Action::Auth).then(|| time(message.deadline())),
        process: process(&message.process()),
        what: known.unwrap_or_else(|| What::Unknown(name.clone())),
        name,
    }
}

fn bytes(text: &OsStr) -> Vec<u8> {
    text.as_bytes().to_vec()
}

fn process(process: &Actor<'_>) -> Process {
    Process {
        key: key(&process.audit_token()),
        parent: process.ppid(),
        executable: bytes(process.executable().path()),
        platform: process.is_platform_binary(),
        client: process.is_es_client(),
        signing: process.codesigning_flags(),
    }
}

fn file(file: &Named<'_>) -> File {
    File {
        path: bytes(file.path()),
        truncated: file.path_truncated(),
        kind: u32::from(file.stat().st_mode) & S_IFMT,
    }
}

/// A name in a directory, which may not be there yet.
fn named(dir: &Named<'_>, name: &OsStr, kind: u32) -> File {
    let mut path = bytes(dir.path());
    if path != b"/" {
        path.push(b'/');
    }
    path.extend(name.as_bytes());
    File { path, truncated: dir.path_truncated(), kind }
}

fn created(event: &EventCreate<'_>) -> Option<File> {
    Some(match event.destination()? {
        EventCreateDestinationFile::ExistingFile { file: there, .. } => file(&there),
        EventCreateDestinationFile::NewPath { directory, filename, mode, .. } => {
            named(&directory, filename, u32::from(mode) & S_IFMT)
        }
        _ => return None,
    })
}

fn renamed(event: &EventRename<'_>) -> Option<File> {
    Some(match event.destination()? {
        EventRenameDestinationFile::ExistingFile { file: there, .. } => file(&there),
        EventRenameDestinationFile::NewPath { directory, filename, .. } => {
            named(&directory, filename, 0)
        }
        _ => return None,
    })
}

fn copied(event: &EventCopyFile<'_>) -> File {
    let there = event.target_file().map(|there| file(&there));
    there.unwrap_or_else(|| named(&event.target_dir(), event.target_name(), 0))
}

fn exec(event: &EventExec<'_>) -> What {
    let target = event.target();
    What::Exec {
        file: file(&target.executable()),
        target: process(&target),
        args: event.args().map(bytes).collect(),
        env: event.envs().map(bytes).collect(),
        cwd: event.cwd().map(|dir| bytes(dir.path())),
        script: event.script().map(|script| bytes(script.path())),
    }
}

/// What happens. None: an event that is not known here, or says of itself nothing that is.
fn what(event: &Event<'_>) -> Option<What> {
    let change = |change, target: Named<'_>| What::Change(change, file(&target));
    let look = |look, target: Named<'_>| What::Look(look, file(&target));
    Some(match event {
        Event::AuthOpen(it) | Event::NotifyOpen(it) => {
            What::Open(file(&it.file()), it.fflag().cast_unsigned())
        }
        Event::NotifyClose(it) => What::Close(file(&it.target()), it.modified()),
        Event::AuthCreate(it) | Event::NotifyCreate(it) => What::Create(created(it)?),
        Event::AuthRename(it) | Event::NotifyRename(it) => {
            What::Rename(file(&it.source()), renamed(it)?)
        }
        Event::AuthUnlink(it) | Event::NotifyUnlink(it) => What::Unlink(file(&it.target())),
        Event::AuthLink(it) | Event::NotifyLink(it) => {
            What::Link(file(&it.source()), named(&it.target_dir(), it.target_filename(), 0))
        }
        Event::AuthClone(it) | Event::NotifyClone(it) => {
            What::Clone(file(&it.source()), named(&it.target_dir(), it.target_name(), 0))
        }
        Event::AuthCopyFile(it) | Event::NotifyCopyFile(it) => {
            What::Clone(file(&it.source()), copied(it))
        }
        Event::AuthExchangeData(it) | Event::NotifyExchangeData(it) => {
            What::Exchange(file(&it.file1()), file(&it.file2()))
        }
        Event::AuthUipcBind(it) | Event::NotifyUipcBind(it) => {
            What::Create(named(&it.dir(), it.filename(), S_IFSOCK))
        }
        Event::NotifyUipcConnect(it) => look(Look::Connect, it.file()),
        Event::AuthTruncate(it) | Event::NotifyTruncate(it) => {
            change(Change::Truncate, it.target())
        }
        Event::AuthSetMode(it) | Event::NotifySetMode(it) => change(Change::Mode, it.target()),
        Event::AuthSetOwner(it) | Event::NotifySetOwner(it) => change(Change::Owner, it.target()),
        Event::AuthSetFlags(it) | Event::NotifySetFlags(it) => change(Change::Flags, it.target()),
        Event::AuthSetAcl(it) | Event::NotifySetAcl(it) => change(Change::Acl, it.target()),
        Event::AuthSetAttrlist(it) | Event::NotifySetAttrlist(it) => {
            change(Change::Attributes, it.target())
        }
        Event::AuthSetExtAttr(it) | Event::NotifySetExtAttr(it) => {
            change(Change::Xattr, it.target())
        }
        Event::AuthDeleteExtAttr(it) | Event::NotifyDeleteExtAttr(it) => {
            change(Change::Xattr, it.target())
        }
        Event::AuthUTimes(it) | Event::NotifyUTimes(it) => change(Change::Times, it.target()),
        Event::NotifyWrite(it) => change(Change::Write, it.target()),
        Event::NotifyAccess(it) => look(Look::Access(it.mode().cast_unsigned()), it.target()),
        Event::NotifyStat(it) => look(Look::Stat, it.target()),
        Event::NotifyReadLink(it) => look(Look::ReadLink, it.source()),
        Event::NotifyReadDir(it) => look(Look::List, it.target()),
        Event::NotifyChdir(it) => look(Look::Enter, it.target()),
        Event::AuthExec(it) | Event::NotifyExec(it) => exec(it),
        Event::NotifyFork(it) => What::Fork(process(&it.child())),
        Event::NotifyExit(it) => What::Exit(it.stat()),
        Event::AuthMount(it) => What::Mount(mounted_on(&it.statfs().f_mntonname)),
        _ => return None,
    })
}

/// A path in a structure of a fixed length.
fn mounted_on(path: &[std::ffi::c_char]) -> Vec<u8> {
    let path: Vec<u8> = path.iter().map(|byte| byte.cast_unsigned()).collect();
    CStr::from_bytes_until_nul(&path).map_or(path.clone(), |path| path.to_bytes().to_vec())
}
