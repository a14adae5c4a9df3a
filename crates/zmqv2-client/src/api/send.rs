//! The verbs that do not block: each makes messages over to the I/O thread and returns a handle.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use zmqv2_proto::{Kind, RequestContext, Target, Ttl};

use crate::api::engine::Engine;
use crate::api::handles::fanout::FanoutHandle;
use crate::api::handles::single::{About, CallHandle, CastHandle};
use crate::delivery::request::{Journey, Plan};
use crate::delivery::table::DeliveryOptions;
use crate::direct::round_trip::Outgoing;
use crate::io::admission::Shut;
use crate::io::outbound::{Content, Parcel, Receipt};
use crate::io::thread::NotTaken;
use crate::outcome::completion::{Expected, Promise};
use crate::outcome::receiver_tracker::Listed;
use crate::outcome::result_group::{Gathering, Part};
use crate::outcome::send_error::SendError;
use crate::routing::router::Stops;

impl Engine {
    /// Sends a cast on its way.
    pub(crate) fn cast(
        &self,
        plan: &Plan,
        context: &RequestContext,
        method: &str,
        args: &impl Serialize,
    ) -> Result<CastHandle, SendError> {
        let journey = Journey::begin(plan, plan.cast_timeout, method);
        let outgoing = self.pack(Kind::Cast, plan, &journey, context, args)?;
        let id = outgoing.id;
        Ok(CastHandle::new(id, self.post(Kind::Cast, plan, &journey, outgoing)?))
    }

    /// Sends a call on its way.
    pub(crate) fn call_async<R: DeserializeOwned>(
        &self,
        plan: &Plan,
        context: &RequestContext,
        method: &str,
        args: &impl Serialize,
    ) -> Result<CallHandle<R>, SendError> {
        let journey = Journey::begin(plan, plan.timeout, method);
        let outgoing = self.pack(Kind::Call, plan, &journey, context, args)?;
        let (id, method) = (outgoing.id, outgoing.method.clone());
        let expected = self.post(Kind::Call, plan, &journey, outgoing)?;
        let about = About {
            method,
            target: Arc::clone(&plan.target),
            allowed_modules: Arc::clone(&self.settings.allowed_remote_modules),
        };
        Ok(CallHandle::new(id, expected, about))
    }

    /// Sends a cast to every node of the topic.
    pub(crate) fn fanout(
        &self,
        plan: &Plan,
        context: &RequestContext,
        method: &str,
        args: &impl Serialize,
    ) -> Result<FanoutHandle, SendError> {
        let mut plan = plan.clone();
        let target = Arc::make_mut(&mut plan.target);
        (target.server, target.fanout) = (None, false);
        let journey = Journey::begin(&plan, plan.cast_timeout, method);
        let content = content(Kind::Fanout, &journey, self.pack(Kind::Fanout, &plan, &journey, context, args)?);
        let (id, topic) = (content.id, &plan.target.topic);
        let placement = self.placement(&plan, &journey)?;

        let nodes = placement.nodes().iter().enumerate();
        let mut parts: Vec<Part> = nodes
            .map(|(place, placed)| {
                let listed = Listed::At(Arc::clone(&placement), place);
                Part::new(topic.clone(), Some(placed.node.name.clone()), listed)
            })
            .collect();
        if parts.is_empty() {
            // It waits for nodes, or is told that there are none.
            parts.push(Part::new(topic.clone(), None, Listed::Nobody));
        }
        let (gathered, shares) = Gathering::start(journey.started, parts);
        // The body is shared, and counts once.
        let mut bytes = content.header.len() + content.body.len();
        let mut stops = placement.nodes().iter().map(|placed| self.routes.stop(&placed.node));
        let parcels = shares.into_iter().map(|share| {
            let stops: Stops = stops.next().into_iter().collect();
            let bytes = std::mem::replace(&mut bytes, content.header.len());
            let options = DeliveryOptions { candidates: stops.len(), bytes, ..plan.options(Kind::Fanout, &journey) };
            Parcel::new(Arc::clone(&content), stops, options, Receipt::Part(share))
        });
        let sent = self.courier.send_all(parcels.collect());
        sent.map_err(|error| not_taken(error, journey.whom()))?;
        Ok(FanoutHandle::new(id, gathered))
    }

    /// Makes a message with one receiver over to the I/O thread.
    fn post(
        &self,
        kind: Kind,
        plan: &Plan,
        journey: &Journey<'_>,
        mut outgoing: Outgoing,
    ) -> Result<Expected, SendError> {
        let candidates = self.placement(plan, journey)?.candidates(journey.target.server.as_ref());
        outgoing.flags = plan.flags(kind, candidates.len());
        let content = content(kind, journey, outgoing);
        let (promise, expected) = Promise::new(journey.started);
        let receipt = Receipt::One(promise);
        let bytes = content.header.len() + content.body.len();
        let options = DeliveryOptions { bytes, ..plan.options(kind, journey) };
        let parcel = match self.routes.search(journey, candidates) {
            Ok(search) => {
                let server_queue = Some(search.number());
                Parcel::to_server(content, search, DeliveryOptions { server_queue, ..options }, receipt)
            }
            Err(candidates) => {
                let stops = self.routes.stops(journey.key, candidates);
                let candidates = stops.len();
                Parcel::new(content, stops, DeliveryOptions { candidates, ..options }, receipt)
            }
        };
        self.courier.send(parcel).map_err(|error| not_taken(error, journey.whom()))?;
        Ok(expected)
    }
}

/// A request as it will be sent, to whomever.
fn content(kind: Kind, journey: &Journey<'_>, outgoing: Outgoing) -> Arc<Content> {
    Arc::new(Content {
        id: outgoing.id,
        kind,
        target: Arc::clone(journey.target),
        header: outgoing.header(kind, Ttl::ZERO).encode(),
        body: Arc::new(outgoing.body),
        started: journey.started,
    })
}

pub(crate) fn not_taken(error: NotTaken, target: Box<Target>) -> SendError {
    match error {
        NotTaken::Shut(Shut::Full { open, bytes }) => SendError::Full { open, bytes, target },
        NotTaken::Shut(Shut::Closed) => SendError::Closed { target },
        NotTaken::NoThread(source) => SendError::Transport { target, source },
    }
}
