//! The I/O thread: owns the DEALERs, feeds the table of pending messages, and does what it asks for.
//!
//! It waits with epoll on the notification descriptor of each socket. Such a descriptor tells of a change once, and sends
//! and receives may swallow the notice, so a link stays *hot*, and is visited without waiting, until a visit moved
//! nothing.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use mio::{Events, Poll, Token};
use zmqv2_proto::bundle::Bundle;
use zmqv2_proto::transport::{AdaptivePoll, Connection, Frame, Received, Transport};

use crate::clock;
use crate::delivery::attempt::Verdict;
use crate::delivery::table::{Action, Input, LinkId, PendingTable, Tag};
use crate::io::links::Links;
use crate::io::outbound::Outbound;
use crate::io::queue::{Command, IoQueue};
use crate::io::settings::IoSettings;
use crate::outcome::completion::Wakeup;
use crate::outcome::counters::LiveCounters;
use crate::outcome::receiver_answer::ReceiverAnswer;
use crate::routing::router::Router;

mod answers;
mod completions;
mod connections;
mod destinations;
mod sending;

use completions::Ended;

/// The most messages read from one link before the others get their turn.
const MESSAGES_PER_VISIT: usize = 64;
/// The most messages taken over before the links get their turn.
const COMMANDS_PER_TURN: usize = 256;
/// While so many links have something to send, messages that came together are not taken over: their connections would only
/// be slower than the time that each has.
const MAX_WAITING_LINKS: usize = 256;
const WAKER: Token = Token(0);
const FIRST_LINK: usize = 1;

pub(crate) struct Driver {
    poll: Poll,
    queue: Arc<IoQueue>,
    commands: Receiver<Command>,
    settings: IoSettings,
    router: Arc<Router>,
    counters: Arc<LiveCounters>,
    table: PendingTable<Box<Outbound>, ReceiverAnswer>,
    /// Messages that came together, and are taken over bit by bit: there may be thousands.
    group_backlog: VecDeque<Outbound>,
    /// What leaves next, and the messages in it; empty between turns.
    bundle: Bundle,
    bundled: Vec<Tag>,
    pace: AdaptivePoll,
    links: Links,
    hot: Vec<LinkId>,
    /// Links that have lost their connection, and when they make the next one.
    reconnects: VecDeque<(Instant, LinkId)>,
    /// How many of the table's messages are questions for calls that block.
    inquiries: usize,
    ended: Vec<Ended>,
    ended_bytes: usize,
    /// Outcomes that somebody waits for; empty between turns.
    wakeups: Vec<Wakeup>,
    closing: Option<(Instant, Sender<usize>)>,
    idle_check_at: Option<Instant>,
    last_warning: Option<Instant>,
}

/// The events of a new thread, and what wakes it.
pub(crate) fn events() -> io::Result<(Poll, mio::Waker)> {
    let poll = Poll::new()?;
    let waker = mio::Waker::new(poll.registry(), WAKER)?;
    Ok((poll, waker))
}

impl Drop for Driver {
    /// However it ends, nobody waits for room any more; what is outstanding ends with the table.
    fn drop(&mut self) {
        self.queue.admission.close();
    }
}

impl Driver {
    pub(crate) fn new(
        poll: Poll,
        queue: Arc<IoQueue>,
        commands: Receiver<Command>,
        settings: IoSettings,
        transport: Transport,
        router: Arc<Router>,
        counters: Arc<LiveCounters>,
    ) -> Self {
        Self {
            poll,
            queue,
            commands,
            table: PendingTable::new(settings.limits),
            links: Links::new(transport, settings.max_links),
            pace: AdaptivePoll::new(settings.adaptive_poll),
            settings,
            router,
            counters,
            group_backlog: VecDeque::new(),
            bundle: Bundle::new(),
            bundled: Vec::new(),
            hot: Vec::new(),
            reconnects: VecDeque::new(),
            inquiries: 0,
            ended: Vec::new(),
            ended_bytes: 0,
            wakeups: Vec::new(),
            closing: None,
            idle_check_at: None,
            last_warning: None,
        }
    }

    /// Works until it is closed.
    pub(crate) fn run(mut self) {
        let mut events = Events::with_capacity(256);
        let mut frames = Vec::new();
        loop {
            self.take_commands();
            let now = clock::now();
            self.table.expire(now);
            self.perform(now);
            self.reconnect(now);
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
                    // Admission has the same bounds as the table.
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
                Ok(Command::SendAll(outbounds)) => self.group_backlog.extend(outbounds),
                Ok(Command::Close(by, reply)) => self.closing = Some((by, reply)),
                Err(_) => break,
            }
        }
    }

    fn takes_from_backlog(&self) -> bool {
        !self.group_backlog.is_empty() && self.table.waiting_links() < MAX_WAITING_LINKS
    }

    /// Does all that the table asks for.
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
                    self.table.message(tag).inspect(|outbound| outbound.route.server_found());
                }
                Action::ServerNotFound { tag } => {
                    self.table.message(tag).inspect(|outbound| outbound.route.server_not_found());
                }
                Action::LinkUnreachable { link } => self.mark_unreachable(link, now),
                Action::NoAnswer { tag, link } => self.not_answered(tag, link, now),
                Action::Inquire { tag, link } => self.inquire(tag, link, now),
                Action::RecordAnswer { tag, answer } => self.record_answer(tag, answer, now),
                Action::End { message, result } => self.complete(*message, result, now),
            }
        }
    }

    /// Reads what a link has, notices whether its connection came or went, and sends what waits for it.
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
        // A receive that finds nothing leaves no notice unheard: without one, all is as it was.
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
            // An answer that came before the connection broke counts; and the question has used up its notice.
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

    /// Whether all is done that was to be done before the end.
    fn finish_closing(&mut self) -> bool {
        let Some((by, _)) = &self.closing else { return false };
        let (now, open) = (clock::now(), self.table.open() - self.inquiries + self.group_backlog.len());
        if open > 0 && now < *by {
            return false;
        }
        for outbound in std::mem::take(&mut self.group_backlog) {
            self.complete(outbound, Err(Verdict::Closed { sent: false }), now);
        }
        self.table.handle(now, Input::Close);
        self.perform(now);
        self.settle();
        if let Some((_, reply)) = self.closing.take() {
            let _ = reply.send(open);
        }
        true
    }

    /// Sleeps until something happens.
    fn sleep(&mut self, events: &mut Events) -> io::Result<()> {
        let busy = !self.hot.is_empty() || self.takes_from_backlog() || !self.queue.begin_sleep(&self.commands);
        let timeout = if busy {
            Some(Duration::ZERO)
        } else {
            let closing = self.closing.as_ref().map(|(by, _)| *by);
            let reconnect = self.reconnects.front().map(|(at, _)| *at);
            let next = [self.table.next_deadline(), closing, self.idle_check_at, reconnect].into_iter().flatten().min();
            next.map(|at| at.saturating_duration_since(clock::now()))
        };
        let polled = self.wait(events, timeout);
        self.queue.end_sleep();
        match polled {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    /// Waits for events; looks without sleeping at first, while that is of use, or if it is the option.
    fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        if timeout == Some(Duration::ZERO) {
            return self.poll.poll(events, timeout);
        }
        let may_come = self.table.open() > 0;
        let (found, timeout) = self.pace.look(may_come, self.settings.busy_poll, timeout, || {
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
