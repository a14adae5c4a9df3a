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
use crate::io::admission::{Gate, Shut, WhenFull};
use crate::io::driver::{self, Driver};
use crate::io::outbound::Parcel;
use crate::outcome::Outcome;
use crate::outcome::counters::LiveCounters;
use crate::routing::router::Router;

/// How long a client that is dropped waits for the outcomes of its messages.
pub const DROP_TIMEOUT: Duration = Duration::from_secs(1);
/// The most orders on their way to the I/O thread. It takes them faster than anybody can make them.
const MAX_ORDERS: usize = 16_384;

/// Is told every outcome.
pub(crate) type Observer = Arc<dyn Fn(&Target, &Outcome) + Send + Sync>;

/// What stays the same for all messages.
#[derive(Clone)]
pub(crate) struct Rules {
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
pub(crate) struct Courier {
    rules: Rules,
    transport: Transport,
    router: Arc<Router>,
    counters: Arc<LiveCounters>,
    state: RwLock<State>,
}

#[derive(Debug)]
enum State {
    Idle,
    Running(Arc<Line>),
    Closed,
}

/// A running I/O thread.
#[derive(Debug)]
pub(crate) struct Line {
    /// The process that it runs in.
    pid: u32,
    orders: Sender<Order>,
    pub(crate) gate: Gate,
    doze: Doze,
    thread: Mutex<Option<JoinHandle<()>>>,
    thread_id: OnceLock<ThreadId>,
}

/// What the I/O thread is told.
#[derive(Debug)]
pub(crate) enum Order {
    Take(Box<Parcel>),
    /// A question for a call that blocks; it takes no room.
    Inquire(Box<Parcel>),
    /// Several that belong together.
    TakeAll(Vec<Parcel>),
    /// End when nothing is outstanding, at the latest at this time; say how much was.
    Close(Instant, Sender<usize>),
}

/// Why a message was not taken over.
#[derive(Debug)]
pub(crate) enum NotTaken {
    Shut(Shut),
    NoThread(TransportError),
}

/// What [`RpcClient::close`](crate::RpcClient::close) found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Closed {
    /// How many messages had no outcome in time. They are `Unacknowledged` now.
    pub open: usize,
}

impl Courier {
    pub(crate) fn new(rules: Rules, transport: Transport, router: Arc<Router>) -> Self {
        let state = RwLock::new(State::Idle);
        Self { rules, transport, router, counters: Arc::default(), state }
    }

    pub(crate) fn counters(&self) -> &LiveCounters {
        &self.counters
    }

    pub(crate) fn open(&self) -> usize {
        match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Running(line) => line.gate.open(),
            _ => 0,
        }
    }

    /// Whether a call that blocks can be made over without waiting for room, and waited for: not on the I/O thread itself, which
    /// would wait for itself.
    pub(crate) fn has_room(&self) -> bool {
        match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Running(line) => !line.is_current() && line.gate.open() < self.rules.limits.messages / 2,
            State::Idle => true,
            State::Closed => false,
        }
    }

    /// Makes a message over to the I/O thread; waits for room, if that is the rule.
    pub(crate) fn send(&self, parcel: Parcel) -> Result<(), NotTaken> {
        let DeliveryOptions { bytes, deadline, .. } = parcel.options;
        self.order(Order::Take(Box::new(parcel)), 1, bytes, deadline)
    }

    /// Makes several messages over, all or none.
    pub(crate) fn send_all(&self, parcels: Vec<Parcel>) -> Result<(), NotTaken> {
        let Some(DeliveryOptions { deadline, .. }) = parcels.first().map(|parcel| parcel.options) else {
            return Ok(());
        };
        let (count, bytes) = (parcels.len(), parcels.iter().map(|parcel| parcel.options.bytes).sum());
        self.order(Order::TakeAll(parcels), count, bytes, deadline)
    }

    /// Asks for a call that blocks, without waiting for room: there is one question at a time for each calling thread.
    pub(crate) fn inquire(&self, parcel: Parcel) -> Result<(), NotTaken> {
        let line = self.line()?;
        let closed = NotTaken::Shut(Shut::Closed);
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        if !matches!(&*state, State::Running(current) if Arc::ptr_eq(current, &line)) {
            return Err(closed);
        }
        line.orders.try_send(Order::Inquire(Box::new(parcel))).map_err(|_| closed)?;
        line.doze.wake();
        Ok(())
    }

    fn order(&self, order: Order, messages: usize, size: usize, deadline: Instant) -> Result<(), NotTaken> {
        let line = self.line()?;
        // The I/O thread itself (an observer, a waker) would wait for itself.
        let patience = (!line.is_current()).then_some(deadline);
        let wait = patience.filter(|_| self.rules.when_full == WhenFull::Wait);
        line.gate.enter(messages, size, wait).map_err(NotTaken::Shut)?;

        // While this is held, nobody closes: whatever is ordered before the order to close is read before it.
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let refuse = |shut| {
            line.gate.leave(messages, size);
            Err(NotTaken::Shut(shut))
        };
        if !matches!(&*state, State::Running(current) if Arc::ptr_eq(current, &line)) {
            return refuse(Shut::Closed);
        }
        self.counters.accepted.fetch_add(messages as u64, Ordering::Relaxed);
        let sent = line.orders.send_deadline(order, patience.unwrap_or_else(clock::now));
        if let Err(error) = sent {
            self.counters.accepted.fetch_sub(messages as u64, Ordering::Relaxed);
            return refuse(match error {
                SendTimeoutError::Timeout(_) => Shut::Full { open: line.gate.open(), bytes: 0 },
                SendTimeoutError::Disconnected(_) => Shut::Closed,
            });
        }
        line.doze.wake();
        Ok(())
    }

    /// Takes no more messages, and waits for the outcomes of those it has.
    pub(crate) fn close(&self, timeout: Duration) -> Closed {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *state, State::Closed);
        drop(state);
        match before {
            State::Running(line) if line.pid == process_id() => Closed { open: line.close(timeout) },
            // After a fork, the thread is in the parent.
            State::Running(inherited) => {
                std::mem::forget(inherited);
                Closed { open: 0 }
            }
            State::Idle | State::Closed => Closed { open: 0 },
        }
    }

    /// The line, with its thread running.
    fn line(&self) -> Result<Arc<Line>, NotTaken> {
        let pid = process_id();
        match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Running(line) if line.pid == pid => return Ok(Arc::clone(line)),
            State::Closed => return Err(NotTaken::Shut(Shut::Closed)),
            State::Idle | State::Running(_) => {}
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        match &*state {
            State::Running(line) if line.pid == pid => return Ok(Arc::clone(line)),
            State::Closed => return Err(NotTaken::Shut(Shut::Closed)),
            State::Idle | State::Running(_) => {}
        }
        let line = self.start(pid).map_err(NotTaken::NoThread)?;
        // After a fork: the parent's line must not be touched.
        std::mem::forget(std::mem::replace(&mut *state, State::Running(Arc::clone(&line))));
        Ok(line)
    }

    fn start(&self, pid: u32) -> Result<Arc<Line>, TransportError> {
        let failed = |source| TransportError::Socket { action: "start the I/O thread", source };
        let (poll, waker) = driver::events().map_err(failed)?;
        let Limits { messages, bytes, .. } = self.rules.limits;
        let (sender, orders) = crossbeam_channel::bounded(messages.min(MAX_ORDERS));
        let line = Arc::new(Line {
            pid,
            orders: sender,
            gate: Gate::new(messages, bytes),
            doze: Doze { asleep: AtomicBool::new(false), waker },
            thread: Mutex::default(),
            thread_id: OnceLock::new(),
        });
        let driver = Driver::new(
            poll,
            Arc::clone(&line),
            orders,
            self.rules.clone(),
            self.transport.clone(),
            Arc::clone(&self.router),
            Arc::clone(&self.counters),
        );
        let thread = std::thread::Builder::new().name("zmqv2-client".to_owned()).spawn(move || driver.run());
        let thread = thread.map_err(failed)?;
        let _ = line.thread_id.set(thread.thread().id());
        *line.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(line)
    }
}

impl Drop for Courier {
    fn drop(&mut self) {
        let Closed { open } = self.close(DROP_TIMEOUT);
        if open > 0 {
            log::warn!("a client was dropped with {open} messages that had no outcome within {DROP_TIMEOUT:?}");
        }
    }
}

impl Line {
    /// Ends the thread; how many messages were still open.
    fn close(&self, timeout: Duration) -> usize {
        self.gate.close();
        let by = clock::now() + timeout.min(Duration::from_secs(u32::MAX.into()));
        let (reply, answer) = crossbeam_channel::bounded(1);
        let told = self.orders.send(Order::Close(by, reply));
        self.doze.wake();
        if told.is_err() || self.is_current() {
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
    pub(crate) fn fall_asleep(&self, orders: &Receiver<Order>) -> bool {
        self.doze.asleep.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        orders.is_empty()
    }

    pub(crate) fn rise(&self) {
        self.doze.asleep.store(false, Ordering::SeqCst);
    }
}

/// Wakes a thread that sleeps, and costs next to nothing when it does not.
#[derive(Debug)]
struct Doze {
    asleep: AtomicBool,
    waker: mio::Waker,
}

impl Doze {
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

impl fmt::Debug for Rules {
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
