use super::*;
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
    let (dispatcher, repeated) = (Dispatcher { endpoints: vec![Box::new(methods)] }, RepeatedRequests::default());
    (RpcWork { dispatcher, max_message_bytes: 1_000, repeated }, runs)
}

fn worker() -> Worker {
    let (completions, _) = completions::channel(4, &Arc::new(RegistrationWaker::new().unwrap()));
    let shutdown = Arc::new(ShutdownSignals { drain: Signal::new().unwrap(), stop: Signal::new().unwrap() });
    let (server, node) = ("s".parse().unwrap(), "n".parse().unwrap());
    Worker { index: 0, server, node, completions, shutdown, shares_socket: true, broker_limit: Arc::default() }
}

fn request(kind: Kind, flags: Flags) -> Header {
    let mut header = Header::new(kind, MessageId::random());
    header.flags = flags;
    header.key = Some(TopicKey::parse("e/t").unwrap());
    header
}

fn answer(work: &RpcWork, header: &Header, method: &str, left: Duration) -> Result<Answer<Cast>, Refusal> {
    let body = Request::new(method.parse().unwrap(), &()).unwrap().encode().unwrap();
    work.answer(header, Body::Part(&body), now() + left, &worker())
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
