//! Requests of local servers and tools to the broker itself.

use serde::Serialize;
use serde::de::DeserializeOwned;
use zmqv2_proto::control::{MAX_CREDIT, MAX_PLACES, MAX_TOPICS, MAX_WORKERS, ServerRegistration, Withdrawal};
use zmqv2_proto::{Flags, HeaderView, InstanceId, Kind, MessageId, ServerName, TopicKey};

use super::framing::Malformed;
use crate::engine::Offer;

pub(crate) enum ControlRequest {
    Register(Offer),
    Withdraw(InstanceId),
    Credit { instance: InstanceId, worker: usize, credit: u16 },
    Handled { tag: u64, id: MessageId, credit: u16, requeue: bool },
    Status,
}

impl ControlRequest {
    pub(crate) fn read(view: &HeaderView<'_>, body: &[u8]) -> Result<Self, Malformed> {
        match view.kind() {
            Kind::Register => register(view, json(body)?).map(Self::Register).map_err(Malformed::Control),
            Kind::Withdraw => Ok(Self::Withdraw(json::<Withdrawal>(body)?.instance)),
            Kind::Credit => {
                let instance = InstanceId::from_bytes(*view.id().as_bytes());
                // Neither a number beyond usize nor usize::MAX matches a worker.
                let worker = usize::try_from(view.tag()).unwrap_or(usize::MAX);
                Ok(Self::Credit { instance, worker, credit: view.count() })
            }
            Kind::Handled => {
                let requeue = view.flags().contains(Flags::REQUEUE);
                Ok(Self::Handled { tag: view.tag(), id: view.id(), credit: view.count(), requeue })
            }
            Kind::Status => Ok(Self::Status),
            other => Err(Malformed::Kind(other)),
        }
    }
}

fn register(view: &HeaderView<'_>, registration: ServerRegistration) -> Result<Offer, String> {
    let ServerRegistration { workers, credit, window, shared, .. } = registration;
    let most = if shared { MAX_PLACES } else { MAX_WORKERS };
    if !(1..=most).contains(&workers) || !(1..=MAX_CREDIT).contains(&credit) {
        return Err(format!(
            "{workers} workers with credit {credit}; allowed are 1 to {most} workers with a credit of 1 to {MAX_CREDIT}"
        ));
    }
    if window > MAX_CREDIT {
        return Err(format!("a window of {window}; allowed are up to {MAX_CREDIT}"));
    }
    let topics = registration.also.len() + 1;
    if topics > MAX_TOPICS {
        return Err(format!("{topics} topics; allowed are {MAX_TOPICS}"));
    }
    let key = TopicKey::parse(view.key()).map_err(|error| error.to_string())?;
    let server = ServerName::new(view.server()).map_err(|error| error.to_string())?;
    Ok(Offer::new(key, server, registration))
}

fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Malformed> {
    serde_json::from_slice(body).map_err(|error| Malformed::Control(error.to_string()))
}

pub(crate) fn write(answer: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(answer).unwrap_or_else(|error| {
        // Plain data always becomes JSON. If it did not, every reader would refuse the empty body.
        log::error!("cannot write an answer: {error}");
        Vec::new()
    })
}
