//! Proves that messages flow again at once after a cut of the network (P7), and that a connection
//! which was cut silently is replaced (RG43).

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use zmqv2_client::RpcClient;
use zmqv2_proto::{RequestContext, Target};
use zmqv2_tests::{Cluster, Process, binary, in_namespaces, now, skip};

/// The longest time from the end of a cut to the first success: the goal is 1 s, the rest is for a
/// busy machine. Without the mend it is as long as the cut, or nearly.
const HEALED: f64 = 5.0;

/// Two networks, joined by a pair of virtual interfaces. A cut sends the packets of both sides to a
/// hardware address that nobody has, so they vanish without an error.
const CUT: &str = r#"
    mount -t proc proc /proc
    mkdir /run/near /run/far
    unshare --net sleep 1000 & far=$!
    here=$(readlink /proc/self/ns/net)
    until [ "$(readlink /proc/$far/ns/net)" != "$here" ]; do sleep 0.01; done
    ip link add near type veth peer name far netns $far
    there() { nsenter --net=/proc/$far/ns/net "$@"; }
    ip link set near address 02:00:00:00:00:01
    there ip link set far address 02:00:00:00:00:02
    ip addr add 10.77.0.1/24 dev near; there ip addr add 10.77.0.2/24 dev far
    ip link set lo up; there ip link set lo up; ip link set near up; there ip link set far up
    neighbour() {
        ip neigh replace 10.77.0.2 lladdr $2 dev near nud permanent
        there ip neigh replace 10.77.0.1 lladdr $1 dev far nud permanent
    }
    neighbour 02:00:00:00:00:01 02:00:00:00:00:02
    echo '{"demo": ["10.77.0.2"]}' >/run/ring.json
    common="--set rpc_zmq_matchmaker=ring --set ringfile=/run/ring.json"
    there "$B" $common --host 10.77.0.2 --bind 10.77.0.2 --ipc-dir /run/far 2>/run/broker.log &
    until grep -q ^ready /run/broker.log; do sleep 0.01; done
    there "$Z" serve demo --server s1 --workers 8 $common --host 10.77.0.2 --ipc-dir /run/far 2>/run/serve.log &
    until grep -q ^ready /run/serve.log; do sleep 0.01; done
    call() {
        name=$1; shift
        "$C" demo $common --host 10.77.0.1 --ipc-dir /run/near --trace --timeout 5 "$@" >/run/$name 2>/run/$name.log &
    }
    # One call at a time, several at once, and clients that are silent during the cut.
    call alone; call beside --threads 3
    call idle-alone --pause-until /run/healed; call idle-beside --threads 3 --pause-until /run/healed
    for name in alone beside idle-alone idle-beside; do until grep -q ok /run/$name; do sleep 0.01; done; done
    neighbour 02:00:00:00:00:98 02:00:00:00:00:99
    echo "cut $(cut -d' ' -f1 /proc/uptime)"
    sleep SECONDS
    neighbour 02:00:00:00:00:01 02:00:00:00:00:02
    healed=$(cut -d' ' -f1 /proc/uptime); touch /run/healed
    echo "healed $healed"
    for name in alone beside idle-alone idle-beside; do
        until awk -v since=$healed '$2 == "ok" && $1 > since + 0.01 {print FILENAME, $1 - since; exit found = 1}
            END {exit !found}' /run/$name; do sleep 0.05; done
    done
"#;

/// Cuts the network for some seconds. Returns the seconds until the first success of each client.
fn cut(seconds: u32) -> Option<Vec<(String, f64)>> {
    let mut command = in_namespaces(&CUT.replace("SECONDS", &seconds.to_string()))?;
    let finished = Process::run(command.env("C", binary("caller")));
    if finished.code() != 0 && finished.stderr.contains("ip: not found") {
        return None;
    }
    assert_eq!(finished.code(), 0, "{finished:?}");
    let took = |line: &str| {
        let (name, took) = line.strip_prefix("/run/")?.split_once(' ')?;
        Some((name.to_owned(), took.parse().expect("seconds")))
    };
    let found: Vec<_> = finished.stdout.lines().filter_map(took).collect();
    assert_eq!(found.len(), 4, "{finished:?}");
    println!("cut of {seconds} s: {found:?}");
    Some(found)
}

fn heals_after(seconds: u32) {
    match cut(seconds) {
        None => skip("heals after a cut", "no namespaces (unshare), or no `ip`, here"),
        Some(found) => {
            assert!(found.iter().all(|(_, took)| *took < HEALED), "after a cut of {seconds} s: {found:?}");
        }
    }
}

#[test]
fn messages_flow_at_once_after_a_cut_of_the_network() {
    heals_after(8);
}

#[test]
#[ignore = "takes minutes"]
fn messages_flow_at_once_after_short_and_long_cuts() {
    [2, 5, 30, 60].into_iter().for_each(heals_after);
}

/// Forwards TCP connections, until it forgets them: then it takes what comes and passes on nothing.
struct Relay {
    address: String,
    forgotten: Arc<AtomicUsize>,
}

impl Relay {
    fn start(to: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let forgotten = Arc::new(AtomicUsize::new(0));
        let rounds = Arc::clone(&forgotten);
        std::thread::spawn(move || {
            for from in listener.incoming().map_while(Result::ok) {
                let Ok(there) = TcpStream::connect(&to) else { continue };
                let round = rounds.load(Ordering::SeqCst);
                for (mut read, mut write) in [
                    (from.try_clone().unwrap(), there.try_clone().unwrap()),
                    (there.try_clone().unwrap(), from.try_clone().unwrap()),
                ] {
                    let rounds = Arc::clone(&rounds);
                    std::thread::spawn(move || {
                        let mut buffer = [0; 65_536];
                        while let Ok(count @ 1..) = read.read(&mut buffer) {
                            if rounds.load(Ordering::SeqCst) == round && write.write_all(&buffer[..count]).is_err() {
                                break;
                            }
                        }
                        // A forgotten connection has no end that the other side would notice.
                        if rounds.load(Ordering::SeqCst) == round {
                            let _ = write.shutdown(Shutdown::Both);
                        }
                    });
                }
            }
        });
        Self { address, forgotten }
    }

    fn forget(&self) {
        self.forgotten.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn an_idle_connection_that_a_router_forgot_is_replaced_rg43() {
    let cluster = Cluster::new(2, &["demo"]);
    let (near, far) = (cluster.node(0), cluster.node(1));
    let _broker = far.broker();
    let _server = far.serve("demo", "s1", &["--workers", "2"]);
    let relay = Relay::start(format!("{}:9501", far.host));
    cluster.write_ring([("demo".to_owned(), json!([relay.address]))].into_iter().collect());
    let client = near.client(Target::topic("demo").unwrap());
    // Longer than any test.
    let client = client.prepare().timeout(Duration::from_secs(3_600));
    let calls: [fn(&RpcClient) -> bool; 2] = [
        |client| client.call::<u8>(&RequestContext::new(), "echo", &7).is_ok(),
        |client| client.call_async::<u8>(&RequestContext::new(), "echo", &7).is_ok_and(|handle| handle.wait().is_ok()),
    ];
    assert!(calls.iter().all(|call| call(&client)), "it works before");
    relay.forget();
    let began = now();
    std::thread::scope(|scope| {
        // The first calls may be lost with their connections.
        let client = &client;
        for call in calls {
            scope.spawn(move || while !call(client) {});
        }
    });
    let took = began.elapsed();
    println!("replaced after {took:?}");
    assert!(took < Duration::from_secs(28), "{took:?}");
}
