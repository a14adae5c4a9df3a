//! The command queue of the I/O thread.

use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::{JoinHandle, ThreadId};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use zmqv2_proto::transport::process_id;
use zmqv2_proto::{Address, MessageId, NoConnection, deadline};

use crate::io::admission::Admission;
use crate::io::outbound::Outbound;
use crate::io::timers::Timers;
use crate::settings::Settings;
use crate::{callback_thread, clock};

/// The capacity of the queue. The thread reads it faster than senders fill it.
const MAX_COMMANDS: usize = 16_384;

#[derive(Debug)]
pub(crate) struct IoQueue {
    /// The process of the thread.
    pub(super) pid: u32,
    pub(super) commands: Sender<Command>,
    /// For commands that nobody reads, because the thread has ended.
    unread: Receiver<Command>,
    ended: AtomicBool,
    pub(crate) admission: Admission,
    pub(super) timers: Timers,
    pub(super) idle_waker: IdleWaker,
    /// A callback on an I/O thread has closed the client: as [`Command::Close`], without a reply.
    pub(super) close_by: Mutex<Option<Instant>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    thread_id: OnceLock<ThreadId>,
}

#[derive(Debug)]
pub(crate) enum Command {
    Send(Box<Outbound>),
    /// A question about a blocking call. It needs no admission.
    Inquire(Box<Outbound>),
    /// Nobody wants the result of this call any more. A command that is lost costs nothing but a call
    /// that runs in vain.
    GiveUp(MessageId),
    /// The host of this address was looked for: the address with a number, or why there is none.
    Resolved(Address, Result<Address, NoConnection>),
    /// The messages of one group.
    SendAll(Vec<Outbound>),
    /// Ends the thread when no message is outstanding, and at this time at the latest. The reply is
    /// the number of messages that are still outstanding.
    Close(Instant, Sender<usize>),
}

impl IoQueue {
    /// The queue of a thread in process `pid`, and the receiver for that thread.
    pub(super) fn new(pid: u32, settings: &Settings, waker: mio::Waker) -> (Self, Receiver<Command>) {
        let Settings { max_outstanding, max_outstanding_bytes, .. } = *settings;
        let (sender, commands) = crossbeam_channel::bounded(max_outstanding.min(MAX_COMMANDS));
        let queue = Self {
            pid,
            commands: sender,
            unread: commands.clone(),
            ended: AtomicBool::new(false),
            admission: Admission::new(max_outstanding, max_outstanding_bytes),
            timers: Timers::default(),
            idle_waker: IdleWaker { asleep: AtomicBool::new(false), waker },
            close_by: Mutex::default(),
            thread: Mutex::default(),
            thread_id: OnceLock::new(),
        };
        (queue, commands)
    }

    pub(super) fn set_thread(&self, thread: JoinHandle<()>) {
        let _ = self.thread_id.set(thread.thread().id());
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
    }

    /// The thread has ended, and reads no more commands.
    pub(super) fn end(&self) {
        self.admission.close();
        self.timers.close();
        self.ended.store(true, Ordering::SeqCst);
        self.drop_unread();
    }

    /// Wakes the thread for a command that was sent. If the thread has ended meanwhile, nobody reads
    /// the command: it is dropped, so that its sender gets an error and does not wait for ever.
    pub(super) fn command_was_sent(&self) {
        self.idle_waker.wake();
        if self.ended.load(Ordering::SeqCst) {
            self.drop_unread();
        }
    }

    /// Either the thread, which has ended, or the sender of a command sees that command here: each
    /// looks after its own step.
    fn drop_unread(&self) {
        fence(Ordering::SeqCst);
        while self.unread.try_recv().is_ok() {}
    }

    /// Ends a call whose handle was dropped.
    pub(crate) fn give_up(&self, id: MessageId) {
        // After a fork, the thread is in the parent.
        if self.pid == process_id() && self.commands.try_send(Command::GiveUp(id)).is_ok() {
            self.command_was_sent();
        }
    }

    /// The resolver has answered. Waits for room in the queue, on a thread of the resolver.
    pub(super) fn resolved(&self, address: Address, found: Result<Address, NoConnection>) {
        if self.commands.send(Command::Resolved(address, found)).is_ok() {
            self.command_was_sent();
        }
    }

    /// Ends the thread. Returns the number of messages that were outstanding.
    pub(super) fn close(&self, timeout: Duration) -> usize {
        self.admission.close();
        self.timers.close();
        if callback_thread::is_current() {
            // The thread ends when the outcomes are there, and nobody waits for it here.
            let by = deadline(clock::now(), timeout);
            *self.close_by.lock().unwrap_or_else(PoisonError::into_inner) = Some(by);
            self.idle_waker.wake();
            return self.admission.open();
        }
        let by = deadline(clock::now(), timeout);
        let (reply, answer) = crossbeam_channel::bounded(1);
        let sent = self.commands.send(Command::Close(by, reply));
        self.command_was_sent();
        if sent.is_err() {
            return 0;
        }
        // The thread replies by then. If it has ended, the command was dropped.
        let open = answer.recv().unwrap_or(0);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
        open
    }

    /// Whether this is the I/O thread.
    pub(super) fn is_current(&self) -> bool {
        self.thread_id.get() == Some(&std::thread::current().id())
    }

    /// When the thread ends, if a callback has just closed the client.
    pub(super) fn take_close_request(&self) -> Option<Instant> {
        self.close_by.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Makes the next sender wake the thread. Returns false if a command has come already.
    pub(crate) fn begin_sleep(&self, commands: &Receiver<Command>) -> bool {
        self.idle_waker.asleep.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        commands.is_empty() && self.close_by.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    pub(crate) fn end_sleep(&self) {
        self.idle_waker.asleep.store(false, Ordering::SeqCst);
    }
}

/// Wakes the thread if it sleeps. If the thread is awake, this costs almost nothing.
#[derive(Debug)]
pub(super) struct IdleWaker {
    asleep: AtomicBool,
    waker: mio::Waker,
}

impl IdleWaker {
    pub(super) fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst)
            && self.asleep.swap(false, Ordering::SeqCst)
            && let Err(error) = self.waker.wake()
        {
            log::error!("cannot wake the I/O thread: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::io::driver;

    #[test]
    fn a_command_that_the_ended_thread_has_not_read_makes_nobody_wait() {
        const LONG: Duration = Duration::from_secs(20);
        let (_poll, waker) = driver::events().unwrap();
        let (queue, commands) = IoQueue::new(process_id(), &Settings::default(), waker);
        let queue = Arc::new(queue);
        let (done, closed) = std::sync::mpsc::channel();
        let closing = Arc::clone(&queue);
        std::thread::spawn(move || done.send(closing.close(LONG)));
        let by = deadline(clock::now(), LONG);
        while commands.is_empty() && clock::now() < by {
            std::thread::yield_now();
        }
        // It ends after its last look at the commands.
        queue.end();
        drop(commands);
        assert_eq!(closed.recv_timeout(LONG), Ok(0));
        // And one that comes later.
        assert_eq!(queue.close(LONG), 0);
    }
}
