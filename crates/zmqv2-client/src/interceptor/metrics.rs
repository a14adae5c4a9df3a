//! Counters and histograms of the `metrics` facade.

use zmqv2_proto::observe::KnownNames;

use super::{Ended, Interceptor, Outgoing, RefusedBy};

/// Counts every message and measures its time (feature `metrics`).
///
/// | metric | type | labels |
/// |---|---|---|
/// | `zmqv2_client_messages_total` | counter | `verb`, `topic`, `method`, `outcome` ([`Ended::label`]) |
/// | `zmqv2_client_message_duration_seconds` | histogram | the same |
///
/// The method of a body that is ready is `unknown`. The first 256 topics and the first 256 methods are
/// labels of their own, the others are `other`. The program chooses the recorder of the `metrics`
/// crate, for example for Prometheus.
///
/// ```no_run
/// use zmqv2_client::{Metrics, RpcClient, Target};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = RpcClient::builder(Target::topic("invoices")?).interceptor(Metrics::default()).build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct Metrics {
    topics: KnownNames,
    methods: KnownNames,
}

impl Interceptor for Metrics {
    type State = [(&'static str, String); 3];

    fn before(&self, message: &mut Outgoing<'_>) -> Result<Self::State, RefusedBy> {
        let topic = self.topics.label(message.target().key().name());
        let method = message.method().map_or_else(|| "unknown".to_owned(), |method| self.methods.label(method));
        Ok([("verb", message.verb().as_str().to_owned()), ("topic", topic), ("method", method)])
    }

    fn after(&self, labels: Self::State, ended: &Ended<'_>) {
        let mut labels = labels.to_vec();
        labels.push(("outcome", ended.label().to_owned()));
        metrics::counter!("zmqv2_client_messages_total", &labels).increment(1);
        metrics::histogram!("zmqv2_client_message_duration_seconds", &labels).record(ended.elapsed);
    }
}
