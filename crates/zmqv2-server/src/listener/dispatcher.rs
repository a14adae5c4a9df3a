//! Gives notifications to the endpoints that want them. Pure: no sockets, no threads.

use super::endpoint::{BatchEndpoint, BatchVerdict, NotificationEndpoint, Verdict};
use super::notice::Notice;
use super::priorities::Priorities;
use crate::handler_error::{HandlerError, MODULE};
use crate::rpc::panic_guard::catch_panic;

/// A notification ends in this way if its handler fails.
const FAILED: &str = "failed, which counts as handled";

/// An endpoint for single notifications or for batches.
pub(crate) struct AnyEndpoint {
    pub(super) priorities: Priorities,
    endpoint: Kind,
}

enum Kind {
    One(Box<dyn NotificationEndpoint>),
    Batch(Box<dyn BatchEndpoint>),
}

impl AnyEndpoint {
    pub(crate) fn one(endpoint: impl NotificationEndpoint + 'static) -> Self {
        Self { priorities: endpoint.priorities(), endpoint: Kind::One(Box::new(endpoint)) }
    }

    pub(crate) fn batch(endpoint: impl BatchEndpoint + 'static) -> Self {
        Self { priorities: endpoint.priorities(), endpoint: Kind::Batch(Box::new(endpoint)) }
    }

    fn wants(&self, notice: &Notice) -> bool {
        let filter = match &self.endpoint {
            Kind::One(endpoint) => endpoint.filter(),
            Kind::Batch(endpoint) => endpoint.filter(),
        };
        self.priorities.contains(notice.priority()) && filter.is_none_or(|filter| filter.matches(&notice.notification))
    }

    /// Gives the endpoint the notifications that it wants. Returns their positions and verdicts, and
    /// whether a handler failed.
    fn run(&self, notices: &[&Notice]) -> (Vec<(usize, Verdict)>, bool) {
        match &self.endpoint {
            Kind::One(endpoint) => {
                let mut failed = false;
                let mut run = |notice| self.run_one(endpoint.as_ref(), notice, &mut failed);
                let verdicts = notices.iter().enumerate().filter_map(|(at, notice)| Some((at, run(notice)?)));
                (verdicts.collect(), failed)
            }
            Kind::Batch(endpoint) => self.run_batch(endpoint.as_ref(), notices),
        }
    }

    fn run_one(&self, endpoint: &dyn NotificationEndpoint, notice: &Notice, failed: &mut bool) -> Option<Verdict> {
        let what = format_args!("a handler of {} from {}", notice.event_type(), notice.publisher_id());
        let run = || if self.wants(notice) { endpoint.notify(notice).map(Some) } else { Ok(None) };
        let result = catch_panic(what, run).inspect_err(|error| error.log(what, FAILED));
        *failed |= result.is_err();
        result.unwrap_or_default()
    }

    fn run_batch(&self, endpoint: &dyn BatchEndpoint, notices: &[&Notice]) -> (Vec<(usize, Verdict)>, bool) {
        let what = format_args!("a handler of a batch of {}", notices.len());
        let run = || {
            let wanted: Vec<usize> = (0..notices.len()).filter(|at| self.wants(notices[*at])).collect();
            if wanted.is_empty() {
                return Ok(Vec::new());
            }
            let batch: Vec<&Notice> = wanted.iter().map(|at| notices[*at]).collect();
            let verdicts = each(endpoint.notify_batch(&batch)?, batch.len())?;
            Ok(wanted.into_iter().zip(verdicts).collect())
        };
        let result = catch_panic(what, run).inspect_err(|error| error.log(what, FAILED));
        let failed = result.is_err();
        (result.unwrap_or_default(), failed)
    }
}

/// The verdict on each of `count` notifications.
fn each(verdict: BatchVerdict, count: usize) -> Result<Vec<Verdict>, HandlerError> {
    match verdict {
        BatchVerdict::All(verdict) => Ok(vec![verdict; count]),
        BatchVerdict::Each(verdicts) if verdicts.len() == count => Ok(verdicts),
        BatchVerdict::Each(verdicts) => {
            let detail = format!("{} verdicts for a batch of {count} notifications", verdicts.len());
            Err(HandlerError::new(MODULE, "WrongVerdicts", detail))
        }
    }
}

/// Gives each notification to every endpoint that wants it. Returns a verdict for each: the
/// notification comes again if any endpoint says so. Also returns whether a handler failed.
pub(crate) fn dispatch(endpoints: &[AnyEndpoint], notices: &[&Notice]) -> (Vec<Verdict>, bool) {
    let (mut verdicts, mut any_failed) = (vec![Verdict::Handled; notices.len()], false);
    for endpoint in endpoints {
        let (ends, failed) = endpoint.run(notices);
        any_failed |= failed;
        for (at, _) in ends.into_iter().filter(|(_, verdict)| *verdict == Verdict::Requeue) {
            verdicts[at] = Verdict::Requeue;
        }
    }
    (verdicts, any_failed)
}
