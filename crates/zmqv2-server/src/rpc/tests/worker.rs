use super::*;
use crate::handler_error::HandlerError;
use crate::rpc::endpoint::Methods;
use crate::runtime::completions;
use crate::runtime::now;
use crate::runtime::wakeup::{RegistrationWaker, Signal};
use crate::runtime::worker::ShutdownSignals;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use zmqv2_proto::{MessageId, TopicKey};

/// A server whose method `count` counts its runs, and whose method `long` returns 1,000 letters.
fn work() -> (RpcWork, Arc<AtomicU32>) {
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    let methods = Methods::new()
        .method("count", move |(): ()| Ok(counted.fetch_add(1, Ordering::SeqCst) + 1))
        .and_then(|methods| methods.method("long", |(): ()| Ok("x".repeat(1_000))))
        .unwrap();
    let (dispatcher, repeated) = (Dispatcher { endpoints: vec![Box::new(methods) as _] }, RepeatedRequests::default());
    (RpcWork { dispatcher, interceptors: Interceptors::default(), repeated, counters: Arc::default() }, runs)
}

fn worker() -> Worker {
    let (completions, _) = completions::channel(4, &Arc::new(RegistrationWaker::new().unwrap()));
    let shutdown = Arc::new(ShutdownSignals {
        drain: Signal::new().unwrap(),
        stop: Signal::new().unwrap(),
        running: crate::runtime::running::RunningHandlers::new(1),
    });
    let (server, node) = ("s".parse().unwrap(), "n".parse().unwrap());
    Worker {
        index: 0,
        server,
        node,
        completions,
        shutdown,
        shares_socket: true,
        broker_limit: Arc::default(),
        max_message_bytes: 1_000,
    }
}

fn request(kind: Kind, flags: Flags) -> Header {
    let mut header = Header::new(kind, MessageId::random());
    header.flags = flags;
    header.key = Some(TopicKey::parse("e/t").unwrap());
    header
}

fn answer(work: &RpcWork, header: &Header, method: &str, left: Duration) -> Result<Answer<Cast>, Refusal> {
    let body = Request::new(method.parse().unwrap(), &()).unwrap().encode().unwrap();
    work.answer(header, Body::Part(&body), now() + left, None, &worker())
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_call_is_answered_with_its_result_or_its_failure() {
    let (work, _) = work();
    let call = request(Kind::Call, Flags::NONE);
    let result = answer(&work, &call, "count", MINUTE).unwrap();
    assert_eq!((result.header.kind, result.header.flags), (Kind::Reply, Flags::NONE));
    let failure = answer(&work, &call, "unknown", MINUTE).unwrap();
    assert_eq!((failure.header.kind, failure.header.flags), (Kind::Reply, Flags::FAILURE));
}

#[test]
fn a_cast_that_no_method_fits_is_refused_and_never_recorded() {
    let (work, runs) = work();
    for kind in [Kind::Cast, Kind::Fanout] {
        let refused = |flags, method: &str| answer(&work, &request(kind, flags), method, MINUTE).err().unwrap();
        for method in ["unknown", "_count"] {
            let refusal = refused(Flags::NO_METHOD.with(Flags::MAY_REPEAT), method);
            assert_eq!(refusal.reason, Reason::NoMethod);
            assert!(refusal.detail.contains(method), "{refusal}");
            // An earlier client would not end its message with a reason that it does not know.
            assert_eq!(refused(Flags::NONE, method).reason, Reason::Malformed);
        }
        let mut draft = Request::new("count".parse().unwrap(), &()).unwrap();
        draft.namespace = Some("elsewhere".parse().unwrap());
        let body = draft.encode().unwrap();
        let header = request(kind, Flags::NO_METHOD);
        let refusal = work.answer(&header, Body::Part(&body), now() + MINUTE, None, &worker()).err().unwrap();
        assert!(refusal.reason == Reason::NoMethod && refusal.detail.contains("elsewhere"), "{refusal}");
    }
    let counters = work.counters.read();
    assert_eq!((counters.refused_casts, counters.casts, runs.load(Ordering::SeqCst)), (10, 0, 0));
    let ping = answer(&work, &request(Kind::Cast, Flags::NO_METHOD), "oslo_rpc_server_ping", MINUTE).unwrap();
    assert_eq!(ping.header.kind, Kind::Ack);
}

#[test]
fn a_cast_that_fails_after_its_acknowledgement_is_counted() {
    let (work, _) = work();
    let accepted = |method: &str| match answer(&work, &request(Kind::Cast, Flags::NONE), method, MINUTE).unwrap().then {
        AfterAnswer::Run(cast) => cast,
        _ => panic!("it does not run"),
    };
    let args = Request::new("count".parse().unwrap(), &"not what it takes").unwrap().encode().unwrap();
    let wrong =
        work.answer(&request(Kind::Cast, Flags::NONE), Body::Part(&args), now() + MINUTE, None, &worker()).unwrap();
    let AfterAnswer::Run(wrong) = wrong.then else { panic!("it does not run") };
    work.run(vec![accepted("count"), wrong], &worker());
    let counters = work.counters.read();
    assert_eq!((counters.casts, counters.failed_casts), (2, 1));
    assert_eq!(counters.to_string(), "0 calls (0 failed), 2 casts (1 failed), 0 casts refused");
}

#[test]
fn a_cast_is_acknowledged_before_it_runs() {
    let (work, runs) = work();
    let accepted = answer(&work, &request(Kind::Cast, Flags::NONE), "count", MINUTE).unwrap();
    assert_eq!((accepted.header.kind, runs.load(Ordering::SeqCst)), (Kind::Ack, 0));
    let AfterAnswer::Run(cast) = accepted.then else { panic!("it does not run") };
    work.run(vec![cast], &worker());
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[test]
fn a_call_that_comes_again_gets_the_answer_of_its_first_run() {
    let (work, runs) = work();
    let call = request(Kind::Call, Flags::MAY_REPEAT);
    let first = answer(&work, &call, "count", MINUTE).unwrap();
    let again = answer(&work, &call, "count", MINUTE).unwrap();
    assert_eq!((first.body, runs.load(Ordering::SeqCst)), (again.body, 1));
}

#[test]
fn a_call_that_comes_again_while_it_runs_is_refused_at_its_deadline() {
    let (work, runs) = work();
    let call = request(Kind::Call, Flags::MAY_REPEAT);
    work.repeated.record(call.id, now() + MINUTE);
    let refusal = answer(&work, &call, "count", Duration::ZERO).err().unwrap();
    assert_eq!((refusal.reason, runs.load(Ordering::SeqCst)), (Reason::ServerLost, 0));
}

#[test]
fn a_call_whose_handler_gave_up_has_no_answer_when_it_comes_again() {
    let methods = Methods::new()
        .raw("patient", |incoming| match incoming.is_cancelled() {
            true => Err(HandlerError::new("t", "Cancelled", "nobody waits")),
            false => crate::rpc::endpoint::reply("done"),
        })
        .unwrap();
    let work = RpcWork { dispatcher: Dispatcher { endpoints: vec![Box::new(methods)] }, ..work().0 };
    let call = request(Kind::Call, Flags::MAY_REPEAT);
    let body = Request::new("patient".parse().unwrap(), &()).unwrap().encode().unwrap();
    let flag = Arc::new(CancelFlag::default());
    flag.cancel();
    let run = |flag| work.answer(&call, Body::Part(&body), now() + MINUTE, flag, &worker());
    assert_eq!(run(Some(flag)).unwrap().header.flags, Flags::FAILURE);
    let refusal = run(None).err().unwrap();
    assert!(refusal.reason == Reason::ServerLost && refusal.detail.contains("cancelled"), "{refusal}");
}

#[test]
fn a_cast_that_comes_again_is_acknowledged_and_does_not_run_again() {
    let (work, _) = work();
    let cast = request(Kind::Cast, Flags::MAY_REPEAT);
    assert!(matches!(answer(&work, &cast, "count", MINUTE).unwrap().then, AfterAnswer::Run(_)));
    assert!(matches!(answer(&work, &cast, "count", MINUTE).unwrap().then, AfterAnswer::Nothing));
}

#[test]
fn a_reply_above_the_limit_is_refused_and_not_stored() {
    let (work, _) = work();
    let call = request(Kind::Call, Flags::MAY_REPEAT);
    let refusal = answer(&work, &call, "long", MINUTE).err().unwrap();
    assert_eq!(refusal.reason, Reason::TooLarge);
    assert!(refusal.reason.may_have_run() && refusal.detail.contains("the limit of the server is 1000"), "{refusal}");
    let again = answer(&work, &call, "long", MINUTE).err().unwrap();
    assert_eq!(again.reason, Reason::ServerLost);
}
