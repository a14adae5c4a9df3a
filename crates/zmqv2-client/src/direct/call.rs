//! A call that blocks alone: one request over REQ sockets, by the rules of an [`Attempt`].

use std::time::{Duration, Instant};

use zmqv2_proto::transport::TransportError;
use zmqv2_proto::{Address, Kind, NoConnection};

use crate::clock;
use crate::delivery::attempt::{AskError, Attempt, SearchPlan};
use crate::delivery::request::{EncodedRequest, Request};
use crate::direct::attempts::{self, World};
use crate::direct::monitor::Monitor;
use crate::direct::req_sockets::{ReqSocket, ReqSockets};
use crate::direct::round_trip::{RoundTrip, Sent};
use crate::io::answer::ParsedAnswer;
use crate::io::thread::IoThread;
use crate::outcome::Completion;
use crate::outcome::receiver_answer::ReceiverAnswer;
use crate::outcome::send_error::SendError;
use crate::peers::hello::Greeting;
use crate::routing::destinations::Destination;
use crate::routing::node_health::cause_of;
use crate::routing::route::Route;
use crate::routing::router::Router;
use crate::settings::Settings;

/// The pause before another connection, if a new one was lost before the request was sent.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);

/// Calls over REQ sockets.
#[derive(Clone, Copy)]
pub(crate) struct DirectCaller<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) router: &'a Router,
    pub(crate) req_sockets: &'a ReqSockets,
    /// Sends the questions of calls that are monitored.
    pub(crate) io_thread: &'a IoThread,
}

/// One call on its way.
struct DirectCall<'a> {
    caller: DirectCaller<'a>,
    request: Request<'a>,
    encoded: EncodedRequest,
    route: Route,
    /// Why the socket to the last candidate failed, if it did.
    socket_error: Option<TransportError>,
    /// The socket to a broker that has not answered in time. The end of its connection cancels the
    /// call there. So it is closed when the call ends, or goes to another broker.
    unanswered: Option<(Address, ReqSocket)>,
}

impl<'a> DirectCaller<'a> {
    pub(crate) fn call(self, request: Request<'a>, encoded: EncodedRequest) -> Result<Completion, SendError> {
        let Self { settings, router, .. } = self;
        let Request { options, started, deadline } = request;
        let target = &options.target;
        let mut route = Route::first(router, &request)?;
        let found = route.plan(router, target, started);
        let searches = target.server.is_some();
        let mut attempt =
            Attempt::new(started, deadline, options.retries, settings.retry_jitter, options.wait_for_ready, searches);
        let mut call = DirectCall { caller: self, request, encoded, route, socket_error: None, unanswered: None };
        let result = attempts::run(&mut call, &mut attempt, found);
        call.route.learn(&result);
        let after = request.elapsed(clock::now());
        let destination = |candidate| call.route.destination(candidate, router);
        let result = result.map_err(|verdict| {
            let cause = |address: &Address| router.health().cause(address);
            verdict.into_call_error(target, after, destination, call.route.doubt(), call.socket_error, cause)
        });
        Ok(Completion { result, after })
    }
}

impl DirectCall<'_> {
    /// One request to one node, and its answer.
    fn round_trip(
        &mut self,
        now: Instant,
        destination: &Destination,
        attempt: &Attempt,
    ) -> Result<ReceiverAnswer, AskError> {
        let Destination { node, address } = destination;
        let DirectCaller { settings, router, req_sockets, io_thread } = self.caller;
        let connect_by = attempt.connect_by(now, settings.config.connect_timeout);
        self.encoded.flags = self.request.options.flags(Kind::Call, self.route.is_certain());
        drop(self.unanswered.take_if(|(earlier, _)| earlier != address));
        loop {
            let mut socket = match req_sockets.take(address, &router.peers, now, connect_by) {
                Ok(socket) => socket,
                Err(error) => return Err(self.not_sent(address, error)),
            };
            let answer_by = attempt.answer_by();
            let largest = settings.config.max_message_bytes;
            let is_new = socket.greeting == Greeting::Due;
            let mut trip =
                RoundTrip { request: &mut self.encoded, socket: &mut socket, address, node, answer_by, largest };
            match trip.send(connect_by, attempt.is_last_send()) {
                Ok(Sent::Yes) => {}
                // An idle socket may have lost its connection meanwhile. A new one is tried.
                Ok(Sent::ConnectionLost) if clock::now() < connect_by => {
                    if is_new {
                        // A peer may hang up at once every time.
                        self.pause(connect_by.min(clock::now() + RECONNECT_PAUSE));
                    }
                    continue;
                }
                Ok(Sent::NotConnected(cause)) => {
                    router.health().mark_unreachable(address, cause, clock::now());
                    return Err(AskError::NotReached);
                }
                Ok(Sent::ConnectionLost) => {
                    router.health().mark_unreachable(address, NoConnection::NoAnswer, clock::now());
                    return Err(AskError::NotReached);
                }
                Ok(Sent::NotGreeted) => {
                    router.not_answered(address, None, clock::now());
                    return Err(AskError::NotReached);
                }
                Ok(Sent::TooLarge(refusal)) => {
                    req_sockets.keep(address.clone(), socket, clock::now());
                    return Err(AskError::Refused(refusal, Some(node.clone())));
                }
                Err(error) => return Err(self.not_sent(address, error)),
            }
            let monitor = self.request.options.monitor.map(|timeout| {
                let sent = clock::now();
                Monitor::new(
                    io_thread,
                    trip.request.id,
                    &self.request.options.target,
                    destination.clone(),
                    timeout,
                    sent,
                )
            });
            let parsed = trip.wait_answer(monitor);
            let EncodedRequest { server, key, .. } = &self.encoded;
            return match parsed {
                Ok(parsed) => {
                    router.health().mark_reachable(address);
                    req_sockets.keep(address.clone(), socket, clock::now());
                    match parsed {
                        ParsedAnswer::FromReceiver { answer, .. } => Ok(answer),
                        ParsedAnswer::InFlight { .. } => Err(AskError::NoAnswer),
                        ParsedAnswer::Refusal(refusal, node) => {
                            router.refused(address, server.as_ref(), key, refusal.reason);
                            Err(AskError::Refused(refusal, node))
                        }
                    }
                }
                // The socket is never used again, so that a late answer never reaches another call.
                Err(error) => {
                    match &error {
                        AskError::ConnectionLost => {
                            router.health().mark_unreachable(address, NoConnection::Unknown, clock::now());
                        }
                        AskError::NoAnswer => {
                            router.not_answered(address, server.is_none().then_some(key), clock::now());
                            self.unanswered = Some((address.clone(), socket));
                        }
                        AskError::Refused(..) | AskError::NotReached => {}
                    }
                    Err(error)
                }
            };
        }
    }

    /// No socket could be opened or connected.
    fn not_sent(&mut self, address: &Address, error: TransportError) -> AskError {
        log::debug!("cannot connect to {address}: {error}");
        match cause_of(&error) {
            Some(cause) => self.caller.router.health().mark_unreachable(address, cause, clock::now()),
            None => self.socket_error = Some(error),
        }
        AskError::NotReached
    }
}

impl World for DirectCall<'_> {
    type Answer = ReceiverAnswer;

    fn now(&self) -> Instant {
        clock::now()
    }

    fn ask(&mut self, now: Instant, candidate: usize, attempt: &Attempt) -> Result<ReceiverAnswer, AskError> {
        self.socket_error = None;
        let destination = self.route.ask(candidate, self.caller.router).ok_or(AskError::NotReached)?;
        self.round_trip(now, &destination, attempt)
    }

    fn look_up(&mut self, now: Instant) -> SearchPlan {
        self.route.look_up(self.caller.router, &self.request.options.target, now)
    }

    fn note_server(&mut self, is_there: bool) {
        self.route.note_server(is_there);
    }

    fn pause(&mut self, until: Instant) {
        loop {
            let left = until.saturating_duration_since(clock::now());
            if left.is_zero() {
                return;
            }
            std::thread::park_timeout(left);
        }
    }
}
