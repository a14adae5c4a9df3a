//! The calls that the demo makes itself: a thousand in a row, and calls without end.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use zmqv2_client::{CallError, RequestContext, RpcClient, Target};
use zmqv2_proto::Config;

use super::PATIENCE;
use super::processes::{Children, NODE_FLAGS};
use crate::serve::now;

/// A call under restarts may take this long on a slow machine.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The echo may run twice. So a call whose answer was lost is made again.
const RETRIES: u32 = 60;
/// How often somebody who waits for answers looks whether the demo was interrupted.
const LOOK: Duration = Duration::from_millis(100);

/// A client of the demo's node. The environment does not configure it.
pub(super) fn client(ipc_dir: &Path) -> anyhow::Result<RpcClient> {
    let dir = ipc_dir.to_str().with_context(|| format!("{} is not UTF-8: set TMPDIR", ipc_dir.display()))?;
    let mut config = Config::builder().flag("--ipc-dir", "rpc_zmq_ipc_dir", dir);
    for (flag, option, value) in NODE_FLAGS {
        config = config.flag(flag, option, value);
    }
    let client = RpcClient::builder(Target::topic("demo")?).config(config.build()?.config).timeout(TIMEOUT);
    Ok(client.retry(RETRIES).wait_for_ready(true).build()?)
}

fn call(client: &RpcClient, n: usize) -> Result<(), CallError> {
    client.call::<Value>(&RequestContext::new(), "echo", &n).map(drop)
}

/// The latencies of calls, one after another.
#[derive(Debug)]
pub(super) struct Latencies {
    sorted: Vec<Duration>,
    pub(super) took: Duration,
}

impl Latencies {
    pub(super) fn measure(client: &RpcClient, calls: usize) -> anyhow::Result<Self> {
        let start = now();
        let mut sorted = Vec::with_capacity(calls);
        let mut before = start;
        for n in 0..calls {
            call(client, n)?;
            let after = now();
            sorted.push(after - before);
            before = after;
        }
        sorted.sort_unstable();
        Ok(Self { sorted, took: before - start })
    }

    /// At least `percent` of the calls were as quick as this.
    pub(super) fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.sorted.len() * percent).div_ceil(100);
        self.sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }
}

/// A thread that calls all the time, one call after another.
pub(super) struct Load {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
    children: Children,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    calls: Mutex<Calls>,
    more: Condvar,
}

/// The calls of a [`Load`].
#[derive(Debug, Default)]
pub(super) struct Calls {
    pub(super) answered: usize,
    pub(super) failed: usize,
    /// The longest time between two answers.
    pub(super) longest_pause: Duration,
    /// The first failure.
    failure: Option<CallError>,
}

impl Load {
    pub(super) fn start(client: RpcClient, children: &Children) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared::default());
        let its = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("load".to_owned()).spawn(move || its.call(&client))?;
        Ok(Self { shared, thread, children: children.clone() })
    }

    /// Waits until `count` more calls were answered.
    pub(super) fn wait_answered(&self, count: usize) -> anyhow::Result<()> {
        let end_at = now() + PATIENCE;
        let mut calls = self.shared.lock();
        let enough = calls.answered + count;
        while calls.answered < enough {
            if let Some(failure) = calls.failure.take() {
                return Err(failure).context("a call failed during the restarts");
            }
            ensure!(!self.children.interrupted(), "stopped while a client called");
            if now() > end_at {
                bail!("{count} calls were not answered within {PATIENCE:?}");
            }
            calls = self.shared.more.wait_timeout(calls, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }

    /// Makes no more calls, and returns what became of all of them.
    pub(super) fn stop(self) -> anyhow::Result<Calls> {
        self.shared.stop.store(true, Ordering::Relaxed);
        if self.thread.join().is_err() {
            bail!("the thread that calls has panicked");
        }
        let calls = std::mem::take(&mut *self.shared.lock());
        match calls.failure {
            Some(failure) => Err(failure).context("a call failed during the restarts"),
            None => Ok(calls),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread. If the demo fails, it ends with the program, perhaps in the middle of a call.
    fn call(&self, client: &RpcClient) {
        let mut before = now();
        for n in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let result = call(client, n);
            before = self.lock().count(result, before, now());
            self.more.notify_all();
        }
    }
}

impl Calls {
    /// Counts a call that has ended at `at`. Returns when the last answer came.
    fn count(&mut self, result: Result<(), CallError>, last_answer: Instant, at: Instant) -> Instant {
        match result {
            Ok(()) => {
                self.answered += 1;
                self.longest_pause = self.longest_pause.max(at - last_answer);
                at
            }
            Err(error) => {
                self.failed += 1;
                self.failure.get_or_insert(error);
                last_answer
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_latencies_of_calls() {
        let millis = |n| Duration::from_millis(n);
        let of = |count| Latencies { sorted: (1..=count).map(millis).collect(), took: Duration::ZERO };
        assert_eq!([50, 99, 100].map(|percent| of(1000).percentile(percent)), [500, 990, 1000].map(millis));
        assert_eq!([50, 99].map(|percent| of(1).percentile(percent)), [1, 1].map(millis));
        assert_eq!(of(0).percentile(50), Duration::ZERO);
    }

    #[test]
    fn a_pause_lasts_from_answer_to_answer() {
        let (mut calls, start) = (Calls::default(), now());
        let at = |ms| start + Duration::from_millis(ms);
        let last = calls.count(Ok(()), start, at(10));
        let failure = CallError::Closed { target: Box::new(Target::topic("demo").unwrap()) };
        let last = calls.count(Err(failure), last, at(40));
        let last = calls.count(Ok(()), last, at(60));
        assert_eq!((calls.answered, calls.failed, last), (2, 1, at(60)));
        assert_eq!(calls.longest_pause, Duration::from_millis(50));
    }
}
