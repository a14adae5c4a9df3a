//! The I/O thread: owns the DEALERs, feeds the table of outstanding messages, and does what it asks for.
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
use zmqv2_proto::{Kind, Ttl};

use crate::clock;
use crate::connections::IDLE_LIMIT;
use crate::courier::{Line, Order, Rules};
use crate::links::Links;
use crate::outstanding::{Action, Ending, Input, LinkId, Outstanding, Tag};
use crate::parcel::{Parcel, Word};
use crate::promise::Given;
use crate::routes::Routes;
use crate::tally::{Tally, count};

mod endings;
mod inbox;
mod places;

use endings::Told;

/// The most messages read from one link before the others get their turn.
const MESSAGES_PER_VISIT: usize = 64;
/// The most messages taken over before the links get their turn.
const ORDERS_PER_TURN: usize = 256;
/// While so many links have something to send, messages that came together are not taken over: their connections would only
/// be slower than the time that each has.
const MOST_WAITING_LINKS: usize = 256;
/// How long after a connection was lost the next one is made.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);
const WAKER: Token = Token(0);
const FIRST_LINK: usize = 1;

pub(crate) struct Driver {
    poll: Poll,
    line: Arc<Line>,
    orders: Receiver<Order>,
    rules: Rules,
    routes: Arc<Routes>,
    tally: Arc<Tally>,
    table: Outstanding<Box<Parcel>, Word>,
    /// Messages that came together, and are taken over bit by bit: there may be thousands.
    incoming: VecDeque<Parcel>,
    /// What leaves next, and the messages in it; empty between turns.
    bundle: Bundle,
    joined: Vec<Tag>,
    pace: AdaptivePoll,
    links: Links,
    hot: Vec<LinkId>,
    /// Links that have lost their connection, and when they make the next one.
    resting: VecDeque<(Instant, LinkId)>,
    /// How many of the table's messages are questions for calls that block.
    inquiries: usize,
    ended: Vec<Told>,
    ended_bytes: usize,
    /// Outcomes that somebody waits for; empty between turns.
    given: Vec<Given>,
    closing: Option<(Instant, Sender<usize>)>,
    sweep_at: Option<Instant>,
    complained: Option<Instant>,
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
        self.line.gate.close();
    }
}

impl Driver {
    pub(crate) fn new(
        poll: Poll,
        line: Arc<Line>,
        orders: Receiver<Order>,
        rules: Rules,
        transport: Transport,
        routes: Arc<Routes>,
        tally: Arc<Tally>,
    ) -> Self {
        Self {
            poll,
            line,
            orders,
            table: Outstanding::new(rules.limits),
            links: Links::new(transport, rules.max_links),
            pace: AdaptivePoll::new(rules.adaptive_poll),
            rules,
            routes,
            tally,
            incoming: VecDeque::new(),
            bundle: Bundle::new(),
            joined: Vec::new(),
            hot: Vec::new(),
            resting: VecDeque::new(),
            inquiries: 0,
            ended: Vec::new(),
            ended_bytes: 0,
            given: Vec::new(),
            closing: None,
            sweep_at: None,
            complained: None,
        }
    }

    /// Works until it is closed.
    pub(crate) fn run(mut self) {
        let mut events = Events::with_capacity(256);
        let mut frames = Vec::new();
        loop {
            self.take_orders();
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
            self.sweep();
            if let Err(error) = self.sleep(&mut events) {
                log::error!("the I/O thread cannot wait for events and ends: {error}");
                return;
            }
            for event in &events {
                if let Some(link) = event.token().0.checked_sub(FIRST_LINK) {
                    self.links.get(link).into_iter().for_each(|link| link.stirred = true);
                    self.warm(link);
                }
            }
        }
    }

    fn take_orders(&mut self) {
        for _ in 0..ORDERS_PER_TURN {
            let now = clock::now();
            if self.takes_incoming()
                && let Some(parcel) = self.incoming.pop_front()
            {
                let terms = parcel.terms;
                self.table.admit_beyond(now, Box::new(parcel), terms);
                self.perform(now);
                continue;
            }
            match self.orders.try_recv() {
                Ok(Order::Take(parcel)) => {
                    let terms = parcel.terms;
                    // The gate has the same bounds as the table.
                    if let Err(parcel) = self.table.admit(now, parcel, terms) {
                        self.end(*parcel, Ending::Closed { sent: false }, now);
                    }
                    self.perform(now);
                }
                Ok(Order::Inquire(parcel)) => {
                    let terms = parcel.terms;
                    self.inquiries += 1;
                    self.table.admit_beyond(now, parcel, terms);
                    self.perform(now);
                }
                Ok(Order::TakeAll(parcels)) => self.incoming.extend(parcels),
                Ok(Order::Close(by, reply)) => self.closing = Some((by, reply)),
                Err(_) => break,
            }
        }
    }

    fn takes_incoming(&self) -> bool {
        !self.incoming.is_empty() && self.table.waiting_links() < MOST_WAITING_LINKS
    }

    /// Does all that the table asks for.
    fn perform(&mut self, now: Instant) {
        while let Some(action) = self.table.poll_action() {
            match action {
                Action::Choose { tag, candidate } => {
                    let link = self.link_to(tag, candidate, now);
                    self.table.handle(now, Input::Chosen { tag, link });
                }
                Action::Look { tag } => {
                    let prospect = self.look_up(tag, now);
                    self.table.handle(now, Input::Looked { tag, prospect });
                }
                Action::Presume { tag } => {
                    self.table.message(tag).and_then(|parcel| parcel.search.as_ref()).inspect(|search| search.found());
                }
                Action::Forget { tag } => {
                    self.table.message(tag).and_then(|parcel| parcel.search.as_ref()).inspect(|search| search.missed());
                }
                Action::Suspect { link } => self.suspect(link, now),
                Action::Silent { tag, link } => self.silent(tag, link, now),
                Action::Inquire { tag, link } => self.inquire(tag, link, now),
                Action::Note { tag, answer } => self.note(tag, answer, now),
                Action::End { message, ending } => self.end(*message, ending, now),
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
                Ok(Received::Message) => read += self.take_in(id, frames, now),
                Ok(Received::Overlong) => {
                    self.complain("an answer has too many frames");
                    read += 1;
                }
                Err(error) => return self.fail(id, now, &error),
            }
            self.warm(id);
            if read >= MESSAGES_PER_VISIT {
                break;
            }
        }
        let Some(link) = self.links.get(id) else { return };
        // A receive that finds nothing leaves no notice unheard: without one, all is as it was.
        if !std::mem::take(&mut link.stirred) {
            if !self.table.has_something_for(id) {
                return;
            }
            if link.writable {
                return self.flush(id, now);
            }
        }
        let Some(link) = self.links.get(id) else { return };
        let readiness = match link.socket.readiness() {
            Ok(readiness) => readiness,
            Err(error) => return self.fail(id, now, &error),
        };
        if readiness.readable {
            // An answer that came before the connection broke counts; and the question has used up its notice.
            link.stirred = true;
            return self.warm(id);
        }
        if readiness.connection == Connection::Lost {
            return self.lose(id, now);
        }
        link.writable = readiness.writable;
        if readiness.writable {
            self.flush(id, now);
        }
    }

    /// Sends what waits for a link: small messages together.
    fn flush(&mut self, id: LinkId, now: Instant) {
        let (mut bundle, mut joined) = (std::mem::take(&mut self.bundle), std::mem::take(&mut self.joined));
        loop {
            let next = self.table.nth_to_send(id, joined.len());
            let more = next.is_some();
            let Some(link) = self.links.get(id) else { break };
            let sent = match next {
                Some((tag, expires, parcel)) if parcel.fits(&bundle) => {
                    parcel.join(&mut bundle, tag, Ttl::until(expires, now));
                    joined.push(tag);
                    continue;
                }
                Some((tag, expires, parcel)) if joined.is_empty() => {
                    joined.push(tag);
                    link.socket.send_lent(parcel.head(tag, Ttl::until(expires, now)), &parcel.content.body)
                }
                _ if joined.is_empty() => break,
                _ => link.socket.send([Frame::new(), Frame::from(bundle.frame())]),
            };
            bundle.clear();
            link.used = now;
            // A send may use up a notice.
            self.warm(id);
            if let Err(error) = sent {
                // They wait until there is room again, or another connection.
                if let Some(link) = self.links.get(id) {
                    log::debug!("{} took no message: {error}", link.address);
                    (link.writable, link.stirred) = (false, true);
                }
                break;
            }
            joined.drain(..).for_each(|tag| self.has_left(tag, now));
            if !more {
                break;
            }
        }
        bundle.clear();
        joined.clear();
        (self.bundle, self.joined) = (bundle, joined);
    }

    fn has_left(&mut self, tag: Tag, now: Instant) {
        if let Some(parcel) = self.table.message_mut(tag) {
            if parcel.content.kind != Kind::Inquire {
                count(if parcel.sent { &self.tally.resent } else { &self.tally.sent });
            }
            parcel.sent = true;
        }
        self.table.handle(now, Input::Sent { tag });
    }

    /// Asks whether a call that this link has sent is still in flight.
    fn inquire(&mut self, tag: Tag, id: LinkId, now: Instant) {
        let Some(link) = self.links.get(id) else { return };
        let Some(parcel) = self.table.message_mut(tag) else { return };
        let frames = parcel.inquiry(tag, Ttl::until(parcel.terms.expires, now));
        match link.socket.send(frames) {
            Ok(()) => link.used = now,
            Err(error) => log::debug!("{} took no question: {error}", link.address),
        }
        self.warm(id);
    }

    /// Whether all is done that was to be done before the end.
    fn finish_closing(&mut self) -> bool {
        let Some((by, _)) = &self.closing else { return false };
        let (now, open) = (clock::now(), self.table.open() - self.inquiries + self.incoming.len());
        if open > 0 && now < *by {
            return false;
        }
        for parcel in std::mem::take(&mut self.incoming) {
            self.end(parcel, Ending::Closed { sent: false }, now);
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
        let busy = !self.hot.is_empty() || self.takes_incoming() || !self.line.fall_asleep(&self.orders);
        let timeout = if busy {
            Some(Duration::ZERO)
        } else {
            let closing = self.closing.as_ref().map(|(by, _)| *by);
            let reconnect = self.resting.front().map(|(at, _)| *at);
            let next = [self.table.next_deadline(), closing, self.sweep_at, reconnect].into_iter().flatten().min();
            next.map(|at| at.saturating_duration_since(clock::now()))
        };
        let polled = self.wait(events, timeout);
        self.line.rise();
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
        let (found, timeout) = self.pace.look(may_come, self.rules.busy_poll, timeout, || {
            self.poll.poll(events, Some(Duration::ZERO)).map(|()| !events.is_empty() || !self.orders.is_empty())
        })?;
        if found { Ok(()) } else { self.poll.poll(events, timeout) }
    }

    /// Closes links that nobody uses, from time to time.
    fn sweep(&mut self) {
        if self.links.is_empty() {
            self.sweep_at = None;
            return;
        }
        let now = clock::now();
        if self.sweep_at.is_some_and(|at| at <= now) {
            self.close_surplus(0, now);
            self.sweep_at = None;
        }
        let _ = self.sweep_at.get_or_insert(now + IDLE_LIMIT / 4);
    }

    fn close_surplus(&mut self, room: usize, now: Instant) {
        for id in self.links.surplus(room, now, |id| self.table.is_idle(id)) {
            self.close(id);
        }
    }

    fn close(&mut self, id: LinkId) {
        self.hot.retain(|other| *other != id);
        if let Some(link) = self.links.close(id) {
            self.unwatch(&link.socket);
        }
    }

    /// The connection is lost. What was sent may have run; what waits is sent over the next connection, which is made after
    /// a pause: a peer that hangs up at once is not to be called again without end.
    fn lose(&mut self, id: LinkId, now: Instant) {
        self.suspect(id, now);
        match self.links.renew(id) {
            Ok(lost) => drop(lost.inspect(|socket| self.unwatch(socket))),
            Err(error) => return self.fail(id, now, &error),
        }
        self.resting.push_back((now + RECONNECT_PAUSE, id));
        let input = match self.watch(id) {
            Some(link) => Input::Lost { link },
            None => Input::Gone { link: id },
        };
        self.table.handle(now, input);
        self.perform(now);
    }

    /// Connects links whose pause is over.
    fn reconnect(&mut self, now: Instant) {
        while let Some(&(at, id)) = self.resting.front()
            && at <= now
        {
            self.resting.pop_front();
            // Another one may have its number by now.
            if let Some(link) = self.links.get(id)
                && std::mem::take(&mut link.rests)
                && let Err(error) = link.socket.connect(&link.address)
            {
                self.fail(id, now, &error);
            }
        }
    }

    /// The socket itself failed: as good as a lost connection, and the next message opens a new one.
    fn fail(&mut self, id: LinkId, now: Instant, error: &dyn std::error::Error) {
        log::error!("a socket failed: {error}");
        self.suspect(id, now);
        self.close(id);
        self.table.handle(now, Input::Gone { link: id });
        self.perform(now);
    }

    fn suspect(&mut self, id: LinkId, now: Instant) {
        if let Some(link) = self.links.get(id) {
            link.suspected = true;
            self.routes.suspects().mark(&link.address, now);
        }
    }

    /// What this link has taken was not answered in time.
    fn silent(&mut self, tag: Tag, id: LinkId, now: Instant) {
        let Some(link) = self.links.get(id) else { return };
        link.suspected = true;
        // Of a message that has ended with that, its end tells the topic.
        let topic = self.table.message(tag).and_then(|parcel| parcel.content.for_any());
        self.routes.silent(&link.address, topic.as_ref(), now);
    }

    fn warm(&mut self, id: LinkId) {
        if let Some(link) = self.links.get(id)
            && !std::mem::replace(&mut link.hot, true)
        {
            self.hot.push(id);
        }
    }
}
