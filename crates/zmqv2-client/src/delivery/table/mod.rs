//! The table of pending messages: what was taken over and has no outcome yet. Pure: no socket, clock or thread.
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
mod events;
mod link_queue;
#[cfg(all(test, feature = "proptest"))]
mod properties;
mod server_queue;
#[cfg(all(test, feature = "proptest"))]
mod server_queue_properties;
#[cfg(test)]
mod server_queue_tests;
mod tag;
#[cfg(test)]
mod tests;

use crate::delivery::liveness::Due;
use entry::{Entry, MaybeRan, Stage};
pub(crate) use events::{Action, DeliveryOptions, Ending, Input, Limits, SearchPlan};
use link_queue::LinkQueue;
pub(crate) use server_queue::QueueId;
use server_queue::ServerQueue;
pub(crate) use tag::Tag;

/// The number of a link, chosen by the driver.
pub(crate) type LinkId = usize;

/// How long a message that waits for a place to go rests before the directory is asked again.
pub(crate) const LOOKUP_INTERVAL: Duration = Duration::from_millis(200);
/// Where many candidates are asked in a round, the rounds are as far apart as this for each.
const LOOKUP_INTERVAL_PER_CANDIDATE: Duration = Duration::from_millis(1);
/// How long a message that may have run, and that nobody takes now, rests before its next attempt.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// An answer that says `Expired` leaves when the time to live ends; it is waited for a little longer than that.
pub(crate) const ANSWER_GRACE: Duration = Duration::from_millis(25);

/// The table: `M` is a message as the driver needs it, `A` an answer to one.
#[derive(Debug)]
pub(crate) struct PendingTable<M, A> {
    limits: Limits,
    slots: Vec<Slot<M>>,
    free: Vec<u32>,
    open: usize,
    bytes: usize,
    arrivals: u64,
    tickets: u64,
    /// The next moment of every entry that has one, by slot.
    timers: BTreeSet<(Instant, u32)>,
    links: Vec<LinkQueue>,
    /// How many of them have something to send.
    waiting_links: usize,
    server_queues: HashMap<QueueId, ServerQueue>,
    /// Queues in which something has changed.
    changed_queues: Vec<QueueId>,
    actions: VecDeque<Action<M, A>>,
}

#[derive(Debug)]
struct Slot<M> {
    generation: u32,
    entry: Option<Entry<M>>,
}

impl<M, A> PendingTable<M, A> {
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
            server_queues: HashMap::new(),
            changed_queues: Vec::new(),
            actions: VecDeque::new(),
        }
    }

    /// Takes over a message, or gives it back when a bound is reached. A message larger than the bound on bytes is taken
    /// when it is the only one.
    pub(crate) fn admit(&mut self, now: Instant, message: M, options: DeliveryOptions) -> Result<(), M> {
        let full = self.bytes.saturating_add(options.bytes) > self.limits.bytes && self.open > 0;
        if self.open >= self.limits.messages || full {
            return Err(message);
        }
        self.admit_beyond_limits(now, message, options);
        Ok(())
    }

    /// Takes over a message whatever the bounds say: one of several for which there was room together.
    pub(crate) fn admit_beyond_limits(&mut self, now: Instant, message: M, options: DeliveryOptions) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, entry: None });
            (self.slots.len() - 1) as u32
        });
        self.open += 1;
        self.bytes += options.bytes;
        self.arrivals += 1;
        let entry = Entry::new(message, options, now, self.arrivals);
        let slot = &mut self.slots[index as usize];
        slot.entry = Some(entry);
        let tag = Tag::new(index, slot.generation, 0);
        if options.server_queue.is_some() {
            self.join_queue(now, tag);
        } else if options.candidates > 0 {
            self.choose_link(now, tag);
        } else {
            self.no_candidate(now, tag);
        }
    }

    pub(crate) fn handle(&mut self, now: Instant, input: Input<A>) {
        match input {
            Input::LinkChosen { tag, link } => self.link_chosen(now, tag, link),
            Input::LookedUp { tag, plan } => self.looked_up(now, tag, plan),
            Input::Sent { tag } => self.sent(now, tag),
            Input::Answered { tag, answer, more } => self.answered(tag, answer, more),
            Input::Refused { tag, refusal, node } => self.refused(now, tag, refusal, node),
            Input::InFlight { tag } => self.in_flight(now, tag),
            Input::ConnectionLost { link } => self.connection_lost(now, link),
            Input::LinkClosed { link } => {
                self.connection_lost(now, link);
                self.requeue_elsewhere(now, link);
            }
            Input::Close => self.close(),
        }
        self.advance_queues(now);
    }

    pub(crate) fn poll_action(&mut self) -> Option<Action<M, A>> {
        self.actions.pop_front()
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Works off everything whose time has come.
    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some(&(at, index)) = self.timers.first()
            && at <= now
        {
            self.timers.pop_first();
            let slot = &mut self.slots[index as usize];
            let Some(entry) = slot.entry.as_mut() else { continue };
            entry.timer = None;
            let tag = Tag::new(index, slot.generation, entry.sends);
            match entry.wake {
                Some(wake) if wake > now => self.set_timer(tag, wake),
                Some(_) => self.timer_fired(now, tag),
                None => {}
            }
        }
        self.advance_queues(now);
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

    fn link_chosen(&mut self, now: Instant, tag: Tag, link: Option<LinkId>) {
        let Some(entry) = self.entry(tag) else { return };
        if entry.stage != Stage::ChoosingLink {
            return;
        }
        let Some(link) = link else { return self.candidate_unreachable(now, tag) };
        if self.waits_for_others(now, tag, link) {
            return;
        }
        let Some(entry) = self.entry(tag) else { return };
        let connect_by = entry.connect_by(now, self.limits.connect_timeout);
        if self.links.len() <= link {
            self.links.resize_with(link + 1, LinkQueue::default);
        }
        self.tickets += 1;
        let ticket = self.tickets;
        if let Some(entry) = self.entry_mut(tag) {
            entry.ticket = ticket;
        }
        self.links[link].queue.push_back((tag, ticket));
        self.set_stage(tag, Stage::Queued { link }, Some(connect_by));
        self.drop_stale_tags(link);
        self.route_chosen(tag, link);
    }

    fn looked_up(&mut self, now: Instant, tag: Tag, plan: SearchPlan) {
        let Some(entry) = self.entry_mut(tag) else { return };
        if entry.stage != Stage::LookingUp {
            return;
        }
        if plan.candidates == 0 {
            return self.no_candidate(now, tag);
        }
        entry.set_candidates(plan.candidates);
        if let Some(membership) = &mut entry.membership {
            membership.plan(plan);
        }
        self.choose_link(now, tag);
    }

    /// The directory knows no candidate.
    fn no_candidate(&mut self, now: Instant, tag: Tag) {
        let Some(entry) = self.entry(tag) else { return };
        if entry.maybe_ran.is_some() {
            self.end_round(now, tag);
        } else if entry.waits_for_candidates() {
            self.pause_before_lookup(now, tag);
        } else {
            self.end(tag, Ending::NoCandidate);
        }
    }

    fn sent(&mut self, now: Instant, tag: Tag) {
        let Some(entry) = self.entry_mut(tag) else { return };
        let Stage::Queued { link } = entry.stage else { return };
        entry.sends = tag.sends();
        entry.start_refusal_timer(now);
        let until = entry.start_liveness(now);
        self.links[link].queue.pop_front();
        self.set_stage(tag, Stage::Sent { link }, Some(until));
    }

    fn answered(&mut self, tag: Tag, answer: A, more: bool) {
        // Also the late answer to an attempt before this one: it is the same message.
        if self.entry(tag).is_none_or(|entry| entry.sends == 0) {
            return;
        }
        if more {
            self.actions.push_back(Action::RecordAnswer { tag, answer });
        } else {
            self.end(tag, Ending::Answered(answer));
        }
    }

    fn in_flight(&mut self, now: Instant, tag: Tag) {
        let Some(entry) = self.entry_mut(tag).filter(|entry| entry.sends == tag.sends()) else { return };
        if let (Stage::Sent { .. }, Some(liveness)) = (entry.stage, &mut entry.liveness) {
            liveness.alive(now);
            let (stage, until) = (entry.stage, entry.next_check());
            self.set_stage(tag, stage, Some(until));
            self.server_found(tag);
        }
    }

    fn refused(&mut self, now: Instant, tag: Tag, refusal: Refusal, node: Option<NodeName>) {
        let Some(entry) = self.entry_mut(tag) else { return };
        // A refusal of an attempt that was given up says nothing about the present one.
        if !matches!(entry.stage, Stage::Sent { .. }) || entry.sends != tag.sends() {
            return;
        }
        match refusal.reason {
            Reason::ServerLost => self.retry_or_end(now, tag, MaybeRan::Refused(refusal, node)),
            reason if reason.another_node_may_take_it() => {
                entry.keep_refusal(refusal, node);
                self.try_next_candidate(now, tag);
            }
            _ if entry.maybe_ran.is_some() => self.give_up(tag),
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
    fn timer_fired(&mut self, now: Instant, tag: Tag) {
        let Some(entry) = self.entry_mut(tag) else { return };
        let over = now >= entry.deadline;
        match entry.stage {
            Stage::Sent { link } => {
                if entry.is_assumed_found(now) {
                    self.server_found(tag);
                }
                let Some(entry) = self.entry_mut(tag) else { return };
                let due = if now >= entry.answer_by() {
                    Due::GiveUp
                } else {
                    entry.liveness.as_mut().map_or(Due::Nothing, |liveness| liveness.due(now))
                };
                let until = entry.next_check();
                match due {
                    Due::GiveUp => {
                        self.actions.push_back(Action::NoAnswer { tag, link });
                        return self.retry_or_end(now, tag, MaybeRan::NoAnswer);
                    }
                    Due::Ask => self.actions.push_back(Action::Inquire { tag, link }),
                    Due::Nothing => {}
                }
                self.set_stage(tag, Stage::Sent { link }, Some(until));
            }
            Stage::Queued { link } => {
                self.actions.push_back(Action::LinkUnreachable { link });
                if over { self.give_up(tag) } else { self.candidate_unreachable(now, tag) }
            }
            _ if over => self.give_up(tag),
            Stage::RetryPause if entry.membership.is_none() => self.choose_link(now, tag),
            Stage::RetryPause | Stage::LookupPause => self.look_up(tag),
            Stage::InServerQueue => self.queue_timer_fired(tag),
            Stage::LookingUp | Stage::ChoosingLink => {}
        }
    }

    /// It may have run. With a retry left it goes out again, else it has ended.
    fn retry_or_end(&mut self, now: Instant, tag: Tag, reason: MaybeRan) {
        let Some(entry) = self.entry_mut(tag) else { return };
        entry.maybe_ran = Some((reason, entry.candidate));
        if !entry.next_attempt(now) {
            self.give_up(tag);
        } else if entry.membership.is_some() {
            self.search_again(now, tag);
        } else {
            self.choose_link(now, tag);
        }
    }

    /// This candidate could not be asked.
    fn candidate_unreachable(&mut self, now: Instant, tag: Tag) {
        if let Some(entry) = self.entry_mut(tag) {
            entry.some_unreachable = true;
        }
        self.try_next_candidate(now, tag);
    }

    /// This candidate surely did not run it.
    fn try_next_candidate(&mut self, now: Instant, tag: Tag) {
        let behind = self.has_earlier_waiting(tag);
        let Some(entry) = self.entry_mut(tag) else { return };
        if behind || entry.must_search_again() {
            return self.search_again(now, tag);
        }
        if entry.next_candidate() {
            return self.choose_link(now, tag);
        }
        self.end_round(now, tag);
    }

    /// No candidate of this round has taken it.
    fn end_round(&mut self, now: Instant, tag: Tag) {
        self.end_others_too(tag);
        let Some(entry) = self.entry_mut(tag) else { return };
        // Those who could not be asked might take it at the next attempt.
        let persist = entry.maybe_ran.is_some() || entry.refused.is_none() || entry.some_unreachable;
        let pause = entry.attempt_until.min(now + RETRY_PAUSE);
        if persist && entry.next_attempt(now) {
            let until = pause.min(entry.deadline);
            self.set_stage(tag, Stage::RetryPause, Some(until));
        } else if entry.may_become_ready() {
            self.pause_before_lookup(now, tag);
        } else {
            self.give_up(tag);
        }
    }

    /// Ends an entry with the worst that is known of it.
    fn give_up(&mut self, tag: Tag) {
        if let Some(ending) = self.entry_mut(tag).map(Entry::ending) {
            self.end(tag, ending);
        }
    }

    fn choose_link(&mut self, now: Instant, tag: Tag) {
        let Some(entry) = self.entry(tag) else { return };
        if now >= entry.deadline {
            return self.give_up(tag);
        }
        let (candidate, tag) = (entry.candidate, tag.with_sends(entry.sends));
        self.set_stage(tag, Stage::ChoosingLink, None);
        self.actions.push_back(Action::ChooseLink { tag, candidate });
    }

    fn look_up(&mut self, tag: Tag) {
        if let Some(entry) = self.entry(tag) {
            let deadline = entry.deadline;
            self.set_stage(tag, Stage::LookingUp, Some(deadline));
            self.actions.push_back(Action::LookUp { tag });
        }
    }

    /// Until the directory may know more.
    fn pause_before_lookup(&mut self, now: Instant, tag: Tag) {
        if let Some(entry) = self.entry(tag) {
            let until =
                entry.deadline.min(now + LOOKUP_INTERVAL.max(LOOKUP_INTERVAL_PER_CANDIDATE * entry.candidates()));
            self.set_stage(tag, Stage::LookupPause, Some(until));
        }
    }

    /// Moves an entry to a stage, which ends by itself at `wake`.
    fn set_stage(&mut self, tag: Tag, stage: Stage, wake: Option<Instant>) {
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
            self.set_timer(tag, wake);
        }
    }

    /// Sees to it that the entry is looked at by `wake`. Most messages end long before: a timer that is early is moved
    /// when it goes off, so that a message costs one timer rather than one per stage.
    fn set_timer(&mut self, tag: Tag, wake: Instant) {
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
        self.leave_queue(tag);
        self.set_stage(tag, Stage::ChoosingLink, None);
        let slot = &mut self.slots[tag.slot() as usize];
        let Some(entry) = slot.entry.take_if(|_| tag.matches(slot.generation)) else { return };
        if let Some(timer) = entry.timer {
            self.timers.remove(&(timer, tag.slot()));
        }
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(tag.slot());
        self.open -= 1;
        self.bytes -= entry.bytes;
        self.actions.push_back(Action::End { message: entry.message, ending });
    }

    fn entry(&self, tag: Tag) -> Option<&Entry<M>> {
        let slot = self.slots.get(tag.slot() as usize)?;
        slot.entry.as_ref().filter(|_| tag.matches(slot.generation))
    }

    fn entry_mut(&mut self, tag: Tag) -> Option<&mut Entry<M>> {
        let slot = self.slots.get_mut(tag.slot() as usize)?;
        slot.entry.as_mut().filter(|_| tag.matches(slot.generation))
    }
}
