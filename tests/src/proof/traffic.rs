//! Calls, casts and fanouts from every node at once. Each of them must succeed.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use zmqv2_client::RpcClient;
use zmqv2_proto::{RequestContext, Target};

use crate::{Cluster, PATIENCE, echo, eventually, now, wait_until};

/// The pause between two messages of one sender. It leaves time for other tests.
const PACE: Duration = Duration::from_millis(4);

/// Threads that send until they are stopped. Every client sends calls and casts to any server,
/// calls to each server by name, and fanouts.
#[derive(Debug)]
pub struct Traffic {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    failures: Arc<Mutex<Vec<String>>>,
    senders: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
pub struct TrafficResult {
    pub succeeded: usize,
    pub failures: Vec<String>,
}

type Send = Box<dyn FnMut() -> Result<(), String> + std::marker::Send>;

impl Traffic {
    /// Starts a client at each node of the cluster. The topic has exactly these servers.
    #[must_use]
    pub fn start(cluster: &Cluster, topic: &str, servers: &[&str]) -> Self {
        let (stop, done, failures) = Default::default();
        let mut traffic = Self { stop, done, failures, senders: Vec::new() };
        for node in cluster.nodes() {
            let client = node.client(Target::topic(topic).expect("a topic"));
            // From now on the client knows every server.
            eventually("all servers are in the directory", || {
                fan_out(&client).is_ok_and(|accepted| accepted == servers.len())
            });
            for name in servers {
                let named = client.prepare().server(name).expect("a name");
                named.call::<Value>(&RequestContext::new(), "echo", &0).expect("it is there");
            }
            for send in senders(&client, servers) {
                traffic.add(send);
            }
        }
        traffic.wait(100);
        traffic
    }

    fn add(&mut self, mut send: Send) {
        let (stop, done, failures) = (Arc::clone(&self.stop), Arc::clone(&self.done), Arc::clone(&self.failures));
        self.senders.push(std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                match send() {
                    Ok(()) => drop(done.fetch_add(1, Ordering::Relaxed)),
                    Err(failure) => failures.lock().expect("no panic in here").push(failure),
                }
                wait_until(now() + PACE);
            }
        }));
    }

    /// Waits until `more` further messages have succeeded.
    pub fn wait(&self, more: usize) {
        let before = self.done.load(Ordering::Relaxed);
        eventually("messages succeed", || self.done.load(Ordering::Relaxed) >= before + more);
    }

    /// Stops the senders after their current messages.
    #[must_use]
    pub fn stop(mut self) -> TrafficResult {
        self.stop.store(true, Ordering::Relaxed);
        for sender in self.senders.drain(..) {
            sender.join().expect("no crossed reply");
        }
        let failures = std::mem::take(&mut *self.failures.lock().expect("no panic in here"));
        TrafficResult { succeeded: self.done.load(Ordering::Relaxed), failures }
    }
}

/// The senders also stop when their test fails.
impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl TrafficResult {
    /// Fails the test unless every message succeeded.
    pub fn assert_clean(&self) {
        let Self { succeeded, failures } = self;
        println!("{succeeded} messages, {} failures", failures.len());
        assert!(failures.is_empty(), "{} of {} failed: {}", failures.len(), succeeded + failures.len(), failures[0]);
    }
}

fn senders(client: &RpcClient, servers: &[&str]) -> Vec<Send> {
    let mut senders: Vec<Send> = Vec::new();
    let any = client.clone();
    senders.push(Box::new(move || echo(&any, "any").map(drop).map_err(|error| format!("call: {error}"))));
    let any = client.clone();
    senders.push(Box::new(move || {
        let cast = any.cast(&RequestContext::new(), "echo", &"cast").map_err(|error| format!("cast: {error}"))?;
        match cast.wait(PATIENCE) {
            Some(outcome) if outcome.is_acked() => Ok(()),
            other => Err(format!("cast: {other:?}")),
        }
    }));
    let (all, count) = (client.clone(), servers.len());
    senders.push(Box::new(move || match fan_out(&all) {
        Ok(accepted) if accepted >= count => Ok(()),
        Ok(accepted) => Err(format!("fanout: {accepted} of {count} servers")),
        Err(report) => Err(format!("fanout: {report}")),
    }));
    let named: Vec<_> = servers.iter().map(|name| client.prepare().server(*name).expect("a name")).collect();
    let mut turn = 0;
    senders.push(Box::new(move || {
        turn += 1;
        let call = named[turn % named.len()].call::<Value>(&RequestContext::new(), "echo", &turn);
        call.map(drop).map_err(|error| format!("call by name: {error}"))
    }));
    senders
}

/// Sends to every server, and returns how many accepted it, if all did.
fn fan_out(client: &RpcClient) -> Result<usize, String> {
    let sent = client.fanout(&RequestContext::new(), "echo", &"all").map_err(|error| error.to_string())?;
    let report = sent.wait(PATIENCE).ok_or("no report")?;
    // The directory may be in an outage, and then says that there may be others.
    if report.acked() == report.results.len() { Ok(report.acked()) } else { Err(report.to_string()) }
}
