//! Sends the messages that wait for a link.

use std::time::Instant;

use zmqv2_proto::transport::Frame;
use zmqv2_proto::{Header, Kind, MessageId, Ttl};

use super::Driver;
use crate::delivery::table::{Input, LinkId, Tag};
use crate::io::outbound::Message;
use crate::outcome::counters::count;
use crate::peers::hello::{self, Greeting};
use crate::peers::{Stamp, Stamping};

impl Driver {
    /// Sends the messages that wait for a link, small ones in bundles. Before the first one, it asks
    /// the broker for its clock and its limits, and sends nothing until the answer has come.
    pub(super) fn flush(&mut self, id: LinkId, now: Instant) {
        let Some((stamp, largest)) = self.greet(id, now) else { return };
        let (mut bundle, mut bundled) = (std::mem::take(&mut self.bundle), std::mem::take(&mut self.bundled));
        loop {
            let next = self.table.nth_to_send(id, bundled.len());
            let more = next.is_some();
            let Some(link) = self.links.get(id) else { break };
            let too_large = next.is_some_and(|(.., outbound)| outbound.message.body.len() > largest);
            let sent = match next {
                Some((tag, ..)) if too_large && bundled.is_empty() => {
                    if self.refuse_size(id, tag, now) {
                        continue;
                    }
                    // Another thread has just learned of another limit.
                    self.mark_hot(id);
                    break;
                }
                Some((tag, expires, outbound)) if !too_large && outbound.fits_into(&bundle) => {
                    outbound.add_to(&mut bundle, tag, Ttl::until(expires, now), stamp);
                    bundled.push(tag);
                    continue;
                }
                Some((tag, expires, outbound)) if bundled.is_empty() => {
                    bundled.push(tag);
                    let head = outbound.head(tag, Ttl::until(expires, now), stamp);
                    link.socket.send_lent(head, &outbound.message.body)
                }
                _ if bundled.is_empty() => break,
                _ => link.socket.send([Frame::new(), Frame::from(bundle.frame())]),
            };
            bundle.clear();
            link.used = now;
            // A send may consume an event.
            self.mark_hot(id);
            if let Err(error) = sent {
                // The messages wait for room, or for another connection.
                if let Some(link) = self.links.get(id) {
                    log::debug!("{} took no message: {error}", link.address);
                    (link.writable, link.notified) = (false, true);
                }
                break;
            }
            bundled.drain(..).for_each(|tag| self.message_sent(tag, now));
            if !more {
                break;
            }
        }
        bundle.clear();
        bundled.clear();
        (self.bundle, self.bundled) = (bundle, bundled);
    }

    /// Asks the broker of a connection, unless it has answered. Returns the stamp of the requests
    /// that leave now, if the broker reads stamps, and the largest body that it takes. `None`:
    /// nothing may leave yet.
    fn greet(&mut self, id: LinkId, now: Instant) -> Option<(Option<Stamp>, usize)> {
        let own_limit = self.settings.config.max_message_bytes;
        let link = self.links.get(id)?;
        if link.greeting == Greeting::Answered {
            match link.peer.stamping(now) {
                Stamping::With(stamp) => return Some((Some(stamp), link.peer.max_message_bytes())),
                Stamping::Without => return Some((None, link.peer.max_message_bytes())),
                Stamping::AskAgain => link.greeting = Greeting::Due,
            }
        }
        if link.greeting == Greeting::Due {
            let [header, body] = hello::question(own_limit).map(Frame::from);
            match link.socket.send([Frame::new(), header, body]) {
                Ok(()) => (link.greeting, link.used) = (Greeting::Asked(now), now),
                Err(error) => {
                    log::debug!("{} took no question: {error}", link.address);
                    (link.writable, link.notified) = (false, true);
                }
            }
            // A send may consume an event.
            self.mark_hot(id);
        }
        None
    }

    /// Refuses a message that the broker of this link would not take. Returns whether that is so.
    fn refuse_size(&mut self, id: LinkId, tag: Tag, now: Instant) -> bool {
        let Some(outbound) = self.table.message(tag) else { return false };
        let (node, size) = (outbound.route.asked_node(&self.router), outbound.message.body.len());
        let refusal = self.links.get(id).and_then(|link| link.peer.refuses_size(size, node.as_ref()));
        let Some(refusal) = refusal else { return false };
        self.table.handle(now, Input::Sent { tag });
        self.table.handle(now, Input::Refused { tag, refusal, node });
        self.perform(now);
        true
    }

    pub(super) fn message_sent(&mut self, tag: Tag, now: Instant) {
        if let Some(outbound) = self.table.message_mut(tag) {
            if outbound.message.kind != Kind::Inquire {
                count(if outbound.sent { &self.counters.resent } else { &self.counters.sent });
            }
            outbound.sent = true;
        }
        self.table.handle(now, Input::Sent { tag });
    }

    /// Ends a call that nobody wants any more.
    pub(super) fn give_up(&mut self, id: MessageId, now: Instant) {
        if let Some(tag) = self.table.find(|outbound| outbound.message.id == id) {
            self.table.handle(now, Input::GivenUp { tag });
            self.perform(now);
        }
    }

    /// Tells the broker of a link that nobody waits for its answer to a call any more. Nobody need
    /// wait for other messages, so they run.
    pub(super) fn cancel(&mut self, at: LinkId, message: &Message, now: Instant) {
        let Some(link) = self.links.get(at) else { return };
        if message.kind != Kind::Call || link.greeting != Greeting::Answered || !link.peer.cancels() {
            return;
        }
        let mut header = Header::new(Kind::Cancel, message.id);
        header.key = Some(message.target.key());
        match link.socket.send([Frame::new(), Frame::from(header.encode()), Frame::new()]) {
            Ok(()) => link.used = now,
            Err(error) => log::debug!("{} was not told that call {} is cancelled: {error}", link.address, message.id),
        }
        self.mark_hot(at);
    }

    /// Asks whether a call that this link has sent is still in flight.
    pub(super) fn inquire(&mut self, tag: Tag, id: LinkId, now: Instant) {
        let Some(link) = self.links.get(id) else { return };
        let Some(outbound) = self.table.message_mut(tag) else { return };
        let frames = outbound.inquiry(tag, Ttl::until(outbound.options.expires, now));
        match link.socket.send(frames) {
            Ok(()) => link.used = now,
            Err(error) => log::debug!("{} took no question: {error}", link.address),
        }
        self.mark_hot(id);
    }
}
