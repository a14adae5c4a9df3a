use super::*;
use crate::runtime::cancellation::CancelFlag;
use crate::runtime::worker::{Answer, Body};
use std::time::Instant;
use tempfile::TempDir;
use zmqv2_proto::{Header, Refusal};

/// Takes no requests. Counts the workers that have it.
#[derive(Clone, Default)]
struct Idle(Arc<()>);

impl Work for Idle {
    type Accepted = ();

    fn answer(
        &self,
        _: &Header,
        _: Body<'_>,
        _: Instant,
        _: Option<Arc<CancelFlag>>,
        _: &Worker,
    ) -> Result<Answer<()>, Refusal> {
        unreachable!()
    }

    fn run(&self, _: Vec<()>, _: &Worker) {}
}

fn offer(workers: u16, shares_socket: bool) -> Offer {
    let (key, also) = (TopicKey::parse("e/t").unwrap(), vec![TopicKey::parse("e/u").unwrap()]);
    Offer {
        receiver: ReceiverKind::Server,
        key,
        also,
        server: "s".parse().unwrap(),
        workers,
        batch: Batch::ONE,
        shares_socket,
        window: 256,
    }
}

fn start(dir: &Path, offer: Offer, work: &Idle) -> Result<Service, ServerError> {
    let settings = Settings { ipc_dir: Some(dir.to_owned()), ..Settings::default() };
    Service::start(settings, offer, work.clone())
}

fn files(dir: &TempDir) -> usize {
    dir.path().read_dir().unwrap().count()
}

#[test]
fn only_a_shared_socket_has_a_window() {
    let instance = InstanceId::random();
    for (shares_socket, window) in [(true, 256), (false, 0)] {
        let registration = offer(4, shares_socket).registration(instance, 16 << 20);
        assert_eq!((registration.shared, registration.window), (shares_socket, window));
        assert_eq!((registration.instance, registration.workers, registration.credit), (instance, 4, 1));
        assert_eq!(registration.also, offer(4, shares_socket).also);
    }
}

#[test]
fn a_server_removes_its_sockets_when_it_stops_even_without_a_broker() {
    for (shares_socket, sockets) in [(true, 1), (false, 4)] {
        let (dir, work) = (TempDir::new().unwrap(), Idle::default());
        let service = start(dir.path(), offer(4, shares_socket), &work).unwrap();
        assert_eq!(files(&dir), sockets);
        service.stop().unwrap();
        assert_eq!((files(&dir), Arc::strong_count(&work.0)), (0, 1));
        service.stop().unwrap();
    }
}

#[test]
fn a_server_without_a_broker_says_where_it_looks_for_one() {
    let dir = TempDir::new().unwrap();
    let service = start(dir.path(), offer(1, false), &Idle::default()).unwrap();
    let error = service.wait_ready(Duration::ZERO).unwrap_err();
    assert!(!service.is_ready() && matches!(error, ServerError::NotReady { .. }));
    assert!(error.to_string().contains(&*dir.path().to_string_lossy()), "{error}");
}

#[test]
fn a_server_that_cannot_bind_all_sockets_leaves_no_thread_and_no_file() {
    let (base, work) = (TempDir::new().unwrap(), Idle::default());
    // The path of worker 10 is one byte longer than those of workers 0 to 9.
    let path = |dir: &Path| worker_socket(dir, InstanceId::random(), 0);
    let mut dir = base.path().join("d");
    while path(&dir.with_file_name(format!("{}d", dir.file_name().unwrap().display()))).is_ok() {
        dir.set_file_name(format!("{}d", dir.file_name().unwrap().display()));
    }
    std::fs::create_dir(&dir).unwrap();
    let error = start(&dir, offer(11, false), &work).unwrap_err();
    assert!(matches!(error, ServerError::Address(_)), "{error}");
    let end = now() + Duration::from_secs(20);
    while Arc::strong_count(&work.0) > 1 || dir.read_dir().unwrap().count() > 0 {
        assert!(now() < end, "a worker is left");
        std::thread::yield_now();
    }
}
