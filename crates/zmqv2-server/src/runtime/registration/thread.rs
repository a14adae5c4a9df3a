//! The thread that keeps a server registered, and that sends completions to the broker.

use std::sync::Arc;
use std::time::Duration;

use zmqv2_proto::control::{ServerRegistration, Withdrawal};
use zmqv2_proto::transport::{Frame, Received, Socket, TransportError};
use zmqv2_proto::{Flags, Header, InstanceId, Kind, MessageId, ServerName, TopicKey, Ttl, deadline};

use super::Readiness;
use super::link::BrokerLink;
use super::refused_log::RefusedLog;
use super::state::{Change, RegistrationState, Step};
use crate::runtime::completions::{Completion, CompletionQueue};
use crate::runtime::now;
use crate::runtime::wakeup::RegistrationWaker;

pub(crate) struct RegistrationThread {
    pub(crate) link: BrokerLink,
    pub(crate) key: TopicKey,
    pub(crate) server: ServerName,
    pub(crate) registration: ServerRegistration,
    pub(crate) readiness: Arc<Readiness>,
    pub(crate) wakeup: Arc<RegistrationWaker>,
    pub(crate) completions: CompletionQueue,
}

impl RegistrationThread {
    /// Keeps the registration until the server stops. Then withdraws it, and waits until nothing
    /// is outstanding, but no longer than `drain_timeout`.
    pub(crate) fn run(mut self, drain_timeout: Duration) {
        if let Err(error) = self.serve(drain_timeout) {
            log::error!("{} of {} is no longer registered: {error}", self.server, self.key);
        }
        self.readiness.set(false);
    }

    fn serve(&mut self, drain_timeout: Duration) -> Result<(), TransportError> {
        let mut state = RegistrationState::new(now(), MessageId::random());
        let mut frames = Vec::new();
        let mut refused = RefusedLog::default();
        loop {
            self.wakeup.waker.clear();
            refused.update(&self.server, now());
            if self.wakeup.is_stopped() && !state.is_withdrawing() {
                let withdrawal = Withdrawal::new(self.registration.instance);
                let id = self.send(Kind::Withdraw, serde_json::to_vec(&withdrawal));
                state.withdrawing(id, deadline(now(), drain_timeout));
            }
            while self.link.socket.receive(&mut frames)? != Received::Nothing {
                self.received(&mut state, &frames);
            }
            let (readable, connected) = self.link.check()?;
            if state.connection(now(), connected) {
                self.readiness.set(false);
                log::warn!("the broker of {} is gone; waiting for it to come back", self.server);
            }
            let sent = self.send_completions(&state);
            match state.next(now(), self.completions.outstanding()) {
                // Sending may consume the event of a message that arrives meanwhile, so the loop
                // reads again before it waits.
                Step::Register => {
                    let id = self.send(Kind::Register, serde_json::to_vec(&self.registration));
                    state.registering(now(), id);
                }
                Step::GiveSign => {
                    self.give_sign();
                    state.gave_sign(now());
                }
                Step::Wait(timeout) if !readable && !sent => self.wait(timeout),
                Step::Wait(_) => {}
                Step::Leave => return Ok(()),
                Step::GiveUp => {
                    let (server, key, count) = (&self.server, &self.key, self.completions.outstanding());
                    log::warn!("{server} of {key} stops with {count} unfinished or unreported requests");
                    return Ok(());
                }
            }
        }
    }

    fn wait(&self, timeout: Option<Duration>) {
        let connect = self.link.connect_at.map(|at| at.saturating_duration_since(now()));
        let timeout = [timeout, connect].into_iter().flatten().min();
        if let Err(error) = self.link.socket.wait(timeout, Some(self.wakeup.waker.fd())) {
            log::error!("cannot wait for the broker: {error}");
        }
    }

    fn received(&self, state: &mut RegistrationState, frames: &[Frame]) {
        let [_, header, body] = frames else { return };
        let header = match Header::decode(header) {
            Ok(header) => header,
            Err(error) => return log::warn!("the broker sent an unreadable message: {error}"),
        };
        let Some(change) = state.received(now(), header.kind, header.id) else { return };
        self.readiness.set(state.ready);
        let (server, key, detail) = (&self.server, &self.key, String::from_utf8_lossy(body));
        let reason = header.reason.map_or("no reason", |reason| reason.as_str());
        match change {
            Change::Registered => log::info!("{server} of {key} is registered"),
            Change::RegistrationRefused => log::warn!("the broker refuses {server} of {key}: {reason}: {detail}"),
            Change::MessageRefused => {
                log::warn!("the broker refuses a message of {server} of {key}: {reason}: {detail}");
            }
        }
    }

    /// Sends completions. Returns whether any was sent.
    fn send_completions(&mut self, state: &RegistrationState) -> bool {
        if !state.connected {
            self.completions.keep_for_next_broker();
            return false;
        }
        let (socket, server, instance) = (&self.link.socket, &self.server, self.registration.instance);
        self.completions.flush(state.takes_requeued(), |completion| {
            let (header, body) = write(completion, server, instance);
            send(socket, &header, body)
        })
    }

    /// Tells the broker that this process lives: a message about no credit, which needs no answer.
    fn give_sign(&self) {
        let header = Header::new(Kind::Credit, MessageId::from_bytes(*self.registration.instance.as_bytes()));
        send(&self.link.socket, &header, Frame::new());
    }

    /// Sends a REGISTER or a WITHDRAW, and returns its id. Nothing depends on whether the socket
    /// takes it: a registration without an answer is repeated, a withdrawal is sent once.
    fn send(&self, kind: Kind, body: serde_json::Result<Vec<u8>>) -> MessageId {
        let mut header = Header::new(kind, MessageId::random());
        header.key = Some(self.key.clone());
        header.server = Some(self.server.clone());
        match body {
            Ok(body) => _ = send(&self.link.socket, &header, body.into()),
            Err(error) => log::error!("cannot write a {kind:?} message: {error}"),
        }
        header.id
    }
}

/// The message for the broker. Its body is a copy, because the socket may not take the message and
/// then drops it.
fn write(completion: &Completion, server: &ServerName, instance: InstanceId) -> (Header, Frame) {
    match completion {
        Completion::WorkerFree(worker) => {
            // The id of every message about credit is the server's instance.
            let mut header = Header::new(Kind::Credit, MessageId::from_bytes(*instance.as_bytes()));
            header.tag = (*worker).into();
            header.count = 1;
            (header, Frame::new())
        }
        Completion::Notification { id, tag, key, deadline, requeue } => {
            let mut header = Header::new(Kind::Handled, *id);
            header.flags = if requeue.is_some() { Flags::REQUEUE } else { Flags::NONE };
            header.tag = *tag;
            header.count = 1;
            let now = now();
            // The message may wait in the socket, for example while the broker is stopped.
            (header.ttl, header.delivered) = (Ttl::until(*deadline, now), Ttl::monotonic_millis_at(now));
            header.key = Some(key.clone());
            header.server = Some(server.clone());
            (header, requeue.as_ref().map_or_else(Frame::new, |body| Frame::from(&body[..])))
        }
    }
}

/// Returns whether the socket has taken the message.
fn send(socket: &Socket, header: &Header, body: Frame) -> bool {
    let sent = socket.send([Frame::new(), Frame::from(header.encode()), body]);
    sent.inspect_err(|error| log::debug!("the broker did not take a {:?} message: {error}", header.kind)).is_ok()
}
