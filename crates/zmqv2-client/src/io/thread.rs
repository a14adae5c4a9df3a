//! Starts and closes the I/O thread, and sends it messages.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};
use std::time::{Duration, Instant};

use crossbeam_channel::SendTimeoutError;
use zmqv2_proto::transport::{Transport, TransportError, process_id};

use crate::delivery::table::DeliveryOptions;
use crate::io::admission::{NotQueued, WhenFull};
use crate::io::driver::{self, Driver};
use crate::io::outbound::Outbound;
use crate::io::queue::{Command, IoQueue};
use crate::outcome::counters::LiveCounters;
use crate::routing::router::Router;
use crate::settings::Settings;
use crate::{callback_thread, clock};

/// How long a dropped client waits for the outcomes of its messages.
pub(crate) const DROP_TIMEOUT: Duration = Duration::from_secs(1);

/// The I/O thread of a client, which starts with the first message.
#[derive(Debug)]
pub(crate) struct IoThread {
    pub(super) settings: Arc<Settings>,
    transport: Transport,
    router: Arc<Router>,
    counters: Arc<LiveCounters>,
    pub(super) state: RwLock<ThreadState>,
}

#[derive(Debug)]
pub(super) enum ThreadState {
    Idle,
    Running(Arc<IoQueue>),
    Closed,
}

impl ThreadState {
    /// The queue of the running thread. `None`: this process has to start it.
    pub(super) fn queue(&self) -> Option<Result<Arc<IoQueue>, NotQueued>> {
        match self {
            Self::Running(queue) if queue.pid == process_id() => Some(Ok(Arc::clone(queue))),
            Self::Closed => Some(Err(NotQueued::Closed)),
            Self::Idle | Self::Running(_) => None,
        }
    }
}

/// The result of [`RpcClient::close`](crate::RpcClient::close).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Closed {
    /// The number of messages that had no outcome in time. They end as `Unacknowledged`.
    pub open: usize,
}

impl IoThread {
    pub(crate) fn new(settings: Arc<Settings>, transport: Transport, router: Arc<Router>) -> Self {
        let state = RwLock::new(ThreadState::Idle);
        Self { settings, transport, router, counters: Arc::default(), state }
    }

    pub(crate) fn counters(&self) -> &LiveCounters {
        &self.counters
    }

    pub(crate) fn open(&self) -> usize {
        match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            ThreadState::Running(queue) => queue.admission.open(),
            _ => 0,
        }
    }

    /// Whether a blocking call can use the I/O thread without waiting for room. A call on the I/O
    /// thread itself cannot, because it would wait for itself.
    pub(crate) fn has_room(&self) -> bool {
        match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            ThreadState::Running(queue) => {
                !queue.is_current() && queue.admission.open() < self.settings.max_outstanding / 2
            }
            ThreadState::Idle => true,
            ThreadState::Closed => false,
        }
    }

    /// Sends a message. Waits for room if the settings say so. Returns the queue of the thread that
    /// has it, by which a call can be given up.
    pub(crate) fn send(&self, outbound: Box<Outbound>) -> Result<Arc<IoQueue>, NotQueued> {
        let DeliveryOptions { bytes, deadline, .. } = outbound.options;
        self.submit(Command::Send(outbound), 1, bytes, deadline)
    }

    /// Sends all messages of a group, or none.
    pub(crate) fn send_all(&self, outbounds: Vec<Outbound>) -> Result<(), NotQueued> {
        let Some(DeliveryOptions { deadline, .. }) = outbounds.first().map(|outbound| outbound.options) else {
            return Ok(());
        };
        let (count, bytes) = (outbounds.len(), outbounds.iter().map(|outbound| outbound.options.bytes).sum());
        self.submit(Command::SendAll(outbounds), count, bytes, deadline).map(drop)
    }

    /// Asks about a blocking call. This needs no room: each calling thread has one question at a
    /// time.
    pub(crate) fn inquire(&self, outbound: Outbound) -> Result<(), NotQueued> {
        let queue = self.running_queue()?;
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        if !matches!(&*state, ThreadState::Running(current) if Arc::ptr_eq(current, &queue)) {
            return Err(NotQueued::Closed);
        }
        queue.commands.try_send(Command::Inquire(Box::new(outbound))).map_err(|_| NotQueued::Closed)?;
        queue.command_was_sent();
        Ok(())
    }

    fn submit(
        &self,
        command: Command,
        messages: usize,
        size: usize,
        deadline: Instant,
    ) -> Result<Arc<IoQueue>, NotQueued> {
        let queue = self.running_queue()?;
        // The I/O thread itself (an observer, a waker) must not wait for itself.
        let send_by = (!queue.is_current()).then_some(deadline);
        let wait = send_by.filter(|_| self.settings.when_full == WhenFull::Wait);
        queue.admission.reserve(messages, size, wait)?;

        // While this lock is held, nobody closes the client. So the thread reads this command
        // before the command to close.
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let refuse = |state, reason| {
            drop(state);
            queue.admission.release(messages, size);
            Err(reason)
        };
        if !matches!(&*state, ThreadState::Running(current) if Arc::ptr_eq(current, &queue)) {
            return refuse(state, NotQueued::Closed);
        }
        self.counters.accepted.fetch_add(messages as u64, Ordering::Relaxed);
        let sent = queue.commands.send_deadline(command, send_by.unwrap_or_else(clock::now));
        if let Err(error) = sent {
            self.counters.accepted.fetch_sub(messages as u64, Ordering::Relaxed);
            let reason = match error {
                SendTimeoutError::Timeout(_) => queue.admission.full(),
                SendTimeoutError::Disconnected(_) => NotQueued::Closed,
            };
            return refuse(state, reason);
        }
        queue.command_was_sent();
        drop(state);
        Ok(queue)
    }

    /// Takes no more messages, and waits for the outcomes of the others.
    pub(crate) fn close(&self, timeout: Duration) -> Closed {
        if callback_thread::is_current() {
            // A callback must not wait for the lock either: its holder may wait for this thread. Without
            // the lock, somebody else closes the client now.
            return match self.state.try_read().as_deref() {
                Ok(ThreadState::Running(queue)) if queue.pid == process_id() => Closed { open: queue.close(timeout) },
                _ => Closed { open: 0 },
            };
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *state, ThreadState::Closed);
        drop(state);
        match before {
            ThreadState::Running(queue) if queue.pid == process_id() => Closed { open: queue.close(timeout) },
            // After a fork, the thread is in the parent.
            ThreadState::Running(inherited) => {
                std::mem::forget(inherited);
                Closed { open: 0 }
            }
            ThreadState::Idle | ThreadState::Closed => Closed { open: 0 },
        }
    }

    /// The queue of the running thread, which is started if necessary.
    fn running_queue(&self) -> Result<Arc<IoQueue>, NotQueued> {
        if let Some(queue) = self.state.read().unwrap_or_else(PoisonError::into_inner).queue() {
            return queue;
        }
        self.start_in(self.state.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Starts the thread, unless another one has done so.
    pub(super) fn start_in(&self, mut state: RwLockWriteGuard<'_, ThreadState>) -> Result<Arc<IoQueue>, NotQueued> {
        if let Some(queue) = state.queue() {
            return queue;
        }
        let queue = self.start(process_id()).map_err(NotQueued::NoThread)?;
        // After a fork, the queue of the parent must not be touched.
        std::mem::forget(std::mem::replace(&mut *state, ThreadState::Running(Arc::clone(&queue))));
        Ok(queue)
    }

    fn start(&self, pid: u32) -> Result<Arc<IoQueue>, TransportError> {
        let failed = |source| TransportError::Socket { action: "start the I/O thread", source };
        let (poll, waker) = driver::events().map_err(failed)?;
        let (queue, commands) = IoQueue::new(pid, &self.settings, waker);
        let queue = Arc::new(queue);
        let driver = Driver::new(
            poll,
            Arc::clone(&queue),
            commands,
            Arc::clone(&self.settings),
            self.transport.clone(),
            Arc::clone(&self.router),
            Arc::clone(&self.counters),
        );
        let thread = std::thread::Builder::new().name("zmqv2-client".to_owned()).spawn(move || driver.run());
        let thread = thread.map_err(failed)?;
        queue.set_thread(thread);
        Ok(queue)
    }
}

impl Drop for IoThread {
    fn drop(&mut self) {
        let Closed { open } = self.close(DROP_TIMEOUT);
        if open > 0 {
            log::warn!("a client was dropped with {open} messages that had no outcome within {DROP_TIMEOUT:?}");
        }
    }
}
