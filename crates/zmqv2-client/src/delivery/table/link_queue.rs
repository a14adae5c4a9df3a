//! The links: the messages that wait for each, and those it has sent.

use std::collections::VecDeque;
use std::time::Instant;

use super::entry::{Entry, Stage};
use super::{LinkId, PendingTable, Tag};

/// A queue is cleaned when it has more stale tags than this, above twice its length.
const MAX_STALE_TAGS: usize = 64;

#[derive(Debug, Default)]
pub(super) struct LinkQueue {
    /// The messages to send, in order. A message that has left keeps its tag here; the tag is
    /// skipped.
    pub(super) queue: VecDeque<(Tag, u64)>,
    pub(super) queued: usize,
    pub(super) in_flight: usize,
}

impl<M, A> PendingTable<M, A> {
    /// The message to send after `after` others, and the end of its time to live. Once it is sent,
    /// report [`Input::Sent`](super::Input::Sent), in the same order.
    pub(crate) fn nth_to_send(&mut self, link: LinkId, after: usize) -> Option<(Tag, Instant, &M)> {
        let tag = loop {
            let (tag, ticket) = *self.links.get(link)?.queue.get(after)?;
            if self.is_queued(tag, ticket) {
                break tag;
            }
            self.links[link].queue.remove(after);
        };
        let entry = self.entry(tag)?;
        Some((tag.next_send(), entry.expires, &entry.message))
    }

    /// Whether a message waits for this link.
    pub(crate) fn has_queued(&self, link: LinkId) -> bool {
        self.links.get(link).is_some_and(|link| link.queued > 0)
    }

    /// Whether no message waits for this link or for an answer over it.
    pub(crate) fn is_idle(&self, link: LinkId) -> bool {
        self.links.get(link).is_none_or(|link| link.queued == 0 && link.in_flight == 0)
    }

    /// The tags of the entries that `which` selects, by arrival.
    pub(super) fn in_order(&self, mut which: impl FnMut(&Entry<M>) -> bool) -> Vec<Tag> {
        let mut found: Vec<(u64, Tag)> = Vec::new();
        for (index, slot) in self.slots.iter().enumerate() {
            if let Some(entry) = slot.entry.as_ref().filter(|entry| which(entry)) {
                found.push((entry.arrival, Tag::new(index as u32, slot.generation, entry.sends)));
            }
        }
        found.sort_unstable();
        found.into_iter().map(|(_, tag)| tag).collect()
    }

    /// Removes stale tags if there are many.
    pub(super) fn drop_stale_tags(&mut self, link: LinkId) {
        if self.links[link].queue.len() <= 2 * self.links[link].queued + MAX_STALE_TAGS {
            return;
        }
        let mut queue = std::mem::take(&mut self.links[link].queue);
        queue.retain(|(tag, ticket)| self.is_queued(*tag, *ticket));
        self.links[link].queue = queue;
    }

    pub(super) fn is_queued(&self, tag: Tag, ticket: u64) -> bool {
        let waits = |entry: &Entry<M>| entry.ticket == ticket && matches!(entry.stage, Stage::Queued { .. });
        self.entry(tag).is_some_and(waits)
    }
}
