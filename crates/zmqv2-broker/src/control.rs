//! Orders of local servers and tools, and the broker's report about itself.

use serde::Serialize;
use serde::de::DeserializeOwned;
use zmqv2_proto::control::{MAX_CREDIT, MAX_TOPICS, MAX_WORKERS, ServerRegistration, StatusReport, Withdrawal};
use zmqv2_proto::{Flags, HeaderView, InstanceId, Kind, ServerName, TopicKey};

use crate::archive::Archive;
use crate::driver::{Broker, now};
use crate::engine::Offer;
use crate::parcel::Malformed;

/// What a local peer asks of the broker.
pub(crate) enum Order {
    Register(Offer),
    Withdraw(InstanceId),
    Credit { instance: InstanceId, worker: usize, credit: u16 },
    Handled { requeue: bool },
    Status,
}

/// Reads a control message.
pub(crate) fn read(view: &HeaderView<'_>, body: &[u8]) -> Result<Order, Malformed> {
    match view.kind() {
        Kind::Register => {
            let registration: ServerRegistration = json(body)?;
            let ServerRegistration { workers, credit, .. } = registration;
            if !(1..=MAX_WORKERS).contains(&workers) || !(1..=MAX_CREDIT).contains(&credit) {
                return Err(Malformed::Control(format!(
                    "{workers} workers with credit {credit}; allowed are 1 to {MAX_WORKERS} workers with a credit of 1 to {MAX_CREDIT}"
                )));
            }
            let window = registration.window;
            if window > MAX_CREDIT {
                return Err(Malformed::Control(format!("a window of {window}; allowed are up to {MAX_CREDIT}")));
            }
            let topics = registration.also.len() + 1;
            if topics > MAX_TOPICS {
                return Err(Malformed::Control(format!("{topics} topics; allowed are {MAX_TOPICS}")));
            }
            let name = |error| Malformed::Control(format!("{error}"));
            let key = TopicKey::parse(view.key()).map_err(name)?;
            let server = ServerName::new(view.server()).map_err(name)?;
            Ok(Order::Register(Offer::new(key, server, registration)))
        }
        Kind::Withdraw => Ok(Order::Withdraw(json::<Withdrawal>(body)?.instance)),
        Kind::Credit => {
            let instance = InstanceId::from_bytes(*view.id().as_bytes());
            // A number that fits no worker is looked up in vain.
            let worker = usize::try_from(view.tag()).unwrap_or(usize::MAX);
            Ok(Order::Credit { instance, worker, credit: view.count() })
        }
        Kind::Handled => Ok(Order::Handled { requeue: view.flags().contains(Flags::REQUEUE) }),
        Kind::Status => Ok(Order::Status),
        other => Err(Malformed::Kind(other)),
    }
}

fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Malformed> {
    serde_json::from_slice(body).map_err(|error| Malformed::Control(error.to_string()))
}

/// Writes the body of an answer.
pub(crate) fn write(answer: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(answer).unwrap_or_else(|error| {
        // Plain data of ours: cannot happen, and an empty body is refused by any reader.
        log::error!("cannot write an answer: {error}");
        Vec::new()
    })
}

/// A routing id for the log.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

impl Broker {
    /// What the broker holds and has seen.
    pub(crate) fn status(&self) -> StatusReport {
        let mut report = StatusReport::default();
        self.engine.report(&mut report);
        env!("CARGO_PKG_VERSION").clone_into(&mut report.version);
        report.node = self.settings.node.to_string();
        report.pid = std::process::id();
        report.directory = Some(self.registrar.status());
        report.uptime_s = now().saturating_duration_since(self.started).as_secs_f64();
        report.listening = vec![
            format!("tcp://{}", self.address),
            format!("ipc://{}", self.settings.ipc_dir.join(zmqv2_proto::control::BROKER_SOCKET).display()),
        ];
        self.archive.as_ref().map_or("memory", Archive::name).clone_into(&mut report.store);
        report.dead_letters = self.letters.report(now());
        report
    }
}
