//! Threads that call without a pause until they are stopped, and a record of each call.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use zmqv2_client::{CallError, RpcClient};
use zmqv2_proto::RequestContext;

use crate::{eventually, now};

#[derive(Debug)]
pub struct CallRecord {
    pub started: Instant,
    pub ended: Instant,
    /// The server that answered, or the error.
    pub outcome: Result<String, CallError>,
}

impl CallRecord {
    /// Makes one call and notes how it ends.
    pub fn of(call: impl FnOnce() -> Result<String, CallError>) -> Self {
        let started = now();
        let outcome = call();
        Self { started, ended: now(), outcome }
    }

    pub fn took(&self) -> Duration {
        self.ended - self.started
    }
}

/// Threads of this process that call `echo` without a pause and compare each answer with the
/// payload.
#[derive(Debug, Default)]
pub struct Load {
    stop: Arc<AtomicBool>,
    records: Arc<Mutex<Vec<CallRecord>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts `threads` callers that share `client`.
    #[must_use]
    pub fn start(client: &RpcClient, threads: usize) -> Self {
        let mut load = Self::default();
        load.add(client, threads);
        load
    }

    /// Adds `threads` callers that share another client.
    pub fn add(&mut self, client: &RpcClient, threads: usize) {
        for _ in 0..threads {
            let (client, stop, records) = (client.clone(), Arc::clone(&self.stop), Arc::clone(&self.records));
            let number = self.threads.len();
            self.threads.push(std::thread::spawn(move || {
                let mut sent = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    sent += 1;
                    let record = CallRecord::of(|| echo(&client, &format!("{number}-{sent}")));
                    records.lock().expect("no panic in here").push(record);
                }
            }));
        }
    }

    /// Waits until `more` further calls were answered.
    pub fn wait_answered(&self, more: usize) {
        let since = now();
        self.wait("enough calls are answered", |records| {
            records.iter().filter(|record| record.started > since && record.outcome.is_ok()).count() >= more
        });
    }

    /// Waits until `met` is true for the calls that have ended so far.
    pub fn wait(&self, what: &str, mut met: impl FnMut(&[CallRecord]) -> bool) {
        eventually(what, || met(&self.records.lock().expect("no panic in here")));
    }

    /// Stops the callers after their current calls, and returns every call.
    pub fn stop(mut self) -> Vec<CallRecord> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("no crossed reply");
        }
        std::mem::take(&mut self.records.lock().expect("no panic in here"))
    }
}

/// A load also stops when its test fails.
impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Calls `echo` with `payload`, and returns the name of the server that answered.
pub fn echo(client: &RpcClient, payload: &str) -> Result<String, CallError> {
    let answered = client.call_detailed::<Value>(&RequestContext::new(), "echo", payload)?;
    assert_eq!(answered.value, payload, "a reply to another call");
    Ok(answered.server.to_string())
}

/// Fails if some of these calls waited for a worker that was busy all the time, though another one was
/// free (P10). A busy machine may delay every tenth call, but none for seconds.
pub fn assert_undelayed(mut took: Vec<Duration>) {
    took.sort_unstable();
    let (most, max) = (took[took.len() * 9 / 10], took[took.len() - 1]);
    println!("{} calls: nine of ten within {most:?}, all within {max:?}", took.len());
    assert!(most < Duration::from_millis(250) && max < Duration::from_secs(3), "{most:?}, {max:?}");
}

/// The smallest, the median and the largest of some durations.
pub fn spread(spans: impl IntoIterator<Item = Duration>) -> [Duration; 3] {
    let mut spans: Vec<_> = spans.into_iter().collect();
    spans.sort_unstable();
    [spans[0], spans[spans.len() / 2], spans[spans.len() - 1]]
}
