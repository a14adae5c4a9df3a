//! Messages to one server, which keep their order while it has to be found.
//!
//! As long as the server is where it was last, the messages of its lane go there one after the other without waiting. If that
//! is not known, or was wrong, one of them *searches*: it goes from candidate to candidate, and all others are held behind
//! it, in their order. The server is found when a candidate has accepted the message, or has had it for a while without
//! saying that it is not there ([`VERDICT_WITHIN`]).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use zmqv2_proto::Reason;

use super::entry::{Entry, Stage};
use super::{Action, LinkId, Outstanding, Tag};
use crate::search::Prospect;

/// The number of a lane, chosen by the driver: the same for all messages to one server.
pub(crate) type LaneId = u64;

/// A candidate that does not have the server says so sooner than this.
pub(super) const VERDICT_WITHIN: Duration = Duration::from_millis(250);

#[derive(Debug, Default)]
pub(super) struct Lane {
    members: usize,
    /// Who searches, by arrival.
    seeker: Option<u64>,
    /// Who waits, by arrival.
    held: BTreeMap<u64, Tag>,
    /// How often the way was wrong.
    turns: u64,
    /// How many are on their way, as it is known now.
    out: usize,
    /// The link that they wait for, or were sent over.
    via: Option<LinkId>,
    /// How many are still on the way that was wrong.
    strays: usize,
    /// Until when they are waited for.
    patience: Option<Instant>,
}

/// Where an entry is in its lane.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    lane: LaneId,
    /// It was sent on the way that was known after so many turns.
    out: Option<u64>,
    /// Whether it goes where the server was last.
    sure: bool,
    /// Whether it had to come back: it goes alone until it has arrived.
    careful: bool,
    /// Whether there are other candidates if this is the wrong one.
    pub(super) more: bool,
    /// When the candidate that has it has had it for long enough.
    pub(super) presumed_at: Option<Instant>,
}

#[cfg(all(test, feature = "proptest"))]
impl Lane {
    /// Whether one of its messages searches, and nothing else is on its way.
    pub(super) fn searches(&self) -> bool {
        self.seeker.is_some() && self.out + self.strays == 0
    }
}

impl Place {
    pub(super) fn new(lane: LaneId) -> Self {
        Self { lane, out: None, sure: false, careful: false, more: false, presumed_at: None }
    }

    pub(super) fn plan(&mut self, prospect: Prospect) {
        (self.sure, self.more) = (prospect.known && !self.careful, prospect.more);
    }
}

impl<M> Entry<M> {
    /// It was sent: if it searches, silence is an answer.
    pub(super) fn await_verdict(&mut self, now: Instant) {
        if let Some(place) = &mut self.place {
            place.presumed_at = place.out.is_none().then(|| now + VERDICT_WITHIN);
        }
    }

    pub(super) fn is_presumed(&self, now: Instant) -> bool {
        self.place.and_then(|place| place.presumed_at).is_some_and(|at| at <= now)
    }

    /// Whether the others of its lane, and it itself, are to look for their server again.
    pub(super) fn comes_back(&self) -> bool {
        let Some(place) = self.place else { return false };
        let busy = self.refused.as_ref().is_some_and(|(refusal, _)| refusal.reason == Reason::Busy);
        let persists = self.retries > 0 && (self.doubt.is_some() || self.refused.is_none());
        (place.more && !busy) || (place.out.is_some() && (persists || self.may_become_ready()))
    }
}

impl<M, A> Outstanding<M, A> {
    /// A new entry comes to its lane.
    pub(super) fn enter(&mut self, now: Instant, tag: Tag) {
        if let Some(place) = self.entry(tag).and_then(|entry| entry.place) {
            self.lanes.entry(place.lane).or_default().members += 1;
        }
        self.hold(tag);
        self.go_on(now);
    }

    /// Puts an entry into its lane, at its place in the order.
    pub(super) fn hold(&mut self, tag: Tag) {
        let Some(entry) = self.entry(tag) else { return };
        let (Some(place), arrival, deadline) = (entry.place, entry.arrival, entry.deadline) else { return };
        let lane = self.lanes.entry(place.lane).or_default();
        lane.held.insert(arrival, tag);
        self.changed.push(place.lane);
        self.stage(tag, Stage::Held, Some(deadline));
    }

    /// Lets those go on who can.
    pub(super) fn go_on(&mut self, now: Instant) {
        while let Some(id) = self.changed.pop() {
            let Some(lane) = self.lanes.get_mut(&id) else { continue };
            if lane.seeker.is_some() {
                continue;
            }
            let Some((&arrival, &tag)) = lane.held.first_key_value() else { continue };
            // Those that were sent on the wrong way come back, and are before the others.
            if let Some(until) = lane.patience.filter(|until| lane.strays > 0 && *until > now) {
                if let Some(entry) = self.entry(tag) {
                    let until = until.min(entry.deadline);
                    self.stage(tag, Stage::Held, Some(until));
                }
                continue;
            }
            lane.held.remove(&arrival);
            lane.seeker = Some(arrival);
            if let Some(entry) = self.entry_mut(tag) {
                entry.resume(now);
            }
            self.look(tag);
        }
    }

    /// Whether an entry that could go over this link has to wait for those that went over another one: somebody else has
    /// found the server elsewhere meanwhile, or has found that it is not there.
    pub(super) fn must_wait(&mut self, now: Instant, tag: Tag, link: LinkId) -> bool {
        let Some(place) = self.entry(tag).and_then(|entry| entry.place) else { return false };
        let Some(lane) = self.lanes.get_mut(&place.lane) else { return false };
        // Over the same link nobody overtakes, also one that goes alone.
        if lane.via == Some(link) || lane.out == 0 || place.out.is_some() {
            return false;
        }
        lane.seeker = None;
        let stage = lane.via.map_or(Stage::Held, |link| Stage::Queued { link });
        self.turn(now, place.lane, stage);
        self.hold(tag);
        true
    }

    /// The entry waits for a link. If that leads where the server was last, the next one can follow.
    pub(super) fn is_under_way(&mut self, tag: Tag, link: LinkId) {
        let Some(place) = self.entry(tag).and_then(|entry| entry.place) else { return };
        if place.sure {
            self.arrive(tag);
            if let Some(lane) = self.lanes.get_mut(&place.lane) {
                lane.via = Some(link);
            }
        }
    }

    /// The candidate that has the entry is the right one.
    pub(super) fn presume(&mut self, tag: Tag) {
        let Some(entry) = self.entry_mut(tag) else { return };
        let (Some(place), Stage::Sent { link }) = (&mut entry.place, entry.stage) else { return };
        if place.out.is_some() {
            return;
        }
        (place.sure, place.more) = (true, true);
        self.is_under_way(tag, link);
        self.actions.push_back(Action::Presume { tag });
    }

    fn arrive(&mut self, tag: Tag) {
        let Some(entry) = self.entry(tag) else { return };
        let (Some(mut place), arrival) = (entry.place, entry.arrival) else { return };
        if place.out.is_some() {
            return;
        }
        let lane = self.lanes.entry(place.lane).or_default();
        lane.seeker.take_if(|seeker| *seeker == arrival);
        lane.out += 1;
        (place.out, place.presumed_at, place.careful) = (Some(lane.turns), None, false);
        self.changed.push(place.lane);
        if let Some(entry) = self.entry_mut(tag) {
            entry.place = Some(place);
        }
    }

    /// The entry has to look for its server again.
    pub(super) fn come_back(&mut self, now: Instant, tag: Tag) {
        let Some(entry) = self.entry(tag) else { return };
        let (Some(place), arrival, stage) = (entry.place, entry.arrival, entry.stage) else { return };
        let Some(lane) = self.lanes.get(&place.lane) else { return };
        let seeks = lane.seeker == Some(arrival);
        let first = place.out.is_some_and(|turns| turns == lane.turns);
        self.actions.push_back(Action::Forget { tag });
        if let Some(entry) = self.entry_mut(tag)
            && let Some(place) = &mut entry.place
        {
            // The others come back because of the first one, and follow it again.
            (place.careful, place.sure, place.presumed_at) = (seeks || first, false, None);
        }
        if seeks && !self.is_behind(tag) {
            return self.look(tag);
        }
        if seeks && let Some(lane) = self.lanes.get_mut(&place.lane) {
            lane.seeker = None;
        }
        self.step_back(tag);
        if first {
            self.turn(now, place.lane, stage);
        }
        self.hold(tag);
    }

    /// Whether somebody who was before the entry has come back, and goes on first.
    pub(super) fn is_behind(&self, tag: Tag) -> bool {
        let Some(entry) = self.entry(tag) else { return false };
        let lane = entry.place.and_then(|place| self.lanes.get(&place.lane));
        let first = lane.and_then(|lane| lane.held.first_key_value());
        first.is_some_and(|(arrival, _)| *arrival < entry.arrival)
    }

    /// The way was wrong: who is not gone yet does not go.
    fn turn(&mut self, now: Instant, id: LaneId, stage: Stage) {
        if let Stage::Queued { link } | Stage::Sent { link } = stage {
            for tag in self.queued_in(id, link) {
                self.step_back(tag);
                self.hold(tag);
            }
        }
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.turns += 1;
            (lane.strays, lane.out) = (lane.out, 0);
            lane.patience = Some(now + VERDICT_WITHIN);
        }
    }

    fn queued_in(&self, id: LaneId, link: LinkId) -> Vec<Tag> {
        let queue = self.links.get(link).map(|link| &link.queue).into_iter().flatten();
        let queued = queue.filter(|(tag, ticket)| {
            self.is_queued(*tag, *ticket)
                && self.entry(*tag).and_then(|entry| entry.place).is_some_and(|place| place.lane == id)
        });
        queued.map(|(tag, _)| *tag).collect()
    }

    /// The entry is not on its way any more.
    fn step_back(&mut self, tag: Tag) {
        let Some(entry) = self.entry_mut(tag) else { return };
        let Some(place) = &mut entry.place else { return };
        let (id, out) = (place.lane, place.out.take());
        place.sure = false;
        let (Some(lane), Some(turns)) = (self.lanes.get_mut(&id), out) else { return };
        if turns == lane.turns {
            lane.out -= 1;
        } else if turns + 1 == lane.turns {
            lane.strays -= 1;
            self.changed.push(id);
        }
    }

    /// Those who have waited behind an entry whose round has come to nothing would learn nothing else.
    pub(super) fn share_verdict(&mut self, tag: Tag) {
        let Some(entry) = self.entry_mut(tag) else { return };
        let Some(place) = &mut entry.place else { return };
        place.careful = true;
        let id = place.lane;
        let (Some(entry), Some(lane)) = (self.entry(tag), self.lanes.get(&id)) else { return };
        if lane.seeker != Some(entry.arrival) || lane.held.is_empty() {
            return;
        }
        let (refused, candidate) = (entry.refused.clone(), entry.candidate);
        let held: Vec<Tag> = lane.held.values().copied().collect();
        for tag in held {
            let Some(entry) = self.entry_mut(tag) else { continue };
            if entry.shares(refused.as_ref()) {
                entry.candidate = candidate;
                self.give_up(tag);
            }
        }
    }

    /// Its time in the lane was over before its turn came, or those that it waits for are late.
    pub(super) fn look_after(&mut self, tag: Tag) {
        let Some(entry) = self.entry(tag) else { return };
        let (Some(place), deadline) = (entry.place, entry.deadline) else { return };
        self.stage(tag, Stage::Held, Some(deadline));
        self.changed.push(place.lane);
    }

    /// The entry ends.
    pub(super) fn leave_lane(&mut self, tag: Tag) {
        self.step_back(tag);
        let Some(entry) = self.entry(tag) else { return };
        let (Some(place), arrival) = (entry.place, entry.arrival) else { return };
        let Some(lane) = self.lanes.get_mut(&place.lane) else { return };
        lane.held.remove(&arrival);
        lane.seeker.take_if(|seeker| *seeker == arrival);
        lane.members -= 1;
        if lane.members == 0 {
            self.lanes.remove(&place.lane);
        } else {
            self.changed.push(place.lane);
        }
    }
}
