//! The work of a listener: it acknowledges a notification, runs it, and reports its end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use zmqv2_proto::observe::Verb;
use zmqv2_proto::transport::Frame;
use zmqv2_proto::{Header, InvalidName, Kind, Notification, Priority, Refusal, ServerName, Topic, TopicKey};

use super::deliveries::{Deliveries, Known};
use super::dispatcher::{AnyEndpoint, dispatch};
use super::endpoint::Verdict;
use super::notice::Notice;
use super::wrong_kind;
use crate::handler_error::HandlerError;
use crate::interceptor::chain::{Around, Interceptors, refused};
use crate::interceptor::{EndResult, Received};
use crate::runtime::cancellation::CancelFlag;
use crate::runtime::completions::Completion;
use crate::runtime::now;
use crate::runtime::running::Running;
use crate::runtime::worker::{AfterAnswer, Answer, Body, Work, Worker, malformed, malformed_body};

pub(crate) struct ListenerWork {
    pub(crate) endpoints: Vec<AnyEndpoint>,
    pub(crate) interceptors: Interceptors,
    pub(crate) deliveries: Mutex<Deliveries>,
}

/// An acknowledged notification.
pub(crate) struct Delivery {
    notice: Notice,
    around: Around,
    key: TopicKey,
    tag: u64,
    /// It goes back to the broker with [`Verdict::Requeue`].
    body: Frame,
}

impl ListenerWork {
    fn deliveries(&self) -> MutexGuard<'_, Deliveries> {
        self.deliveries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the interceptors before a notification.
    fn before(
        &self,
        notification: &mut Notification,
        key: &TopicKey,
        header: &Header,
        deadline: Instant,
        server: &ServerName,
    ) -> Result<Around, HandlerError> {
        if self.interceptors.is_empty() {
            return Ok(Around::default());
        }
        let (topic, attempt, interface) = (Some(key), Some(header.count.max(1)), (None, None));
        let Notification { event_type: method, context, .. } = notification;
        let (verb, id, node) = (Verb::Notify, header.id, header.node.as_ref());
        self.interceptors.before(&mut Received {
            verb,
            topic,
            server,
            method,
            interface,
            id,
            node,
            deadline,
            attempt,
            context,
        })
    }

    /// Tells the broker how each delivery ended.
    fn settle(&self, verdicts: impl Iterator<Item = (Delivery, Verdict)>, failed: bool, worker: &Worker) {
        for (delivery, verdict) in verdicts {
            let Delivery { notice: Notice { id, deadline, .. }, mut around, key, tag, body } = delivery;
            let result = match verdict {
                Verdict::Requeue => EndResult::Requeued,
                _ if failed => EndResult::Failed(None),
                _ => EndResult::Succeeded,
            };
            around.end(result, false);
            let later = self.deliveries().settle(id, verdict, deadline, now());
            let done = |tag, requeue| Completion::Notification { id, tag, key: key.clone(), deadline, requeue };
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

impl Work for ListenerWork {
    type Accepted = Delivery;

    const REPORTS_ENDS: bool = true;

    fn answer(
        &self,
        header: &Header,
        body: Body<'_>,
        deadline: Instant,
        _: Option<Arc<CancelFlag>>,
        worker: &Worker,
    ) -> Result<Answer<Delivery>, Refusal> {
        if header.kind != Kind::Notify {
            return Err(wrong_kind(&worker.server, header.kind));
        }
        let key = header.key.clone().ok_or_else(|| malformed("a notification without a topic"))?;
        let mut notification = Notification::decode(&body).map_err(|error| malformed_body(&error))?;
        let topic = topic(&key, notification.priority).map_err(|error| malformed(error.to_string()))?;
        let &Header { id, tag, count, .. } = header;
        let delivery = count.max(1);
        let around = self.before(&mut notification, &key, header, deadline, &worker.server).map_err(refused)?;
        let end = |key, tag| {
            log::debug!("notification {id} came again");
            AfterAnswer::Send(Completion::Notification { id, tag, key, deadline, requeue: None })
        };
        let then = match self.deliveries().take(id, tag) {
            Known::New => {
                let notice = Notice { notification, topic, id, node: header.node.clone(), delivery, deadline };
                AfterAnswer::Run(Delivery { notice, around, key, tag, body: body.into() })
            }
            Known::Running(None) => AfterAnswer::Wait,
            Known::Running(Some(earlier)) => end(key, earlier),
            Known::Handled => end(key, tag),
        };
        Ok(Answer::acknowledge(header, then))
    }

    fn run(&self, accepted: Vec<Delivery>, worker: &Worker) {
        // Notifications whose time ended while the batch filled go back to the broker, which keeps
        // dead letters.
        let now = now();
        let (accepted, expired): (Vec<_>, Vec<_>) =
            accepted.into_iter().partition(|delivery| delivery.notice.deadline > now);
        self.settle(expired.into_iter().map(|delivery| (delivery, Verdict::Requeue)), false, worker);
        if accepted.is_empty() {
            return;
        }
        let notices: Vec<&Notice> = accepted.iter().map(|delivery| &delivery.notice).collect();
        let event_type = notices[0].event_type().to_owned();
        let running = worker.running(Running::Notifications(event_type, notices.len()));
        let run = || dispatch(&self.endpoints, &notices);
        let (verdicts, failed) = match &accepted[..] {
            [only] => only.around.within(run, || (vec![Verdict::Handled], true)),
            _ => run(),
        };
        drop(running);
        self.settle(accepted.into_iter().zip(verdicts), failed, worker);
    }
}

/// The topic without the priority.
fn topic(key: &TopicKey, priority: Priority) -> Result<Topic, InvalidName> {
    let plain = key.topic().strip_suffix(priority.as_str()).and_then(|text| text.strip_suffix('.'));
    Topic::new(plain.unwrap_or(key.topic()))
}
