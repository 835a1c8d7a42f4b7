//! What ES is asked to tell, and what to keep to itself.
//!
//! Each event that is told costs the process that waits for it. A guard needs only what happens in
//! and around the trees that it guards, so there muting of target paths is turned round (macOS 13:
//! what is muted is all that is told). Processes are another client's, which is told all of them:
//! whether a fork has a target path to be turned round by, Apple does not say. A trace, and rules,
//! take all events: to turn round which *processes* are told would lose what a new one does before it
//! is named.

use super::decide::Guard;
use super::event::ProcessKey;

/// A kind of event, as `eslogger --list-events` calls it, and how it comes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Its name.
    pub name: &'static str,
    /// It asks.
    pub auth: bool,
    /// The first macOS that has it, as (major, minor).
    pub since: (u16, u16),
}

const fn auth(name: &'static str) -> Subscription {
    Subscription { name, auth: true, since: (10, 15) }
}

const fn told(name: &'static str) -> Subscription {
    Subscription { name, auth: false, since: (10, 15) }
}

const fn later(subscription: Subscription, since: (u16, u16)) -> Subscription {
    Subscription { since, ..subscription }
}

/// What changes or opens something: asked.
const GUARDED: &[Subscription] = &[
    auth("open"),
    auth("create"),
    auth("rename"),
    auth("unlink"),
    auth("link"),
    auth("clone"),
    auth("exchangedata"),
    auth("truncate"),
    auth("setmode"),
    auth("setowner"),
    auth("setflags"),
    auth("setacl"),
    auth("setattrlist"),
    auth("setextattr"),
    auth("deleteextattr"),
    auth("utimes"),
    auth("uipc_bind"),
    auth("exec"),
    auth("mount"),
    later(auth("copyfile"), (12, 0)),
];

/// What the process tree is made of: told, always.
const PROCESSES: &[Subscription] = &[told("fork"), told("exit"), told("exec")];

/// What a trace holds besides.
const RECORDED: &[Subscription] = &[
    told("open"),
    told("close"),
    told("create"),
    told("rename"),
    told("unlink"),
    told("link"),
    told("clone"),
    told("exchangedata"),
    told("truncate"),
    told("write"),
    told("setmode"),
    told("setowner"),
    told("setflags"),
    told("setacl"),
    told("setattrlist"),
    told("setextattr"),
    told("deleteextattr"),
    told("utimes"),
    told("access"),
    told("stat"),
    told("readlink"),
    told("readdir"),
    told("chdir"),
    told("uipc_bind"),
    told("uipc_connect"),
    later(told("copyfile"), (12, 0)),
];

/// One thing that ES is told about telling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mute {
    /// `es_mute_process`: nothing that this process does.
    Process(ProcessKey),
    /// `es_mute_path(ES_MUTE_PATH_TYPE_TARGET_PREFIX)`: nothing that happens below.
    TargetPrefix(Vec<u8>),
    /// `es_mute_path(ES_MUTE_PATH_TYPE_TARGET_LITERAL)`: nothing that happens to this path.
    Target(Vec<u8>),
    /// `es_invert_muting(ES_MUTE_INVERSION_TYPE_TARGET_PATH)`: the paths that are muted are the only
    /// ones that are told.
    InvertTargets,
}

/// How one client begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What it mutes, in this order.
    pub mute: Vec<Mute>,
    /// What it subscribes to, after all muting is in place.
    pub subscribe: Vec<Subscription>,
}

/// The first macOS that turns muting round.
const INVERSION: (u16, u16) = (13, 0);

/// The clients for a guard, on this macOS. `own` is this program; `records`: there is a trace.
#[must_use]
pub fn plan(guard: &Guard, records: bool, own: ProcessKey, macos: (u16, u16)) -> Vec<Plan> {
    let client = |lists: &[&[Subscription]]| {
        let all = lists.iter().copied().flatten();
        let there = all.filter(|subscription| subscription.since <= macos);
        Plan { mute: vec![Mute::Process(own)], subscribe: there.copied().collect() }
    };
    if records {
        return vec![client(&[GUARDED, PROCESSES, RECORDED])];
    }
    if macos < INVERSION || guard.has_rules() {
        return vec![client(&[GUARDED, PROCESSES])];
    }
    let mut files = client(&[GUARDED]);
    files.mute.push(Mute::InvertTargets);
    for tree in guard.trees().iter().map(Vec::as_slice).chain(guard.private()) {
        // The tree itself is a name, too; and a prefix without a slash would be its sister's.
        files.mute.push(Mute::Target(tree.to_vec()));
        files.mute.push(Mute::TargetPrefix([tree, b"/"].concat()));
        // A directory above it that is renamed takes it along.
        let slashes = tree.iter().enumerate().filter(|(at, byte)| **byte == b'/' && *at > 0);
        for (at, _) in slashes {
            let above = Mute::Target(tree[..at].to_vec());
            if !files.mute.contains(&above) {
                files.mute.push(above);
            }
        }
    }
    vec![client(&[PROCESSES]), files]
}
