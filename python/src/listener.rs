//! Servers and listeners of notifications, from which Python polls.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use zmqv2_proto::control::MAX_TOPICS;
use zmqv2_server::{
    Priorities, Priority, PullListener, PullServer, PulledNotification, PulledRequest, ServerError, Target,
};

use crate::client::{Client, drop_in_thread, in_thread};
use crate::clock::now;
use crate::errors::{Failed, Failure, with_causes};
use crate::exit::detached;
use crate::pending::{Answer, Pending, seconds_of};
use crate::requests::{Notification, Request};

/// The longest wait of a poll without a timeout.
const LONG: Duration = Duration::from_secs(3600);

/// A server, or a listener of notifications.
#[pyclass(frozen)]
pub struct Listener {
    parts: std::sync::Arc<Vec<Part>>,
    draining: AtomicBool,
}

enum Part {
    Server(PullServer),
    Notifications(PullListener),
}

enum Polled {
    Request(PulledRequest),
    Notification(PulledNotification),
}

#[pymethods]
impl Listener {
    /// A server of calls and casts. `places`: most requests that are open at the same time.
    #[staticmethod]
    fn serve(client: &Client, exchange: &str, topic: &str, server: &str, places: usize) -> PyResult<Self> {
        let target = (|| Target::topic(topic)?.with_exchange(exchange)?.with_server(server))();
        let target = target.map_err(|error| PyValueError::new_err(error.to_string()))?;
        let builder = PullServer::builder(target).config(client.config.clone()).transport(client.transport.clone());
        let server = builder.places(places).start().map_err(|error| start_error(&error))?;
        Ok(Self::new(vec![Part::Server(server)]))
    }

    /// A listener of notifications. `topics`: an exchange, a topic and a priority for each.
    #[staticmethod]
    fn notifications(
        client: &Client,
        topics: Vec<(String, String, String)>,
        pool: Option<&str>,
        places: usize,
    ) -> PyResult<Self> {
        let mut parts = Vec::new();
        // A registration has a bounded number of topics.
        for topics in topics.chunks(MAX_TOPICS) {
            let builder = PullListener::builder().config(client.config.clone()).transport(client.transport.clone());
            let mut builder = builder.places(places);
            let invalid = |error: &dyn std::error::Error| PyValueError::new_err(error.to_string());
            if let Some(pool) = pool {
                builder = builder.pool(pool).map_err(|error| invalid(&error))?;
            }
            for (exchange, topic, priority) in topics {
                let target = (|| Target::topic(topic)?.with_exchange(exchange))().map_err(|error| invalid(&error))?;
                let priority: Priority = priority.parse().map_err(|error| invalid(&error))?;
                builder = builder.target(target, Priorities::from(priority));
            }
            parts.push(Part::Notifications(builder.start().map_err(|error| start_error(&error))?));
        }
        Ok(Self::new(parts))
    }

    /// Takes up to `most` messages. If there are none, waits for the first one, at most `timeout`
    /// seconds. After `drain` it does not wait.
    #[pyo3(signature = (most, timeout=None))]
    fn poll(&self, py: Python<'_>, most: usize, timeout: Option<f64>) -> PyResult<Vec<Py<PyAny>>> {
        let timeout = timeout.map_or(LONG, seconds_of);
        // A thread that was told to stop must come back, also when the interpreter is about to end,
        // because somebody waits for its end.
        let polled = detached(py, || self.poll_parts(most, timeout), |_| self.draining.load(Ordering::SeqCst));
        polled
            .into_iter()
            .map(|polled| match polled {
                Polled::Request(request) => Ok(Py::new(py, Request::new(request))?.into_any()),
                Polled::Notification(notification) => Ok(Py::new(py, Notification::new(notification))?.into_any()),
            })
            .collect()
    }

    /// The descriptors, of which one is readable while a poll would return at once.
    fn filenos(&self) -> Vec<RawFd> {
        self.parts.iter().map(|part| part.as_fd().as_raw_fd()).collect()
    }

    /// Whether the broker has accepted the registration.
    fn is_ready(&self) -> bool {
        self.parts.iter().all(|part| match part {
            Part::Server(server) => server.is_ready(),
            Part::Notifications(listener) => listener.is_ready(),
        })
    }

    /// Waits for the registration. The pending result fails with `not_ready` after `timeout` seconds.
    fn wait_ready(&self, timeout: f64) -> Pending {
        let parts = std::sync::Arc::clone(&self.parts);
        let end = now() + seconds_of(timeout);
        in_thread("zmqv2-ready", move || {
            let result = parts.iter().try_for_each(|part| {
                let left = end.saturating_duration_since(now());
                match part {
                    Part::Server(server) => server.wait_ready(left),
                    Part::Notifications(listener) => listener.wait_ready(left),
                }
            });
            result.map(|()| Answer::Done).map_err(|error| Failure::not_sent("not_ready", with_causes(&error)))
        })
    }

    /// Begins to stop: nothing new comes, and polls do not wait.
    fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
        for part in self.parts.iter() {
            // It fails only in a process that was forked later, where there is nothing to stop.
            let _ = match part {
                Part::Server(server) => server.drain(),
                Part::Notifications(listener) => listener.drain(),
            };
        }
    }

    /// Stops, in a thread: gives back what nobody has polled, waits for the others within
    /// `rpc_zmq_drain_timeout`, and unregisters.
    fn stop(&self) -> Pending {
        self.drain();
        let parts = std::sync::Arc::clone(&self.parts);
        in_thread("zmqv2-stop", move || {
            let results: Vec<Result<(), ServerError>> = std::thread::scope(|scope| {
                let stop = |part: &'_ Part| match part {
                    Part::Server(server) => server.stop(),
                    Part::Notifications(listener) => listener.stop(),
                };
                let stops: Vec<_> = parts.iter().map(|part| scope.spawn(move || stop(part))).collect();
                stops.into_iter().filter_map(|stop| stop.join().ok()).collect()
            });
            match results.into_iter().find_map(Result::err) {
                None => Ok(Answer::Done),
                Some(error) => Err(Failure::not_sent("unfinished", with_causes(&error))),
            }
        })
    }
}

impl Listener {
    fn new(parts: Vec<Part>) -> Self {
        Self { parts: std::sync::Arc::new(parts), draining: AtomicBool::new(false) }
    }

    fn poll_parts(&self, most: usize, timeout: Duration) -> Vec<Polled> {
        if let [part] = &self.parts[..] {
            return part.poll(most, timeout);
        }
        let mut fds: Vec<_> = self.parts.iter().map(|part| PollFd::new(part, PollFlags::IN)).collect();
        let span = Timespec::try_from(timeout).unwrap_or_default();
        // After an error or a signal there is nothing to take, and Python polls again.
        let _ = poll(&mut fds, Some(&span));
        let mut polled = Vec::new();
        for part in self.parts.iter() {
            polled.extend(part.poll(most - polled.len(), Duration::ZERO));
        }
        polled
    }
}

impl Part {
    fn poll(&self, most: usize, timeout: Duration) -> Vec<Polled> {
        match self {
            Self::Server(server) => server.poll(most, timeout).into_iter().map(Polled::Request).collect(),
            Self::Notifications(listener) => {
                listener.poll(most, timeout).into_iter().map(Polled::Notification).collect()
            }
        }
    }
}

impl AsFd for Part {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        match self {
            Self::Server(server) => server.as_fd(),
            Self::Notifications(listener) => listener.as_fd(),
        }
    }
}

impl Drop for Listener {
    /// Python drops it in any thread, with the GIL, and stopping waits.
    fn drop(&mut self) {
        self.drain();
        drop_in_thread(std::sync::Arc::clone(&self.parts));
    }
}

fn start_error(error: &ServerError) -> PyErr {
    Failed::new_err(("not_started", false, with_causes(error)))
}
