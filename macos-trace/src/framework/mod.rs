//! Apple's framework, by the `endpoint-sec` crate: one implementor of the client's
//! [`Endpoint`](vrift_macos_es::es::adapter::Endpoint). Compiled, linked against stubs of our own, and
//! never run.
//!
//! A client of the framework's belongs to the thread that made it. Messages come on a queue of the
//! framework's own, are handed over through a channel, and are answered from that thread.
//!
//! What must never happen here: a message that asks dropped without an answer. Where nobody is left to
//! decide, it is allowed at once: the client is about to end, which has the system allow it, too.

mod convert;
mod kinds;

use convert::event;
use endpoint_sec::sys::{
    NewClientError, RespondError, ReturnError, es_auth_result_t, es_mute_inversion_type_t,
    es_mute_path_type_t,
};
use endpoint_sec::{AuditToken, Client, Event, ExpectedResponseType, Message};
use std::cell::RefCell;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SendError, Sender, channel};
use std::time::{Duration, Instant};
use vrift_macos_es::es::adapter::{Endpoint, EndpointError, Message as Asked};
use vrift_macos_es::es::decide::{ALL, Reply};
use vrift_macos_es::es::event::{EsEvent, ProcessKey};
use vrift_macos_es::es::mute::{Mute, Plan};

/// How long nothing has to come, once the command has ended, until nothing more is expected.
const QUIET: Duration = Duration::from_millis(100);

/// A client of the framework's, and of its messages that have not been answered.
type Shared = Rc<RefCell<Client<'static>>>;

/// What the queue hands over: which client was told, and what.
struct Told(u8, Message);

/// The framework, with a client for each plan.
pub struct Framework {
    clients: Vec<Shared>,
    told: Receiver<Told>,
    sender: Sender<Told>,
    stop: Arc<AtomicBool>,
    /// Times are counted from here.
    began: Instant,
}

/// A message, and who answers it.
pub struct Answerable {
    client: Shared,
    message: Message,
    event: EsEvent,
}

/// This process' token.
pub fn own() -> Result<AuditToken, EndpointError> {
    let pid = i32::try_from(std::process::id()).unwrap_or(0);
    AuditToken::from_pid(pid).map_err(|number| EndpointError::Other(number.unsigned_abs()))
}

/// A process, by its token.
pub fn key(token: &AuditToken) -> ProcessKey {
    ProcessKey { pid: token.pid(), version: token.pidversion().cast_unsigned() }
}

fn refused(why: NewClientError) -> EndpointError {
    match why {
        NewClientError::NotEntitled => EndpointError::NotEntitled,
        NewClientError::NotPermitted => EndpointError::NotPermitted,
        NewClientError::NotPrivileged => EndpointError::NotPrivileged,
        NewClientError::TooManyClients => EndpointError::TooMany,
        NewClientError::InvalidArgument => EndpointError::Other(1),
        NewClientError::Internal => EndpointError::Other(2),
        NewClientError::Unknown(number) => EndpointError::Other(number.0),
        NewClientError::ApiUnavailable => EndpointError::Needs("a later release of macOS"),
    }
}

fn failed(why: ReturnError) -> EndpointError {
    match why {
        ReturnError::Error => EndpointError::Other(1),
        ReturnError::Unknown(number) => EndpointError::Other(number.0),
        ReturnError::ApiUnavailable => EndpointError::Needs("a later release of macOS"),
    }
}

fn unanswered(why: RespondError) -> EndpointError {
    match why {
        RespondError::InvalidArgument => EndpointError::Other(1),
        RespondError::Internal => EndpointError::Other(2),
        RespondError::MessageNotFound => EndpointError::Other(3),
        RespondError::DuplicateResponse => EndpointError::Other(4),
        RespondError::EventType => EndpointError::Other(5),
        RespondError::Unknown(number) => EndpointError::Other(number.0),
        RespondError::ApiUnavailable => EndpointError::Needs("a later release of macOS"),
    }
}

/// Answers as the message wants to be answered: flags for an open, else yes or no.
fn respond(
    client: &mut Client<'_>,
    message: &Message,
    reply: Reply,
    keep: bool,
) -> Result<(), RespondError> {
    let flags = match message.event().as_ref().and_then(Event::expected_response_type) {
        Some(ExpectedResponseType::Flags { .. }) => true,
        Some(ExpectedResponseType::Auth) | None => false,
    };
    let yes_or_no = |yes| match yes {
        true => es_auth_result_t::ES_AUTH_RESULT_ALLOW,
        false => es_auth_result_t::ES_AUTH_RESULT_DENY,
    };
    match (reply, flags) {
        (Reply::Flags(mask), true) => client.respond_flags_result(message, mask, keep),
        (Reply::Allow, true) => client.respond_flags_result(message, ALL, keep),
        (Reply::Deny, true) => client.respond_flags_result(message, 0, keep),
        (Reply::Flags(mask), false) => {
            client.respond_auth_result(message, yes_or_no(mask != 0), keep)
        }
        (reply, false) => {
            client.respond_auth_result(message, yes_or_no(reply == Reply::Allow), keep)
        }
    }
}

impl Framework {
    /// Finds out whether this program may have a client, by making one.
    pub fn new(macos: (u16, u16), stop: Arc<AtomicBool>) -> Result<Framework, EndpointError> {
        endpoint_sec::version::set_runtime_version(macos.0.into(), macos.1.into(), 0);
        let began = Instant::now();
        // It subscribes to nothing, so it is told nothing.
        Client::new(|_, _| {}).map_err(refused)?.delete().map_err(failed)?;
        let (sender, told) = channel();
        Ok(Framework { clients: Vec::new(), told, sender, stop, began })
    }

    /// One more client, which is told nothing yet.
    fn client(&self, number: u8) -> Result<Client<'static>, EndpointError> {
        let sender = self.sender.clone();
        let handler = move |client: &mut Client<'_>, message: Message| {
            if let Err(SendError(Told(_, message))) = sender.send(Told(number, message)) {
                // Of one that only tells, the framework says so; there is nobody to be told of it.
                let _ = respond(client, &message, Reply::Allow, false);
            }
        };
        Client::new(handler).map_err(refused)
    }
}

impl Endpoint for Framework {
    type Message = Answerable;

    fn begin(&mut self, plan: &Plan) -> Result<(), EndpointError> {
        let number = u8::try_from(self.clients.len()).map_err(|_| EndpointError::TooMany)?;
        let mut client = self.client(number)?;
        if plan.mute.contains(&Mute::InvertTargets) {
            // The system's own list of muted targets would be told, once it is turned round.
            client.unmute_all_target_paths().map_err(failed)?;
        }
        let own = own()?;
        for mute in &plan.mute {
            let path = |path: &[u8]| OsStr::from_bytes(path).to_owned();
            let done = match mute {
                Mute::Process(key_of) if *key_of == key(&own) => client.mute_process(&own),
                // Whoever else it was, there is no token for it.
                Mute::Process(_) => return Err(EndpointError::Needs("to mute itself alone")),
                Mute::TargetPrefix(prefix) => client
                    .mute_path(&path(prefix), es_mute_path_type_t::ES_MUTE_PATH_TYPE_TARGET_PREFIX),
                Mute::Target(target) => client.mute_path(
                    &path(target),
                    es_mute_path_type_t::ES_MUTE_PATH_TYPE_TARGET_LITERAL,
                ),
                Mute::InvertTargets => client
                    .invert_muting(es_mute_inversion_type_t::ES_MUTE_INVERSION_TYPE_TARGET_PATH),
            };
            done.map_err(failed)?;
        }
        let kinds = plan.subscribe.iter().map(kinds::of);
        let kinds = kinds.collect::<Option<Vec<_>>>();
        let kinds =
            kinds.ok_or(EndpointError::Needs("an event that this program does not know"))?;
        client.subscribe(&kinds).map_err(failed)?;
        self.clients.push(Rc::new(RefCell::new(client)));
        Ok(())
    }

    fn next(&mut self) -> Option<Answerable> {
        loop {
            match self.told.recv_timeout(QUIET) {
                Ok(Told(number, message)) => {
                    let event = event(&message, number, self.began);
                    // The clients are there before they are told anything that is taken out here.
                    let client = Rc::clone(self.clients.get(usize::from(number))?);
                    return Some(Answerable { client, message, event });
                }
                Err(RecvTimeoutError::Timeout) if !self.stop.load(Ordering::Acquire) => {}
                Err(_) => return None,
            }
        }
    }

    fn now(&self) -> u64 {
        convert::nanos(Instant::now(), self.began)
    }
}

impl Asked for Answerable {
    fn event(&self) -> &EsEvent {
        &self.event
    }

    fn answer(self, reply: Reply, keep: bool) -> Result<(), EndpointError> {
        respond(&mut self.client.borrow_mut(), &self.message, reply, keep).map_err(unanswered)
    }
}

impl Drop for Framework {
    fn drop(&mut self) {
        // What nobody took out is answered before the clients go.
        while let Ok(Told(number, message)) = self.told.try_recv() {
            if let Some(client) = self.clients.get(usize::from(number)) {
                let _ = respond(&mut client.borrow_mut(), &message, Reply::Allow, false);
            }
        }
    }
}
