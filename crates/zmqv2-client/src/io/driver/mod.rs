//! The I/O thread. It owns the DEALER sockets and drives the table of pending messages.
//!
//! It waits with epoll for the descriptors of its sockets. Such a descriptor reports a change once,
//! and a send or receive may consume the report. So a link that was used stays *hot*: it is visited
//! again without waiting, until a visit has nothing to do.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use mio::{Events, Poll, Token};
use zmqv2_proto::Address;
use zmqv2_proto::bundle::Bundle;
use zmqv2_proto::transport::{AdaptivePoll, Connection, Frame, Received, Transport};

use crate::delivery::attempt::Verdict;
use crate::delivery::table::{Action, Input, Limits, LinkId, PendingTable, Tag};
use crate::io::links::Links;
use crate::io::outbound::Outbound;
use crate::io::queue::{Command, IoQueue};
use crate::outcome::completion::Wakeup;
use crate::outcome::counters::LiveCounters;
use crate::outcome::receiver_answer::ReceiverAnswer;
use crate::routing::router::Router;
use crate::settings::Settings;
use crate::{callback_thread, clock};

mod answers;
mod completions;
mod connections;
mod destinations;
mod reaching;
mod sending;

use completions::Ended;

/// The most messages read from one link before other links are visited.
const MESSAGES_PER_VISIT: usize = 64;
/// The most commands read before the links are visited.
const COMMANDS_PER_TURN: usize = 256;
/// While this many links have something to send, no more messages of groups are started. More
/// connections at once would only exceed their timeouts.
const MAX_WAITING_LINKS: usize = 256;
/// The thread looks at its timers at least this often.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);
const WAKER: Token = Token(0);
const FIRST_LINK: usize = 1;

pub(crate) struct Driver {
    poll: Poll,
    queue: Arc<IoQueue>,
    commands: Receiver<Command>,
    settings: Arc<Settings>,
    router: Arc<Router>,
    counters: Arc<LiveCounters>,
    table: PendingTable<Box<Outbound>, ReceiverAnswer>,
    /// Messages of groups that were not started yet. There may be thousands.
    group_backlog: VecDeque<Outbound>,
    /// The bundle that is sent next, and the messages in it. Empty between turns.
    bundle: Bundle,
    bundled: Vec<Tag>,
    pace: AdaptivePoll,
    links: Links,
    hot: Vec<LinkId>,
    /// When links without a connection connect again.
    reconnects: VecDeque<(Instant, LinkId)>,
    /// When something looks why links have no connection.
    observe_at: VecDeque<(Instant, LinkId)>,
    /// The addresses whose host names are to be resolved, and how many threads do that now.
    unresolved: VecDeque<Address>,
    resolvers: usize,
    /// The number of messages in the table that are questions about blocking calls.
    inquiries: usize,
    ended: Vec<Ended>,
    ended_bytes: usize,
    /// Waiting threads to wake. Empty between turns.
    wakeups: Vec<Wakeup>,
    /// Senders that have room now, and futures whose time has come. Empty between turns.
    due: Vec<Waker>,
    closing: Option<(Instant, Option<Sender<usize>>)>,
    idle_check_at: Option<Instant>,
    last_warning: Option<Instant>,
}

/// Creates the poll of a new thread, and its waker.
pub(crate) fn events() -> io::Result<(Poll, mio::Waker)> {
    let poll = Poll::new()?;
    let waker = mio::Waker::new(poll.registry(), WAKER)?;
    Ok((poll, waker))
}

impl Drop for Driver {
    /// However the thread ends, waiting senders get an error. Pending messages end with the table.
    fn drop(&mut self) {
        self.queue.end();
    }
}

impl Driver {
    pub(crate) fn new(
        poll: Poll,
        queue: Arc<IoQueue>,
        commands: Receiver<Command>,
        settings: Arc<Settings>,
        transport: Transport,
        router: Arc<Router>,
        counters: Arc<LiveCounters>,
    ) -> Self {
        let limits = Limits {
            messages: settings.max_outstanding,
            bytes: settings.max_outstanding_bytes,
            connect_timeout: settings.config.connect_timeout,
            jitter: settings.retry_jitter,
        };
        Self {
            poll,
            queue,
            commands,
            table: PendingTable::new(limits),
            links: Links::new(transport, settings.config.conn_pool_size),
            pace: AdaptivePoll::new(settings.config.adaptive_poll),
            settings,
            router,
            counters,
            group_backlog: VecDeque::new(),
            bundle: Bundle::new(),
            bundled: Vec::new(),
            hot: Vec::new(),
            reconnects: VecDeque::new(),
            observe_at: VecDeque::new(),
            unresolved: VecDeque::new(),
            resolvers: 0,
            inquiries: 0,
            ended: Vec::new(),
            ended_bytes: 0,
            wakeups: Vec::new(),
            due: Vec::new(),
            closing: None,
            idle_check_at: None,
            last_warning: None,
        }
    }

    /// Runs until the client is closed.
    pub(crate) fn run(mut self) {
        callback_thread::enter();
        let mut events = Events::with_capacity(256);
        let mut frames = Vec::new();
        loop {
            self.take_commands();
            let now = clock::now();
            self.table.expire(now);
            self.perform(now);
            self.reconnect(now);
            self.queue.timers.take_due(now, &mut self.due);
            self.observe_links(now);
            for link in std::mem::take(&mut self.hot) {
                self.visit(link, &mut frames);
            }
            self.settle();
            if self.finish_closing() {
                return;
            }
            self.close_idle_links();
            if let Err(error) = self.sleep(&mut events) {
                log::error!("the I/O thread cannot wait for events and ends: {error}");
                return;
            }
            for event in &events {
                if let Some(link) = event.token().0.checked_sub(FIRST_LINK) {
                    self.links.get(link).into_iter().for_each(|link| link.notified = true);
                    self.mark_hot(link);
                }
            }
        }
    }

    fn take_commands(&mut self) {
        if let Some(by) = self.queue.take_close_request() {
            self.closing.get_or_insert((by, None));
        }
        for _ in 0..COMMANDS_PER_TURN {
            let now = clock::now();
            if self.takes_from_backlog()
                && let Some(outbound) = self.group_backlog.pop_front()
            {
                let options = outbound.options;
                self.table.admit_beyond_limits(now, Box::new(outbound), options);
                self.perform(now);
                continue;
            }
            match self.commands.try_recv() {
                Ok(Command::Send(outbound)) => {
                    let options = outbound.options;
                    // Admission has the same limits as the table.
                    if let Err(outbound) = self.table.admit(now, outbound, options) {
                        self.complete(*outbound, Err(Verdict::Closed { sent: false }), now);
                    }
                    self.perform(now);
                }
                Ok(Command::Inquire(outbound)) => {
                    let options = outbound.options;
                    self.inquiries += 1;
                    self.table.admit_beyond_limits(now, outbound, options);
                    self.perform(now);
                }
                Ok(Command::GiveUp(id)) => self.give_up(id, now),
                Ok(Command::Resolved(address, found)) => self.resolved(&address, found, now),
                Ok(Command::SendAll(outbounds)) => self.group_backlog.extend(outbounds),
                Ok(Command::Close(by, reply)) => self.closing = Some((by, Some(reply))),
                Err(_) => break,
            }
        }
    }

    fn takes_from_backlog(&self) -> bool {
        !self.group_backlog.is_empty() && self.table.waiting_links() < MAX_WAITING_LINKS
    }

    /// Does all pending actions of the table.
    fn perform(&mut self, now: Instant) {
        while let Some(action) = self.table.poll_action() {
            match action {
                Action::ChooseLink { tag, candidate } => {
                    let link = self.link_to(tag, candidate, now);
                    self.table.handle(now, Input::LinkChosen { tag, link });
                }
                Action::LookUp { tag } => {
                    let plan = self.look_up(tag, now);
                    self.table.handle(now, Input::LookedUp { tag, plan });
                }
                Action::ServerFound { tag } => {
                    self.table.message(tag).inspect(|outbound| outbound.route.note_server(true));
                }
                Action::ServerNotFound { tag } => {
                    self.table.message(tag).inspect(|outbound| outbound.route.note_server(false));
                }
                Action::LinkUnreachable { link } => self.link_unreachable(link, now),
                Action::NoAnswer { tag, link } => self.not_answered(tag, link, now),
                Action::Inquire { tag, link } => self.inquire(tag, link, now),
                Action::RecordAnswer { tag, answer } => self.record_answer(tag, answer, now),
                Action::Cancel { tag, link } => {
                    if let Some(message) = self.table.message(tag).map(|outbound| Arc::clone(&outbound.message)) {
                        self.cancel(link, &message, now);
                    }
                }
                Action::End { message, result, cancel } => {
                    cancel.inspect(|link| self.cancel(*link, &message.message, now));
                    self.complete(*message, result, now);
                }
            }
        }
    }

    /// Reads the answers of a link, checks its connection, and sends what waits for it.
    fn visit(&mut self, id: LinkId, frames: &mut Vec<Frame>) {
        let now = clock::now();
        let Some(link) = self.links.get(id) else { return };
        link.hot = false;
        let mut read = 0;
        loop {
            let Some(link) = self.links.get(id) else { return };
            match link.socket.receive(frames) {
                Ok(Received::Nothing) => break,
                Ok(Received::Message) => read += self.receive_answers(id, frames, now),
                Ok(Received::Overlong) => {
                    self.warn_ignored("an answer has too many frames");
                    read += 1;
                }
                Err(error) => return self.socket_failed(id, now, &error),
            }
            self.mark_hot(id);
            if read >= MESSAGES_PER_VISIT {
                break;
            }
        }
        let Some(link) = self.links.get(id) else { return };
        // An empty receive has consumed all pending events, so without a new event nothing has
        // changed.
        if !std::mem::take(&mut link.notified) {
            if !self.table.has_queued(id) {
                return;
            }
            if link.writable {
                return self.flush(id, now);
            }
        }
        let Some(link) = self.links.get(id) else { return };
        let readiness = match link.socket.readiness() {
            Ok(readiness) => readiness,
            Err(error) => return self.socket_failed(id, now, &error),
        };
        if readiness.readable {
            // Answers that came before the connection broke count. Asking has consumed their event.
            link.notified = true;
            return self.mark_hot(id);
        }
        if readiness.connection == Connection::Lost {
            return self.connection_lost(id, now);
        }
        link.writable = readiness.writable;
        if readiness.writable {
            self.flush(id, now);
        }
    }

    /// Whether the thread can end.
    fn finish_closing(&mut self) -> bool {
        let Some((by, _)) = &self.closing else { return false };
        let (now, open) = (clock::now(), self.table.open() - self.inquiries + self.group_backlog.len());
        if (open > 0 || !self.commands.is_empty()) && now < *by {
            return false;
        }
        for outbound in std::mem::take(&mut self.group_backlog) {
            self.complete(outbound, Err(Verdict::Closed { sent: false }), now);
        }
        self.table.handle(now, Input::Close);
        self.perform(now);
        self.settle();
        if let Some((_, Some(reply))) = self.closing.take() {
            let _ = reply.send(open);
        }
        true
    }

    fn sleep(&mut self, events: &mut Events) -> io::Result<()> {
        let busy = !self.hot.is_empty() || self.takes_from_backlog() || !self.queue.begin_sleep(&self.commands);
        let timeout = if busy {
            Some(Duration::ZERO)
        } else {
            let closing = self.closing.as_ref().map(|(by, _)| *by);
            let reconnect = self.reconnects.front().map(|(at, _)| *at);
            let observe = self.observe_at.front().map(|(at, _)| *at);
            let timer = self.queue.timers.next();
            let times = [self.table.next_deadline(), closing, self.idle_check_at, reconnect, observe, timer];
            let next = times.into_iter().flatten().min();
            // epoll takes milliseconds as an i32, so a long sleep has a bound.
            next.map(|at| at.saturating_duration_since(clock::now()).min(LONGEST_SLEEP))
        };
        let polled = self.wait(events, timeout);
        self.queue.end_sleep();
        match polled {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    /// Waits for events. Polls without sleeping at first, if the settings or the recent pace say
    /// so.
    fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        if timeout == Some(Duration::ZERO) {
            return self.poll.poll(events, timeout);
        }
        let may_come = self.table.open() > 0;
        let (found, timeout) = self.pace.look(may_come, self.settings.config.busy_poll, timeout, || {
            self.poll.poll(events, Some(Duration::ZERO)).map(|()| !events.is_empty() || !self.commands.is_empty())
        })?;
        if found { Ok(()) } else { self.poll.poll(events, timeout) }
    }

    fn mark_hot(&mut self, id: LinkId) {
        if let Some(link) = self.links.get(id)
            && !std::mem::replace(&mut link.hot, true)
        {
            self.hot.push(id);
        }
    }
}
