//! Header and body of a message that goes through.

use zmqv2_proto::transport::Frame;
use zmqv2_proto::{Header, Reason, Refusal, Ttl, rewrite_hop};

/// The frames that go through.
#[derive(Debug)]
pub(crate) struct Payload(Bytes);

#[derive(Debug)]
enum Bytes {
    /// As they came, and as they go on: without a copy.
    Frames { header: Frame, body: Frame },
    /// Out of a bundle, and most often on into one: a small copy, header and then body.
    Copied { bytes: Vec<u8>, header: usize },
}

impl Clone for Payload {
    /// For copies of fanouts, and for notifications, which stay here while a listener has them. The bytes are copied: the
    /// binding has no way to share a frame, and a send to a local worker copies them anyway.
    fn clone(&self) -> Self {
        Self::copied(self.header(), self.body())
    }
}

impl Payload {
    /// Frames as they are.
    pub(crate) fn new(header: Frame, body: Frame) -> Self {
        Self(Bytes::Frames { header, body })
    }

    /// A message of a bundle, on its own: it may have to wait, and must not keep all of the bundle meanwhile.
    pub(crate) fn copied(header: &[u8], body: &[u8]) -> Self {
        Self(Bytes::Copied { bytes: [header, body].concat(), header: header.len() })
    }

    /// The same body under another header.
    pub(crate) fn with_header(self, new: &[u8]) -> Self {
        match self.0 {
            Bytes::Frames { body, .. } => Self::new(Frame::from(new), body),
            Bytes::Copied { bytes, header } => Self::copied(new, &bytes[header..]),
        }
    }

    /// The header's bytes.
    pub(crate) fn header(&self) -> &[u8] {
        match &self.0 {
            Bytes::Frames { header, .. } => header,
            Bytes::Copied { bytes, header } => &bytes[..*header],
        }
    }

    /// The same, to be rewritten.
    pub(crate) fn header_mut(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Bytes::Frames { header, .. } => header,
            Bytes::Copied { bytes, header } => &mut bytes[..*header],
        }
    }

    /// The body's bytes.
    pub(crate) fn body(&self) -> &[u8] {
        match &self.0 {
            Bytes::Frames { body, .. } => body,
            Bytes::Copied { bytes, header } => &bytes[*header..],
        }
    }

    /// Header and body as frames.
    pub(crate) fn into_frames(self) -> [Frame; 2] {
        match self.0 {
            Bytes::Frames { header, body } => [header, body],
            Bytes::Copied { bytes, header } => [Frame::from(&bytes[..header]), Frame::from(&bytes[header..])],
        }
    }

    /// It goes to a worker, from now on its node's clock: what waits in the worker's socket goes on expiring.
    pub(crate) fn deliver(mut self, tag: u64, ttl: Ttl, delivery: u16, monotonic_millis: u64) -> Self {
        let header = self.header_mut();
        rewrite_hop(header, tag, ttl);
        Header::stamp_count(header, delivery);
        Header::stamp_delivered(header, monotonic_millis);
        self
    }

    /// The bytes of both frames.
    pub(crate) fn size(&self) -> usize {
        self.header().len() + self.body().len()
    }

    /// Refuses a body over `limit` bytes.
    pub(crate) fn check_size(&self, limit: usize) -> Result<(), Refusal> {
        let size = self.body().len();
        if size <= limit {
            return Ok(());
        }
        let detail = format!("the body has {size} bytes, this broker's limit is {limit} (rpc_zmq_max_message_bytes)");
        Err(Refusal::new(Reason::TooLarge, detail))
    }
}
