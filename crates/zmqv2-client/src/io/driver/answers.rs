//! Handles the answers that come over a link.

use std::time::{Duration, Instant};

use zmqv2_proto::bundle::Bundled;
use zmqv2_proto::transport::Frame;
use zmqv2_proto::{HeaderView, Kind};

use super::Driver;
use crate::clock;
use crate::delivery::table::{Input, LinkId, Tag};
use crate::io::answer::{Asked, ParsedAnswer};
use crate::io::outbound::{Message, ResultSender};
use crate::outcome::counters::count;
use crate::outcome::receiver_answer::ReceiverAnswer;

/// The shortest time between two warnings about invalid answers.
const WARN_EVERY: Duration = Duration::from_secs(10);

impl Driver {
    /// Handles a message from a link, or a bundle of messages. Returns how many there were.
    pub(super) fn receive_answers(&mut self, id: LinkId, frames: &mut Vec<Frame>, now: Instant) -> usize {
        let mut taken = frames.drain(..);
        match (taken.next(), taken.next(), taken.next(), taken.next()) {
            (Some(delimiter), Some(header), Some(body), None) if delimiter.is_empty() => {
                drop(taken);
                if !self.learn(id, &header, &body) {
                    self.handle_answer(id, &header, body, now);
                }
                1
            }
            (Some(delimiter), Some(bundle), None, None) if delimiter.is_empty() => {
                drop(taken);
                let Some(answers) = Bundled::of(&bundle) else {
                    self.warn_ignored("an answer has a frame that is no bundle");
                    return 1;
                };
                let mut messages = 0;
                for answer in answers {
                    messages += 1;
                    match answer {
                        // All answers of a bundle left at the same time.
                        Ok((header, body)) if messages == 1 && self.learn(id, header, body) => {}
                        Ok((header, body)) => self.handle_answer(id, header, Frame::from(body), now),
                        Err(error) => self.warn_ignored(&error.to_string()),
                    }
                }
                messages
            }
            _ => {
                drop(taken);
                self.warn_ignored("an answer is not a delimiter, a header and a body");
                1
            }
        }
    }

    /// Learns from an answer what it tells about the broker. Returns whether it answers the first
    /// question on the connection.
    fn learn(&mut self, id: LinkId, header: &[u8], body: &[u8]) -> bool {
        let (Some(link), Ok(view)) = (self.links.get(id), HeaderView::new(header)) else { return false };
        let welcome = link.greeting.read(&view, body, &link.peer);
        if welcome && std::mem::take(&mut link.suspected) {
            self.router.health().mark_reachable(&link.address);
        } else if !welcome {
            link.peer.answered(&view, clock::now());
        }
        welcome
    }

    fn handle_answer(&mut self, id: LinkId, header: &[u8], body: Frame, now: Instant) {
        let Some((tag, answer)) = self.read(id, header, body) else { return };
        self.table.handle(
            now,
            match answer {
                ParsedAnswer::FromReceiver { answer, more } => Input::Answered { tag, answer, more },
                ParsedAnswer::InFlight { silence, node } => Input::InFlight { tag, silence, node },
                ParsedAnswer::Refusal(refusal, node) => Input::Refused { tag, refusal, node },
            },
        );
        self.perform(now);
    }

    fn read(&mut self, id: LinkId, header: &[u8], body: Frame) -> Option<(Tag, ParsedAnswer)> {
        let view = match HeaderView::new(header) {
            Ok(view) => view,
            Err(error) => {
                self.warn_ignored(&error.to_string());
                return None;
            }
        };
        let tag = Tag::from_wire(view.tag());
        let link = self.links.get(id)?;
        let Some(outbound) = self.table.message(tag) else {
            if matches!(view.kind(), Kind::Ack | Kind::Reply | Kind::Refusal | Kind::Stored | Kind::InFlight) {
                count(&self.counters.late);
            } else {
                self.warn_ignored(&format!("an answer is a {:?}", view.kind()));
            }
            return None;
        };
        let Message { id, kind, ref target, .. } = *outbound.message;
        let asked = Asked { id, kind, server: target.server.as_ref(), send: tag.sends() };
        match asked.read(&view, body, &mut link.names, || outbound.route.asked_node(&self.router)) {
            Ok(answer) => {
                if std::mem::take(&mut link.suspected) {
                    self.router.health().mark_reachable(&link.address);
                }
                if let ParsedAnswer::Refusal(refusal, _) = &answer {
                    self.router.refused(&link.address, target.server.as_ref(), &target.key(), refusal.reason);
                }
                Some((tag, answer))
            }
            Err(problem) => {
                let problem = format!("an answer to message {id} of {target} is not valid: {problem}");
                self.warn_ignored(&problem);
                None
            }
        }
    }

    /// Records one of several answers to a message.
    pub(super) fn record_answer(&mut self, tag: Tag, answer: ReceiverAnswer, now: Instant) {
        let Some(outbound) = self.table.message(tag) else { return };
        if let ResultSender::Part(sender) = &outbound.result_sender
            && !sender.record(answer, now)
        {
            let Message { id, target, .. } = &*outbound.message;
            let problem = format!("message {id} of {target} has too many answers");
            self.warn_ignored(&problem);
        }
    }

    pub(super) fn warn_ignored(&mut self, problem: &str) {
        count(&self.counters.ignored);
        let now = clock::now();
        if self.last_warning.is_none_or(|last| now.saturating_duration_since(last) >= WARN_EVERY) {
            self.last_warning = Some(now);
            log::warn!("ignored an invalid answer: {problem}");
        }
    }
}
