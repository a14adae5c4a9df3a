//! A blocking call ends in the same way whether it is alone, and has a REQ socket, or beside
//! another call, and goes over the connection that both share.

mod support;

use std::time::Duration;

use support::{Act, Broker, Fixed, Seen, builder, dead_node, now, punctual};
use zmqv2_client::{CallError, Outcome, RpcClient, RpcClientBuilder};
use zmqv2_proto::{Config, NoConnection, Node, Reason, RequestContext};

fn context() -> RequestContext {
    RequestContext::new()
}

fn call(client: &RpcClient) -> Result<i32, CallError> {
    client.call(&context(), "m", &7)
}

/// Runs `test` with a client of these nodes that has no other call, then with one that has.
fn alone_and_beside(
    nodes: impl Fn() -> Vec<Node>,
    options: impl Fn(RpcClientBuilder) -> RpcClientBuilder,
    mut test: impl FnMut(&str, &RpcClient),
) {
    test("alone", &options(builder(nodes())).build().unwrap());

    let holder = Broker::start(|seen| if seen.request.method.as_str() == "free" { Act::Release } else { Act::Hold });
    let directory = Fixed::at([holder.node("holder")]);
    let client = options(builder([])).matchmaker(directory.clone()).build().unwrap();
    std::thread::scope(|scope| {
        let other = client.prepare().timeout(Duration::from_secs(20));
        scope.spawn(move || call(&other).unwrap());
        let started = now();
        while holder.requests() == 0 {
            assert!(started.elapsed() < Duration::from_secs(20), "the other call has not begun");
            std::thread::yield_now();
        }
        directory.set(nodes());
        test("beside another", &client);
        directory.set([holder.node("holder")]);
        client.call::<i32>(&context(), "free", &7).unwrap();
    });
}

#[test]
fn with_retries_a_dead_node_is_tried_until_the_deadline() {
    let timeout = Duration::from_millis(1_500);
    let mut config = Config::default();
    config.connect_timeout = Duration::from_millis(200);
    alone_and_beside(
        || vec![dead_node("n0")],
        |builder| builder.config(config.clone()).timeout(timeout).retry(3),
        |name, client| {
            let (error, _) = punctual(timeout, || call(client).unwrap_err());
            assert!(matches!(error, CallError::Unreachable { .. }), "{name}: {error}");
        },
    );
}

#[test]
fn without_retries_a_dead_node_costs_the_connect_timeout() {
    let connect_timeout = Duration::from_millis(200);
    let mut config = Config::default();
    config.connect_timeout = connect_timeout;
    alone_and_beside(
        || vec![dead_node("n0")],
        |builder| builder.config(config.clone()),
        |name, client| {
            let (error, _) = punctual(connect_timeout, || call(client).unwrap_err());
            assert!(matches!(error, CallError::Unreachable { .. }), "{name}: {error}");
        },
    );
}

fn unknown_node(name: &str) -> Node {
    Node::new(name.parse().unwrap(), "no-such-host.invalid:9501".parse().unwrap())
}

#[test]
fn a_name_that_does_not_resolve_costs_no_connect_timeout() {
    let mut config = Config::default();
    config.connect_timeout = Duration::from_secs(600);
    alone_and_beside(
        || vec![unknown_node("n0")],
        |builder| builder.config(config.clone()).timeout(Duration::from_secs(600)),
        |name, client| {
            let started = now();
            let error = call(client).unwrap_err();
            let text = error.to_string();
            assert!(matches!(error, CallError::Unreachable { cause: NoConnection::UnknownName, .. }), "{name}: {text}");
            assert!(text.contains("the name no-such-host.invalid does not resolve"), "{name}: {text}");
            assert!(started.elapsed() < Duration::from_secs(20), "{name}: {:?}", started.elapsed());
        },
    );
}

#[test]
fn many_messages_to_a_name_that_does_not_resolve_end_at_once_and_delay_no_others() {
    let mut config = Config::default();
    config.connect_timeout = Duration::from_secs(600);
    let broker = Broker::start(Seen::good);
    let directory = Fixed::at([unknown_node("n0")]);
    let client = builder([]).matchmaker(directory.clone()).config(config).cast_timeout(Duration::from_secs(600));
    let client = client.timeout(Duration::from_secs(600)).build().unwrap();
    let long = Duration::from_secs(20);
    for _ in 0..2 {
        let casts: Vec<_> = (0..50).map(|number| client.cast(&context(), "m", &number).unwrap()).collect();
        let calls: Vec<_> = (0..50).map(|number| client.call_async::<i32>(&context(), "m", &number).unwrap()).collect();
        let fanout = client.fanout(&context(), "m", &1).unwrap();
        directory.set([broker.node("n1")]);
        assert!(client.cast(&context(), "m", &1).unwrap().wait(long).unwrap().is_acked());
        let started = now();
        for cast in &casts {
            let outcome = cast.wait(long).expect("no outcome");
            let Outcome::Unacknowledged { sent: false, problem, .. } = &outcome else { panic!("{outcome}") };
            assert!(problem.contains("node n0") && problem.contains("does not resolve"), "{problem}");
        }
        for call in calls {
            let error = call.wait().unwrap_err();
            assert!(matches!(error, CallError::Unreachable { cause: NoConnection::UnknownName, .. }), "{error}");
        }
        let report = fanout.wait(long).expect("no outcome");
        assert!(report.results[0].outcome.to_string().contains("does not resolve"), "{report:?}");
        assert!(started.elapsed() < long, "{:?}", started.elapsed());
        directory.set([unknown_node("n0")]);
    }
}

#[test]
fn a_refused_connection_is_named_when_the_connect_timeout_is_over() {
    let mut config = Config::default();
    config.connect_timeout = Duration::from_millis(400);
    alone_and_beside(
        || vec![dead_node("n0")],
        |builder| builder.config(config.clone()),
        |name, client| {
            let error = call(client).unwrap_err();
            assert!(matches!(error, CallError::Unreachable { cause: NoConnection::Refused, .. }), "{name}: {error}");
            let outcome = client.cast(&context(), "m", &7).unwrap().wait(Duration::from_secs(20)).unwrap();
            assert!(outcome.to_string().contains("connection refused; is zmqv2-broker"), "{name}: {outcome}");
        },
    );
}

#[test]
fn all_ten_nodes_that_refuse_are_asked_once() {
    let brokers: Vec<Broker> =
        (0..10).map(|_| Broker::start(|seen| seen.refusal(Reason::NoRoute, "no server here"))).collect();
    let mut asked = 0;
    alone_and_beside(
        || brokers.iter().enumerate().map(|(number, broker)| broker.node(&format!("n{number}"))).collect(),
        |builder| builder,
        |name, client| {
            asked += 1;
            assert_eq!(call(client).unwrap_err().reason(), Some(Reason::NoRoute), "{name}");
            assert!(brokers.iter().all(|broker| broker.requests() == asked), "{name}");
        },
    );
}

#[test]
fn that_a_node_is_stopping_is_reported_rather_than_that_another_has_no_server() {
    let stopping = Broker::start(|seen| seen.refusal(Reason::ShuttingDown, "stopping"));
    let without = Broker::start(|seen| seen.refusal(Reason::NoRoute, "no server here"));
    alone_and_beside(
        || vec![stopping.node("n0"), without.node("n1")],
        |builder| builder,
        |name, client| {
            // Twice, because the turns begin with the other node.
            for _ in 0..2 {
                let error = call(client).unwrap_err();
                assert_eq!(error.reason(), Some(Reason::ShuttingDown), "{name}: {error}");
                assert!(error.to_string().contains("by node"), "{name}: {error}");
            }
        },
    );
}
