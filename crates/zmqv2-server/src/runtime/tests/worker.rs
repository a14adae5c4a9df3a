use super::*;
use crate::runtime::completions::{self, CompletionQueue};
use crate::runtime::now;
use crate::runtime::wakeup::RegistrationWaker;

/// Answers calls with a reply, and acknowledges everything else.
struct Echo;

impl Work for Echo {
    type Accepted = ();

    fn answer(
        &self,
        header: &Header,
        body: Body<'_>,
        _: Instant,
        _: Option<Arc<CancelFlag>>,
        _: &Worker,
    ) -> Result<Answer<()>, Refusal> {
        Ok(match header.kind {
            Kind::Call => Answer::reply(answer_to(header, Kind::Reply), body.to_vec()),
            _ => Answer::acknowledge(header, AfterAnswer::Run(())),
        })
    }

    fn run(&self, _: Vec<()>, worker: &Worker) {
        worker.free_place();
    }
}

fn worker(shares_socket: bool) -> (Worker, CompletionQueue) {
    let (completions, queue) = completions::channel(4, &Arc::new(RegistrationWaker::new().unwrap()));
    let shutdown = Arc::new(ShutdownSignals {
        drain: Signal::new().unwrap(),
        stop: Signal::new().unwrap(),
        running: crate::runtime::running::RunningHandlers::new(1),
    });
    let (server, node) = ("s".parse().unwrap(), "n".parse().unwrap());
    (
        Worker {
            index: 3,
            server,
            node,
            completions,
            shutdown,
            shares_socket,
            broker_limit: Arc::default(),
            max_message_bytes: 1_000,
        },
        queue,
    )
}

fn request(kind: Kind) -> Header {
    let mut header = Header::new(kind, MessageId::random());
    header.tag = 7;
    header.ttl = Ttl::from_millis(60_000);
    header
}

/// The answer of a worker to this header.
fn answer(header: &[u8]) -> Answer<()> {
    worker(false).0.answer(&Echo, Ok((header, Body::Part(b"body"))), now(), None)
}

/// The reason and the text of a refusal, which must give the worker's place back.
fn refusal(answer: &Answer<()>) -> (Reason, &str) {
    assert_eq!((answer.header.kind, answer.header.count), (Kind::Refusal, 1));
    (answer.header.reason.unwrap(), std::str::from_utf8(&answer.body).unwrap())
}

#[test]
fn a_reply_carries_the_tag_and_the_names_and_frees_the_worker() {
    let answer = answer(&request(Kind::Call).encode());
    assert_eq!((answer.header.kind, answer.header.tag, answer.header.count), (Kind::Reply, 7, 1));
    assert_eq!((answer.header.server.unwrap().as_str(), answer.header.node.unwrap().as_str()), ("s", "n"));
    assert_eq!(answer.body, b"body");
}

#[test]
fn an_acknowledged_request_keeps_its_place_until_it_has_run() {
    for shares_socket in [false, true] {
        let (worker, mut queue) = worker(shares_socket);
        let header = request(Kind::Cast).encode();
        let answer = worker.answer(&Echo, Ok((&header, Body::Part(b""))), now(), None);
        assert_eq!((answer.header.kind, answer.header.count, queue.outstanding()), (Kind::Ack, 0, 1));
        Echo.run(vec![()], &worker);
        // A shared socket gives the place back itself.
        let mut freed = Vec::new();
        queue.flush(true, |completion| {
            let Completion::WorkerFree(index) = completion else { panic!("{completion:?}") };
            freed.push(*index);
            true
        });
        assert_eq!((freed, queue.outstanding()), (if shares_socket { vec![] } else { vec![3] }, 0));
    }
}

#[test]
fn every_message_that_is_no_request_is_refused() {
    let three: Answer<()> = worker(false).0.answer(&Echo, Err(3), now(), None);
    assert_eq!(refusal(&three), (Reason::Malformed, "3 frames instead of header and body"));
    let ack = answer(&request(Kind::Ack).encode());
    assert_eq!(refusal(&ack), (Reason::Malformed, "a server takes requests, not Ack messages"));
}

#[test]
fn the_refusal_of_an_unreadable_header_has_its_tag_if_there_is_one() {
    let mut header = request(Kind::Call);
    header.server = Some("s".parse().unwrap());
    let mut bytes = header.encode();
    *bytes.last_mut().unwrap() = b' ';
    let answer = answer(&bytes);
    assert_eq!(refusal(&answer).0, Reason::Malformed);
    assert_eq!((answer.header.tag, answer.header.id), (7, header.id));
    assert_eq!(refusal(&self::answer(b"x")).0, Reason::Malformed);
}

#[test]
fn a_request_whose_time_ended_in_the_socket_does_not_run() {
    let now = now();
    let mut header = request(Kind::Call);
    header.ttl = Ttl::from_millis(10);
    header.delivered = Ttl::monotonic_millis_at(now) - 10;
    let answer = worker(false).0.answer(&Echo, Ok((&header.encode(), Body::Part(b""))), now, None);
    assert_eq!(refusal(&answer).0, Reason::Expired);
}
