use super::*;
use crate::Cancellation;
use crate::rpc::counters::LiveCounters;
use crate::rpc::ended::reply_of;
use crate::rpc::endpoint::Methods;
use std::time::Instant;
use zmqv2_proto::{MessageId, Reply, Request};

fn dispatcher() -> Dispatcher {
    let one = Methods::new().version(Version::new(1, 2)).method("m", |(): ()| Ok("one")).unwrap();
    let two = Methods::new().version(Version::new(2, 0)).method("m", |(): ()| Ok("two")).unwrap();
    let spaced = Methods::new()
        .namespace("ns")
        .unwrap()
        .method("m", |(): ()| Ok("spaced"))
        .unwrap()
        .method("_hidden", |(): ()| Ok(1))
        .unwrap()
        .method("boom", |(): ()| -> Result<(), HandlerError> { panic!("bang") })
        .unwrap()
        .method("io", |(): ()| -> Result<(), HandlerError> { Err(std::io::Error::other("disk"))? })
        .unwrap();
    Dispatcher { endpoints: vec![Box::new(one), Box::new(two), Box::new(spaced)] }
}

fn run(method: &str, namespace: Option<&str>, version: Option<&str>, args: &str) -> Result<String, (String, String)> {
    let args = serde_json::from_str::<serde_json::Value>(args).unwrap();
    let mut request = Request::new(method.parse().unwrap(), &args).unwrap();
    request.namespace = namespace.map(|n| n.parse().unwrap());
    request.version = version.map(|v| v.parse().unwrap());
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    let incoming = Incoming {
        request,
        id: MessageId::random(),
        node: None,
        deadline: Instant::now(),
        cancellation: Cancellation::default(),
    };
    let result = dispatcher().dispatch(&incoming);
    match reply_of(incoming.method(), result, &LiveCounters::default()).0 {
        Reply::Result(json) => Ok(json.get().to_owned()),
        Reply::Failure(failure) => Err((failure.class, failure.message)),
    }
}

#[test]
fn namespace_version_and_method_choose_the_endpoint() {
    assert_eq!(run("m", None, None, "null").unwrap(), "\"one\"");
    assert_eq!(run("m", None, Some("1.2"), "null").unwrap(), "\"one\"");
    assert_eq!(run("m", None, Some("2.0"), "null").unwrap(), "\"two\"");
    assert_eq!(run("m", Some("ns"), None, "null").unwrap(), "\"spaced\"");
}

#[test]
fn an_unknown_method_and_an_unknown_version_have_different_errors() {
    assert_eq!(run("n", None, None, "null").unwrap_err().0, "NoSuchMethod");
    assert_eq!(run("_hidden", Some("ns"), None, "null").unwrap_err().0, "NoSuchMethod");
    let (class, message) = run("m", None, Some("1.3"), "null").unwrap_err();
    assert_eq!(class, "UnsupportedVersion");
    assert!(message.contains("1.3") && message.contains("1.2, 2.0"), "{message}");
    assert_eq!(run("m", Some("other"), None, "null").unwrap_err().0, "UnsupportedVersion");
}

#[test]
fn a_panic_an_error_and_wrong_arguments_are_replies() {
    assert_eq!(run("boom", Some("ns"), None, "null").unwrap_err(), ("Panic".into(), "boom panicked: bang".into()));
    assert_eq!(run("io", Some("ns"), None, "null").unwrap_err(), ("Error".into(), "disk".into()));
    let (class, message) = run("m", None, None, "5").unwrap_err();
    assert!(class == "InvalidArguments" && message.contains("arguments of m"), "{message}");
}

#[test]
fn a_panic_while_an_endpoint_is_chosen_is_a_reply() {
    struct Broken;
    impl Endpoint for Broken {
        fn version(&self) -> Version {
            panic!("no version")
        }
        fn call(&self, _: &Incoming) -> Option<Result<Reply, HandlerError>> {
            None
        }
    }
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    let deadline = Instant::now();
    let request = Request::new("m".parse().unwrap(), &()).unwrap();
    let incoming =
        Incoming { request, id: MessageId::random(), node: None, deadline, cancellation: Cancellation::default() };
    let dispatcher: Dispatcher = Dispatcher { endpoints: vec![Box::new(Broken)] };
    let Err(error) = dispatcher.dispatch(&incoming) else { panic!() };
    let failure = error.into_failure();
    assert_eq!((failure.class.as_str(), failure.message.as_str()), ("Panic", "m panicked: no version"));
}

#[test]
fn every_server_answers_a_ping() {
    assert_eq!(run(PING_METHOD, Some("any"), Some("9.9"), "null").unwrap(), "\"pong\"");
}
