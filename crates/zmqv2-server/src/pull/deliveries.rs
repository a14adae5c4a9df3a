//! The notifications that have come, and how each of them ended.

use std::sync::{Mutex, MutexGuard, PoisonError};

use zmqv2_proto::transport::Frame;
use zmqv2_proto::{Kind, TopicKey};

use super::queue::Gate;
use crate::listener::deliveries::{Deliveries, Known};
use crate::listener::{Verdict, wrong_kind};
use crate::runtime::completions::Completion;
use crate::runtime::now;
use crate::runtime::shared_socket::Deferred;
use crate::runtime::worker::malformed;

/// What a listener knows of its notifications.
#[derive(Default)]
pub(super) struct PulledDeliveries(Mutex<Deliveries>);

impl PulledDeliveries {
    /// Tells the broker how a delivery ended.
    pub(super) fn settle(&self, delivery: Deferred, verdict: Verdict) {
        let (id, deadline, tag) = (delivery.header.id, delivery.deadline, delivery.header.tag);
        let Some(key) = delivery.header.key.clone().filter(|_| delivery.is_own()) else { return };
        let later = self.lock().settle(id, verdict, deadline, now());
        let requeue = (verdict == Verdict::Requeue).then(|| Frame::from(delivery.body()));
        let end = |tag, requeue| Completion::Notification { id, tag, key: key.clone(), deadline, requeue };
        match later {
            None => delivery.report([end(tag, requeue)]),
            // The broker has this notification twice, and requeues only the later delivery.
            Some(last) => delivery.report([end(tag, None), end(last, requeue)]),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Deliveries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gate for PulledDeliveries {
    fn admit(&self, mut delivery: Deferred) -> Option<Deferred> {
        if delivery.header.kind != Kind::Notify {
            let refusal = wrong_kind(&delivery.worker().server, delivery.header.kind);
            delivery.refuse(&refusal);
            return None;
        }
        let Some(key) = delivery.header.key.clone() else {
            delivery.refuse(&malformed("a notification without a topic"));
            return None;
        };
        let (id, tag, deadline) = (delivery.header.id, delivery.header.tag, delivery.deadline);
        let known = self.lock().take(id, tag);
        delivery.acknowledge();
        let end = |key: TopicKey, tag| {
            log::debug!("notification {id} came again");
            Completion::Notification { id, tag, key, deadline, requeue: None }
        };
        match known {
            Known::New => return Some(delivery),
            // The end of the run ends this delivery.
            Known::Running(None) => delivery.report([]),
            Known::Running(Some(earlier)) => delivery.report([end(key, earlier)]),
            Known::Handled => delivery.report([end(key, tag)]),
        }
        None
    }

    fn give_back(&self, delivery: Deferred) {
        self.settle(delivery, Verdict::Requeue);
    }

    /// The broker keeps dead letters.
    fn expired(&self, delivery: Deferred) {
        self.settle(delivery, Verdict::Requeue);
    }
}
