//! The client of one transport, and the destinations of its messages.

use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use zmqv2_client::{Config, NotifyResult, Outcome, Priority, Report, RpcClient, Target, Transport, TransportOptions};

use crate::errors::{Failed, Failure, with_causes};
use crate::events;
use crate::exit::detached;
use crate::pending::{Answer, Ended, Pending, seconds_of, to_python};

/// The topic of a client that has not been told one.
const NOWHERE: &str = "-";

/// The connections of one transport. It can be used in any thread, and in a process that was forked
/// later, too.
#[pyclass(frozen)]
pub struct Client {
    pub config: Config,
    pub transport: Transport,
    rpc: Option<RpcClient>,
}

/// An exchange, a topic and perhaps a server.
#[pyclass(frozen)]
pub struct Destination(RpcClient);

/// Checks options, and warns about those that are ignored. Raises `ValueError`.
#[pyfunction]
pub fn check_options(options: Vec<(String, String)>) -> PyResult<()> {
    config(options).map(|_| ())
}

fn config(options: Vec<(String, String)>) -> PyResult<Config> {
    let builder = options.into_iter().fold(Config::builder(), |builder, (name, value)| builder.set(name, value));
    let loaded = builder.build().map_err(|error| PyValueError::new_err(with_causes(&error)))?;
    for warning in &loaded.warnings {
        log::warn!("{warning}");
    }
    Ok(loaded.config)
}

#[pymethods]
impl Client {
    /// `options`: pairs of names (`group.name`) and texts, and the `transport_url` among them.
    #[new]
    fn new(py: Python<'_>, options: Vec<(String, String)>) -> PyResult<Self> {
        let config = config(options)?;
        let transport = Transport::new(TransportOptions::from(&config));
        let target = Target::topic(NOWHERE).map_err(|error| PyValueError::new_err(error.to_string()))?;
        let builder = RpcClient::builder(target)
            .config(config.clone())
            .transport(transport.clone())
            .observer(events::push_outcome);
        let rpc = detached(py, || builder.build(), |_| false);
        let rpc = rpc.map_err(|error| Failed::new_err(("directory", false, with_causes(&error))))?;
        Ok(Self { config, transport, rpc: Some(rpc) })
    }

    /// A destination. Raises `ValueError` if a name is not valid.
    #[pyo3(signature = (exchange, topic, server=None))]
    fn destination(&self, exchange: &str, topic: &str, server: Option<&str>) -> PyResult<Destination> {
        let rpc = || {
            let rpc = self.rpc().prepare().exchange(exchange)?.topic(topic)?;
            match server {
                Some(server) => rpc.server(server),
                None => Ok(rpc),
            }
        };
        Ok(Destination(rpc().map_err(|error| PyValueError::new_err(error.to_string()))?))
    }

    /// A notification for the listeners of `topic`. The pending result has the outcomes.
    fn notify(&self, exchange: &str, topic: &str, priority: &str, body: Vec<u8>) -> PyResult<Pending> {
        let invalid = |error: &dyn std::error::Error| PyValueError::new_err(error.to_string());
        let priority: Priority = priority.parse().map_err(|error| invalid(&error))?;
        let exchange = exchange.parse().map_err(|error| invalid(&error))?;
        let notifier = self
            .rpc()
            .notifier("")
            .until_stored(true)
            .exchange(exchange)
            .topics([topic])
            .map_err(|error| invalid(&error))?;
        let sent = notifier.asynchronous().notify_raw(body, priority);
        Ok(Pending::new(async move {
            let report: Report<NotifyResult> = sent.await?.await;
            Ok(Answer::Outcomes(report.results.into_iter().map(|result| result.outcome).collect()))
        }))
    }

    /// Counts of messages and their outcomes, by name.
    fn counters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let counters = self.rpc().counters();
        let counts = PyDict::new(py);
        for (name, count) in [
            ("accepted", counters.accepted),
            ("copies", counters.copies),
            ("sent", counters.sent),
            ("resent", counters.resent),
            ("acked", counters.acked),
            ("stored", counters.stored),
            ("replied", counters.replied),
            ("refused", counters.refused),
            ("unacknowledged", counters.unacknowledged),
            ("open", counters.open),
            ("late", counters.late),
            ("ignored", counters.ignored),
        ] {
            counts.set_item(name, count)?;
        }
        for reason in zmqv2_client::Reason::ALL {
            counts.set_item(reason.counter(), counters.refused_for(reason))?;
        }
        Ok(counts)
    }

    /// Closes the client. It waits up to `timeout` seconds for the outcomes of what is open.
    fn close(&self, timeout: f64) -> Pending {
        let rpc = self.rpc().clone();
        in_thread("zmqv2-close", move || {
            rpc.close(seconds_of(timeout));
            Ok(Answer::Done)
        })
    }
}

impl Client {
    fn rpc(&self) -> &RpcClient {
        self.rpc.as_ref().expect("only `drop` takes it")
    }
}

impl Drop for Client {
    /// Python drops it in any thread, with the GIL, and the last copy waits for outcomes.
    fn drop(&mut self) {
        if let Some(rpc) = self.rpc.take() {
            drop_in_thread(rpc);
        }
    }
}

#[pymethods]
impl Destination {
    /// A call. The pending result is the body of the reply and whether it is a failure.
    #[pyo3(signature = (body, timeout, monitor, wait_for_ready))]
    fn call(&self, body: Vec<u8>, timeout: f64, monitor: Option<f64>, wait_for_ready: bool) -> Pending {
        let reply = self.with(timeout, monitor, wait_for_ready).asynchronous().call_raw(body);
        Pending::new(async move { Ok(Answer::Reply(reply.await?.value)) })
    }

    /// The same, for a thread that has nothing else to do and sees no signals. It is quicker, because
    /// it uses a socket of this thread.
    #[pyo3(signature = (body, timeout, monitor, wait_for_ready))]
    fn call_and_wait(
        &self,
        py: Python<'_>,
        body: Vec<u8>,
        timeout: f64,
        monitor: Option<f64>,
        wait_for_ready: bool,
    ) -> PyResult<Py<PyAny>> {
        let client = self.with(timeout, monitor, wait_for_ready);
        let call = || -> Ended { Ok(Answer::Reply(client.call_raw(body)?.value)) };
        let ended = detached(py, call, |_| false);
        to_python(py, ended)
    }

    /// A cast. It ends when the client has taken it over, or, with `outcome`, when a server has.
    #[pyo3(signature = (body, wait_for_ready, outcome))]
    fn cast(&self, body: Vec<u8>, wait_for_ready: bool, outcome: bool) -> Pending {
        let sent = self.0.prepare().wait_for_ready(wait_for_ready).asynchronous().cast_raw(body);
        Pending::new(async move {
            let handle = sent.await?;
            Ok(if outcome { Answer::Outcomes(vec![handle.await]) } else { Answer::Done })
        })
    }

    /// A fanout. It ends when the client has taken it over, or, with `outcome`, when every server has.
    fn fanout(&self, body: Vec<u8>, outcome: bool) -> Pending {
        let sent = self.0.asynchronous().fanout_raw(body);
        Pending::new(async move {
            let handle = sent.await?;
            if !outcome {
                return Ok(Answer::Done);
            }
            let outcomes: Vec<Outcome> = handle.await.results.into_iter().map(|result| result.outcome).collect();
            Ok(Answer::Outcomes(outcomes))
        })
    }
}

impl Destination {
    fn with(&self, timeout: f64, monitor: Option<f64>, wait_for_ready: bool) -> RpcClient {
        let client = self.0.prepare().timeout(seconds_of(timeout)).wait_for_ready(wait_for_ready);
        match monitor {
            Some(seconds) => client.call_monitor_timeout(seconds_of(seconds).max(Duration::from_millis(100))),
            None => client,
        }
    }
}

/// Does what blocks in a thread of its own.
pub fn in_thread(name: &str, work: impl FnOnce() -> Ended + Send + 'static) -> Pending {
    let (sender, receiver) = crate::pending::oneshot();
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(move || sender.send(work()));
    match started {
        Ok(_) => Pending::new(receiver),
        Err(error) => {
            let failure = Failure::not_sent("transport", format!("cannot start a thread: {error}"));
            Pending::new(std::future::ready(Err(failure)))
        }
    }
}

/// Drops what may block.
pub fn drop_in_thread<T: Send + 'static>(value: T) {
    // If no thread can be started, the value is dropped here, and this thread waits.
    let _ = std::thread::Builder::new().name("zmqv2-drop".to_owned()).spawn(move || drop(value));
}
