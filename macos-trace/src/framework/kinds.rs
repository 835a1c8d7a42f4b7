//! Kinds of events: their names, as `eslogger` and the plans have them, and the framework's numbers.

use endpoint_sec::sys::es_event_type_t as Kind;
use vrift_macos_es::es::mute::Subscription;

/// Those that ask.
const ASKED: &[(&str, Kind)] = &[
    ("open", Kind::ES_EVENT_TYPE_AUTH_OPEN),
    ("create", Kind::ES_EVENT_TYPE_AUTH_CREATE),
    ("rename", Kind::ES_EVENT_TYPE_AUTH_RENAME),
    ("unlink", Kind::ES_EVENT_TYPE_AUTH_UNLINK),
    ("link", Kind::ES_EVENT_TYPE_AUTH_LINK),
    ("clone", Kind::ES_EVENT_TYPE_AUTH_CLONE),
    ("exchangedata", Kind::ES_EVENT_TYPE_AUTH_EXCHANGEDATA),
    ("truncate", Kind::ES_EVENT_TYPE_AUTH_TRUNCATE),
    ("setmode", Kind::ES_EVENT_TYPE_AUTH_SETMODE),
    ("setowner", Kind::ES_EVENT_TYPE_AUTH_SETOWNER),
    ("setflags", Kind::ES_EVENT_TYPE_AUTH_SETFLAGS),
    ("setacl", Kind::ES_EVENT_TYPE_AUTH_SETACL),
    ("setattrlist", Kind::ES_EVENT_TYPE_AUTH_SETATTRLIST),
    ("setextattr", Kind::ES_EVENT_TYPE_AUTH_SETEXTATTR),
    ("deleteextattr", Kind::ES_EVENT_TYPE_AUTH_DELETEEXTATTR),
    ("utimes", Kind::ES_EVENT_TYPE_AUTH_UTIMES),
    ("uipc_bind", Kind::ES_EVENT_TYPE_AUTH_UIPC_BIND),
    ("exec", Kind::ES_EVENT_TYPE_AUTH_EXEC),
    ("mount", Kind::ES_EVENT_TYPE_AUTH_MOUNT),
    ("copyfile", Kind::ES_EVENT_TYPE_AUTH_COPYFILE),
];

/// Those that tell.
const TOLD: &[(&str, Kind)] = &[
    ("fork", Kind::ES_EVENT_TYPE_NOTIFY_FORK),
    ("exit", Kind::ES_EVENT_TYPE_NOTIFY_EXIT),
    ("exec", Kind::ES_EVENT_TYPE_NOTIFY_EXEC),
    ("open", Kind::ES_EVENT_TYPE_NOTIFY_OPEN),
    ("close", Kind::ES_EVENT_TYPE_NOTIFY_CLOSE),
    ("create", Kind::ES_EVENT_TYPE_NOTIFY_CREATE),
    ("rename", Kind::ES_EVENT_TYPE_NOTIFY_RENAME),
    ("unlink", Kind::ES_EVENT_TYPE_NOTIFY_UNLINK),
    ("link", Kind::ES_EVENT_TYPE_NOTIFY_LINK),
    ("clone", Kind::ES_EVENT_TYPE_NOTIFY_CLONE),
    ("exchangedata", Kind::ES_EVENT_TYPE_NOTIFY_EXCHANGEDATA),
    ("truncate", Kind::ES_EVENT_TYPE_NOTIFY_TRUNCATE),
    ("write", Kind::ES_EVENT_TYPE_NOTIFY_WRITE),
    ("setmode", Kind::ES_EVENT_TYPE_NOTIFY_SETMODE),
    ("setowner", Kind::ES_EVENT_TYPE_NOTIFY_SETOWNER),
    ("setflags", Kind::ES_EVENT_TYPE_NOTIFY_SETFLAGS),
    ("setacl", Kind::ES_EVENT_TYPE_NOTIFY_SETACL),
    ("setattrlist", Kind::ES_EVENT_TYPE_NOTIFY_SETATTRLIST),
    ("setextattr", Kind::ES_EVENT_TYPE_NOTIFY_SETEXTATTR),
    ("deleteextattr", Kind::ES_EVENT_TYPE_NOTIFY_DELETEEXTATTR),
    ("utimes", Kind::ES_EVENT_TYPE_NOTIFY_UTIMES),
    ("access", Kind::ES_EVENT_TYPE_NOTIFY_ACCESS),
    ("stat", Kind::ES_EVENT_TYPE_NOTIFY_STAT),
    ("readlink", Kind::ES_EVENT_TYPE_NOTIFY_READLINK),
    ("readdir", Kind::ES_EVENT_TYPE_NOTIFY_READDIR),
    ("chdir", Kind::ES_EVENT_TYPE_NOTIFY_CHDIR),
    ("uipc_bind", Kind::ES_EVENT_TYPE_NOTIFY_UIPC_BIND),
    ("uipc_connect", Kind::ES_EVENT_TYPE_NOTIFY_UIPC_CONNECT),
    ("copyfile", Kind::ES_EVENT_TYPE_NOTIFY_COPYFILE),
];

/// The framework's number for what a plan subscribes to. None: it isn't known here.
pub fn of(subscription: &Subscription) -> Option<Kind> {
    let kinds = if subscription.auth { ASKED } else { TOLD };
    kinds.iter().find(|(name, _)| *name == subscription.name).map(|(_, kind)| *kind)
}

/// The name of a kind. One that no plan subscribes to has its number for a name.
pub fn name(kind: Kind) -> String {
    let known = ASKED.iter().chain(TOLD).find(|(_, known)| *known == kind);
    known.map_or_else(|| kind.0.to_string(), |(name, _)| (*name).to_owned())
}
