//! Requests that come again while the first one waits for its answer, or after it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use zmqv2_proto::{Flags, Header, Kind, MessageId, Reason, Refusal};

use super::queue::Gate;
use crate::rpc::duplicates::recent::{RecentIds, Seen};
use crate::rpc::duplicates::repeats::StoredAnswer;
use crate::rpc::wrong_kind;
use crate::runtime::now;
use crate::runtime::shared_socket::Deferred;
use crate::runtime::worker::{answer_to, expired};

/// What a server knows of the requests that may come again. A request that comes again gets the
/// answer of the first one.
#[derive(Default)]
pub(crate) struct Repeats(Mutex<Known>);

#[derive(Default)]
struct Known {
    recent: RecentIds<StoredAnswer>,
    /// The requests that came again and wait for the first one.
    waiting: HashMap<MessageId, Vec<Deferred>>,
}

impl Repeats {
    /// Returns the request if it has not come before. Else answers it, now or with the first one.
    pub(crate) fn take(&self, request: Deferred) -> Option<Deferred> {
        let Header { id, flags, .. } = request.header;
        if !flags.contains(Flags::MAY_REPEAT) {
            return Some(request);
        }
        let mut known = self.lock();
        match known.recent.record(id, request.deadline, now()) {
            Seen::New => Some(request),
            Seen::Answered(answer) => {
                drop(known);
                log::debug!("message {id} came again");
                repeat(request, &answer);
                None
            }
            Seen::Running => {
                known.waiting.entry(id).or_default().push(request);
                None
            }
        }
    }

    /// The first request has this answer. `None`: it is a cast, or its answer could not be written.
    pub(crate) fn answered(&self, id: MessageId, answer: &StoredAnswer) {
        let bytes = answer.as_ref().map_or(0, |answer| answer.1.len());
        let waiting = {
            let mut known = self.lock();
            known.recent.store(id, answer.clone(), bytes, now());
            known.waiting.remove(&id)
        };
        for request in waiting.into_iter().flatten() {
            repeat(request, answer);
        }
    }

    /// The first request was not run. Those that came again go back, as it does.
    pub(crate) fn forget(&self, id: MessageId) {
        let waiting = {
            let mut known = self.lock();
            known.recent.remove(id);
            known.waiting.remove(&id)
        };
        drop(waiting);
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gate for Repeats {
    fn admit(&self, request: Deferred) -> Option<Deferred> {
        if request.header.kind == Kind::Notify {
            let refusal = wrong_kind(&request.worker().server);
            request.refuse(&refusal);
            return None;
        }
        self.take(request)
    }

    fn give_back(&self, request: Deferred) {
        // Before it goes back: it may come again at once.
        self.forget(request.header.id);
        drop(request);
    }

    fn expired(&self, request: Deferred) {
        self.forget(request.header.id);
        request.refuse(&expired());
    }
}

/// Gives the answer of the first request again.
fn repeat(request: Deferred, stored: &StoredAnswer) {
    let header = &request.header;
    if header.kind != Kind::Call {
        let ack = answer_to(header, Kind::Ack);
        return request.finish(ack, Vec::new());
    }
    match stored {
        Some(stored) => {
            let mut answer = answer_to(header, Kind::Reply);
            answer.flags = stored.0;
            request.finish(answer, stored.1.clone());
        }
        None => request.refuse(&Refusal::new(
            Reason::ServerLost,
            "the request came again, and its first run was cancelled, or its answer could not be written",
        )),
    }
}
