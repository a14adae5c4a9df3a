//! Interceptors of clients, notifiers, servers and listeners, with a broker between: what they see,
//! what they may change and refuse, traces over several services, and metrics.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use tracing::field::{Field, Visit};
use tracing::span;
use zmqv2_client::{CallError, Outcome, Outgoing, RefusedBy, RequestContext, RpcClient, SendError};
use zmqv2_proto::{Priority, Reason, Target};
use zmqv2_server::{
    AsyncMethods, AsyncRpcServer, HandlerError, Methods, NotificationListener, Received, RpcServer, Verdict,
};
use zmqv2_tests::{Cluster, Node, PATIENCE};

/// What an interceptor saw, in order.
#[derive(Clone)]
struct Log(Sender<String>);

impl Log {
    fn new() -> (Self, Receiver<String>) {
        let (sender, receiver) = unbounded();
        (Self(sender), receiver)
    }

    fn say(&self, text: String) {
        let _ = self.0.send(text);
    }
}

fn next(lines: &Receiver<String>) -> String {
    lines.recv_timeout(PATIENCE).expect("an interceptor sees it")
}

/// Logs, extends the context and refuses the method `forbidden`, at the client's end.
struct AtClient(&'static str, Log);

impl zmqv2_client::Interceptor for AtClient {
    type State = String;

    fn before(&self, message: &mut Outgoing<'_>) -> Result<String, RefusedBy> {
        let what = format!("{} {} {}", self.0, message.verb().as_str(), message.method().unwrap_or("body"));
        self.1.say(format!("{what} begins"));
        match message.method() {
            Some("forbidden") => return Err("not from here".into()),
            Some("panics") => panic!("on purpose"),
            _ => {}
        }
        let earlier = message.context().and_then(|context| context.get("seen")).unwrap_or_default();
        let seen = format!("{}{}", earlier.as_str().unwrap_or_default(), self.0);
        assert_eq!(message.extend_context("seen", seen), message.method().is_some());
        Ok(what)
    }

    fn after(&self, what: String, ended: &zmqv2_client::Ended<'_>) {
        self.1.say(format!("{what}: {} {:?}", ended.label(), ended.attempt));
        assert!(ended.elapsed < PATIENCE);
    }
}

/// The same at the server's end.
struct AtServer(Log);

impl zmqv2_server::Interceptor for AtServer {
    type State = String;

    fn before(&self, request: &mut Received<'_>) -> Result<String, HandlerError> {
        let seen = request.context().get("seen").and_then(|seen| seen.as_str().map(str::to_owned)).unwrap_or_default();
        let what = format!("{} {} of {} {seen:?}", request.verb().as_str(), request.method(), request.topic());
        self.0.say(format!("{what} begins"));
        if request.method() == "refused" {
            return Err(HandlerError::new("tests", "Forbidden", "not here"));
        }
        request.extend_context("from", "interceptor");
        Ok(what)
    }

    fn within(&self, _: &String, run: &mut dyn FnMut()) {
        self.0.say("within".to_owned());
        run();
    }

    fn after(&self, what: String, ended: &zmqv2_server::Ended<'_>) {
        self.0.say(format!("{what}: {}", ended.label()));
    }
}

fn client(node: &Node, log: &Log) -> RpcClient {
    let directory = zmqv2_matchmaker::open(&node.config()).expect("a directory");
    let builder = RpcClient::builder(Target::topic("t").unwrap()).matchmaker(directory).ipc_dir(&node.ipc_dir);
    let builder = builder.interceptor(AtClient("a", log.clone())).interceptor(AtClient("b", log.clone()));
    builder.allowed_remote_modules(["tests"]).config(node.config()).build().expect("a client")
}

fn target(server: &str) -> Target {
    Target::topic("t").unwrap().with_server(server).unwrap()
}

fn methods() -> Methods {
    let from = |incoming: &zmqv2_server::Incoming| {
        let text = |key: &str| incoming.context().get(key).and_then(|text| text.as_str().map(str::to_owned));
        zmqv2_server::reply(&(text("seen"), text("from")))
    };
    let fail = |(): ()| Err::<(), _>(HandlerError::new("tests", "Broken", "on purpose"));
    let methods = Methods::new().raw("context", from).and_then(|methods| methods.method("fail", fail));
    methods.and_then(|methods| methods.method("refused", |(): ()| Ok(()))).unwrap()
}

fn server(node: &Node, log: &Log) -> RpcServer {
    let builder = RpcServer::builder(target("s")).endpoint(methods()).interceptor(AtServer(log.clone())).workers(2);
    let server = builder.config(node.config()).ipc_dir(&node.ipc_dir).start().expect("a server");
    server.wait_ready(PATIENCE).expect("ready");
    server
}

type Context = (Option<String>, Option<String>);

fn expected() -> Context {
    (Some("ab".to_owned()), Some("interceptor".to_owned()))
}

#[test]
fn every_verb_is_seen_before_and_after_in_order_and_its_context_extended() {
    let cluster = Cluster::new(1, &["t"]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let ((at_client, seen), (at_server, served)) = (Log::new(), Log::new());
    let (client, _server) = (client(node, &at_client), server(node, &at_server));
    let context = RequestContext::new();
    let expect = |lines: &[&str]| lines.iter().for_each(|line| assert_eq!(next(&seen), *line));
    let verb = |verb: &str, method: &str, end: &str| {
        let line = |name: &str, rest: &str| format!("{name} {verb} {method}{rest}");
        expect(&[&line("a", " begins"), &line("b", " begins")]);
        expect(&[&line("b", &format!(": {end}")), &line("a", &format!(": {end}"))]);
    };
    let serves = |verb: &str, method: &str, seen: &str, end: &str| {
        assert_eq!(next(&served), format!("{verb} {method} of openstack/t \"{seen}\" begins"));
        assert_eq!(next(&served), "within");
        assert_eq!(next(&served), format!("{verb} {method} of openstack/t \"{seen}\": {end}"));
    };

    assert_eq!(client.call::<Context>(&context, "context", &()).unwrap(), expected());
    verb("call", "context", "ok None");
    serves("call", "context", "ab", "ok");
    assert_eq!(client.call_async::<Context>(&context, "context", &()).unwrap().wait().unwrap(), expected());
    verb("call", "context", "ok Some(1)");
    serves("call", "context", "ab", "ok");
    client.call::<()>(&context, "fail", &()).unwrap_err();
    verb("call", "fail", "failed None");
    serves("call", "fail", "ab", "failed");
    client.call_async::<()>(&context, "fail", &()).unwrap().wait().unwrap_err();
    verb("call", "fail", "failed Some(1)");
    serves("call", "fail", "ab", "failed");

    drop(client.cast(&context, "context", &()).unwrap());
    verb("cast", "context", "ok Some(1)");
    serves("cast", "context", "ab", "ok");
    drop(client.fanout(&context, "context", &()).unwrap());
    verb("fanout", "context", "ok None");
    serves("fanout", "context", "ab", "ok");
    drop(client.notifier("p").topics(["t"]).unwrap().info(&context, "created", &1).unwrap());
    verb("notify", "created", "stored None");

    // A body that is ready is sent as it is.
    client.call_raw(r#"{"method": "context", "args": {}}"#).unwrap();
    verb("call", "body", "ok None");
    serves("call", "context", "", "ok");
    client.call_raw(r#"{"method": "fail", "args": {}}"#).unwrap();
    verb("call", "body", "failed None");
    serves("call", "fail", "", "failed");
    drop(client.cast_raw(r#"{"method": "context", "args": {}}"#).unwrap());
    verb("cast", "body", "ok Some(1)");
    serves("cast", "context", "", "ok");
}

#[test]
fn an_async_server_has_the_same_interceptors() {
    let cluster = Cluster::new(1, &["t"]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let ((at_client, _seen), (at_server, served)) = (Log::new(), Log::new());
    let client = client(node, &at_client);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    let methods = AsyncMethods::new()
        .raw("context", async |incoming| {
            // The second poll is within the interceptors, too.
            tokio::time::sleep(Duration::from_millis(1)).await;
            zmqv2_server::reply(&incoming.context().get("from"))
        })
        .and_then(|methods| methods.method("refused", async |(): ()| Ok(())))
        .and_then(|methods| {
            methods.method("waits", async |(): ()| std::future::pending::<Result<(), HandlerError>>().await)
        })
        .unwrap();
    let builder = AsyncRpcServer::builder(target("s"), runtime.handle().clone()).endpoint(methods);
    let builder = builder.interceptor(AtServer(at_server.clone())).config(node.config()).ipc_dir(&node.ipc_dir);
    let server = builder.start().expect("a server");
    server.wait_ready(PATIENCE).expect("ready");
    let from: String = client.call(&RequestContext::new(), "context", &()).unwrap();
    assert_eq!(from, "interceptor");
    for line in ["call context of openstack/t \"ab\" begins", "within", "within"] {
        assert_eq!(next(&served), line);
    }
    assert_eq!(next(&served), "call context of openstack/t \"ab\": ok");
    refusals_are_typed(&client);
    while served.try_recv().is_ok() {}
    let waits = client.call_async::<()>(&RequestContext::new(), "waits", &()).unwrap();
    assert_eq!(next(&served), "call waits of openstack/t \"ab\" begins");
    assert_eq!(next(&served), "within");
    drop(runtime);
    assert_eq!(next(&served), "call waits of openstack/t \"ab\": failed");
    waits.wait().unwrap_err();
}

#[test]
fn both_ends_may_refuse_and_a_panic_stops_nothing() {
    let cluster = Cluster::new(1, &["t"]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let ((at_client, seen), (at_server, _served)) = (Log::new(), Log::new());
    let (client, _server) = (client(node, &at_client), server(node, &at_server));
    let context = RequestContext::new();
    let refused = client.call::<()>(&context, "forbidden", &()).unwrap_err();
    assert!(!refused.may_have_run());
    let CallError::NotSent(refused @ SendError::Intercepted { .. }) = refused else { panic!("{refused}") };
    assert_eq!(refused.to_string(), "an interceptor refused the message for openstack/t");
    assert_eq!(std::error::Error::source(&refused).unwrap().to_string(), "not from here");
    assert!(matches!(client.cast(&context, "forbidden", &()), Err(SendError::Intercepted { .. })));
    let notifier = client.notifier("p").topics(["t"]).unwrap();
    assert!(matches!(notifier.info(&context, "forbidden", &1), Err(SendError::Intercepted { .. })));
    assert_eq!(seen.try_iter().count(), 3, "the second interceptor does not see them");

    let unknown = client.call::<()>(&context, "panics", &()).unwrap_err();
    assert!(matches!(unknown, CallError::Remote(_)), "it goes on without the interceptors: {unknown}");
    refusals_are_typed(&client);

    // Nobody serves this topic.
    let nowhere = client.prepare().topic("nowhere").unwrap();
    while seen.try_recv().is_ok() {}
    nowhere.call::<()>(&context, "m", &()).unwrap_err();
    let lines: Vec<_> = (0..4).map(|_| next(&seen)).collect();
    assert_eq!(lines[2..], ["b call m: refused None", "a call m: refused None"]);
}

/// The interceptor of the server refuses the method `refused`.
fn refusals_are_typed(client: &RpcClient) {
    let context = RequestContext::new();
    let CallError::Remote(error) = client.call::<()>(&context, "refused", &()).unwrap_err() else { panic!() };
    assert_eq!((error.class(), error.message()), ("Forbidden", "not here"));
    let cast = client.cast(&context, "refused", &()).unwrap().wait(PATIENCE).unwrap();
    let Outcome::Refused { refusal, .. } = cast else { panic!("{cast}") };
    assert_eq!((refusal.reason, refusal.detail.as_str()), (Reason::Unauthorized, "not here"));
}

fn listener(node: &Node, log: &Log) -> NotificationListener {
    let builder = node.listener_builder("n", "p").on(Priority::Info, |notice: &zmqv2_server::Notice| {
        assert_eq!(notice.context().get("from").unwrap(), "interceptor");
        match (notice.event_type(), notice.delivery) {
            ("again", 1) => Ok(Verdict::Requeue),
            ("broken", _) => Err(HandlerError::new("tests", "Broken", "on purpose")),
            _ => Ok(Verdict::Handled),
        }
    });
    zmqv2_tests::notifications::started(builder.interceptor(AtServer(log.clone())))
}

#[test]
fn a_listener_has_the_same_interceptors() {
    let cluster = Cluster::new(1, &["n.info"]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let (log, seen) = Log::new();
    let _listener = listener(node, &log);
    let notifier = node.notifier(&["n"]);
    let send = |event: &str, ends: &[&str]| {
        drop(notifier.info(&RequestContext::new(), event, &1).unwrap());
        for end in ends {
            assert_eq!(next(&seen), format!("notify {event} of openstack/n.info \"\" begins"));
            assert_eq!(next(&seen), "within");
            assert_eq!(next(&seen), format!("notify {event} of openstack/n.info \"\": {end}"));
        }
    };
    send("created", &["ok"]);
    send("again", &["requeued", "ok"]);
    send("broken", &["failed"]);
    node.wait_all_handled();
    let report = notifier.info(&RequestContext::new(), "refused", &1).unwrap().wait(PATIENCE).unwrap();
    assert_eq!(report.results.len(), 1, "{report:#}");
    let refused = matches!(&report.results[0].outcome, Outcome::Refused { refusal, .. } if refusal.reason == Reason::Unauthorized);
    assert!(refused, "{report:#}");
}

/// Keeps the fields of every span, as `name field=value`.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<Span>>>);

#[derive(Clone, Default)]
struct Span {
    name: &'static str,
    fields: Vec<(&'static str, String)>,
}

impl Span {
    fn get(&self, name: &str) -> &str {
        self.fields.iter().find(|(field, _)| *field == name).map_or("", |(_, value)| value)
    }
}

impl Visit for Span {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.fields.push((field.name(), format!("{value:?}").trim_matches('"').to_owned()));
    }
}

impl tracing::Subscriber for Spans {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.name().starts_with("zmqv2.")
    }

    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        let mut span = Span { name: attributes.metadata().name(), ..Span::default() };
        attributes.record(&mut span);
        let mut spans = self.0.lock().unwrap();
        spans.push(span);
        span::Id::from_u64(spans.len() as u64)
    }

    fn record(&self, id: &span::Id, values: &span::Record<'_>) {
        values.record(&mut self.0.lock().unwrap()[id.into_u64() as usize - 1]);
    }

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[test]
fn a_trace_goes_through_all_services_that_a_call_reaches() {
    let spans = Spans::default();
    tracing::subscriber::set_global_default(spans.clone()).expect("the only subscriber");
    let cluster = Cluster::new(1, &["t", "u"]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let client = |topic: &str| {
        let directory = zmqv2_matchmaker::open(&node.config()).expect("a directory");
        let builder = RpcClient::builder(Target::topic(topic).unwrap()).matchmaker(directory).ipc_dir(&node.ipc_dir);
        builder.config(node.config()).interceptor(zmqv2_client::Tracing).build().expect("a client")
    };
    let serve = |topic: &str, methods: Methods| {
        let target = Target::topic(topic).unwrap().with_server("s").unwrap();
        let builder = RpcServer::builder(target).endpoint(methods).interceptor(zmqv2_server::Tracing);
        let server = builder.config(node.config()).ipc_dir(&node.ipc_dir).start().expect("a server");
        server.wait_ready(PATIENCE).expect("ready");
        server
    };
    let (to_t, to_u) = (client("t"), client("u"));
    let last = Methods::new().raw("last", |incoming| zmqv2_server::reply(&incoming.context().get("traceparent")));
    // It calls on with an empty context: the trace is that of the handler.
    let first = move |(): ()| to_u.call::<String>(&RequestContext::new(), "last", &()).map_err(HandlerError::from);
    let _servers = (serve("t", Methods::new().method("first", first).unwrap()), serve("u", last.unwrap()));

    // As a peer in Python sends it.
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let context = RequestContext::new().with("traceparent", parent);
    let seen: String = to_t.call(&context, "first", &()).unwrap();
    let spans = spans.0.lock().unwrap().clone();
    let names: Vec<_> = spans.iter().map(|span| (span.name, span.get("topic"), span.get("method"))).collect();
    let (t, u) = ("openstack/t", "openstack/u");
    let expected = [
        ("zmqv2.send", t, "first"),
        ("zmqv2.handle", t, "first"),
        ("zmqv2.send", u, "last"),
        ("zmqv2.handle", u, "last"),
    ];
    assert_eq!(names, expected);
    let mut parent_id = "b7ad6b7169203331";
    for span in &spans {
        assert_eq!(span.get("trace_id"), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(span.get("parent_id"), parent_id);
        assert_eq!((span.get("verb"), span.get("outcome")), ("call", "ok"));
        parent_id = span.get("span_id");
    }
    assert_eq!(seen, format!("00-0af7651916cd43dd8448eb211c80319c-{parent_id}-01"));
}

/// Keeps every counter, and how often each histogram was recorded.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<NamedMetric>>>);

/// The name with the labels, as `name key=value`.
type NamedMetric = (String, Arc<Metric>);

#[derive(Default)]
struct Metric {
    count: AtomicU64,
    largest: Mutex<f64>,
}

impl metrics::CounterFn for Metric {
    fn increment(&self, value: u64) {
        self.count.fetch_add(value, Ordering::SeqCst);
    }

    fn absolute(&self, value: u64) {
        self.count.store(value, Ordering::SeqCst);
    }
}

impl metrics::HistogramFn for Metric {
    fn record(&self, value: f64) {
        self.count.fetch_add(1, Ordering::SeqCst);
        let mut largest = self.largest.lock().unwrap();
        *largest = largest.max(value);
    }
}

impl Recorder {
    fn metric(&self, key: &metrics::Key) -> Arc<Metric> {
        let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let name = format!("{} {}", key.name(), labels.join(" "));
        let mut all = self.0.lock().unwrap();
        if let Some((_, metric)) = all.iter().find(|(known, _)| *known == name) {
            return Arc::clone(metric);
        }
        let metric = Arc::<Metric>::default();
        all.push((name, Arc::clone(&metric)));
        metric
    }

    fn get(&self, name: &str) -> (u64, f64) {
        let all = self.0.lock().unwrap();
        let (_, metric) = all
            .iter()
            .find(|(known, _)| known == name)
            .unwrap_or_else(|| panic!("no {name} in {:?}", all.iter().map(|(name, _)| name).collect::<Vec<_>>()));
        (metric.count.load(Ordering::SeqCst), *metric.largest.lock().unwrap())
    }
}

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn describe_gauge(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn describe_histogram(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}

    fn register_counter(&self, key: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Counter {
        metrics::Counter::from_arc(self.metric(key))
    }

    fn register_gauge(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Gauge {
        metrics::Gauge::noop()
    }

    fn register_histogram(&self, key: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Histogram {
        metrics::Histogram::from_arc(self.metric(key))
    }
}

#[test]
fn metrics_count_every_message_at_both_ends_and_measure_it_in_seconds() {
    let recorder = Recorder::default();
    metrics::set_global_recorder(recorder.clone()).unwrap_or_else(|_| panic!("the only recorder"));
    let cluster = Cluster::new(1, &["t"]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let directory = zmqv2_matchmaker::open(&node.config()).expect("a directory");
    let builder = RpcClient::builder(Target::topic("t").unwrap()).matchmaker(directory).ipc_dir(&node.ipc_dir);
    let client = builder.config(node.config()).interceptor(zmqv2_client::Metrics::default()).build().unwrap();
    let builder = RpcServer::builder(target("s")).endpoint(methods()).interceptor(zmqv2_server::Metrics::default());
    let server = builder.config(node.config()).ipc_dir(&node.ipc_dir).start().expect("a server");
    server.wait_ready(PATIENCE).expect("ready");
    let context = RequestContext::new();
    for _ in 0..3 {
        client.call::<Context>(&context, "context", &()).unwrap();
    }
    client.call::<()>(&context, "fail", &()).unwrap_err();
    for (name, method, outcome, count) in [("call", "context", "ok", 3), ("call", "fail", "failed", 1)] {
        let labels = format!("verb={name} topic=openstack/t method={method} outcome={outcome}");
        for end in ["client_messages", "server_requests"] {
            assert_eq!(recorder.get(&format!("zmqv2_{end}_total {labels}")).0, count);
        }
        for end in ["client_message", "server_request"] {
            let (recorded, largest) = recorder.get(&format!("zmqv2_{end}_duration_seconds {labels}"));
            assert_eq!(recorded, count);
            assert!(largest > 0.0 && largest < PATIENCE.as_secs_f64(), "{largest}");
        }
    }
}
