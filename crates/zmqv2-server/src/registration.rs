//! Keeps a server registered at its broker, from a thread of its own: at start, again after the broker restarts, and as a
//! sign of life; and takes it out at the stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use zmqv2_proto::control::{Registration, Withdrawal};
use zmqv2_proto::transport::{Frame, Received, Socket, TransportError};
use zmqv2_proto::{Header, Kind, MessageId, ServerName, TopicKey};

use crate::wake::Bell;

/// A registration is repeated at this interval, in case the broker came and went unnoticed.
const REPEAT: Duration = Duration::from_secs(5);
/// One that is not answered is repeated after this.
const RETRY: Duration = Duration::from_secs(1);

/// Whether the broker has taken the registration; seen by other threads.
#[derive(Debug, Default)]
pub(crate) struct Readiness {
    ready: Mutex<bool>,
    changed: Condvar,
}

impl Readiness {
    pub(crate) fn set(&self, ready: bool) {
        *self.ready.lock().unwrap_or_else(PoisonError::into_inner) = ready;
        self.changed.notify_all();
    }

    pub(crate) fn get(&self) -> bool {
        *self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is ready; whether it is.
    pub(crate) fn wait(&self, timeout: Duration) -> bool {
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(ready, timeout, |ready| !*ready);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// What other threads leave for this one.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) stop: AtomicBool,
    pub(crate) bell: Bell,
}

/// The thread's state.
pub(crate) struct Keeper {
    pub(crate) socket: Socket,
    pub(crate) key: TopicKey,
    pub(crate) server: ServerName,
    pub(crate) registration: Registration,
    pub(crate) readiness: Arc<Readiness>,
    pub(crate) desk: Arc<Desk>,
    /// Workers that have run the cast that they had acknowledged; each stands in it once at most.
    pub(crate) freed: Receiver<u16>,
    pub(crate) drain_timeout: Duration,
}

impl Keeper {
    /// Keeps the registration until the stop signal, then withdraws and waits until nothing is in flight, or the time
    /// to drain is over, or the broker is gone.
    pub(crate) fn run(mut self) {
        if let Err(error) = self.keep().and_then(|()| self.withdraw()) {
            log::error!("{} of {} is no longer registered: {error}", self.server, self.key);
        }
        self.readiness.set(false);
    }

    fn keep(&mut self) -> Result<(), TransportError> {
        let mut connected = false;
        let mut send_at = now();
        let mut frames = Vec::new();
        loop {
            self.desk.bell.hear();
            if self.desk.stop.load(Ordering::Acquire) {
                return Ok(());
            }
            let freed = self.give_credit();
            while self.socket.receive(&mut frames)? != Received::Nothing {
                if self.take(&frames) == Some(Kind::Refusal) {
                    send_at = send_at.min(now() + RETRY);
                }
            }
            let state = self.socket.readiness()?;
            if state.writable != connected {
                connected = state.writable;
                send_at = now();
                if !connected {
                    self.readiness.set(false);
                    log::warn!("the broker of {} is gone; waiting for it to come back", self.server);
                }
            }
            if connected && send_at <= now() {
                self.send(Kind::Register, serde_json::to_vec(&self.registration));
                send_at = now() + if self.readiness.get() { REPEAT } else { RETRY };
                // A send may have used up the notice of what came meanwhile.
                continue;
            }
            if !state.readable && !freed {
                let timeout = connected.then(|| send_at.saturating_duration_since(now()));
                self.wait(timeout);
            }
        }
    }

    /// Tells the broker which workers are free again; whether there were any. A broker that is not there forgets all
    /// credit, and gives it anew with the registration.
    fn give_credit(&self) -> bool {
        let mut any = false;
        for worker in self.freed.try_iter() {
            let mut header = Header::new(Kind::Credit, self.credit_id());
            header.tag = worker.into();
            header.count = 1;
            self.send_header(&header, Vec::new());
            any = true;
        }
        any
    }

    /// The id of every message about credit: that of this run.
    fn credit_id(&self) -> MessageId {
        MessageId::from_bytes(*self.registration.instance.as_bytes())
    }

    fn withdraw(&mut self) -> Result<(), TransportError> {
        let end_at = now() + self.drain_timeout;
        let mut frames = Vec::new();
        self.send(Kind::Withdraw, serde_json::to_vec(&Withdrawal::new(self.registration.instance)));
        loop {
            while self.socket.receive(&mut frames)? != Received::Nothing {
                if self.take(&frames) == Some(Kind::Withdrawn) {
                    return Ok(());
                }
            }
            let left = end_at.saturating_duration_since(now());
            let state = self.socket.readiness()?;
            if !state.writable || left.is_zero() {
                log::warn!("{} of {} stops without the broker's leave", self.server, self.key);
                return Ok(());
            }
            if !state.readable
                && let Err(error) = self.socket.wait(Some(left), None)
            {
                log::error!("cannot wait for the broker: {error}");
                return Ok(());
            }
        }
    }

    fn wait(&self, timeout: Option<Duration>) {
        if let Err(error) = self.socket.wait(timeout, Some(self.desk.bell.fd())) {
            log::error!("cannot wait for the broker: {error}");
        }
    }

    /// Takes in a message of the broker; says what it was.
    fn take(&self, frames: &[Frame]) -> Option<Kind> {
        let [_, header, body] = frames else { return None };
        let header = Header::decode(header).inspect_err(|error| log::warn!("broker sent {error}")).ok()?;
        match header.kind {
            Kind::Registered if !self.readiness.get() => {
                log::info!("{} of {} is registered", self.server, self.key);
                self.readiness.set(true);
            }
            Kind::Refusal => {
                let detail = String::from_utf8_lossy(body);
                let reason = header.reason.map_or_else(|| "no reason".to_owned(), |reason| reason.to_string());
                if header.id == self.credit_id() {
                    log::warn!("the broker refuses credit of {} of {}: {reason}: {detail}", self.server, self.key);
                } else {
                    log::warn!("the broker refuses {} of {}: {reason}: {detail}", self.server, self.key);
                    self.readiness.set(false);
                }
            }
            _ => {}
        }
        Some(header.kind)
    }

    /// One that is not taken is lost: a registration is repeated after [`RETRY`] anyway, a withdrawal is sent once.
    fn send(&self, kind: Kind, body: serde_json::Result<Vec<u8>>) {
        let mut header = Header::new(kind, MessageId::random());
        header.key = Some(self.key.clone());
        header.server = Some(self.server.clone());
        match body {
            Ok(body) => self.send_header(&header, body),
            Err(error) => log::error!("cannot write a {kind:?} message: {error}"),
        }
    }

    fn send_header(&self, header: &Header, body: Vec<u8>) {
        let frames = [Frame::new(), Frame::from(header.encode()), Frame::from(body)];
        if let Err(error) = self.socket.send(frames) {
            log::debug!("the broker did not take a {:?} message: {error}", header.kind);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the registration's thread is a driver: it owns the repeats' clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
