//! The I/O thread: owns the DEALERs, feeds the table of outstanding messages, and does what it asks for.
//!
//! It waits with epoll on the notification descriptor of each socket. Such a descriptor tells of a change once, and sends
//! and receives may swallow the notice, so a link stays *hot*, and is visited without waiting, until a visit moved
//! nothing.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use zmqv2_proto::transport::{Frame, Received, Transport};
use zmqv2_proto::{HeaderView, Kind, Ttl};

use crate::clock;
use crate::connections::IDLE_LIMIT;
use crate::courier::{Line, Order, Rules};
use crate::links::{Connection, Links};
use crate::outcome::Finish;
use crate::outstanding::{Action, Ending, Input, LinkId, Outstanding, Tag};
use crate::parcel::{Answer, Parcel, Positive};
use crate::promise::Promise;
use crate::routes::Routes;
use crate::tally::{Tally, count};

/// The most messages read from one link before the others get their turn.
const MESSAGES_PER_VISIT: usize = 64;
/// The most orders taken before the links get their turn.
const ORDERS_PER_TURN: usize = 256;
/// How often a client warns of answers that are none.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);
const WAKER: Token = Token(0);
const FIRST_LINK: usize = 1;

pub(crate) struct Driver {
    poll: Poll,
    line: Arc<Line>,
    orders: Receiver<Order>,
    rules: Rules,
    routes: Arc<Routes>,
    tally: Arc<Tally>,
    table: Outstanding<Box<Parcel>, Positive>,
    links: Links,
    hot: Vec<LinkId>,
    ended: Vec<(Promise, Finish)>,
    ended_bytes: usize,
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
            rules,
            routes,
            tally,
            hot: Vec::new(),
            ended: Vec::new(),
            ended_bytes: 0,
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
                if event.token() != WAKER {
                    self.warm(event.token().0 - FIRST_LINK);
                }
            }
        }
    }

    fn take_orders(&mut self) {
        for order in self.orders.try_iter().take(ORDERS_PER_TURN).collect::<Vec<_>>() {
            match order {
                Order::Take(parcel) => {
                    let (now, terms) = (clock::now(), parcel.terms);
                    // The gate has the same bounds as the table.
                    if let Err(parcel) = self.table.admit(now, parcel, terms) {
                        self.end(parcel, Ending::Closed { sent: false }, now);
                    }
                    self.perform(now);
                }
                Order::Close(by, reply) => self.closing = Some((by, reply)),
            }
        }
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
                    let candidates = self.look_up(tag);
                    self.table.handle(now, Input::Looked { tag, candidates });
                }
                Action::Suspect { link } => self.suspect(link, now),
                Action::End { message, ending } => self.end(message, ending, now),
            }
        }
    }

    /// The link to a candidate of a message.
    fn link_to(&mut self, tag: Tag, candidate: usize, now: Instant) -> Option<LinkId> {
        let stop = self.table.message(tag)?.stops.get(candidate)?;
        let link = match self.links.find(&stop.address) {
            Some(link) => link,
            None => {
                let address = stop.address.clone();
                if self.links.is_full() {
                    self.close_surplus(1, now);
                }
                match self.links.open(&address, now) {
                    Ok(link) => self.watch(link)?,
                    Err(error) => {
                        log::debug!("cannot connect to {address}: {error}");
                        self.routes.suspects().mark(&address, now);
                        return None;
                    }
                }
            }
        };
        self.warm(link);
        Some(link)
    }

    fn watch(&mut self, id: LinkId) -> Option<LinkId> {
        let mut source = SourceFd(&self.links.get(id)?.socket.fd());
        match self.poll.registry().register(&mut source, Token(id + FIRST_LINK), Interest::READABLE) {
            Ok(()) => Some(id),
            Err(error) => {
                log::error!("cannot wait for events of a socket: {error}");
                self.links.close(id);
                None
            }
        }
    }

    fn look_up(&mut self, tag: Tag) -> usize {
        let Some(parcel) = self.table.message_mut(tag) else { return 0 };
        match self.routes.directory.look(&parcel.target, &mut parcel.question) {
            Some(Ok(candidates)) => {
                parcel.stops = self.routes.stops(&parcel.target, &candidates);
                parcel.stops.len()
            }
            Some(Err(error)) => {
                log::debug!("cannot look up {}: {error:?}", parcel.target);
                0
            }
            None => 0,
        }
    }

    /// Reads what a link has, notices whether its connection came or went, and sends what waits for it.
    fn visit(&mut self, id: LinkId, frames: &mut Vec<Frame>) {
        let now = clock::now();
        let Some(link) = self.links.get(id) else { return };
        link.hot = false;
        for turn in 0..=MESSAGES_PER_VISIT {
            if turn == MESSAGES_PER_VISIT {
                self.warm(id);
                break;
            }
            let Some(link) = self.links.get(id) else { return };
            match link.socket.receive(frames) {
                Ok(Received::Nothing) => break,
                Ok(Received::Message) => self.take_in(id, frames, now),
                Ok(Received::Overlong) => self.complain("an answer has too many frames"),
                Err(error) => return self.fail(id, now, &error),
            }
            if turn == 0 {
                self.warm(id);
            }
        }
        let Some(link) = self.links.get(id) else { return };
        let readiness = match link.socket.readiness() {
            Ok(readiness) => readiness,
            Err(error) => return self.fail(id, now, &error),
        };
        if readiness.readable {
            // An answer that came before the connection broke counts; and the question has used up its notice.
            return self.warm(id);
        }
        if link.look(readiness.writable) == Connection::Lost {
            self.suspect(id, now);
            self.table.handle(now, Input::Lost { link: id });
            self.perform(now);
        }
        if readiness.writable {
            self.flush(id, now);
        }
    }

    /// Sends what waits for a link.
    fn flush(&mut self, id: LinkId, now: Instant) {
        let mut sent = false;
        while let Some((tag, deadline, parcel)) = self.table.next_to_send(id)
            && let Some(link) = self.links.get(id)
        {
            let again = parcel.sent_as.is_some();
            if let Err(error) = link.socket.send(parcel.frames(tag, Ttl::until(deadline, now))) {
                log::debug!("{} took no message: {error}", link.address);
                sent = true;
                break;
            }
            let number = link.count_send(now);
            count(if again { &self.tally.resent } else { &self.tally.sent });
            if let Some(parcel) = self.table.message_mut(tag) {
                parcel.sent_as = Some((id, number));
            }
            self.table.handle(now, Input::Sent { tag });
            sent = true;
        }
        if sent {
            self.warm(id);
        }
    }

    /// One message from a link.
    fn take_in(&mut self, id: LinkId, frames: &mut Vec<Frame>, now: Instant) {
        let Some((tag, answer)) = self.read(id, frames) else { return };
        self.table.handle(
            now,
            match answer {
                Answer::Positive(answer) => Input::Answered { tag, answer },
                Answer::Refusal(refusal, node) => Input::Refused { tag, refusal, node },
            },
        );
        self.perform(now);
    }

    fn read(&mut self, id: LinkId, frames: &mut Vec<Frame>) -> Option<(Tag, Answer)> {
        let count_of = frames.len();
        let (Some(body), Some(header), Some(delimiter), None) =
            (frames.pop(), frames.pop(), frames.pop(), frames.pop())
        else {
            self.complain(&format!("an answer has {count_of} frames, not 3"));
            return None;
        };
        if !delimiter.is_empty() {
            self.complain("an answer does not start with an empty frame");
            return None;
        }
        let view = match HeaderView::new(&header) {
            Ok(view) => view,
            Err(error) => {
                self.complain(&error.to_string());
                return None;
            }
        };
        let tag = Tag::from_wire(view.tag());
        let link = self.links.get(id)?;
        let Some(parcel) = self.table.message(tag) else {
            if matches!(view.kind(), Kind::Ack | Kind::Reply | Kind::Refusal) {
                count(&self.tally.late);
            } else {
                self.complain(&format!("an answer is a {:?}", view.kind()));
            }
            return None;
        };
        match parcel.read(&view, body, &mut link.names) {
            Ok(answer) => {
                if let Some((sent_over, number)) = parcel.sent_as
                    && sent_over == id
                {
                    link.count_answer(number);
                }
                if std::mem::take(&mut link.suspected) {
                    self.routes.suspects().clear(&link.address);
                }
                Some((tag, answer))
            }
            Err(problem) => {
                let problem = format!("an answer for message {} of {} is none: {problem}", parcel.id, parcel.target);
                self.complain(&problem);
                None
            }
        }
    }

    /// The message has its outcome; it is told when its room has been given back.
    fn end(&mut self, parcel: Box<Parcel>, ending: Ending<Positive>, now: Instant) {
        let finish = parcel.finish(ending, now);
        self.tally.end(&finish);
        self.ended_bytes += parcel.terms.bytes;
        if parcel.kind == Kind::Cast {
            let outcome = finish.outcome();
            if !outcome.is_acked() && !parcel.promise.is_expected() {
                log::warn!("cast {} to {}: {outcome}", parcel.id, parcel.target);
            }
            if let Some(observer) = &self.rules.observer
                && catch_unwind(AssertUnwindSafe(|| observer(&parcel.target, &outcome))).is_err()
            {
                log::error!("the observer of outcomes panicked");
            }
        }
        self.ended.push((parcel.promise, finish));
    }

    fn settle(&mut self) {
        if self.ended.is_empty() {
            return;
        }
        self.line.gate.leave(self.ended.len(), std::mem::take(&mut self.ended_bytes));
        for (promise, finish) in self.ended.drain(..) {
            promise.give(finish);
        }
    }

    /// Whether all is done that was to be done before the end.
    fn finish_closing(&mut self) -> bool {
        let Some((by, _)) = &self.closing else { return false };
        let (now, open) = (clock::now(), self.table.open());
        if open > 0 && now < *by {
            return false;
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
        let busy = !self.hot.is_empty() || !self.line.fall_asleep(&self.orders);
        let timeout = if busy {
            Some(Duration::ZERO)
        } else {
            let closing = self.closing.as_ref().map(|(by, _)| *by);
            let next = [self.table.next_deadline(), closing, self.sweep_at].into_iter().flatten().min();
            next.map(|at| at.saturating_duration_since(clock::now()))
        };
        let polled = self.poll.poll(events, timeout);
        self.line.rise();
        match polled {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
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
            drop(self.poll.registry().deregister(&mut SourceFd(&link.socket.fd())));
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

    fn warm(&mut self, id: LinkId) {
        if let Some(link) = self.links.get(id)
            && !std::mem::replace(&mut link.hot, true)
        {
            self.hot.push(id);
        }
    }

    fn complain(&mut self, problem: &str) {
        count(&self.tally.ignored);
        let now = clock::now();
        if self.complained.is_none_or(|last| now.saturating_duration_since(last) >= COMPLAIN_EVERY) {
            self.complained = Some(now);
            log::warn!("ignored what came as an answer: {problem}");
        }
    }
}
