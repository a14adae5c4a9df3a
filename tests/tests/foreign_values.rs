//! Proves that JSON without a form in Rust, of a peer in Python, is passed on byte for byte, and that
//! a number without a form in JSON is an error wherever a Rust program gives it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::value::RawValue;
use zmqv2_client::{CallError, RpcClient, SendError};
use zmqv2_proto::control::BROKER_SOCKET;
use zmqv2_proto::{
    Failure, Header, Kind, MessageId, Priority, Reply, Request, RequestContext, Target, Ttl, envelope, json_text,
};
use zmqv2_server::{HandlerError, Methods, RpcServer};
use zmqv2_tests::zmtp::Zmtp;
use zmqv2_tests::{Cluster, Node, PATIENCE, eventually};

/// Context and arguments, as text.
type Seen = Arc<Mutex<Vec<(String, String)>>>;

/// JSON that Python writes, most of it without a form in Rust.
fn foreign() -> String {
    let deep = format!("{}7{}", "[".repeat(200), "]".repeat(200));
    let deeper = format!("{}{{\"x\":1}}{}", "{\"d\":".repeat(5_000), "}".repeat(5_000));
    format!(
        r#"{{"z": "\ud800", "a": "\uDFFF\ud83d\ude00", "\udc80": 1, "\ud800": {{"\udfff": null}},
        "inf": [1e999, -1E400, 1E+400], "zero": [-0.0, -0, 0.0, 0e5], "long": 123456789012345678901234567890,
        "forms": [1.0, 1, 1.00, 10e-1, 1.10], "twice": 1, "twice": 2, "": "", "nul\u0000": "\u0000\/\b",
        "😀": "é😀\ud83d\ude00", "s p": [ 1 ,2,	3 ], "deep": {deep}, "deeper": {deeper}}}"#
    )
}

/// The context of a message with these values, and the texts of its keys as they were written.
fn fields(values: &str) -> String {
    let values: Vec<String> = [
        ("user", "\"ann\""),
        (r"\ud800", "1"),
        (r"x\uDFFF", r#""\udfff""#),
        (r"\u0061", "1e999"),
        ("", "-0.0"),
        (r#"nul\u0000\/\\\""#, "1.0"),
        ("😀", "null"),
        (r"\ud83d\ude00", "[ 1 , 2]"),
        ("twice", "1"),
        ("twice", "2"),
        ("all", values),
    ]
    .into_iter()
    .map(|(key, value)| format!(",\"_context_{key}\":{value}"))
    .collect();
    values.concat() + r#","\u005fcontext_\ud801":3"#
}

/// The fields of a context as they are on the wire.
fn written(context: &RequestContext) -> String {
    let body = Request::new("m".parse().unwrap(), &()).unwrap().with_context(context.clone()).encode().unwrap();
    let text = envelope::open(&body).unwrap().into_owned();
    text.strip_prefix(r#"{"method":"m","args":null"#).and_then(|rest| rest.strip_suffix('}')).unwrap().to_owned()
}

fn start(node: &Node, topic: &str, methods: Methods) -> RpcServer {
    let target = Target::topic(topic).unwrap().with_server("s").unwrap();
    let builder = RpcServer::builder(target).config(node.config()).ipc_dir(&node.ipc_dir).endpoint(methods);
    let server = builder.workers(2).start().unwrap();
    server.wait_ready(PATIENCE).unwrap();
    server
}

/// A server that remembers what it gets.
fn last(node: &Node, seen: &Seen) -> RpcServer {
    let seen = Arc::clone(seen);
    let keep = move |incoming: &zmqv2_server::Incoming| {
        let args = incoming.request.args.get().to_owned();
        seen.lock().unwrap().push((written(incoming.context()), args));
        Ok(Reply::Result(incoming.request.args.clone()))
    };
    start(node, "next", Methods::new().raw("keep", keep).unwrap())
}

/// A server that passes on what it gets, in each way there is, with the same client.
fn relay(node: &Node, client: &RpcClient) -> RpcServer {
    let client = client.prepare().timeout(PATIENCE);
    let notifier = client.notifier("relay").topics(["told"]).unwrap();
    let pass = move |incoming: &zmqv2_server::Incoming| {
        let (context, args) = (incoming.context(), &incoming.request.args);
        let answer: Box<RawValue> = client.call(context, "keep", args)?;
        let later: Box<RawValue> = client.call_async(context, "keep", args)?.wait()?;
        assert!(client.cast(context, "keep", args)?.wait(PATIENCE).unwrap().is_acked());
        assert!(client.fanout(context, "keep", args)?.wait(PATIENCE).unwrap().all_acked());
        assert!(notifier.notify(context, "event", args, Priority::Info)?.wait(PATIENCE).unwrap().all_acked());
        assert_eq!(answer.get(), later.get());
        Ok(Reply::Result(answer))
    };
    let typed = |_: Vec<serde_json::Value>| Ok(());
    start(node, "demo", Methods::new().raw("pass", pass).unwrap().method("typed", typed).unwrap())
}

/// Sends the body of a call to `demo` as a peer without any library of ours does, and returns the
/// message in the answer.
fn call_raw(node: &Node, inner: &str) -> String {
    let mut header = Header::new(Kind::Call, MessageId::random());
    header.key = Some(Target::topic("demo").unwrap().key());
    header.ttl = Ttl::from(Duration::from_secs(30));
    let mut peer = Zmtp::ipc(node.file(BROKER_SOCKET), "DEALER").unwrap();
    peer.send(&[b"", &header.encode(), &envelope::seal(inner)]).unwrap();
    let answer = peer.receive().unwrap();
    assert_eq!(Header::decode(&answer[1]).unwrap().kind, Kind::Reply, "{}", String::from_utf8_lossy(&answer[2]));
    envelope::open(&answer[2]).unwrap().into_owned()
}

#[test]
fn context_and_arguments_of_a_foreign_peer_are_passed_on_byte_for_byte() {
    let cluster = Cluster::new(1, &["demo", "next"]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let seen = Seen::default();
    let _last = last(node, &seen);
    let told = Arc::clone(&seen);
    let listener = node.listener_builder("told", "p").on(Priority::Info, move |notice| {
        told.lock().unwrap().push((written(notice.context()), notice.notification.payload.get().to_owned()));
    });
    let listener = listener.start().unwrap();
    listener.wait_ready(PATIENCE).unwrap();
    let _relay = relay(node, &node.client(Target::topic("next").unwrap()));

    let (args, fields) = (foreign(), fields(&foreign()));
    let answer = call_raw(node, &format!(r#"{{"method":"pass","args":{args}{fields},"\ud802":1}}"#));
    assert_eq!(answer, format!(r#"{{"result":{args}}}"#));
    // call, call_async, cast, fanout, notification.
    eventually("all five have arrived", || seen.lock().unwrap().len() == 5);
    for (context, arguments) in &*seen.lock().unwrap() {
        assert_eq!((context, arguments), (&fields, &args));
    }
}

#[test]
fn arguments_that_are_too_deep_for_a_typed_method_are_refused_clearly() {
    let cluster = Cluster::new(1, &["demo"]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let _relay = relay(node, &node.client(Target::topic("demo").unwrap()));
    for (args, why) in [
        (format!("{}{}", "[".repeat(200), "]".repeat(200)), "recursion limit"),
        (r#"["\ud800"]"#.to_owned(), "hex escape"),
        ("[1e999]".to_owned(), "out of range"),
    ] {
        let answer = call_raw(node, &format!(r#"{{"method":"typed","args":{args}}}"#));
        let failure = Reply::decode::<()>(&envelope::seal(&answer)).unwrap().unwrap_err();
        assert_eq!(failure.class, "InvalidArguments", "{failure}");
        assert!(failure.message.contains("arguments of typed") && failure.message.contains(why), "{failure}");
    }
}

/// The texts of an error and its causes.
fn told(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[test]
fn a_number_without_a_json_form_is_an_error_wherever_it_is_given() {
    let cluster = Cluster::new(1, &["demo"]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let methods = Methods::new()
        .method("nan", |(): ()| Ok(vec![Some(f32::NAN)]))
        .and_then(|it| {
            it.method("error", |(): ()| {
                Err::<(), _>(HandlerError::expected(Failure::new("m", "C", "x").with_args(&[f64::INFINITY])?))
            })
        })
        .and_then(|it| {
            it.method("data", |(): ()| {
                Err::<(), _>(HandlerError::expected(Failure::new("m", "C", "x").with_args(&("a", 1.0, -0.0))?))
            })
        })
        .and_then(|it| it.method("add", |(a, b): (f64, f64)| Ok(a + b)))
        .unwrap();
    let _server = start(node, "demo", methods);
    let client = node.client(Target::topic("demo").unwrap());
    let notifier = client.notifier("p").topics(["told"]).unwrap();
    let plain = RequestContext::new();
    for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let context = RequestContext::new().with("load", (1, number));
        let args = (1.0, number);
        for (context, args, place) in [(&plain, args, "[1]"), (&context, (1.0, 2.0), "\"load\"")] {
            let errors = [
                match client.call::<f64>(context, "add", &args).unwrap_err() {
                    CallError::NotSent(error) => error,
                    other => panic!("{other}"),
                },
                client.call_async::<f64>(context, "add", &args).unwrap_err(),
                client.cast(context, "add", &args).unwrap_err(),
                client.fanout(context, "add", &args).unwrap_err(),
                notifier.notify(context, "add", &args, Priority::Info).unwrap_err(),
            ];
            for error in errors {
                assert!(matches!(error, SendError::Arguments { .. } | SendError::Payload { .. }), "{error:?}");
                let text = told(&error);
                assert!(
                    text.contains(&format!("{number} at "))
                        && text.contains("[1] has no JSON form")
                        && text.contains("add"),
                    "{text}"
                );
                assert!(text.contains(place), "{text}");
            }
        }
    }
    for (method, why) in [("nan", "NaN at [0] has no JSON form"), ("error", "inf at [0] has no JSON form")] {
        match client.call::<serde_json::Value>(&plain, method, &()).unwrap_err() {
            CallError::Remote(error) => {
                let text = format!("{} {:?}", error.failure(), error.traceback());
                assert!(text.contains("no JSON form") && text.contains(why), "{text}");
            }
            other => panic!("{other}"),
        }
    }
    match client.call::<()>(&plain, "data", &()).unwrap_err() {
        CallError::Remote(error) => assert_eq!(json_text(&error.failure().args).unwrap().get(), r#"["a",1.0,-0.0]"#),
        other => panic!("{other}"),
    }
    assert_eq!(client.call::<f64>(&plain, "add", &(1.5, -0.0)).unwrap(), 1.5);
}
