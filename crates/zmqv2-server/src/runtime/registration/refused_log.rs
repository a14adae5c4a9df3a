//! Log lines about connections that this process had to refuse.

use std::time::{Duration, Instant};

use zmqv2_proto::ServerName;
use zmqv2_proto::transport::{open_file_limit, refused_connections};

/// At most one line in this time.
const INTERVAL: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct RefusedLog {
    reported: u64,
    next: Option<Instant>,
}

impl RefusedLog {
    /// Logs what was refused since the last line. The thread that refuses belongs to libzmq, and
    /// must not wait for a logger.
    pub(super) fn update(&mut self, server: &ServerName, now: Instant) {
        let refused = refused_connections().local;
        if refused > self.reported && self.next.is_none_or(|next| next <= now) {
            let (count, limit) = (refused - self.reported, open_file_limit());
            log::error!(
                "{server} refused {count} connections: this process has nearly used up the {limit} files that it \
                 may open; close some, or raise the limit (ulimit -n)"
            );
            (self.reported, self.next) = (refused, Some(now + INTERVAL));
        }
    }
}
