use zmqv2_proto::transport::Frame;
use zmqv2_proto::{Header, Reason, Refusal, Ttl, rewrite_hop};

/// Header and body of a message that the broker forwards.
#[derive(Debug)]
pub(crate) struct Payload(Bytes);

#[derive(Debug)]
enum Bytes {
    /// The frames as they were received. They are sent without a copy.
    Frames { header: Frame, body: Frame },
    /// A small copy from a bundle: the header, then the body. Most leave in a bundle again.
    Copied { bytes: Vec<u8>, header: usize },
}

impl Clone for Payload {
    /// Copies the bytes of a fanout or a notification. The binding cannot share a frame, and a send
    /// to a local worker copies anyway.
    fn clone(&self) -> Self {
        Self::copied(self.header(), self.body())
    }
}

impl Payload {
    pub(crate) fn new(header: Frame, body: Frame) -> Self {
        Self(Bytes::Frames { header, body })
    }

    pub(crate) fn copied(header: &[u8], body: &[u8]) -> Self {
        Self(Bytes::Copied { bytes: [header, body].concat(), header: header.len() })
    }

    pub(crate) fn with_header(self, new: &[u8]) -> Self {
        match self.0 {
            Bytes::Frames { body, .. } => Self::new(Frame::from(new), body),
            Bytes::Copied { bytes, header } => Self::copied(new, &bytes[header..]),
        }
    }

    pub(crate) fn header(&self) -> &[u8] {
        match &self.0 {
            Bytes::Frames { header, .. } => header,
            Bytes::Copied { bytes, header } => &bytes[..*header],
        }
    }

    /// The header's bytes, to be rewritten in place.
    pub(crate) fn header_mut(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Bytes::Frames { header, .. } => header,
            Bytes::Copied { bytes, header } => &mut bytes[..*header],
        }
    }

    pub(crate) fn body(&self) -> &[u8] {
        match &self.0 {
            Bytes::Frames { body, .. } => body,
            Bytes::Copied { bytes, header } => &bytes[*header..],
        }
    }

    pub(crate) fn into_frames(self) -> [Frame; 2] {
        match self.0 {
            Bytes::Frames { header, body } => [header, body],
            Bytes::Copied { bytes, header } => [Frame::from(&bytes[..header]), Frame::from(&bytes[header..])],
        }
    }

    /// Addresses the message to a worker. The stamp is this node's monotonic clock, by which the
    /// worker counts the time that the message waits in its socket.
    pub(crate) fn deliver(mut self, tag: u64, ttl: Ttl, delivery: u16, monotonic_millis: u64) -> Self {
        let header = self.header_mut();
        rewrite_hop(header, tag, ttl);
        Header::stamp_count(header, delivery);
        Header::stamp_delivered(header, monotonic_millis);
        self
    }

    pub(crate) fn size(&self) -> usize {
        self.header().len() + self.body().len()
    }

    pub(crate) fn check_size(&self, limit: usize) -> Result<(), Refusal> {
        let size = self.body().len();
        if size <= limit {
            return Ok(());
        }
        let detail = format!("the body has {size} bytes, this broker's limit is {limit} (rpc_zmq_max_message_bytes)");
        Err(Refusal::new(Reason::TooLarge, detail))
    }
}
