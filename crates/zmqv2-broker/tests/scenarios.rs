//! The routing rules as readable texts: `scenarios/*.txt`.
//!
//! A scenario is a list of blocks: commands, a line `----`, and the actions that follow from them.
//! `BLESS=1 cargo test --test scenarios` writes the current actions, to be reviewed as a diff.
//! Lines that begin with `#` are comments.
//!
//! ```text
//! limits backlog=2 bytes=100            the bounds, as the first command; also: deliveries=N, `durable`,
//!                                       topics=N, client-topics=N (without a server)
//! register s1 topic=openstack/t,...     also: server=NAME (when runs share one), workers=N, credit=N, window=N (one socket), `cancels`,
//!                                       `listener`, `both` (topics named n. have listeners anyway)
//! up s1                                 all its links are connected; `up s1/0` one of them
//! down s1                               one of its links breaks
//! withdraw s1
//! request c1 c2 topic=openstack/t       also: server=NAME, ttl=5s, bytes=N, wait=yes, client=N, `cast`
//! fanout f1 topic=openstack/t           a copy for every run; options as for a request
//! notify n1 topic=openstack/n.info      a copy for every pool, or for server=POOL; `stored`: kept is enough
//! reply s1/0                            answers its oldest request; also: to=c1, credit=N, refused=Reason
//! handled l1/0                          has handled its oldest notification, or to=n1; `again`: requeues it
//! handled n1 tag=5 topic=... pool=NAME  an earlier run of the broker had delivered it
//! stored n1.1                           the store has written it; error=WHY: it has failed
//! restore n1 topic=... number=3         the store has it from an earlier run; also: pool=NAME, ttl=5s
//! credit s1/0                           has finished a request that it answered with credit=0
//! quick s1/0                            reports that its requests are quick; also: credit=N
//! back s1/0 c1 c2 topic=openstack/t     hands these back; options as for a request; `fanout`
//! advance 3s                            time passes, and the driver expires what is due
//! lag 3s                                time passes, but the driver does nothing
//! cancel c1 client=N                    the client no longer wants it
//! gone client=N                         its connection has ended
//! drain
//! status
//! counters                              the counters that are not 0
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use zmqv2_broker::engine::{Action, Arrival, Engine, Input, Limits, Offer, Pattern, WorkerId};
use zmqv2_proto::control::{ServerRegistration, StatusReport};
use zmqv2_proto::{InstanceId, MessageId, Reason, ReceiverKind, TopicKey};

/// One command: its verb, its words, and its `key=value` options.
struct Command<'a> {
    words: Vec<&'a str>,
    options: BTreeMap<&'a str, &'a str>,
}

impl<'a> Command<'a> {
    fn parse(line: &'a str) -> Self {
        let (options, words): (Vec<_>, Vec<_>) = line.split_whitespace().partition(|word| word.contains('='));
        Self { words, options: options.into_iter().filter_map(|option| option.split_once('=')).collect() }
    }

    fn word(&self, index: usize) -> &'a str {
        self.words.get(index).unwrap_or_else(|| panic!("{:?} needs more words", self.words))
    }

    fn number(&self, name: &str, default: usize) -> usize {
        self.options.get(name).map_or(default, |value| value.parse().unwrap())
    }
}

fn span(text: &str) -> Duration {
    match text.strip_suffix("ms") {
        Some(ms) => Duration::from_millis(ms.parse().unwrap()),
        None => Duration::from_secs(text.strip_suffix('s').unwrap().parse().unwrap()),
    }
}

struct Delivered {
    request: String,
    worker: WorkerId,
    tag: u64,
    answered: bool,
    is_note: bool,
}

/// The message id of a request with this name.
fn id(name: &str) -> MessageId {
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
    MessageId::from_bytes(bytes)
}

/// Runs one scenario.
struct Runner {
    engine: Engine<String, String>,
    start: Instant,
    now: Instant,
    runs: Vec<String>,
    /// The names of the links in the text, such as `s1/0`, by number.
    links: BTreeMap<WorkerId, String>,
    delivered: Vec<Delivered>,
    /// The tags of the notifications that are being stored, by name and number.
    storing: BTreeMap<String, u64>,
    out: String,
}

/// The number of further answers, as text.
fn and(remaining: u16) -> String {
    if remaining > 0 { format!(" and {remaining} more") } else { String::new() }
}

impl Runner {
    fn new() -> Self {
        #[allow(clippy::disallowed_methods, reason = "one arbitrary instant to count from; no test waits")]
        let start = Instant::now();
        let (runs, links, delivered) = (Vec::new(), BTreeMap::new(), Vec::new());
        let engine = Engine::new(Limits::default());
        Self { engine, start, now: start, runs, links, delivered, storing: BTreeMap::new(), out: String::new() }
    }

    fn run(&mut self, line: &str) {
        let command = Command::parse(line);
        match command.word(0) {
            "limits" => {
                let mut limits = Limits::default();
                limits.topic_backlog = command.number("backlog", limits.topic_backlog);
                limits.backlog_bytes = command.number("bytes", limits.backlog_bytes);
                limits.max_deliveries = command.number("deliveries", limits.max_deliveries.into()) as u16;
                limits.unserved_topics = command.number("topics", limits.unserved_topics);
                limits.unserved_topics_of_client = command.number("client-topics", limits.unserved_topics_of_client);
                limits.durable = command.words.contains(&"durable");
                self.engine = Engine::new(limits);
            }
            "register" => self.register(&command),
            "up" => {
                for worker in self.links_of(command.word(1)) {
                    self.handle(Input::WorkerUp { worker });
                }
            }
            "down" => {
                let worker = self.links_of(command.word(1))[0];
                self.handle(Input::WorkerDown { worker });
            }
            "withdraw" => {
                let run = command.word(1).to_owned();
                self.handle(Input::Withdraw { instance: self.instance(&run), from: run });
            }
            "request" | "fanout" | "notify" => {
                let key = command.options["topic"];
                let server = command.options.get("server").copied().unwrap_or_default();
                let deadline = self.now + command.options.get("ttl").map_or(Duration::from_secs(60), |text| span(text));
                let bytes = command.number("bytes", 10);
                let pattern = match command.word(0) {
                    "fanout" => Pattern::Fanout,
                    "notify" => Pattern::Notify,
                    _ => Pattern::One,
                };
                for from in command.words[1..].iter().filter(|word| !["cast", "stored"].contains(word)) {
                    let wait_for_ready = command.options.contains_key("wait");
                    let client = command.options.get("client").map(|client| client.parse().unwrap());
                    let arrival = Arrival {
                        pattern,
                        server,
                        wait_for_ready,
                        client,
                        answer_stored: command.words.contains(&"stored"),
                        is_call: pattern == Pattern::One && !command.words.contains(&"cast"),
                        ..Arrival::new(id(from), key, deadline, bytes)
                    };
                    self.handle(Input::Request { arrival, from: from.to_string(), payload: from.to_string() });
                }
            }
            "handled" => self.handled(&command),
            "stored" => {
                let result = command.options.get("error").map_or(Ok(()), |error| Err(error.to_string()));
                let tag = self.storing.remove(command.word(1)).unwrap();
                self.handle(Input::StoreResult { tag, result });
            }
            "restore" => {
                let (key, from) = (command.options["topic"], command.word(1));
                let server = command.options.get("pool").copied().unwrap_or_default();
                let deadline = self.now + command.options.get("ttl").map_or(Duration::from_secs(60), |text| span(text));
                let arrival = Arrival { pattern: Pattern::Notify, server, ..Arrival::new(id(from), key, deadline, 10) };
                let number = command.number("number", 1) as u64;
                self.handle(Input::Restore { number, arrival, payload: from.to_owned() });
            }
            "reply" => self.reply(&command),
            "credit" => {
                let (run, worker) = command.word(1).split_once('/').unwrap();
                let (instance, worker) = (self.instance(run), worker.parse().unwrap());
                self.handle(Input::Credit { instance, worker, credit: command.number("credit", 1) as u16 });
            }
            "quick" => {
                let worker = self.links_of(command.word(1))[0];
                let credit = command.number("credit", 0) as u16;
                self.handle(Input::Freed { worker, credit, wide: true });
            }
            "back" => {
                let worker = self.links_of(command.word(1))[0];
                let names = command.words[2..].iter().filter(|word| **word != "fanout");
                for name in names {
                    let held = |it: &Delivered| it.request == **name && it.worker == worker;
                    let at = self.delivered.iter().position(held);
                    let at = at.unwrap_or_else(|| panic!("{name} is not there; so far:\n{}", self.out));
                    let Delivered { tag, .. } = self.delivered.remove(at);
                    let server = command.options.get("server").copied().unwrap_or_default();
                    let fanout = command.words.contains(&"fanout");
                    let arrival = Arrival {
                        pattern: if fanout { Pattern::Fanout } else { Pattern::One },
                        server,
                        wait_for_ready: command.options.contains_key("wait"),
                        ..Arrival::new(id(name), command.options["topic"], self.now, 10)
                    };
                    self.handle(Input::HandedBack { worker, tag, arrival, payload: (*name).to_owned() });
                }
            }
            "advance" => {
                let end = self.now + span(command.word(1));
                while let Some(at) = self.engine.next_deadline().filter(|at| *at <= end) {
                    self.now = self.now.max(at);
                    self.engine.expire(self.now);
                    self.perform();
                }
                self.now = end;
            }
            "lag" => self.now += span(command.word(1)),
            "cancel" => {
                let client = command.number("client", 1) as u64;
                self.handle(Input::Cancel { client, id: id(command.word(1)) });
            }
            "gone" => self.handle(Input::ClientsGone { clients: vec![command.number("client", 1) as u64] }),
            "drain" => self.handle(Input::Drain),
            "status" => self.status(),
            "counters" => {
                let counts: Vec<_> = self.engine.counters().iter().filter(|(_, count)| *count > 0).collect();
                for (counter, count) in counts {
                    self.say(format!("{} {count}", counter.name()));
                }
            }
            other => panic!("unknown command {other:?}"),
        }
    }

    fn register(&mut self, command: &Command<'_>) {
        let run = command.word(1).to_owned();
        if !self.runs.contains(&run) {
            self.runs.push(run.clone());
        }
        let (workers, credit) = (command.number("workers", 1) as u16, command.number("credit", 1) as u16);
        let registration = ServerRegistration::new(self.instance(&run), workers, credit, 1);
        let mut keys = command.options["topic"].split(',').map(|key| TopicKey::parse(key).unwrap());
        let key = keys.next().unwrap();
        let window = command.number("window", 0) as u16;
        let mut registration = registration;
        registration.cancels = command.words.contains(&"cancels");
        let registration = registration.sharing_a_socket(window > 0).with_window(window).with_topics(keys.collect());
        let registration = match command.options.get("signs") {
            Some(every) => registration.with_signs_of_life(span(every)),
            None => registration,
        };
        let has_listener = command.words.contains(&"listener") || key.topic().starts_with("n.");
        let receiver = if has_listener { ReceiverKind::Listener } else { ReceiverKind::Server };
        let mut registration = registration.with_receiver(receiver);
        registration.receiver = registration.receiver.filter(|_| !command.words.contains(&"both"));
        let server = command.options.get("server").unwrap_or(&run.as_str()).parse().unwrap();
        self.handle(Input::Register { offer: Offer::new(key, server, registration), from: run });
    }

    fn reply(&mut self, command: &Command<'_>) {
        let link = command.word(1);
        let worker = self.links_of(link)[0];
        let wanted = |it: &&mut Delivered| match command.options.get("to") {
            Some(to) => it.request == *to,
            None => it.worker == worker && !it.answered,
        };
        let it = self
            .delivered
            .iter_mut()
            .find(wanted)
            .unwrap_or_else(|| panic!("{link} has no such request; so far:\n{}", self.out));
        it.answered |= it.worker == worker;
        let tag = it.tag;
        let refused = command
            .options
            .get("refused")
            .map(|name| Reason::ALL.into_iter().find(|reason| reason.to_string() == *name).expect("a reason"));
        let credit = command.number("credit", usize::from(!it.is_note || refused.is_some())) as u16;
        self.handle(Input::Reply { worker, tag, credit, refused, payload: format!("from {link}") });
    }

    /// A listener has handled its oldest notification, or that of `to=`. `again` requeues it.
    fn handled(&mut self, command: &Command<'_>) {
        let link = command.word(1);
        if let Some(tag) = command.options.get("tag") {
            // Delivered by an earlier run of the broker.
            let (name, pool, key) = (link, command.options["pool"], command.options["topic"]);
            let deadline = self.now + Duration::from_secs(60);
            let arrival =
                Arrival { pattern: Pattern::Notify, server: pool, ..Arrival::new(id(name), key, deadline, 10) };
            let requeue = command.words.contains(&"again").then(|| (arrival, name.to_owned()));
            return self.handle(Input::Handled { tag: tag.parse().unwrap(), id: id(name), credit: 1, requeue });
        }
        let wanted = |it: &Delivered| match command.options.get("to") {
            Some(to) => it.request == *to,
            None => self.links.get(&it.worker).is_some_and(|name| name == link),
        };
        let at = self
            .delivered
            .iter()
            .position(wanted)
            .unwrap_or_else(|| panic!("{link} has no such notification; so far:\n{}", self.out));
        let it = self.delivered.remove(at);
        let arrival = Arrival::new(id(&it.request), "openstack/n.info", self.now, 10);
        let requeue = command.words.contains(&"again").then(|| (arrival, it.request.clone()));
        self.handle(Input::Handled { tag: it.tag, id: id(&it.request), credit: 1, requeue });
    }

    fn handle(&mut self, input: Input<'_, String, String>) {
        self.engine.handle(self.now, input);
        self.perform();
    }

    fn perform(&mut self) {
        while let Some(action) = self.engine.poll_action() {
            let link = |worker| self.links[&worker].as_str();
            let line = match action {
                Action::Deliver { worker, tag, ttl, delivery, payload } => {
                    let mut line = format!("deliver {payload} -> {} ttl={}", link(worker), ttl.as_millis());
                    if delivery > 0 {
                        write!(line, " delivery={delivery}").unwrap();
                    }
                    self.delivered.push(Delivered {
                        request: payload,
                        worker,
                        tag,
                        answered: false,
                        is_note: delivery > 0,
                    });
                    line
                }
                Action::Cancel { worker, tag, .. } => {
                    let of = self.delivered.iter().find(|it| it.tag == tag);
                    format!("cancel {} -> {}", of.map_or("?", |it| &it.request), link(worker))
                }
                Action::Answer { to, payload, remaining } => format!("answer {to} {payload}{}", and(remaining)),
                Action::Refuse { to, refusal, server, remaining } => {
                    let whose = server.map_or(String::new(), |server| format!(" for {server}"));
                    format!("refuse {to}{whose} {refusal}{}", and(remaining))
                }
                Action::ConfirmStored { to, pool, remaining } => {
                    let pool = pool.map_or(String::new(), |pool| format!(" for {pool}"));
                    format!("confirm {to}{pool}{}", and(remaining))
                }
                Action::Store { tag, number, pool, ttl, payload } => {
                    let pool = pool.map_or(String::new(), |pool| format!(" for {pool}"));
                    let name = format!("{payload}.{number}");
                    self.storing.insert(name.clone(), tag);
                    format!("store {name}{pool} ttl={}", ttl.as_millis())
                }
                Action::Erase { number } => format!("erase {number}"),
                Action::DeadLetter { number, key, pool, deliveries, why, payload, .. } => {
                    let pool = pool.map_or(String::new(), |pool| format!(" for {pool}"));
                    let number = number.map_or(String::new(), |number| format!(" number={number}"));
                    format!("dead-letter {payload} of {key}{pool} deliveries={deliveries}{number}: {why}")
                }
                Action::Connect { worker, instance, index, .. } => {
                    let run = self.runs.iter().find(|run| self.instance(run) == instance).unwrap();
                    let name = format!("{run}/{index}");
                    self.links.insert(worker, name.clone());
                    format!("connect {name}")
                }
                Action::Disconnect { worker } => {
                    self.delivered.retain(|it| it.worker != worker);
                    format!("disconnect {}", self.links.remove(&worker).unwrap())
                }
                Action::Registered { to } => format!("registered {to}"),
                Action::Withdrawn { to, .. } => format!("withdrawn {to}"),
                Action::Announce { key, server } => format!("announce {server} of {key}"),
                Action::Unannounce { key, server } => format!("unannounce {server} of {key}"),
                Action::Drained => "drained".to_owned(),
                other => format!("{other:?}"),
            };
            self.say(line);
        }
    }

    fn status(&mut self) {
        let mut report = StatusReport::default();
        self.engine.report(&mut report);
        for topic in report.topics {
            let kind = if topic.receivers == ReceiverKind::Listener { " (listeners)" } else { "" };
            self.say(format!("{}/{}{kind}: {} queued for any server", topic.exchange, topic.topic, topic.queued));
            for server in topic.servers {
                let run = self.runs.iter().find(|run| self.instance(run) == server.instance).unwrap();
                let leaves = if server.withdrawing { ", withdrawing" } else { "" };
                let (ready, busy, queued) = (server.workers_ready, server.workers_busy, server.queued);
                self.say(format!("  {run}: {ready} ready, {busy} busy, {queued} queued for {}{leaves}", server.server));
            }
        }
        let (in_flight, queued, bytes) = (report.in_flight, report.queued, report.held_bytes);
        let draining = if report.draining { ", draining" } else { "" };
        self.say(format!("{in_flight} in flight, {queued} queued with {bytes} bytes{draining}"));
    }

    fn say(&mut self, line: impl AsRef<str>) {
        let at = self.now.duration_since(self.start).as_millis();
        let clock = if at == 0 { String::new() } else { format!("{at:>5} ") };
        writeln!(self.out, "{clock}{}", line.as_ref()).unwrap();
    }

    fn instance(&self, run: &str) -> InstanceId {
        let number = self.runs.iter().position(|known| known == run).map_or(u8::MAX, |number| number as u8);
        InstanceId::from_bytes([number; 16])
    }

    /// The links of a name: `s1/0` is one, `s1` all of a server.
    fn links_of(&self, name: &str) -> Vec<WorkerId> {
        let ours = |link: &str| link == name || link.split_once('/').is_some_and(|(run, _)| run == name);
        let mut links: Vec<_> = self.links.iter().filter(|(_, link)| ours(link)).collect();
        links.sort_by_key(|(_, link)| *link);
        assert!(!links.is_empty(), "no link {name}");
        links.into_iter().map(|(worker, _)| *worker).collect()
    }
}

/// The text of a scenario with the current actions.
fn perform(text: &str) -> String {
    let mut runner = Runner::new();
    let mut out = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        writeln!(out, "{line}").unwrap();
        if line == "----" {
            let outcome = std::mem::take(&mut runner.out);
            out.push_str(if outcome.is_empty() { "(nothing)\n" } else { &outcome });
            // The old actions end with an empty line.
            if lines.by_ref().any(str::is_empty) {
                out.push('\n');
            }
        } else if !line.is_empty() && !line.starts_with('#') {
            runner.run(line);
        }
    }
    assert!(runner.out.is_empty(), "the last commands have no ----");
    out
}

fn files() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    files
}

#[test]
fn every_scenario_has_the_written_actions() {
    let mut wrong = String::new();
    for file in files() {
        let written = std::fs::read_to_string(&file).unwrap();
        let found = perform(&written);
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&file, &found).unwrap();
        } else if let Some((line, (was, is))) =
            written.lines().zip(found.lines()).enumerate().find(|(_, (a, b))| a != b)
        {
            writeln!(wrong, "{}:{}:\n  written: {was}\n  now:     {is}", file.display(), line + 1).unwrap();
        } else if written != found {
            writeln!(wrong, "{}: its end differs", file.display()).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}BLESS=1 writes the current actions");
    assert!(!files().is_empty());
}
