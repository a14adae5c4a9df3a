//! Settings that stay the same for all messages of a client.

use std::sync::Arc;
use std::time::Duration;

use zmqv2_proto::Exchange;

#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) exchange: Exchange,
    pub(crate) cast_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) max_message_bytes: usize,
    pub(crate) allowed_remote_modules: Arc<[String]>,
}
