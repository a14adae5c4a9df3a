//! Casts that cannot run are refused, and casts that fail after their acknowledgement are counted.

use zmqv2_client::Outcome;
use zmqv2_proto::{Reason, RequestContext, Target, Version};
use zmqv2_server::{HandlerError, Methods, RpcServer};
use zmqv2_tests::{Cluster, Node, PATIENCE, eventually};

fn context() -> RequestContext {
    RequestContext::new()
}

fn server(node: &Node, name: &str, version: Version) -> RpcServer {
    let methods = Methods::new()
        .version(version)
        .method("add", |(a, b): (u64, u64)| Ok(a + b))
        .and_then(|methods| methods.method("fail", |(): ()| Err::<(), _>(HandlerError::new("m", "Failed", "as asked"))))
        .and_then(|methods| methods.method("panic", |(): ()| if true { panic!("as asked") } else { Ok(()) }))
        .unwrap();
    let target = Target::topic("t").unwrap().with_server(name).unwrap();
    let builder = RpcServer::builder(target).config(node.config()).ipc_dir(&node.ipc_dir).endpoint(methods);
    let server = builder.workers(2).start().unwrap();
    server.wait_ready(PATIENCE).unwrap();
    server
}

fn reason(outcome: &Outcome) -> Reason {
    match outcome {
        Outcome::Refused { refusal, .. } => refusal.reason,
        other => panic!("{other}"),
    }
}

#[test]
fn a_cast_that_no_method_fits_is_refused_and_one_that_fails_is_counted() {
    let cluster = Cluster::new(1, &["t"]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let server = server(node, "s", Version::new(1, 2));
    let client = node.client(Target::topic("t").unwrap()).prepare().timeout(PATIENCE);
    let elsewhere = client.prepare().namespace("elsewhere").unwrap();
    let later = client.prepare().version(Version::new(1, 3));
    for (client, method) in [(&client, "ad"), (&client, "_add"), (&elsewhere, "add"), (&later, "add")] {
        let outcome = client.cast(&context(), method, &(1, 2)).unwrap().wait(PATIENCE).unwrap();
        assert_eq!(reason(&outcome), Reason::NoMethod, "{method}");
        assert!(outcome.to_string().contains(method), "{outcome}");
        let report = client.fanout(&context(), method, &(1, 2)).unwrap().wait(PATIENCE).unwrap();
        assert_eq!(report.results.len(), 1, "{report:#}");
        assert_eq!(reason(&report.results[0].outcome), Reason::NoMethod);
        // A call has its typed error.
        assert!(client.call::<u64>(&context(), method, &(1, 2)).unwrap_err().to_string().contains(method));
    }
    assert_eq!((server.counters().refused_casts, server.counters().failed_calls), (8, 4));
    assert_eq!(client.counters().refused_for(Reason::NoMethod), 8);
    assert_eq!(node.status().counters["refused_no_method"], 8, "the broker counts them");

    let casts = [client.cast(&context(), "add", &"no numbers"), client.cast(&context(), "fail", &())];
    for handle in casts.into_iter().chain([client.cast(&context(), "panic", &())]) {
        assert!(handle.unwrap().wait(PATIENCE).unwrap().is_acked());
    }
    assert!(client.fanout(&context(), "add", &0).unwrap().wait(PATIENCE).unwrap().all_acked());
    eventually("all have failed", || server.counters().failed_casts == 4);
    assert_eq!(server.counters().casts, 4);
}

#[test]
fn during_an_upgrade_a_cast_goes_to_a_node_whose_server_has_the_version() {
    let cluster = Cluster::new(2, &["t"]);
    let _brokers: Vec<_> = cluster.nodes().iter().map(Node::broker).collect();
    let _old = server(cluster.node(0), "old", Version::new(1, 0));
    let _new = server(cluster.node(1), "new", Version::new(1, 1));
    let client = cluster.node(0).client(Target::topic("t").unwrap()).prepare().timeout(PATIENCE);
    for _ in 0..6 {
        let handle = client.prepare().version(Version::new(1, 1)).cast(&context(), "add", &(1, 2)).unwrap();
        match handle.wait(PATIENCE) {
            Some(Outcome::Acked { server, .. }) => assert_eq!(server.as_str(), "new"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_tool_says_that_there_is_no_such_method() {
    let cluster = Cluster::new(1, &["t"]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let _server = node.serve("t", "s", &[]);
    for command in ["cast", "fanout"] {
        let ended = node.tool(&[command, "t", "nothing", "1"]);
        assert_eq!(ended.code(), 4, "{command}: {} {}", ended.stdout, ended.stderr);
        assert!(ended.stderr.contains("NoMethod"), "{command}: {}", ended.stderr);
    }
}
