//! Counters and histograms of the `metrics` facade.

use zmqv2_proto::observe::KnownNames;

use super::{Ended, Interceptor, Received};
use crate::handler_error::HandlerError;

/// Counts every request and measures its time (feature `metrics`).
///
/// | metric | type | labels |
/// |---|---|---|
/// | `zmqv2_server_requests_total` | counter | `verb`, `topic`, `method`, `outcome` ([`Ended::label`]) |
/// | `zmqv2_server_request_duration_seconds` | histogram | the same |
///
/// The first 256 methods are labels of their own, the others are `other`, because a peer may make up
/// names. The program chooses the recorder of the `metrics` crate, for example for Prometheus.
#[derive(Debug, Default)]
pub struct Metrics {
    methods: KnownNames,
}

impl Interceptor for Metrics {
    type State = [(&'static str, String); 3];

    fn before(&self, request: &mut Received<'_>) -> Result<Self::State, HandlerError> {
        let method = self.methods.label(request.method());
        let (verb, topic) = (request.verb().as_str().to_owned(), request.topic().to_owned());
        Ok([("verb", verb), ("topic", topic), ("method", method)])
    }

    fn after(&self, labels: Self::State, ended: &Ended<'_>) {
        let mut labels = labels.to_vec();
        labels.push(("outcome", ended.label().to_owned()));
        metrics::counter!("zmqv2_server_requests_total", &labels).increment(1);
        metrics::histogram!("zmqv2_server_request_duration_seconds", &labels).record(ended.elapsed);
    }
}
