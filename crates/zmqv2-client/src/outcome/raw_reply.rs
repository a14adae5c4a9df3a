//! The reply to a call with a ready body.

use std::fmt;

use zmqv2_proto::transport::Frame;

/// The reply to a call whose body was ready: the bytes as the server sent them, unread.
///
/// It is a `Reply` of `zmqv2-proto`, in the envelope of oslo.messaging: a result or a failure.
pub struct RawReply {
    body: Frame,
    is_failure: bool,
}

impl RawReply {
    pub(crate) fn new(body: Frame, is_failure: bool) -> Self {
        Self { body, is_failure }
    }

    /// The body of the reply.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The body of the reply, as a vector. This copies it.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        self.body.to_vec()
    }

    /// Whether the method failed, or the server could not run it. The header of the reply says so, so
    /// the body need not be read for it.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        self.is_failure
    }
}

impl AsRef<[u8]> for RawReply {
    fn as_ref(&self) -> &[u8] {
        self.body()
    }
}

/// The length only: a body may be large, and may hold secrets.
impl fmt::Debug for RawReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { body, is_failure } = self;
        write!(f, "RawReply {{ {} bytes, is_failure: {is_failure} }}", body.len())
    }
}
