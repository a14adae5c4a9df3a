//! What comes over a link.

use std::time::{Duration, Instant};

use zmqv2_proto::bundle::Bundled;
use zmqv2_proto::transport::Frame;
use zmqv2_proto::{HeaderView, Kind};

use super::Driver;
use crate::clock;
use crate::delivery::table::{Input, LinkId, Tag};
use crate::io::outbound::{Content, ParsedAnswer, Receipt, ReceiverAnswer};
use crate::outcome::counters::count;

/// How often a client warns of answers that are none.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

impl Driver {
    /// One message from a link, or a bundle of them; how many there were.
    pub(super) fn take_in(&mut self, id: LinkId, frames: &mut Vec<Frame>, now: Instant) -> usize {
        let mut taken = frames.drain(..);
        match (taken.next(), taken.next(), taken.next(), taken.next()) {
            (Some(delimiter), Some(header), Some(body), None) if delimiter.is_empty() => {
                drop(taken);
                self.take_answer(id, &header, body, now);
                1
            }
            (Some(delimiter), Some(bundle), None, None) if delimiter.is_empty() => {
                drop(taken);
                let Some(answers) = Bundled::of(&bundle) else {
                    self.complain("an answer has a frame that is no bundle");
                    return 1;
                };
                let mut messages = 0;
                for answer in answers {
                    messages += 1;
                    match answer {
                        Ok((header, body)) => self.take_answer(id, header, Frame::from(body), now),
                        Err(error) => self.complain(&error.to_string()),
                    }
                }
                messages
            }
            _ => {
                drop(taken);
                self.complain("an answer is not a delimiter, a header and a body");
                1
            }
        }
    }

    fn take_answer(&mut self, id: LinkId, header: &[u8], body: Frame, now: Instant) {
        let Some((tag, answer)) = self.read(id, header, body) else { return };
        self.table.handle(
            now,
            match answer {
                ParsedAnswer::FromReceiver { answer, more } => Input::Answered { tag, answer, more },
                ParsedAnswer::InFlight => Input::InFlight { tag },
                ParsedAnswer::Refusal(refusal, node) => Input::Refused { tag, refusal, node },
            },
        );
        self.perform(now);
    }

    fn read(&mut self, id: LinkId, header: &[u8], body: Frame) -> Option<(Tag, ParsedAnswer)> {
        let view = match HeaderView::new(header) {
            Ok(view) => view,
            Err(error) => {
                self.complain(&error.to_string());
                return None;
            }
        };
        let tag = Tag::from_wire(view.tag());
        let link = self.links.get(id)?;
        let Some(parcel) = self.table.message(tag) else {
            if matches!(view.kind(), Kind::Ack | Kind::Reply | Kind::Refusal | Kind::Stored | Kind::InFlight) {
                count(&self.counters.late);
            } else {
                self.complain(&format!("an answer is a {:?}", view.kind()));
            }
            return None;
        };
        match parcel.read(&view, body, tag.sends(), &mut link.names, &self.router) {
            Ok(answer) => {
                if std::mem::take(&mut link.suspected) {
                    self.router.health().mark_reachable(&link.address);
                }
                if let ParsedAnswer::Refusal(refusal, _) = &answer {
                    let target = &parcel.content.target;
                    self.router.refused(&link.address, target.server.as_ref(), &target.key(), refusal.reason);
                }
                Some((tag, answer))
            }
            Err(problem) => {
                let Content { id, target, .. } = &*parcel.content;
                let problem = format!("an answer for message {id} of {target} is none: {problem}");
                self.complain(&problem);
                None
            }
        }
    }

    /// One of several answers to a message.
    pub(super) fn note(&mut self, tag: Tag, answer: ReceiverAnswer, now: Instant) {
        let Some(parcel) = self.table.message(tag) else { return };
        if let Receipt::Part(sender) = &parcel.receipt
            && !sender.record(answer, now)
        {
            let Content { id, target, .. } = &*parcel.content;
            let problem = format!("message {id} of {target} has too many answers");
            self.complain(&problem);
        }
    }

    pub(super) fn complain(&mut self, problem: &str) {
        count(&self.counters.ignored);
        let now = clock::now();
        if self.complained.is_none_or(|last| now.saturating_duration_since(last) >= COMPLAIN_EVERY) {
            self.complained = Some(now);
            log::warn!("ignored what came as an answer: {problem}");
        }
    }
}
