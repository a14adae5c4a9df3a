//! What comes in through the broker's two doors, and who is told what is wrong with it.

use std::time::Instant;

use zmqv2_proto::bundle::Bundled;
use zmqv2_proto::transport::Frame;
use zmqv2_proto::{Flags, Header, HeaderView, Kind, Reason, Refusal};

use crate::driver::{Broker, now};
use crate::engine::{Arrival, Counter, Input, Pattern, WorkerId};
use crate::message::control_request;
use crate::message::framing::{self, Content, Ingress, Malformed, Origin, WorkerAnswer, WorkerMessage};
use crate::message::payload::Payload;
use crate::message::return_path::ReturnPath;

/// What a waiting request costs besides its frames: the frames of its path back, its slot in the table of requests and
/// its places in the queues. It counts for the byte budget, so that empty bodies are bounded, too.
pub(crate) const REQUEST_OVERHEAD: usize = 512;

impl Broker {
    /// One message from a client or a local server, or a bundle of them; how many there were.
    pub(crate) fn take_in(&mut self, ingress: Ingress, frames: &mut Vec<Frame>) -> usize {
        let Some((path, content)) = framing::take_apart(frames) else {
            let peer = frames.first().map(|frame| frame.to_vec()).unwrap_or_default();
            self.complain(&peer, &Malformed::NoDelimiter);
            return 1;
        };
        self.looked = now();
        match content {
            Ok(Content::One(payload)) => self.take_message(Origin::of(ingress, path, payload.header()), payload),
            Ok(Content::Bundle(bundle)) => return self.take_bundle(ingress, &path, &bundle),
            Err(error) => self.reject(&Origin::of(ingress, path, &[]), &error),
        }
        1
    }

    fn take_bundle(&mut self, ingress: Ingress, path: &ReturnPath, bundle: &[u8]) -> usize {
        let mut messages = 0;
        for message in Bundled::of(bundle).into_iter().flatten() {
            messages += 1;
            match message {
                Ok(message) => {
                    self.take_message(
                        Origin::of(ingress, path.clone(), message.0),
                        Payload::copied(message.0, message.1),
                    );
                }
                // Nobody can say what was to be answered.
                Err(error) => self.complain(path.peer(), &error.into()),
            }
        }
        messages
    }

    /// What came from a worker: an answer, or a bundle of them; how many there were.
    pub(crate) fn hear(&mut self, worker: WorkerId, frames: &mut Vec<Frame>) -> usize {
        self.looked = now();
        match framing::take_reply(frames) {
            Ok(Content::One(payload)) => {
                self.hear_one(worker, Ok(payload));
                1
            }
            Ok(Content::Bundle(bundle)) => {
                let mut messages = 0;
                for message in Bundled::of(&bundle).into_iter().flatten() {
                    messages += 1;
                    self.hear_one(
                        worker,
                        message.map(|(header, body)| Payload::copied(header, body)).map_err(Malformed::from),
                    );
                    // A worker that was dropped says nothing more.
                    if self.links.get(worker).is_none() {
                        break;
                    }
                }
                messages
            }
            Err(error) => {
                self.hear_one(worker, Err(error));
                1
            }
        }
    }

    fn hear_one(&mut self, worker: WorkerId, payload: Result<Payload, Malformed>) {
        self.heard = true;
        match payload.and_then(framing::understand) {
            Ok(WorkerMessage::Answer(WorkerAnswer { tag, credit, refused, payload })) => {
                self.feed_on(Input::Reply { worker, tag, credit, refused, payload });
            }
            Ok(WorkerMessage::Free { credit, wide }) => self.feed_on(Input::Freed { worker, credit, wide }),
            Ok(WorkerMessage::HandedBack { tag, payload }) if self.links.reads_bundles(worker) => {
                self.take_again(worker, tag, payload);
            }
            // It has one request at a time, and would get it again at once.
            Ok(WorkerMessage::HandedBack { .. }) => self.disown(worker, &Malformed::HandedBack),
            Err(error) => self.disown(worker, &error),
        }
    }

    /// A worker hands back a request.
    fn take_again(&mut self, worker: WorkerId, tag: u64, payload: Payload) {
        if payload.check_size(self.settings.max_message_bytes).is_err() {
            return self.disown(worker, &Malformed::HandedBackLarger);
        }
        let Ok(view) = HeaderView::new(payload.header()) else { return };
        let now = self.looked;
        self.names.copy(&view);
        let arrival = arrival(&view, &self.names, payload.size(), now);
        self.engine.handle(now, Input::HandedBack { worker, tag, arrival, payload });
        self.perform();
    }

    fn take_message(&mut self, origin: Origin, payload: Payload) {
        self.heard = true;
        let view = match HeaderView::new(payload.header()) {
            Ok(view) => view,
            Err(error) => return self.reject(&origin, &error.into()),
        };
        match view.kind() {
            kind if kind.is_request() => {
                // A worker reads headers more strictly than this: what it could not read, it could not answer.
                if !view.node().is_empty() || !matches!(view.reason(), Ok(None)) {
                    return self.reject(&origin, &Malformed::Answered);
                }
                if let Err(refusal) = payload.check_size(self.settings.max_message_bytes) {
                    return self.refuse(&origin, &refusal);
                }
                let now = self.looked;
                // The engine only looks at the names; they are copied because the load they stand in moves on.
                self.names.copy(&view);
                let arrival = arrival(&view, &self.names, payload.size(), now);
                self.engine.handle(now, Input::Request { arrival, from: origin, payload });
                self.perform();
            }
            Kind::Inquire => {
                self.engine.count(Counter::Inquiries);
                if self.engine.is_pending(view.id()) {
                    return self.reply(&origin, Kind::InFlight, &[]);
                }
                let detail = "the broker has no such call: it never came, was answered, or was lost";
                self.refuse(&origin, &Refusal::new(Reason::ServerLost, detail));
            }
            kind @ (Kind::Register | Kind::Withdraw | Kind::Credit | Kind::Handled | Kind::Status) => {
                if origin.ingress != Ingress::Local {
                    let detail = format!("{kind:?} messages are taken only from the node's own socket directory");
                    return self.refuse(&origin, &Refusal::new(Reason::Unauthorized, detail));
                }
                match control_request::read(&view, payload.body()) {
                    Ok(control_request::ControlRequest::Status) => {
                        let report = self.status();
                        self.reply(&origin, Kind::StatusReport, &control_request::write(&report));
                    }
                    Ok(control_request::ControlRequest::Credit { instance, worker, credit }) => {
                        self.feed(Input::Credit { instance, worker, credit });
                    }
                    Ok(control_request::ControlRequest::Handled { requeue: false }) => {
                        let (tag, id, credit) = (view.tag(), view.id(), view.count());
                        self.feed(Input::Handled { tag, id, credit, requeue: None });
                    }
                    Ok(control_request::ControlRequest::Handled { requeue: true }) => self.take_back(&origin, payload),
                    Ok(control_request::ControlRequest::Register(offer)) => {
                        self.feed(Input::Register { offer, from: origin })
                    }
                    Ok(control_request::ControlRequest::Withdraw(instance)) => {
                        self.feed(Input::Withdraw { instance, from: origin })
                    }
                    Err(error) => self.reject(&origin, &error),
                }
            }
            kind => self.reject(&origin, &Malformed::Kind(kind)),
        }
    }

    /// A listener gives a notification back.
    fn take_back(&mut self, origin: &Origin, payload: Payload) {
        let (given, payload) = match framing::given_back(payload) {
            Ok(given) => given,
            Err(error) => return self.reject(origin, &error),
        };
        let (header, now) = (payload.header().to_vec(), self.looked);
        let Ok(view) = HeaderView::new(&header) else { return };
        let names = Names::of(&view);
        let arrival = arrival(&view, &names, payload.size(), now);
        let Header { tag, id, count: credit, key, server, .. } = given;
        if key.is_none() || server.is_none() {
            let detail = "a notification that is given back names its topic and its pool";
            return self.reject(origin, &Malformed::Control(detail.to_owned()));
        }
        self.engine.handle(now, Input::Handled { tag, id, credit, requeue: Some((arrival, payload)) });
        self.perform();
    }

    fn reject(&mut self, origin: &Origin, error: &Malformed) {
        self.complain(origin.peer(), error);
        let refusal = origin.refuse(&self.settings.node, &Refusal::new(Reason::Malformed, error.to_string()));
        self.answer(origin, refusal);
    }

    pub(crate) fn complain(&mut self, peer: &[u8], error: &Malformed) {
        self.engine.count(Counter::RefusedMalformed);
        if self.limiter.allows(peer, now()) {
            log::warn!("malformed message from peer {}: {error}", control_request::hex(peer));
        }
    }

    fn refuse(&mut self, origin: &Origin, refusal: &Refusal) {
        self.engine.count(Counter::refused(refusal.reason));
        let refusal = origin.refuse(&self.settings.node, refusal);
        self.answer(origin, refusal);
    }

    pub(crate) fn reply(&mut self, origin: &Origin, kind: Kind, body: &[u8]) {
        let reply = origin.reply(kind, &self.settings.node, body);
        self.answer(origin, reply);
    }
}

/// The names in a header, on their own. One that is used again and again allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub(crate) key: String,
    pub(crate) server: String,
}

impl Names {
    pub(crate) fn of(view: &HeaderView<'_>) -> Self {
        let mut names = Self::default();
        names.copy(view);
        names
    }

    fn copy(&mut self, view: &HeaderView<'_>) {
        view.key().clone_into(&mut self.key);
        view.server().clone_into(&mut self.server);
    }
}

/// What the engine needs to know of a request with frames of `bytes`.
pub(crate) fn arrival<'a>(view: &HeaderView<'_>, names: &'a Names, bytes: usize, now: Instant) -> Arrival<'a> {
    let flags = view.flags();
    Arrival {
        pattern: match view.kind() {
            Kind::Fanout => Pattern::Fanout,
            Kind::Notify => Pattern::Notify,
            _ => Pattern::One,
        },
        server: &names.server,
        wait_for_ready: flags.contains(Flags::WAIT_FOR_READY),
        monitored: flags.contains(Flags::MONITORED),
        ..Arrival::new(view.id(), &names.key, framing::deadline(view, now), bytes + REQUEST_OVERHEAD)
    }
}
