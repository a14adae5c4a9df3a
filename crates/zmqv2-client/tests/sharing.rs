//! One client for many calls, threads and nodes.

mod support;

use support::{Broker, Seen, builder};
use zmqv2_client::RpcClient;
use zmqv2_proto::{Config, RequestContext};

#[test]
fn a_thousand_calls_use_one_socket_rg09() {
    let broker = Broker::start(Seen::echo);
    let client = builder([broker.node("n1")]).build().unwrap();
    for number in 0..1_000 {
        assert_eq!(client.call::<i32>(&RequestContext::new(), "m", &number).unwrap(), number);
    }
    assert_eq!((broker.requests(), broker.connections()), (1_000, 1));
}

#[test]
fn threads_share_a_client_and_no_reply_crosses_rg08() {
    fn shared<T: Send + Sync + Clone>() {}
    shared::<RpcClient>();

    let broker = Broker::start(Seen::echo);
    let client = builder([broker.node("n1")]).build().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let client = client.clone();
            scope.spawn(move || {
                for number in 0..200 {
                    let sent = (thread, number, "x".repeat(number % 7 * 100));
                    let got: (usize, usize, String) = client.call(&RequestContext::new(), "m", &sent).unwrap();
                    assert_eq!(got, sent);
                }
            });
        }
    });
    assert_eq!(broker.requests(), 1_600);
    assert!(broker.connections() <= 8, "{} sockets for 8 threads", broker.connections());
}

#[test]
fn idle_sockets_above_the_pool_size_are_closed() {
    let brokers = [Broker::start(Seen::echo), Broker::start(Seen::echo)];
    let mut config = Config::default();
    config.conn_pool_size = 1;
    let client = builder([brokers[0].node("n0"), brokers[1].node("n1")]).config(config).build().unwrap();
    for number in 0..8 {
        assert_eq!(client.call::<i32>(&RequestContext::new(), "m", &number).unwrap(), number);
    }
    // Each call found the other node's socket, and had to open its own.
    assert_eq!(brokers.each_ref().map(Broker::connections), [4, 4]);
}

#[test]
fn the_nodes_of_a_topic_take_turns_and_a_named_one_does_not_rg01() {
    let brokers = [Broker::start(Seen::echo), Broker::start(Seen::echo), Broker::start(Seen::echo)];
    let nodes = ["n0", "n1", "n2"];
    let client = builder(nodes.iter().zip(&brokers).map(|(name, broker)| broker.node(name))).build().unwrap();
    for _ in 0..9 {
        client.call::<()>(&RequestContext::new(), "m", &()).unwrap();
    }
    assert_eq!(brokers.each_ref().map(Broker::requests), [3, 3, 3]);
    let named = client.prepare().server("n1").unwrap();
    for _ in 0..5 {
        named.call::<()>(&RequestContext::new(), "m", &()).unwrap();
    }
    assert_eq!(brokers.each_ref().map(Broker::requests), [3, 8, 3]);
}
