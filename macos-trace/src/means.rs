//! Which means a job gets: the shim, Endpoint Security, both or neither.
//!
//! The shim alone can project. Endpoint Security alone holds a job to rules for real paths, and tells
//! what a trace is made of; beside the shim it guards the store from programs that the shim isn't in.
//! What a job can't do without is a reason not to start it, and never left out.

use crate::Complaint;
use crate::machine::Facts;

/// What a job asks for.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// Something is projected.
    pub mounts: bool,
    /// There are rules for real paths.
    pub rules: bool,
    /// A trace is written.
    pub trace: bool,
}

/// What a job gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Means {
    /// The shim is in its processes.
    pub shim: bool,
    /// An Endpoint Security client is beside them.
    pub endpoint: bool,
    /// Why there is no client where one would do good.
    pub unguarded: Option<String>,
}

impl Means {
    /// In words, for the summary.
    #[must_use]
    pub fn shown(&self) -> String {
        match (self.shim, self.endpoint, &self.unguarded) {
            (true, true, _) => "by the shim and Endpoint Security".into(),
            (true, false, Some(why)) => format!("by the shim alone: {why}"),
            (true, false, None) => "by the shim alone".into(),
            (false, true, _) => "by Endpoint Security alone".into(),
            (false, false, _) => "unobserved: it has no mount, no rule and no trace".into(),
        }
    }
}

/// The means for a job on a machine.
///
/// # Errors
/// One line: what the job asks for and can't have here, why, and what to do.
pub fn choose(wants: Wants, facts: &Facts) -> Result<Means, Complaint> {
    if wants.mounts {
        if facts.inside {
            return Err(
                "this is a job of vrift-trace already, and its processes have one shim; start \
                        the other job outside of it"
                    .into(),
            );
        }
        facts.library.as_ref().map_err(|why| format!("a mount needs the shim: {why}"))?;
    }
    let endpoint = match &facts.endpoint {
        Ok(()) => wants != Wants::default(),
        Err(why) if wants.rules => {
            return Err(format!(
                "the policy's rules for real paths are held by Endpoint Security: {why}; or leave \
                 the rules out"
            ));
        }
        Err(why) if wants.trace => {
            return Err(format!(
                "a trace is what Endpoint Security tells: {why}; or leave --trace out"
            ));
        }
        Err(_) => false,
    };
    facts.starter.as_ref().map_err(Clone::clone)?;
    let unguarded = facts.endpoint.as_ref().err().filter(|_| wants.mounts);
    Ok(Means { shim: wants.mounts, endpoint, unguarded: unguarded.map(ToString::to_string) })
}
