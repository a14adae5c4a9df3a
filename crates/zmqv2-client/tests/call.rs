//! What a call sends, and what it makes of every kind of answer.

mod support;

use std::sync::mpsc;
use std::time::Duration;

use serde_json::value::RawValue;
use serde_json::{Value, json};
use support::{Act, Broker, builder};
use zmqv2_client::{CallError, RpcClient, SendError};
use zmqv2_proto::{
    Config, DISPATCHER_MODULE, Failure, Header, Kind, MessageId, NodeName, Reason, RequestContext, Target, TcpAddress,
    Version, control,
};

fn context() -> RequestContext {
    RequestContext::new()
}

#[test]
fn a_result_comes_back_with_its_server_and_node() {
    let (saw, seen) = mpsc::channel();
    let broker = Broker::start(move |request| {
        saw.send((request.header.clone(), request.request.clone())).unwrap();
        request.echo()
    });
    let client = builder([broker.node("n1")]).build().unwrap();
    let at = client.prepare().server("s1").unwrap().namespace("ns").unwrap().version(Version::new(1, 2));
    let at = at.exchange("nova").unwrap().topic("compute").unwrap();
    let answered = at.call_detailed::<Value>(&context().with("user", "ann"), "echo", &json!({"x": [1, null]})).unwrap();
    assert_eq!(answered.value, json!({"x": [1, null]}));
    assert_eq!((answered.server.as_str(), answered.node.as_str()), ("s1", "n1"));
    assert!(answered.elapsed < Duration::from_secs(20));

    let (header, request) = seen.recv().unwrap();
    assert_eq!((header.kind, header.tag), (Kind::Call, 0));
    assert_eq!(header.key.unwrap().as_str(), "nova/compute");
    assert_eq!(header.server.unwrap().as_str(), "s1");
    assert_eq!(request.unique_id, Some(header.id));
    assert_eq!(request.namespace.unwrap().as_str(), "ns");
    assert_eq!(request.version, Some(Version::new(1, 2)));
    assert_eq!(request.context.get("user"), Some(Value::from("ann")));

    // The client that was prepared is as it was.
    client.call::<Value>(&context(), "echo", "plain").unwrap();
    let (header, request) = seen.recv().unwrap();
    assert_eq!((header.key.unwrap().as_str(), header.server), ("openstack/t", None));
    assert_eq!((request.namespace, request.version), (None, None));
}

#[test]
fn results_come_in_the_type_that_is_asked_for() {
    let broker = Broker::start(|seen| match seen.request.method.as_str() {
        "nothing" => seen.result(&()),
        "oslo_rpc_server_ping" => seen.result(&"pong"),
        _ => seen.echo(),
    });
    let client = builder([broker.node("n1")]).build().unwrap();
    client.call::<()>(&context(), "nothing", &()).unwrap();
    let raw: Box<RawValue> = client.call(&context(), "echo", &json!({"a": 2.50})).unwrap();
    assert_eq!(raw.get(), r#"{"a":2.5}"#);
    assert_eq!(client.ping().unwrap().server.as_str(), "s1");

    let error = client.call::<u8>(&context(), "echo", "text").unwrap_err();
    assert!(matches!(error, CallError::Answer { .. }) && error.may_have_run(), "{error:?}");
    assert_eq!(error.to_string(), "result of echo from openstack/t is not what the caller expects");
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
fn remote_errors_of_allowed_modules_come_back_as_themselves_rg38() {
    let broker = Broker::start(|seen| {
        let module: String = seen.request.args().unwrap();
        seen.failure(Failure::new(module, "Broken", "no disk").with_traceback(["at line 1".to_owned()]))
    });
    let client = builder([broker.node("n1")]).allowed_remote_modules(["nova.exception"]).build().unwrap();
    for (module, allowed) in [("nova.exception", true), (DISPATCHER_MODULE, true), ("evil", false)] {
        let error = client.call::<()>(&context(), "m", module).unwrap_err();
        assert!(error.may_have_run());
        let CallError::Remote(remote) = error else { panic!("{error}") };
        assert_eq!(remote.is_allowed(), allowed, "{module}");
        assert_eq!(remote.class(), if allowed { "Broken" } else { "RemoteError" });
        assert_eq!((remote.original_class(), remote.module()), ("Broken", module));
        assert_eq!(remote.traceback(), ["at line 1"]);
        assert_eq!(remote.server().as_str(), "s1");
        let shown = if allowed { "Broken: no disk" } else { "remote error: evil.Broken: no disk" };
        assert_eq!(remote.to_string(), shown);
    }
    assert_eq!(broker.connections(), 1, "a remote error costs no socket");
}

#[test]
fn a_refusal_is_typed_and_quick() {
    let broker = Broker::start(|seen| seen.refusal(Reason::NoRoute, "no server of openstack/t"));
    let client = builder([broker.node("n1")]).build().unwrap();
    let error = client.call::<()>(&context(), "m", &()).unwrap_err();
    assert_eq!(error.reason(), Some(Reason::NoRoute));
    assert!(!error.may_have_run());
    let shown = error.to_string();
    assert!(shown.contains("openstack/t was refused by node n1 after"), "{shown}");
    assert!(shown.ends_with("NoRoute: no server of openstack/t"), "{shown}");
    assert!(matches!(error, CallError::Refused { after, .. } if after < Duration::from_secs(5)));
}

#[test]
fn without_any_node_a_call_is_refused_at_once_rg06() {
    let error = builder([]).build().unwrap().call::<()>(&context(), "m", &()).unwrap_err();
    assert_eq!(error.reason(), Some(Reason::NoRoute));
    assert!(error.to_string().contains("the directory knows no node of openstack/t"), "{error}");
}

#[test]
fn invalid_answers_are_ignored_until_the_deadline_and_the_next_call_works() {
    let mut garbage = 0;
    let broker = Broker::start(move |seen| {
        garbage += 1;
        let body = || b"{}".to_vec();
        let mut header = Header::new(Kind::Reply, seen.header.id);
        header.server = Some("s1".parse().unwrap());
        match garbage {
            1 => Act::Frames(vec![b"x".to_vec(), body()]),
            2 => Act::Frames(vec![body()]),
            3 => Act::Frames(vec![header.encode(), body(), body()]),
            4 => Act::Answer(
                {
                    header.id = MessageId::random();
                    header
                },
                body(),
            ),
            5 => Act::Answer(
                {
                    header.server = None;
                    header
                },
                body(),
            ),
            6 => Act::Answer(Header::new(Kind::Refusal, seen.header.id), body()),
            7 => Act::Answer(Header::new(Kind::Registered, seen.header.id), body()),
            _ => seen.echo(),
        }
    });
    let client = builder([broker.node("n1")]).build().unwrap();
    for number in 1..=7 {
        let brief = client.prepare().timeout(Duration::from_millis(500));
        let error = brief.call::<()>(&context(), "m", &()).unwrap_err();
        assert!(matches!(error, CallError::Timeout { .. }), "{number}: {error}");
    }
    assert_eq!(client.call::<i32>(&context(), "m", &8).unwrap(), 8);
}

#[test]
fn a_call_that_cannot_be_sent_is_refused_before_sending() {
    let broker = Broker::start(support::Seen::echo);
    let mut config = Config::default();
    config.max_message_bytes = 1024;
    let client = builder([broker.node("n1")]).config(config).version_cap(Version::new(1, 3)).build().unwrap();

    let error = client.call::<()>(&context(), "m", &"x".repeat(2000)).unwrap_err();
    assert!(matches!(error, CallError::NotSent(SendError::TooLarge { size: 2001.., limit: 1024, .. })), "{error:?}");
    assert!(error.to_string().contains("the limit is 1024 bytes"), "{error}");

    let error = client.call::<()>(&context(), "a/b", &()).unwrap_err();
    assert!(matches!(error, CallError::NotSent(SendError::InvalidName(_))), "{error:?}");

    let error = client.call::<()>(&context(), "m", &std::collections::HashMap::from([((1, 2), 3)])).unwrap_err();
    assert!(matches!(error, CallError::NotSent(SendError::Arguments { .. })) && !error.may_have_run(), "{error:?}");

    for (version, covered) in [((1, 0), true), ((1, 3), true), ((1, 4), false), ((2, 0), false), ((0, 9), false)] {
        let version = Version::new(version.0, version.1);
        assert_eq!(client.can_send_version(version), covered, "{version}");
        let sent = client.prepare().version(version).call::<()>(&context(), "m", &());
        match sent {
            Ok(()) => assert!(covered),
            Err(CallError::NotSent(SendError::VersionCap { version: v, cap, .. })) => {
                assert!(!covered && v == version && cap == Version::new(1, 3));
            }
            Err(error) => panic!("{error}"),
        }
    }
    // A message without a version is one of 1.0.
    let capped = client.prepare().version_cap(Version::new(2, 0));
    assert!(matches!(capped.call::<()>(&context(), "m", &()), Err(CallError::NotSent(SendError::VersionCap { .. }))));
    assert_eq!(broker.requests(), 2, "only what was covered");

    let mut every = Target::topic("t").unwrap();
    every.fanout = true;
    let error = RpcClient::builder(every).build().unwrap().call::<()>(&context(), "m", &()).unwrap_err();
    assert!(matches!(error, CallError::NotSent(SendError::FanoutTarget { .. })), "{error:?}");
}

#[test]
fn the_broker_of_this_node_is_reached_by_its_local_socket() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start_at(&control::broker_socket(dir.path()).unwrap(), support::Seen::echo);
    let remote = Broker::start(support::Seen::echo);
    let mut config = Config::default();
    config.host = NodeName::new("here").unwrap();
    config.port = 1;
    // Without a directory: everything is here.
    let client = RpcClient::builder(Target::topic("t").unwrap()).config(config.clone()).ipc_dir(dir.path());
    assert_eq!(client.build().unwrap().call::<i32>(&context(), "m", &1).unwrap(), 1);
    // With one, both ways.
    let here = zmqv2_proto::Node::new(config.host.clone(), TcpAddress::new("127.0.0.1", 1).unwrap());
    let client = builder([here, remote.node("there")]).config(config).ipc_dir(dir.path()).build().unwrap();
    for number in 0..4 {
        assert_eq!(client.call::<i32>(&context(), "m", &number).unwrap(), number);
    }
    assert_eq!((broker.requests(), remote.requests()), (3, 2));
}
