//! The table of outstanding messages: what was taken over and has no outcome yet. Pure: no socket, clock or thread.
//!
//! A message goes to one of its *candidates* (the nodes that may take it, by number) over a *link* (a connection, by
//! number). The driver says which link leads to a candidate, what a link has sent, lost and received, and what time it is;
//! the table says whom to try next, and when a message has ended. Each message ends exactly once, with its last answer if
//! it has several. Without retries it is never sent again once a link has taken it, unless its receiver said that it did
//! not run it.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use zmqv2_proto::{NodeName, Reason, Refusal};

mod entry;
#[cfg(test)]
mod lane_tests;
mod lanes;
mod links;
#[cfg(all(test, feature = "proptest"))]
mod order;
#[cfg(all(test, feature = "proptest"))]
mod properties;
mod tag;
#[cfg(test)]
mod tests;
mod words;

use crate::search::Prospect;
use crate::watch::Due;
use entry::{Doubt, Entry, Stage};
use lanes::Lane;
pub(crate) use lanes::LaneId;
use links::Link;
pub(crate) use tag::Tag;
pub(crate) use words::{Action, Ending, Input, Limits, Terms};

/// The number of a link, chosen by the driver.
pub(crate) type LinkId = usize;

/// How long a message that waits for a place to go rests before the directory is asked again.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Where many candidates are asked in a round, the rounds are as far apart as this for each.
const PACE: Duration = Duration::from_millis(1);
/// How long a message that may have run, and that nobody takes now, rests before its next attempt.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// An answer that says `Expired` leaves when the time to live ends; it is waited for a little longer than that.
pub(crate) const ANSWER_GRACE: Duration = Duration::from_millis(25);

/// The table: `M` is a message as the driver needs it, `A` an answer to one.
#[derive(Debug)]
pub(crate) struct Outstanding<M, A> {
    limits: Limits,
    slots: Vec<Slot<M>>,
    free: Vec<u32>,
    open: usize,
    bytes: usize,
    arrivals: u64,
    tickets: u64,
    /// The next moment of every entry that has one, by slot.
    timers: BTreeSet<(Instant, u32)>,
    links: Vec<Link>,
    /// How many of them have something to send.
    waiting_links: usize,
    lanes: HashMap<LaneId, Lane>,
    /// Lanes in which something has changed.
    changed: Vec<LaneId>,
    actions: VecDeque<Action<M, A>>,
}

#[derive(Debug)]
struct Slot<M> {
    generation: u32,
    entry: Option<Entry<M>>,
}

impl<M, A> Outstanding<M, A> {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            slots: Vec::new(),
            free: Vec::new(),
            open: 0,
            bytes: 0,
            arrivals: 0,
            tickets: 0,
            timers: BTreeSet::new(),
            links: Vec::new(),
            waiting_links: 0,
            lanes: HashMap::new(),
            changed: Vec::new(),
            actions: VecDeque::new(),
        }
    }

    /// Takes over a message, or gives it back when a bound is reached. A message larger than the bound on bytes is taken
    /// when it is the only one.
    pub(crate) fn admit(&mut self, now: Instant, message: M, terms: Terms) -> Result<(), M> {
        let full = self.bytes.saturating_add(terms.bytes) > self.limits.bytes && self.open > 0;
        if self.open >= self.limits.messages || full {
            return Err(message);
        }
        self.admit_beyond(now, message, terms);
        Ok(())
    }

    /// Takes over a message whatever the bounds say: one of several for which there was room together.
    pub(crate) fn admit_beyond(&mut self, now: Instant, message: M, terms: Terms) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, entry: None });
            (self.slots.len() - 1) as u32
        });
        self.open += 1;
        self.bytes += terms.bytes;
        self.arrivals += 1;
        let entry = Entry::new(message, terms, now, self.arrivals);
        let place = &mut self.slots[slot as usize];
        place.entry = Some(entry);
        let tag = Tag::new(slot, place.generation, 0);
        if terms.lane.is_some() {
            self.enter(now, tag);
        } else if terms.candidates > 0 {
            self.choose(now, tag);
        } else {
            self.find_nobody(now, tag);
        }
    }

    pub(crate) fn handle(&mut self, now: Instant, input: Input<A>) {
        match input {
            Input::Chosen { tag, link } => self.chosen(now, tag, link),
            Input::Looked { tag, prospect } => self.looked(now, tag, prospect),
            Input::Sent { tag } => self.sent(now, tag),
            Input::Answered { tag, answer, more } => self.answered(tag, answer, more),
            Input::Refused { tag, refusal, node } => self.refused(now, tag, refusal, node),
            Input::InFlight { tag } => self.in_flight(now, tag),
            Input::Lost { link } => self.lost(now, link),
            Input::Gone { link } => {
                self.lost(now, link);
                self.detach(now, link);
            }
            Input::Close => self.close(),
        }
        self.go_on(now);
    }

    pub(crate) fn poll_action(&mut self) -> Option<Action<M, A>> {
        self.actions.pop_front()
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Works off everything whose time has come.
    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some(&(at, slot)) = self.timers.first()
            && at <= now
        {
            self.timers.pop_first();
            let place = &mut self.slots[slot as usize];
            let Some(entry) = place.entry.as_mut() else { continue };
            entry.timer = None;
            let tag = Tag::new(slot, place.generation, entry.sends);
            match entry.wake {
                Some(wake) if wake > now => self.arm(tag, wake),
                Some(_) => self.due(now, tag),
                None => {}
            }
        }
        self.go_on(now);
    }

    /// The message of a tag that is still outstanding.
    pub(crate) fn message(&self, tag: Tag) -> Option<&M> {
        self.entry(tag).map(|entry| &entry.message)
    }

    pub(crate) fn message_mut(&mut self, tag: Tag) -> Option<&mut M> {
        self.entry_mut(tag).map(|entry| &mut entry.message)
    }

    pub(crate) fn open(&self) -> usize {
        self.open
    }

    /// How many links have something to send: most often because they are not connected yet.
    pub(crate) fn waiting_links(&self) -> usize {
        self.waiting_links
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn chosen(&mut self, now: Instant, tag: Tag, link: Option<LinkId>) {
        let Some(entry) = self.entry(tag) else { return };
        if entry.stage != Stage::Choosing {
            return;
        }
        let Some(link) = link else { return self.miss(now, tag) };
        if self.must_wait(now, tag, link) {
            return;
        }
        let Some(entry) = self.entry(tag) else { return };
        let connect_by = entry.connect_by(now, self.limits.connect_timeout);
        if self.links.len() <= link {
            self.links.resize_with(link + 1, Link::default);
        }
        self.tickets += 1;
        let ticket = self.tickets;
        if let Some(entry) = self.entry_mut(tag) {
            entry.ticket = ticket;
        }
        self.links[link].queue.push_back((tag, ticket));
        self.stage(tag, Stage::Queued { link }, Some(connect_by));
        self.drop_strays(link);
        self.is_under_way(tag, link);
    }

    fn looked(&mut self, now: Instant, tag: Tag, prospect: Prospect) {
        let Some(entry) = self.entry_mut(tag) else { return };
        if entry.stage != Stage::Looking {
            return;
        }
        if prospect.candidates == 0 {
            return self.find_nobody(now, tag);
        }
        entry.renew(prospect.candidates);
        if let Some(place) = &mut entry.place {
            place.plan(prospect);
        }
        self.choose(now, tag);
    }

    /// The directory knows no candidate.
    fn find_nobody(&mut self, now: Instant, tag: Tag) {
        let Some(entry) = self.entry(tag) else { return };
        if entry.doubt.is_some() {
            self.round_over(now, tag);
        } else if entry.waits() {
            self.park(now, tag);
        } else {
            self.end(tag, Ending::Nowhere);
        }
    }

    fn sent(&mut self, now: Instant, tag: Tag) {
        let Some(entry) = self.entry_mut(tag) else { return };
        let Stage::Queued { link } = entry.stage else { return };
        entry.sends = tag.sends();
        entry.await_verdict(now);
        let until = entry.begin_watch(now);
        self.links[link].queue.pop_front();
        self.stage(tag, Stage::Sent { link }, Some(until));
    }

    fn answered(&mut self, tag: Tag, answer: A, more: bool) {
        // Also the late answer to an attempt before this one: it is the same message.
        if self.entry(tag).is_none_or(|entry| entry.sends == 0) {
            return;
        }
        if more {
            self.actions.push_back(Action::Note { tag, answer });
        } else {
            self.end(tag, Ending::Answered(answer));
        }
    }

    fn in_flight(&mut self, now: Instant, tag: Tag) {
        let Some(entry) = self.entry_mut(tag).filter(|entry| entry.sends == tag.sends()) else { return };
        if let (Stage::Sent { .. }, Some(watch)) = (entry.stage, &mut entry.watch) {
            watch.heard(now);
            let (stage, until) = (entry.stage, entry.look_at());
            self.stage(tag, stage, Some(until));
            self.presume(tag);
        }
    }

    fn refused(&mut self, now: Instant, tag: Tag, refusal: Refusal, node: Option<NodeName>) {
        let Some(entry) = self.entry_mut(tag) else { return };
        // A refusal of an attempt that was given up says nothing about the present one.
        if !matches!(entry.stage, Stage::Sent { .. }) || entry.sends != tag.sends() {
            return;
        }
        match refusal.reason {
            Reason::ServerLost => self.doubt(now, tag, Doubt::Refused(refusal, node)),
            reason if reason.another_node_may_take_it() => {
                entry.remember(refusal, node);
                self.go_elsewhere(now, tag);
            }
            _ if entry.doubt.is_some() => self.give_up(tag),
            _ => self.end(tag, Ending::Refused(refusal, node)),
        }
    }

    fn close(&mut self) {
        for tag in self.in_order(|_| true) {
            let sent = self.entry(tag).is_some_and(Entry::may_have_run);
            self.end(tag, Ending::Closed { sent });
        }
    }

    /// The time of an entry has come.
    fn due(&mut self, now: Instant, tag: Tag) {
        let Some(entry) = self.entry_mut(tag) else { return };
        let over = now >= entry.deadline;
        match entry.stage {
            Stage::Sent { link } => {
                if entry.is_presumed(now) {
                    self.presume(tag);
                }
                let Some(entry) = self.entry_mut(tag) else { return };
                let due = if now >= entry.answer_by() {
                    Due::GiveUp
                } else {
                    entry.watch.as_mut().map_or(Due::Nothing, |watch| watch.due(now))
                };
                let until = entry.look_at();
                match due {
                    Due::GiveUp => {
                        self.actions.push_back(Action::Silent { tag, link });
                        return self.doubt(now, tag, Doubt::Silent);
                    }
                    Due::Ask => self.actions.push_back(Action::Inquire { tag, link }),
                    Due::Nothing => {}
                }
                self.stage(tag, Stage::Sent { link }, Some(until));
            }
            Stage::Queued { link } => {
                self.actions.push_back(Action::Suspect { link });
                if over { self.give_up(tag) } else { self.miss(now, tag) }
            }
            _ if over => self.give_up(tag),
            Stage::Resting if entry.place.is_none() => self.choose(now, tag),
            Stage::Resting | Stage::Parked => self.look(tag),
            Stage::Held => self.look_after(tag),
            Stage::Looking | Stage::Choosing => {}
        }
    }

    /// It may have run. With a retry left it goes out again, else it has ended.
    fn doubt(&mut self, now: Instant, tag: Tag, doubt: Doubt) {
        let Some(entry) = self.entry_mut(tag) else { return };
        entry.doubt = Some((doubt, entry.candidate));
        if !entry.next_attempt(now) {
            self.give_up(tag);
        } else if entry.place.is_some() {
            self.come_back(now, tag);
        } else {
            self.choose(now, tag);
        }
    }

    /// This candidate could not be asked.
    fn miss(&mut self, now: Instant, tag: Tag) {
        if let Some(entry) = self.entry_mut(tag) {
            entry.missed = true;
        }
        self.go_elsewhere(now, tag);
    }

    /// This candidate surely did not run it.
    fn go_elsewhere(&mut self, now: Instant, tag: Tag) {
        let behind = self.is_behind(tag);
        let Some(entry) = self.entry_mut(tag) else { return };
        if behind || entry.comes_back() {
            return self.come_back(now, tag);
        }
        if entry.next_candidate() {
            return self.choose(now, tag);
        }
        self.round_over(now, tag);
    }

    /// No candidate of this round has taken it.
    fn round_over(&mut self, now: Instant, tag: Tag) {
        self.share_verdict(tag);
        let Some(entry) = self.entry_mut(tag) else { return };
        // Those who could not be asked might take it at the next attempt.
        let persist = entry.doubt.is_some() || entry.refused.is_none() || entry.missed;
        let pause = entry.attempt_until.min(now + RETRY_PAUSE);
        if persist && entry.next_attempt(now) {
            let until = pause.min(entry.deadline);
            self.stage(tag, Stage::Resting, Some(until));
        } else if entry.may_become_ready() {
            self.park(now, tag);
        } else {
            self.give_up(tag);
        }
    }

    /// Ends an entry with the worst that is known of it.
    fn give_up(&mut self, tag: Tag) {
        if let Some(ending) = self.entry_mut(tag).map(Entry::verdict) {
            self.end(tag, ending);
        }
    }

    fn choose(&mut self, now: Instant, tag: Tag) {
        let Some(entry) = self.entry(tag) else { return };
        if now >= entry.deadline {
            return self.give_up(tag);
        }
        let (candidate, tag) = (entry.candidate, tag.with_sends(entry.sends));
        self.stage(tag, Stage::Choosing, None);
        self.actions.push_back(Action::Choose { tag, candidate });
    }

    fn look(&mut self, tag: Tag) {
        if let Some(entry) = self.entry(tag) {
            let deadline = entry.deadline;
            self.stage(tag, Stage::Looking, Some(deadline));
            self.actions.push_back(Action::Look { tag });
        }
    }

    /// Until the directory may know more.
    fn park(&mut self, now: Instant, tag: Tag) {
        if let Some(entry) = self.entry(tag) {
            let until = entry.deadline.min(now + LOOK_AGAIN.max(PACE * entry.candidates()));
            self.stage(tag, Stage::Parked, Some(until));
        }
    }

    /// Moves an entry to a stage, which ends by itself at `wake`.
    fn stage(&mut self, tag: Tag, stage: Stage, wake: Option<Instant>) {
        let Some(entry) = self.entry_mut(tag) else { return };
        let before = std::mem::replace(&mut entry.stage, stage);
        entry.wake = wake;
        for (stage, up) in [(before, false), (stage, true)] {
            let count = match stage {
                Stage::Queued { link } => &mut self.links[link].queued,
                Stage::Sent { link } => &mut self.links[link].in_flight,
                _ => continue,
            };
            let before = *count;
            *count = if up { before + 1 } else { before - 1 };
            if matches!(stage, Stage::Queued { .. }) {
                self.waiting_links += usize::from(before == 0);
                self.waiting_links -= usize::from(*count == 0);
            }
        }
        if let Some(wake) = wake {
            self.arm(tag, wake);
        }
    }

    /// Sees to it that the entry is looked at by `wake`. Most messages end long before: a timer that is early is moved
    /// when it goes off, so that a message costs one timer rather than one per stage.
    fn arm(&mut self, tag: Tag, wake: Instant) {
        let Some(entry) = self.entry_mut(tag) else { return };
        if entry.timer.is_some_and(|timer| timer <= wake) {
            return;
        }
        if let Some(late) = entry.timer.replace(wake) {
            self.timers.remove(&(late, tag.slot()));
        }
        self.timers.insert((wake, tag.slot()));
    }

    fn end(&mut self, tag: Tag, ending: Ending<A>) {
        self.leave_lane(tag);
        self.stage(tag, Stage::Choosing, None);
        let place = &mut self.slots[tag.slot() as usize];
        let Some(entry) = place.entry.take_if(|_| tag.is_of(place.generation)) else { return };
        if let Some(timer) = entry.timer {
            self.timers.remove(&(timer, tag.slot()));
        }
        place.generation = place.generation.wrapping_add(1);
        self.free.push(tag.slot());
        self.open -= 1;
        self.bytes -= entry.bytes;
        self.actions.push_back(Action::End { message: entry.message, ending });
    }

    fn entry(&self, tag: Tag) -> Option<&Entry<M>> {
        let slot = self.slots.get(tag.slot() as usize)?;
        slot.entry.as_ref().filter(|_| tag.is_of(slot.generation))
    }

    fn entry_mut(&mut self, tag: Tag) -> Option<&mut Entry<M>> {
        let slot = self.slots.get_mut(tag.slot() as usize)?;
        slot.entry.as_mut().filter(|_| tag.is_of(slot.generation))
    }
}
