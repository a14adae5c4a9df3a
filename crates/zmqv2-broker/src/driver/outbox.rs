//! Messages that are about to leave. The loop collects them until it has read every ready socket.
//! Messages for the same peer then leave in one bundle, if the peer reads bundles.

use zmqv2_proto::bundle::Bundle;
use zmqv2_proto::transport::Frame;

use crate::engine::WorkerId;
use crate::message::origin::Ingress;
use crate::message::payload::Payload;
use crate::message::return_path::ReturnPath;

/// The most peers with a batch. Beyond it a bundle saves little, and the search for one costs more.
const MAX_PEERS: usize = 16;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Destination {
    Worker(WorkerId),
    Peer(Ingress, ReturnPath),
}

#[derive(Debug)]
pub(super) struct Batch {
    pub(super) to: Destination,
    /// The only message of the batch: it leaves without a bundle.
    single: Option<Payload>,
    bundle: Bundle,
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    batches: Vec<Batch>,
    spare: Vec<Bundle>,
}

impl Outbox {
    pub(super) fn add(&mut self, to: &Destination, payload: Payload) -> Option<Batch> {
        let (header, body) = (payload.header().len(), payload.body().len());
        let mut before = None;
        let at = match self.batches.iter().position(|batch| batch.to == *to) {
            Some(at) => at,
            None => {
                if self.batches.len() == MAX_PEERS {
                    before = self.next();
                }
                let bundle = self.spare.pop().unwrap_or_default();
                self.batches.push(Batch { to: to.clone(), single: None, bundle });
                self.batches.len() - 1
            }
        };
        let batch = &mut self.batches[at];
        if !batch.bundle.has_room(header, body) {
            let bundle = self.spare.pop().unwrap_or_default();
            before = Some(std::mem::replace(batch, Batch { to: to.clone(), single: None, bundle }));
        }
        batch.add(payload);
        before
    }

    pub(super) fn len(&self) -> usize {
        self.batches.iter().map(Batch::len).sum()
    }

    pub(super) fn take(&mut self, to: &Destination) -> Option<Batch> {
        let at = self.batches.iter().position(|batch| batch.to == *to)?;
        Some(self.batches.remove(at))
    }

    pub(super) fn next(&mut self) -> Option<Batch> {
        (!self.batches.is_empty()).then(|| self.batches.remove(0))
    }

    pub(super) fn recycle(&mut self, mut batch: Batch) {
        batch.bundle.clear();
        if self.spare.len() < MAX_PEERS {
            self.spare.push(batch.bundle);
        }
    }
}

impl Batch {
    fn add(&mut self, payload: Payload) {
        if self.bundle.is_empty() && self.single.is_none() {
            self.single = Some(payload);
            return;
        }
        for payload in self.single.take().into_iter().chain([payload]) {
            self.bundle.push(payload.header(), payload.body());
        }
    }

    pub(super) fn len(&self) -> usize {
        self.bundle.len().max(self.single.is_some().into())
    }

    pub(super) fn size(&self) -> usize {
        self.single.as_ref().map_or_else(|| self.bundle.size(), Payload::size)
    }

    /// The frames behind the delimiter.
    pub(super) fn frames(&mut self) -> impl Iterator<Item = Frame> + use<> {
        let [first, second] = match self.single.take() {
            Some(payload) => payload.into_frames().map(Some),
            None => [Some(Frame::from(self.bundle.frame())), None],
        };
        first.into_iter().chain(second)
    }
}

#[cfg(test)]
mod tests {
    use zmqv2_proto::bundle::{Bundled, MAX_BUNDLE_MESSAGES};

    use super::*;

    fn payload(text: &str) -> Payload {
        Payload::copied(text.as_bytes(), b"body")
    }

    fn headers(batch: &mut Batch) -> Vec<String> {
        let frames: Vec<Frame> = batch.frames().collect();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        match Bundled::of(&frames[0]) {
            Some(bundled) => bundled.map(|message| text(message.unwrap().0)).collect(),
            None => vec![text(&frames[0])],
        }
    }

    #[test]
    fn messages_for_one_peer_leave_together_and_in_order() {
        let mut outbox = Outbox::default();
        for (worker, text) in [(1, "a"), (2, "b"), (1, "c"), (1, "d")] {
            assert!(outbox.add(&Destination::Worker(worker), payload(text)).is_none());
        }
        let mut first = outbox.next().unwrap();
        assert_eq!((first.len(), headers(&mut first)), (3, vec!["a".into(), "c".into(), "d".into()]));
        outbox.recycle(first);
        let mut second = outbox.take(&Destination::Worker(2)).unwrap();
        assert_eq!((second.len(), headers(&mut second)), (1, vec!["b".into()]));
        assert!(outbox.next().is_none() && outbox.take(&Destination::Worker(1)).is_none());
    }

    #[test]
    fn a_full_batch_and_one_peer_too_many_make_room() {
        let mut outbox = Outbox::default();
        let full = (0..=MAX_BUNDLE_MESSAGES).find_map(|_| outbox.add(&Destination::Worker(0), payload("x"))).unwrap();
        assert_eq!(full.len(), MAX_BUNDLE_MESSAGES);
        let left = (1..=MAX_PEERS).find_map(|worker| outbox.add(&Destination::Worker(worker), payload("x"))).unwrap();
        assert_eq!((left.to, outbox.batches.len()), (Destination::Worker(0), MAX_PEERS));
    }
}
