//! Sends messages for futures: they await what a thread would wait for.

use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::sync::{Arc, TryLockError};
use std::task::{Context, Poll};
use std::time::Instant;

use crossbeam_channel::TrySendError;
use zmqv2_proto::TopicKey;

use crate::clock;
use crate::io::admission::{NotQueued, WhenFull};
use crate::io::outbound::Outbound;
use crate::io::queue::{Command, IoQueue};
use crate::io::thread::{IoThread, ThreadState};
use crate::io::timers::Timer;
use crate::routing::directory::{Asked, Directory, Listing};
use crate::routing::lookup::{Lookup, LookupWait};
use crate::wake::yield_now;

/// What came of a message that must not wait.
pub(crate) enum SentNow {
    Sent(Arc<IoQueue>),
    /// It has to wait.
    NotNow(Box<Outbound>),
}

/// What came of a command that must not wait.
enum HandedOver {
    Yes,
    /// Another thread has the lock, or the I/O thread has not read the commands before.
    NotNow(Command),
}

impl IoThread {
    /// What the directory says about a topic. If it must be asked, awaits its answer until
    /// `wait_until`. Without an answer, the lookup is in `open` afterwards.
    pub(crate) async fn listing(
        &self,
        directory: &Directory,
        key: &TopicKey,
        wait_until: Instant,
        open: &mut Option<Arc<Lookup>>,
    ) -> Result<Listing, NotQueued> {
        let lookup = match directory.ask(key) {
            Asked::Answered(listing) => return Ok(listing),
            Asked::Open(lookup) => lookup,
        };
        let queue = self.queue_later().await?;
        let (mut wait, mut timer) = (LookupWait::new(&lookup), Timer::new(&queue, wait_until));
        let answer = poll_fn(|context| match wait.poll(context.waker()) {
            Poll::Ready(answer) => Poll::Ready(Ok(Some(answer))),
            Poll::Pending => timer.poll(context.waker()).map(|over| over.map(|()| None)),
        });
        let answer = answer.await?;
        drop((wait, timer));
        Ok(directory.listing_after(answer, lookup, open))
    }

    /// Sends a message, unless that takes time.
    pub(crate) fn send_now(&self, outbound: Box<Outbound>, context: &Context<'_>) -> Result<SentNow, NotQueued> {
        let Some(queue) = self.queue_now() else { return Ok(SentNow::NotNow(outbound)) };
        let queue = queue?;
        let mut place = queue.admission.place(1, outbound.options.bytes);
        match self.settings.when_full {
            WhenFull::Refuse => place.take_now()?,
            WhenFull::Wait => match place.poll(context.waker()) {
                Poll::Ready(taken) => taken?,
                Poll::Pending => return Ok(SentNow::NotNow(outbound)),
            },
        }
        match self.hand_over(&queue, Command::Send(outbound), 1)? {
            HandedOver::Yes => place.keep(),
            HandedOver::NotNow(Command::Send(outbound)) => return Ok(SentNow::NotNow(outbound)),
            HandedOver::NotNow(_) => return Err(NotQueued::Closed),
        }
        Ok(SentNow::Sent(queue))
    }

    /// Sends a message. Awaits room for it, if the settings say so.
    pub(crate) async fn send_later(&self, outbound: Box<Outbound>) -> Result<Arc<IoQueue>, NotQueued> {
        let (bytes, deadline) = (outbound.options.bytes, outbound.options.deadline);
        self.submit_later(Command::Send(outbound), 1, bytes, deadline).await
    }

    /// Sends all messages of a group, or none.
    pub(crate) async fn send_all_later(&self, outbounds: Vec<Outbound>) -> Result<(), NotQueued> {
        let Some(deadline) = outbounds.first().map(|outbound| outbound.options.deadline) else { return Ok(()) };
        let (count, bytes) = (outbounds.len(), outbounds.iter().map(|outbound| outbound.options.bytes).sum());
        self.submit_later(Command::SendAll(outbounds), count, bytes, deadline).await.map(drop)
    }

    async fn submit_later(
        &self,
        mut command: Command,
        messages: usize,
        size: usize,
        deadline: Instant,
    ) -> Result<Arc<IoQueue>, NotQueued> {
        let queue = self.queue_later().await?;
        let mut place = queue.admission.place(messages, size);
        match self.settings.when_full {
            WhenFull::Refuse => place.take_now()?,
            WhenFull::Wait => {
                let mut timer = Timer::new(&queue, deadline);
                let taken = poll_fn(|context| match place.poll(context.waker()) {
                    Poll::Pending => timer.poll(context.waker()).map(|over| over.and(Err(queue.admission.full()))),
                    taken => taken,
                });
                taken.await?;
            }
        }
        loop {
            match self.hand_over(&queue, command, messages)? {
                HandedOver::Yes => break,
                HandedOver::NotNow(same) => command = same,
            }
            // On the I/O thread itself, nobody else makes room.
            if queue.is_current() || clock::now() >= deadline {
                return Err(queue.admission.full());
            }
            yield_now().await;
        }
        place.keep();
        Ok(queue)
    }

    /// Gives a command to the thread. The caller has reserved capacity for its messages.
    fn hand_over(&self, queue: &Arc<IoQueue>, command: Command, messages: usize) -> Result<HandedOver, NotQueued> {
        // As in `submit`: while this lock is held, nobody closes the client.
        let state = match self.state.try_read() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(HandedOver::NotNow(command)),
        };
        if !matches!(&*state, ThreadState::Running(current) if Arc::ptr_eq(current, queue)) {
            return Err(NotQueued::Closed);
        }
        self.counters().accepted.fetch_add(messages as u64, Ordering::Relaxed);
        if let Err(error) = queue.commands.try_send(command) {
            self.counters().accepted.fetch_sub(messages as u64, Ordering::Relaxed);
            return match error {
                TrySendError::Full(command) => Ok(HandedOver::NotNow(command)),
                TrySendError::Disconnected(_) => Err(NotQueued::Closed),
            };
        }
        queue.command_was_sent();
        Ok(HandedOver::Yes)
    }

    /// The queue of the running thread, which is started if necessary. `None`: another thread has
    /// the lock.
    fn queue_now(&self) -> Option<Result<Arc<IoQueue>, NotQueued>> {
        let known = match self.state.try_read() {
            Ok(state) => state.queue(),
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner().queue(),
            Err(TryLockError::WouldBlock) => return None,
        };
        known.or_else(|| {
            let state = match self.state.try_write() {
                Ok(state) => state,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return None,
            };
            Some(self.start_in(state))
        })
    }

    async fn queue_later(&self) -> Result<Arc<IoQueue>, NotQueued> {
        loop {
            if let Some(queue) = self.queue_now() {
                return queue;
            }
            yield_now().await;
        }
    }
}
