//! The endpoints of a declared service, without a server.

use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use serde_json::value::RawValue;
use zmqv2_proto::service;
use zmqv2_proto::service::{Call, MethodError, MethodResult};

#[derive(Debug, serde::Serialize, serde::Deserialize, thiserror::Error)]
#[error("closed")]
struct Closed {}

service! {
    /// Fails.
    service Failing("failing"), async AsyncFailing, client FailingClient, version 1.0, error Closed {
        /// Fails with the declared error, or with another one.
        fn fail(declared: bool);
    }
}

struct Fails;

impl Failing for Fails {
    fn fail(&self, _: &Call, declared: bool) -> MethodResult<(), Closed> {
        if declared { Err(Closed {})? } else { Err(MethodError::other(std::io::Error::other("broken"))) }
    }
}

impl AsyncFailing for Fails {
    async fn fail(&self, call: &Call, declared: bool) -> MethodResult<(), Closed> {
        Failing::fail(self, call, declared)
    }
}

#[test]
fn only_errors_of_the_interface_are_expected() {
    let (blocking, later) = (Failing::into_endpoint(Fails), AsyncFailing::into_endpoint(Fails));
    #[expect(clippy::disallowed_methods, reason = "a test is its own driver")]
    let call = Call::new(Instant::now() + Duration::from_secs(60));
    for (arguments, class, expected) in [
        (r#"{"declared":true}"#, "Closed", true),
        (r#"{"declared":false}"#, "Error", false),
        ("{}", "InvalidArguments", true),
    ] {
        let arguments = RawValue::from_string(arguments.to_owned()).unwrap();
        let mut running = later.run("fail", &call, &arguments).unwrap();
        let Poll::Ready(answer) = running.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("it waits")
        };
        for answer in [blocking.run("fail", &call, &arguments).unwrap(), answer] {
            let raised = answer.unwrap_err();
            assert_eq!((raised.failure.class.as_str(), raised.expected), (class, expected));
        }
    }
    let none = RawValue::from_string("{}".to_owned()).unwrap();
    assert!(blocking.run("other", &call, &none).is_none() && later.run("other", &call, &none).is_none());
}
