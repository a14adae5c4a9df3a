//! A process may fork at any time. The parent goes on as if nothing had happened, and the child may
//! drop, use or ignore what it inherited.

// A real fork, because only that shows what libzmq and the locks of other threads do in a child.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use zmqv2_client::{CallError, EndedHandles, Notifier, RpcClient, SendError, WatchError};
use zmqv2_matchmaker::Matchmaker;
use zmqv2_proto::transport::{Role, Transport, TransportOptions};
use zmqv2_proto::{Priority, RequestContext, Target};
use zmqv2_server::{Methods, NotificationListener, RpcServer, ServerError};
use zmqv2_tests::{Cluster, PATIENCE, Process};

unsafe extern "C" {
    fn fork() -> c_int;
    fn exit(status: c_int) -> !;
    fn _exit(status: c_int) -> !;
    fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn kill(pid: c_int, signal: c_int) -> c_int;
}

/// The test that has forked this child must not see its panic on the shared terminal as its own.
const PANICKED: c_int = 101;

/// Forks, runs `act` in the child, and ends it by `exit`, with the destructors of C. Returns its wait
/// status. A child that hangs is killed.
fn in_child(act: impl FnOnce()) -> c_int {
    // SAFETY: the child has one thread. Everything that it touches is what this test is about.
    let child = unsafe { fork() };
    assert!(child >= 0);
    if child == 0 {
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
        // SAFETY: ends the child.
        unsafe {
            match ended {
                Ok(()) => exit(0),
                Err(_) => _exit(PANICKED),
            }
        }
    }
    let (tell, told) = mpsc::channel();
    let waiting = std::thread::spawn(move || {
        let mut status = -1;
        // SAFETY: a child of this process, for which nobody else waits.
        assert_eq!(unsafe { waitpid(child, &mut status, 0) }, child);
        let _ = tell.send(status);
    });
    let status = told.recv_timeout(PATIENCE).unwrap_or_else(|_| {
        // SAFETY: the child was not waited for yet, so the id is its own.
        unsafe { kill(child, 9) };
        panic!("the child hangs");
    });
    waiting.join().unwrap();
    status
}

/// Everything that a process can have when it forks.
struct Parent {
    server: Option<RpcServer>,
    listener: Option<NotificationListener>,
    client: RpcClient,
    notifier: Notifier,
    matchmaker: Arc<dyn Matchmaker>,
    transport: Transport,
    ran: Arc<AtomicU64>,
    noticed: Arc<AtomicU64>,
    _broker: Process,
    cluster: Cluster,
}

fn context() -> RequestContext {
    RequestContext::new()
}

impl Parent {
    fn start() -> Self {
        let cluster = Cluster::new(1, &["t", "n.info"]);
        let node = cluster.node(0);
        let broker = node.broker();
        let (ran, noticed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (count, note) = (Arc::clone(&ran), Arc::clone(&noticed));
        let methods = Methods::new()
            .method("add", move |number: u64| {
                count.fetch_add(1, Ordering::SeqCst);
                Ok(number + 1)
            })
            .unwrap();
        let transport = Transport::new(TransportOptions::default());
        let matchmaker = zmqv2_matchmaker::open(&node.config()).unwrap();
        let target = Target::topic("t").unwrap().with_server("s").unwrap();
        let server =
            RpcServer::builder(target).config(node.config()).ipc_dir(&node.ipc_dir).transport(transport.clone());
        let server = server.endpoint(methods).workers(4).start().unwrap();
        let listener = NotificationListener::builder().topic("n").unwrap().config(node.config()).ipc_dir(&node.ipc_dir);
        let listener = listener.workers(2).on(Priority::Info, move |_| {
            note.fetch_add(1, Ordering::SeqCst);
        });
        let listener = listener.start().unwrap();
        server.wait_ready(PATIENCE).unwrap();
        listener.wait_ready(PATIENCE).unwrap();
        let client = RpcClient::builder(Target::topic("t").unwrap()).config(node.config()).ipc_dir(&node.ipc_dir);
        let client = client.matchmaker(Arc::clone(&matchmaker)).transport(transport.clone()).timeout(PATIENCE);
        let client = client.cast_timeout(PATIENCE).build().unwrap();
        let notifier = client.notifier("p").topics(["n"]).unwrap();
        let (server, listener) = (Some(server), Some(listener));
        let parent =
            Self { server, listener, client, notifier, matchmaker, transport, ran, noticed, _broker: broker, cluster };
        parent.works();
        parent
    }

    /// Everything still works, and no message is lost.
    fn works(&self) {
        let before = (self.ran.load(Ordering::SeqCst), self.noticed.load(Ordering::SeqCst));
        assert_eq!(self.client.call::<u64>(&context(), "add", &1).unwrap(), 2);
        assert_eq!(self.client.call_async::<u64>(&context(), "add", &2).unwrap().wait().unwrap(), 3);
        assert!(self.client.cast(&context(), "add", &3).unwrap().wait(PATIENCE).unwrap().is_acked());
        let report = self.client.fanout(&context(), "add", &4).unwrap().wait(PATIENCE).unwrap();
        assert!(report.all_acked(), "{report:#}");
        let report = self.notifier.info(&context(), "e", &5).unwrap().wait(PATIENCE).unwrap();
        assert!(report.all_taken_over(), "{report:#}");
        zmqv2_tests::eventually("all of it ran", || {
            let after = (self.ran.load(Ordering::SeqCst), self.noticed.load(Ordering::SeqCst));
            after == (before.0 + 4, before.1 + 1)
        });
    }
}

#[test]
fn a_child_drops_what_it_inherited_and_the_parent_does_not_notice() {
    let mut parent = Parent::start();
    for _ in 0..3 {
        let status = in_child(|| {
            // In the child, these are the last owners of everything.
            let Parent { server, listener, client, notifier, matchmaker, transport, .. } = &mut parent;
            drop((server.take(), listener.take()));
            // SAFETY: the copies in the child are not used again, and nothing is dropped twice: it exits.
            unsafe {
                std::ptr::drop_in_place(client);
                std::ptr::drop_in_place(notifier);
                std::ptr::drop_in_place(matchmaker);
                std::ptr::drop_in_place(transport);
            }
        });
        assert_eq!(status, 0);
        parent.works();
    }
    parent.server.take().unwrap().stop().unwrap();
    parent.listener.take().unwrap().stop().unwrap();
}

#[test]
fn a_child_ignores_what_it_inherited_and_exits() {
    let parent = Parent::start();
    assert_eq!(in_child(|| {}), 0);
    parent.works();
}

#[test]
fn a_child_uses_what_it_inherited() {
    let parent = Parent::start();
    let cast = parent.client.cast(&context(), "add", &1).unwrap();
    let call = parent.client.call_async::<u64>(&context(), "add", &1).unwrap();
    let report = parent.client.fanout(&context(), "add", &1).unwrap();
    let socket = parent.transport.socket(Role::Req).unwrap();
    let call = Mutex::new(Some(call));
    let status = in_child(|| {
        let (server, listener) = (parent.server.as_ref().unwrap(), parent.listener.as_ref().unwrap());
        for error in [server.stop(), listener.stop(), server.wait_ready(PATIENCE), listener.wait_ready(PATIENCE)] {
            let error = error.unwrap_err();
            assert!(matches!(error, ServerError::Inherited(_)) && error.to_string().contains("forked"), "{error}");
        }
        assert!(!server.is_ready() && !listener.is_ready());
        assert!(!cast.wait(Duration::MAX).unwrap().is_acked());
        let error = call.lock().unwrap().take().unwrap().wait().unwrap_err();
        assert!(matches!(error, CallError::Inherited { .. }) && error.to_string().contains("forked"), "{error}");
        assert!(report.wait(Duration::MAX).is_none());
        let error = socket.readiness().unwrap_err().to_string();
        assert!(error.contains("forked"), "{error}");
        // A client works in the child, over connections of its own.
        assert_eq!(parent.client.call::<u64>(&context(), "add", &1).unwrap(), 2);
        assert!(parent.client.cast(&context(), "add", &3).unwrap().wait(PATIENCE).unwrap().is_acked());
        assert!(parent.notifier.info(&context(), "e", &5).unwrap().wait(PATIENCE).unwrap().all_taken_over());
        parent.client.close(PATIENCE);
        // So does one that it makes.
        let own = parent.cluster.node(0).client(Target::topic("t").unwrap());
        assert_eq!(own.call::<u64>(&context(), "add", &1).unwrap(), 2);
    });
    assert_eq!(status, 0);
    assert!(cast.wait(PATIENCE).unwrap().is_acked());
    assert_eq!(call.into_inner().unwrap().unwrap().wait().unwrap(), 2);
    assert!(report.wait(PATIENCE).unwrap().all_acked());
    drop(socket);
    zmqv2_tests::eventually("all messages of the child ran", || {
        (parent.ran.load(Ordering::SeqCst), parent.noticed.load(Ordering::SeqCst)) == (4 + 3 + 3, 2)
    });
    parent.works();
}

#[test]
fn futures_of_the_parent_end_in_a_child_and_go_on_in_the_parent() {
    let parent = Parent::start();
    let node = parent.cluster.node(0);
    let client = RpcClient::builder(Target::topic("t").unwrap()).config(node.config()).ipc_dir(&node.ipc_dir);
    let client = client.max_outstanding(1).timeout(PATIENCE).build().unwrap();
    let nobody = client.prepare().topic("nobody").unwrap().wait_for_ready(true);
    let holds_the_room = nobody.call_async::<()>(&context(), "add", &1).unwrap();
    let ended = EndedHandles::new(3).unwrap();
    ended.watch(&holds_the_room, 1).unwrap();
    let over = parent.client.cast(&context(), "add", &1).unwrap();
    assert!(over.wait(PATIENCE).unwrap().is_acked());
    ended.watch(&over, 2).unwrap();

    let asynchronous = client.asynchronous();
    let mut new = asynchronous.call::<u64>(&context(), "add", &1);
    let mut waiting = asynchronous.call::<u64>(&context(), "add", &2);
    let mut cast = asynchronous.cast(&context(), "add", &3);
    let mut fanout = asynchronous.fanout(&context(), "add", &4);
    fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
        Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
    }
    assert!(poll(&mut waiting).is_pending() && poll(&mut cast).is_pending() && poll(&mut fanout).is_pending());
    let status = in_child(|| {
        let send_error = |error: CallError| match error {
            CallError::NotSent(error) => error,
            other => panic!("{other}"),
        };
        let errors = [
            poll(&mut new).map(|result| send_error(result.unwrap_err())),
            poll(&mut waiting).map(|result| send_error(result.unwrap_err())),
            poll(&mut cast).map(Result::unwrap_err),
            poll(&mut fanout).map(Result::unwrap_err),
        ];
        for error in errors {
            assert!(matches!(error, Poll::Ready(SendError::Inherited { .. })), "{error:?}");
        }
        assert!(ended.take().is_empty());
        assert!(matches!(ended.watch(&holds_the_room, 3), Err(WatchError::Inherited { .. })));
        // SAFETY: the copies in the child are not used again, and nothing is dropped twice: it exits.
        unsafe {
            std::ptr::drop_in_place(&raw mut waiting);
            std::ptr::drop_in_place(&raw mut cast);
            std::ptr::drop_in_place(&raw mut fanout);
        }
    });
    assert_eq!(status, 0);
    drop(holds_the_room);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(runtime.block_on(waiting).unwrap(), 3);
    assert!(runtime.block_on(async { cast.await.unwrap().await }).is_acked());
    assert!(runtime.block_on(async { fanout.await.unwrap().await }).all_acked());
    assert_eq!(runtime.block_on(new).unwrap(), 2);
    // The child took no token of its parent.
    assert_eq!(ended.take(), [2, 1]);
}

#[test]
fn forks_in_the_middle_of_traffic_lose_nothing_and_no_child_hangs() {
    let parent = Parent::start();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let traffic: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut sent = 0_u64;
                    while !stop.load(Ordering::Relaxed) {
                        assert_eq!(parent.client.call::<u64>(&context(), "add", &sent).unwrap(), sent + 1);
                        let handle = parent.client.cast(&context(), "add", &sent).unwrap();
                        assert!(handle.wait(PATIENCE).unwrap().is_acked());
                        sent += 1;
                    }
                    sent
                })
            })
            .collect();
        let statuses: Vec<_> = (0..20)
            .map(|round| {
                in_child(|| match round % 3 {
                    0 => drop((parent.client.clone(), parent.notifier.clone())),
                    1 => assert_eq!(parent.client.call::<u64>(&context(), "add", &1).unwrap(), 2),
                    _ => assert!(parent.client.cast(&context(), "add", &1).unwrap().wait(PATIENCE).unwrap().is_acked()),
                })
            })
            .collect();
        stop.store(true, Ordering::Relaxed);
        assert_eq!(statuses, [0; 20]);
        let sent: Vec<_> = traffic.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(sent.iter().all(|sent| *sent > 0));
        // An acknowledged cast may run a little later. Each thread has made as many calls as casts, and
        // 13 of the children have sent one message.
        let all = 4 + 2 * sent.iter().sum::<u64>() + 13;
        zmqv2_tests::eventually("all messages ran", || parent.ran.load(Ordering::SeqCst) == all);
    });
    parent.works();
}

#[test]
fn a_handler_may_fork_while_its_server_stops() {
    let cluster = Cluster::new(1, &["t", "n.info"]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let methods = Methods::new().method("fork", |(): ()| Ok(in_child(|| {}))).unwrap();
    let target = Target::topic("t").unwrap().with_server("s").unwrap();
    let builder = RpcServer::builder(target).config(node.config()).ipc_dir(&node.ipc_dir);
    let server = builder.endpoint(methods).workers(2).start().unwrap();
    server.wait_ready(PATIENCE).unwrap();
    let client = node.client(Target::topic("t").unwrap()).prepare().timeout(PATIENCE);
    assert_eq!(client.call::<c_int>(&context(), "fork", &()).unwrap(), 0);

    // A child that lives on has copies of all descriptors. The parent stops all the same.
    let (stay, stays) = std::os::unix::net::UnixStream::pair().unwrap();
    // SAFETY: the child reads until the parent closes its end, and ends.
    let child = unsafe { fork() };
    if child == 0 {
        drop(stay);
        let _ = std::io::Read::read(&mut &stays, &mut [0]);
        // SAFETY: ends the child.
        unsafe { _exit(0) };
    }
    drop(stays);
    server.stop().unwrap();
    drop(stay);
    // SAFETY: as in `in_child`.
    assert_eq!(unsafe { waitpid(child, std::ptr::null_mut(), 0) }, child);
}
