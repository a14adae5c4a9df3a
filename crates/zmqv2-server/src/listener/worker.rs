//! What a worker of a listener does: acknowledges a notification, runs it, and reports its end.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use zmqv2_proto::transport::Frame;
use zmqv2_proto::{Header, InvalidName, Kind, Notification, Priority, Reason, Refusal, Topic, TopicKey};

use super::deliveries::{Deliveries, Known};
use super::dispatcher::{AnyEndpoint, dispatch};
use super::endpoint::Verdict;
use super::notice::Notice;
use crate::runtime::completions::{Completion, EndedNotification};
use crate::runtime::now;
use crate::runtime::worker::{AfterAnswer, Answer, Body, Work, Worker, malformed_body};

pub(crate) struct ListenerWork {
    endpoints: Vec<AnyEndpoint>,
    deliveries: Mutex<Deliveries>,
}

/// An acknowledged notification.
pub(crate) struct Delivery {
    notice: Notice,
    key: TopicKey,
    tag: u64,
    /// It goes back to the broker with [`Verdict::Requeue`].
    body: Frame,
}

impl ListenerWork {
    pub(crate) fn new(endpoints: Vec<AnyEndpoint>) -> Self {
        Self { endpoints, deliveries: Mutex::default() }
    }

    fn deliveries(&self) -> MutexGuard<'_, Deliveries> {
        self.deliveries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Work for ListenerWork {
    type Accepted = Delivery;

    fn answer(
        &self,
        header: &Header,
        body: Body<'_>,
        deadline: Instant,
        worker: &Worker,
    ) -> Result<Answer<Delivery>, Refusal> {
        let malformed = |detail: String| Refusal::new(Reason::Malformed, detail);
        if header.kind != Kind::Notify {
            return Err(malformed(format!(
                "{} is a pool of listeners, which take notifications; a {:?} goes to an RPC server",
                worker.server, header.kind
            )));
        }
        let key = header.key.clone().ok_or_else(|| malformed("a notification without a topic".to_owned()))?;
        let notification = Notification::decode(&body).map_err(|error| malformed_body(&error))?;
        let topic = topic(&key, notification.priority).map_err(|error| malformed(error.to_string()))?;
        let handled = |tag| {
            log::debug!("notification {} came again", header.id);
            Completion::Notification(EndedNotification {
                id: header.id,
                tag,
                key: key.clone(),
                deadline,
                requeue: None,
            })
        };
        match self.deliveries().take(header.id, header.tag) {
            Known::New => {}
            Known::Handled => return Ok(Answer::acknowledge(header, AfterAnswer::Send(handled(header.tag)))),
            Known::Running(None) => return Ok(Answer::acknowledge(header, AfterAnswer::Wait)),
            Known::Running(Some(tag)) => return Ok(Answer::acknowledge(header, AfterAnswer::Send(handled(tag)))),
        }
        let notice = Notice { notification, topic, id: header.id, delivery: header.count.max(1), deadline };
        Ok(Answer::acknowledge(header, AfterAnswer::Run(Delivery { notice, key, tag: header.tag, body: body.into() })))
    }

    fn run(&self, accepted: Vec<Delivery>, worker: &Worker) {
        // The time of some may have ended while the batch filled. They go back to the broker, which
        // keeps the dead letters.
        let now = now();
        let (accepted, expired): (Vec<_>, Vec<_>) =
            accepted.into_iter().partition(|delivery| delivery.notice.deadline > now);
        self.settle(expired.into_iter().map(|delivery| (delivery, Verdict::Requeue)), worker);
        if accepted.is_empty() {
            return;
        }
        let notices: Vec<&Notice> = accepted.iter().map(|delivery| &delivery.notice).collect();
        let verdicts = dispatch(&self.endpoints, &notices);
        self.settle(accepted.into_iter().zip(verdicts), worker);
    }
}

impl ListenerWork {
    /// Tells the broker how each delivery ended.
    fn settle(&self, verdicts: impl Iterator<Item = (Delivery, Verdict)>, worker: &Worker) {
        for (delivery, verdict) in verdicts {
            let Delivery { notice: Notice { id, deadline, .. }, key, tag, body } = delivery;
            let later = self.deliveries().settle(id, verdict, deadline, now());
            let done = |tag, requeue| {
                Completion::Notification(EndedNotification { id, tag, key: key.clone(), deadline, requeue })
            };
            let requeue = (verdict == Verdict::Requeue).then_some(body);
            match later {
                None => worker.completions.send(done(tag, requeue)),
                // The broker has this notification twice, and requeues only the later delivery.
                Some(last) => {
                    worker.completions.send(done(tag, None));
                    worker.completions.send(done(last, requeue));
                }
            }
        }
    }
}

/// The topic without the priority.
fn topic(key: &TopicKey, priority: Priority) -> Result<Topic, InvalidName> {
    let plain = key.topic().strip_suffix(priority.as_str()).and_then(|text| text.strip_suffix('.'));
    Topic::new(plain.unwrap_or(key.topic()))
}
