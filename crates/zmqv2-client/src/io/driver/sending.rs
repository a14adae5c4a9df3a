//! Sends the messages that wait for a link.

use std::time::Instant;

use zmqv2_proto::transport::Frame;
use zmqv2_proto::{Kind, Ttl};

use super::Driver;
use crate::delivery::table::{Input, LinkId, Tag};
use crate::outcome::counters::count;

impl Driver {
    /// Sends the messages that wait for a link, small ones in bundles.
    pub(super) fn flush(&mut self, id: LinkId, now: Instant) {
        let (mut bundle, mut bundled) = (std::mem::take(&mut self.bundle), std::mem::take(&mut self.bundled));
        loop {
            let next = self.table.nth_to_send(id, bundled.len());
            let more = next.is_some();
            let Some(link) = self.links.get(id) else { break };
            let sent = match next {
                Some((tag, expires, outbound)) if outbound.fits_into(&bundle) => {
                    outbound.add_to(&mut bundle, tag, Ttl::until(expires, now));
                    bundled.push(tag);
                    continue;
                }
                Some((tag, expires, outbound)) if bundled.is_empty() => {
                    bundled.push(tag);
                    link.socket.send_lent(outbound.head(tag, Ttl::until(expires, now)), &outbound.message.body)
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

    pub(super) fn message_sent(&mut self, tag: Tag, now: Instant) {
        if let Some(outbound) = self.table.message_mut(tag) {
            if outbound.message.kind != Kind::Inquire {
                count(if outbound.sent { &self.counters.resent } else { &self.counters.sent });
            }
            outbound.sent = true;
        }
        self.table.handle(now, Input::Sent { tag });
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
