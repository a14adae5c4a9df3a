//! The way from the callers' threads to the I/O thread, and the life of that thread.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::thread::{JoinHandle, ThreadId};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, SendTimeoutError, Sender};
use zmqv2_proto::Target;
use zmqv2_proto::transport::{Transport, TransportError, process_id};

use crate::clock;
use crate::delivery::table::{DeliveryOptions, Limits};
use crate::io::admission::{Admission, NotAdmitted, WhenFull};
use crate::io::driver::{self, Driver};
use crate::io::outbound::Outbound;
use crate::outcome::Outcome;
use crate::outcome::counters::LiveCounters;
use crate::routing::router::Router;

/// How long a client that is dropped waits for the outcomes of its messages.
pub const DROP_TIMEOUT: Duration = Duration::from_secs(1);
/// The most orders on their way to the I/O thread. It takes them faster than anybody can make them.
const MAX_COMMANDS: usize = 16_384;

/// Is told every outcome.
pub(crate) type Observer = Arc<dyn Fn(&Target, &Outcome) + Send + Sync>;

/// What stays the same for all messages.
#[derive(Clone)]
pub(crate) struct IoSettings {
    pub(crate) limits: Limits,
    pub(crate) when_full: WhenFull,
    pub(crate) observer: Option<Observer>,
    pub(crate) max_links: usize,
    /// For how long the thread looks for something to do before it sleeps.
    pub(crate) busy_poll: Duration,
    pub(crate) adaptive_poll: Duration,
}

/// Starts the I/O thread at the first message, gives it messages, and ends it.
#[derive(Debug)]
pub(crate) struct IoThread {
    settings: IoSettings,
    transport: Transport,
    router: Arc<Router>,
    counters: Arc<LiveCounters>,
    state: RwLock<ThreadState>,
}

#[derive(Debug)]
enum ThreadState {
    Idle,
    Running(Arc<IoQueue>),
    Closed,
}

/// A running I/O thread.
#[derive(Debug)]
pub(crate) struct IoQueue {
    /// The process that it runs in.
    pid: u32,
    commands: Sender<Command>,
    pub(crate) admission: Admission,
    idle_waker: IdleWaker,
    thread: Mutex<Option<JoinHandle<()>>>,
    thread_id: OnceLock<ThreadId>,
}

/// What the I/O thread is told.
#[derive(Debug)]
pub(crate) enum Command {
    Send(Box<Outbound>),
    /// A question for a call that blocks; it takes no room.
    Inquire(Box<Outbound>),
    /// Several that belong together.
    SendAll(Vec<Outbound>),
    /// End when nothing is outstanding, at the latest at this time; say how much was.
    Close(Instant, Sender<usize>),
}

/// Why a message was not taken over.
#[derive(Debug)]
pub(crate) enum NotQueued {
    NotAdmitted(NotAdmitted),
    NoThread(TransportError),
}

/// What [`RpcClient::close`](crate::RpcClient::close) found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Closed {
    /// How many messages had no outcome in time. They are `Unacknowledged` now.
    pub open: usize,
}

impl IoThread {
    pub(crate) fn new(settings: IoSettings, transport: Transport, router: Arc<Router>) -> Self {
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

    /// Whether a call that blocks can be made over without waiting for room, and waited for: not on the I/O thread itself, which
    /// would wait for itself.
    pub(crate) fn has_room(&self) -> bool {
        match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            ThreadState::Running(queue) => {
                !queue.is_current() && queue.admission.open() < self.settings.limits.messages / 2
            }
            ThreadState::Idle => true,
            ThreadState::Closed => false,
        }
    }

    /// Makes a message over to the I/O thread; waits for room, if that is the rule.
    pub(crate) fn send(&self, outbound: Outbound) -> Result<(), NotQueued> {
        let DeliveryOptions { bytes, deadline, .. } = outbound.options;
        self.submit(Command::Send(Box::new(outbound)), 1, bytes, deadline)
    }

    /// Makes several messages over, all or none.
    pub(crate) fn send_all(&self, outbounds: Vec<Outbound>) -> Result<(), NotQueued> {
        let Some(DeliveryOptions { deadline, .. }) = outbounds.first().map(|outbound| outbound.options) else {
            return Ok(());
        };
        let (count, bytes) = (outbounds.len(), outbounds.iter().map(|outbound| outbound.options.bytes).sum());
        self.submit(Command::SendAll(outbounds), count, bytes, deadline)
    }

    /// Asks for a call that blocks, without waiting for room: there is one question at a time for each calling thread.
    pub(crate) fn inquire(&self, outbound: Outbound) -> Result<(), NotQueued> {
        let queue = self.running_queue()?;
        let closed = NotQueued::NotAdmitted(NotAdmitted::Closed);
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        if !matches!(&*state, ThreadState::Running(current) if Arc::ptr_eq(current, &queue)) {
            return Err(closed);
        }
        queue.commands.try_send(Command::Inquire(Box::new(outbound))).map_err(|_| closed)?;
        queue.idle_waker.wake();
        Ok(())
    }

    fn submit(&self, command: Command, messages: usize, size: usize, deadline: Instant) -> Result<(), NotQueued> {
        let queue = self.running_queue()?;
        // The I/O thread itself (an observer, a waker) would wait for itself.
        let send_by = (!queue.is_current()).then_some(deadline);
        let wait = send_by.filter(|_| self.settings.when_full == WhenFull::Wait);
        queue.admission.reserve(messages, size, wait).map_err(NotQueued::NotAdmitted)?;

        // While this is held, nobody closes: whatever is ordered before the order to close is read before it.
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let refuse = |reason| {
            queue.admission.release(messages, size);
            Err(NotQueued::NotAdmitted(reason))
        };
        if !matches!(&*state, ThreadState::Running(current) if Arc::ptr_eq(current, &queue)) {
            return refuse(NotAdmitted::Closed);
        }
        self.counters.accepted.fetch_add(messages as u64, Ordering::Relaxed);
        let sent = queue.commands.send_deadline(command, send_by.unwrap_or_else(clock::now));
        if let Err(error) = sent {
            self.counters.accepted.fetch_sub(messages as u64, Ordering::Relaxed);
            return refuse(match error {
                SendTimeoutError::Timeout(_) => NotAdmitted::Full { open: queue.admission.open(), bytes: 0 },
                SendTimeoutError::Disconnected(_) => NotAdmitted::Closed,
            });
        }
        queue.idle_waker.wake();
        Ok(())
    }

    /// Takes no more messages, and waits for the outcomes of those it has.
    pub(crate) fn close(&self, timeout: Duration) -> Closed {
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

    /// The line, with its thread running.
    fn running_queue(&self) -> Result<Arc<IoQueue>, NotQueued> {
        let pid = process_id();
        match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            ThreadState::Running(queue) if queue.pid == pid => return Ok(Arc::clone(queue)),
            ThreadState::Closed => return Err(NotQueued::NotAdmitted(NotAdmitted::Closed)),
            ThreadState::Idle | ThreadState::Running(_) => {}
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        match &*state {
            ThreadState::Running(queue) if queue.pid == pid => return Ok(Arc::clone(queue)),
            ThreadState::Closed => return Err(NotQueued::NotAdmitted(NotAdmitted::Closed)),
            ThreadState::Idle | ThreadState::Running(_) => {}
        }
        let queue = self.start(pid).map_err(NotQueued::NoThread)?;
        // After a fork: the parent's line must not be touched.
        std::mem::forget(std::mem::replace(&mut *state, ThreadState::Running(Arc::clone(&queue))));
        Ok(queue)
    }

    fn start(&self, pid: u32) -> Result<Arc<IoQueue>, TransportError> {
        let failed = |source| TransportError::Socket { action: "start the I/O thread", source };
        let (poll, waker) = driver::events().map_err(failed)?;
        let Limits { messages, bytes, .. } = self.settings.limits;
        let (sender, commands) = crossbeam_channel::bounded(messages.min(MAX_COMMANDS));
        let queue = Arc::new(IoQueue {
            pid,
            commands: sender,
            admission: Admission::new(messages, bytes),
            idle_waker: IdleWaker { asleep: AtomicBool::new(false), waker },
            thread: Mutex::default(),
            thread_id: OnceLock::new(),
        });
        let driver = Driver::new(
            poll,
            Arc::clone(&queue),
            commands,
            self.settings.clone(),
            self.transport.clone(),
            Arc::clone(&self.router),
            Arc::clone(&self.counters),
        );
        let thread = std::thread::Builder::new().name("zmqv2-client".to_owned()).spawn(move || driver.run());
        let thread = thread.map_err(failed)?;
        let _ = queue.thread_id.set(thread.thread().id());
        *queue.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
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

impl IoQueue {
    /// Ends the thread; how many messages were still open.
    fn close(&self, timeout: Duration) -> usize {
        self.admission.close();
        let by = clock::now() + timeout.min(Duration::from_secs(u32::MAX.into()));
        let (reply, answer) = crossbeam_channel::bounded(1);
        let sent = self.commands.send(Command::Close(by, reply));
        self.idle_waker.wake();
        if sent.is_err() || self.is_current() {
            return 0;
        }
        // The thread answers by then; it is gone if it does not.
        let open = answer.recv().unwrap_or(0);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
        open
    }

    /// Whether this is the I/O thread.
    fn is_current(&self) -> bool {
        self.thread_id.get() == Some(&std::thread::current().id())
    }

    /// Tells whoever sends an order from now on to wake the thread; false: there is one already.
    pub(crate) fn begin_sleep(&self, commands: &Receiver<Command>) -> bool {
        self.idle_waker.asleep.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        commands.is_empty()
    }

    pub(crate) fn end_sleep(&self) {
        self.idle_waker.asleep.store(false, Ordering::SeqCst);
    }
}

/// Wakes a thread that sleeps, and costs next to nothing when it does not.
#[derive(Debug)]
struct IdleWaker {
    asleep: AtomicBool,
    waker: mio::Waker,
}

impl IdleWaker {
    fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst)
            && self.asleep.swap(false, Ordering::SeqCst)
            && let Err(error) = self.waker.wake()
        {
            log::error!("cannot wake the I/O thread: {error}");
        }
    }
}

impl fmt::Debug for IoSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules")
            .field("limits", &self.limits)
            .field("when_full", &self.when_full)
            .field("observer", &self.observer.is_some())
            .field("max_links", &self.max_links)
            .field("busy_poll", &self.busy_poll)
            .field("adaptive_poll", &self.adaptive_poll)
            .finish()
    }
}
