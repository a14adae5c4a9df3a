//! Every handler learns the node of its caller, whatever kind of server it has.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use zmqv2_client::{RequestContext, RpcClient};
use zmqv2_proto::{NodeName, Priority, Target};
use zmqv2_server::{
    AsyncMethods, AsyncRpcServer, Call, Incoming, MethodResult, Methods, Notice, PullServer, RpcServer, reply, service,
};
use zmqv2_tests::notifications::started;
use zmqv2_tests::{Cluster, PATIENCE};

service! {
    service Declared("declared"), client DeclaredClient, version 1.0 {
        /// The node of the caller.
        fn caller() -> Option<String>;
    }
}

struct Shown;

impl Declared for Shown {
    fn caller(&self, call: &Call) -> MethodResult<Option<String>> {
        Ok(call.node().map(ToString::to_string))
    }
}

fn shown(node: Option<&NodeName>) -> Option<String> {
    node.map(ToString::to_string)
}

fn next(nodes: &Receiver<Option<String>>, what: &str) -> Option<String> {
    nodes.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("no handler of a {what} has run: {error}"))
}

#[test]
fn handlers_of_every_kind_learn_the_node_of_the_caller() {
    let cluster = Cluster::new(2, &["threads", "async", "pull", "declared", "n.info"]);
    let (one, two) = (cluster.node(0), cluster.node(1));
    let _brokers = (one.broker(), two.broker());
    let (saw, nodes): (Sender<Option<String>>, _) = channel();
    let target = |topic: &str| Target::topic(topic).unwrap().with_server("s").unwrap();

    let log = Mutex::new(saw.clone());
    let show = move |incoming: &Incoming| {
        log.lock().unwrap().send(shown(incoming.node.as_ref())).unwrap();
        reply(&shown(incoming.node.as_ref()))
    };
    let threads = RpcServer::builder(target("threads")).endpoint(Methods::new().raw("caller", show).unwrap());
    let threads = threads.config(one.config()).ipc_dir(&one.ipc_dir).workers(2).start().unwrap();
    let declared = RpcServer::builder(target("declared")).endpoint(Shown.into_endpoint());
    let declared = declared.config(one.config()).ipc_dir(&one.ipc_dir).start().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let methods = AsyncMethods::new().raw("caller", async |incoming| reply(&shown(incoming.node.as_ref()))).unwrap();
    let later = AsyncRpcServer::builder(target("async"), runtime.handle().clone()).endpoint(methods);
    let later = later.config(one.config()).ipc_dir(&one.ipc_dir).start().unwrap();
    for ready in [threads.wait_ready(PATIENCE), declared.wait_ready(PATIENCE), later.wait_ready(PATIENCE)] {
        ready.unwrap();
    }
    let pull = PullServer::builder(target("pull")).config(one.config()).ipc_dir(&one.ipc_dir).start().unwrap();
    pull.wait_ready(PATIENCE).unwrap();
    // The notification goes to one of the two nodes.
    let _listeners = [one, two].map(|node| {
        let log = Mutex::new(saw.clone());
        let heard = move |notice: &Notice| log.lock().unwrap().send(shown(notice.node.as_ref())).unwrap();
        started(node.listener_builder("n", "p").on(Priority::Info, heard))
    });

    let context = RequestContext::new();
    for caller in [one, two] {
        let expected = Some(caller.host.clone());
        let client = |topic: &str| caller.client(Target::topic(topic).unwrap());
        let ask = |client: &RpcClient| client.call::<Option<String>>(&context, "caller", &()).unwrap();
        let to_threads = client("threads");
        assert_eq!((ask(&to_threads), next(&nodes, "call")), (expected.clone(), expected.clone()));
        // These share the connection of the I/O thread, and travel in bundles.
        let calls: Vec<_> =
            (0..20).map(|_| to_threads.call_async::<Option<String>>(&context, "caller", &()).unwrap()).collect();
        for call in calls {
            assert_eq!((call.wait().unwrap(), next(&nodes, "call")), (expected.clone(), expected.clone()));
        }
        drop(to_threads.cast(&context, "caller", &()).unwrap());
        assert_eq!(next(&nodes, "cast"), expected);
        drop(to_threads.fanout(&context, "caller", &()).unwrap());
        assert_eq!(next(&nodes, "fanout"), expected);
        assert_eq!(ask(&client("async")), expected);
        let stub = DeclaredClient::new(client("declared"));
        assert_eq!(stub.caller().call().unwrap(), expected);
        drop(caller.notifier(&["n"]).info(&context, "created", &1).unwrap());
        assert_eq!(next(&nodes, "notification"), expected);

        let to_pull = client("pull");
        let pulled = to_pull.call_async::<()>(&context, "any", &()).unwrap();
        let request = pull.poll(1, Duration::from_secs(20)).pop().expect("a request");
        assert_eq!(shown(request.node()), expected);
        request.reply(&reply(&()).unwrap());
        pulled.wait().unwrap();
    }
}
