//! The broker's report about itself.

use std::time::Instant;

use zmqv2_proto::TcpAddress;
use zmqv2_proto::control::{BROKER_SOCKET, StatusReport};

use super::actions::Routing;
use crate::settings::Settings;
use crate::threads::now;

#[derive(Debug)]
pub(super) struct StatusReporter {
    listening: Vec<String>,
    started: Instant,
}

impl StatusReporter {
    pub(super) fn new(settings: &Settings, address: &TcpAddress) -> Self {
        let local = settings.ipc_dir.join(BROKER_SOCKET);
        let listening = vec![format!("tcp://{address}"), format!("ipc://{}", local.display())];
        Self { listening, started: now() }
    }

    pub(super) fn report(&self, routing: &Routing) -> StatusReport {
        let mut report = StatusReport::default();
        routing.report(&mut report);
        env!("CARGO_PKG_VERSION").clone_into(&mut report.version);
        report.node = routing.node.to_string();
        report.pid = std::process::id();
        report.uptime_s = now().saturating_duration_since(self.started).as_secs_f64();
        report.listening.clone_from(&self.listening);
        report
    }
}
