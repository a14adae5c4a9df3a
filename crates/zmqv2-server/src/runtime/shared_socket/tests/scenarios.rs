//! The rules of [`Turns`] as texts to read: `scenarios/*.txt`.
//!
//! A scenario is a list of blocks: commands, a line `----`, and their results. After a change,
//! `BLESS=1 cargo test -p zmqv2-server scenarios` rewrites the results, to be reviewed as a diff.
//! Lines that begin with `#` are comments. All threads are as in `threads.rs`, but handlers run
//! until a command ends them.
//!
//! ```text
//! start workers=2 window=8    starts the threads a, b and c; must come first
//! arrive 1 2 3                the broker sends requests; also: broker=NAME
//! arrive cast1                a request that is acknowledged before it runs
//! arrive 1 2 cancel:2         then the broker says that nobody waits for request 2
//! end 1 2                     these handlers end, one after the other
//! quick 64                    this many handlers have ended after 100 us each; also: took=300us
//! advance 1ms                 time passes, and ticks happen when they are due
//! stop
//! ```

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::turns::{Action, Credit, Input, TICK, Turns};

const READ_AT_ONCE: usize = 64;

#[derive(Debug, Clone)]
struct Request {
    name: String,
    broker: u32,
}

/// What a thread does now.
#[derive(Debug, Clone)]
enum Thread {
    Woken(Input),
    WaitsForSocket,
    Parked,
    /// Until this time. It has then done this input.
    WaitsForTick(Instant, Input),
    Sleeps,
    Runs(Request, Instant),
    Ended,
}

struct World {
    turns: Turns,
    start: Instant,
    now: Instant,
    threads: Vec<Thread>,
    /// In the order in which they were woken.
    woken: VecDeque<usize>,
    /// In the order in which they parked.
    parked: VecDeque<usize>,
    socket: VecDeque<(String, String)>,
    /// The name of the current broker.
    broker: String,
    queue: VecDeque<Request>,
    answers: Vec<Request>,
    answers_since: Instant,
    stopped: bool,
    out: String,
}

fn span(text: &str) -> Duration {
    let number = |unit| text.strip_suffix(unit).and_then(|number: &str| number.parse().ok());
    number("us").map(Duration::from_micros).or(number("ms").map(Duration::from_millis)).expect("a span")
}

fn letter(thread: usize) -> char {
    (b'a' + thread as u8) as char
}

impl World {
    fn new() -> Self {
        let now = crate::runtime::now();
        Self {
            turns: Turns::new(1, 1),
            start: now,
            now,
            threads: Vec::new(),
            woken: VecDeque::new(),
            parked: VecDeque::new(),
            socket: VecDeque::new(),
            broker: String::new(),
            queue: VecDeque::new(),
            answers: Vec::new(),
            answers_since: now,
            stopped: false,
            out: String::new(),
        }
    }

    fn say(&mut self, line: &str) {
        let at = self.now.duration_since(self.start).as_micros();
        let clock = if at == 0 { String::new() } else { format!("{at:>7} us  ") };
        writeln!(self.out, "{clock}{line}").unwrap();
    }

    fn wake(&mut self, thread: usize, input: Input) {
        self.threads[thread] = Thread::Woken(input);
        self.woken.push_back(thread);
    }

    fn find(&self, is: impl Fn(&Thread) -> bool) -> Option<usize> {
        self.threads.iter().position(is)
    }

    /// Runs woken threads until each of them waits, or runs a handler.
    fn settle(&mut self) {
        while let Some(thread) = self.woken.pop_front() {
            let Thread::Woken(input) = self.threads[thread] else { panic!("thread {} is not woken", letter(thread)) };
            self.threads[thread] = self.go(thread, input);
        }
    }

    fn go(&mut self, thread: usize, mut input: Input) -> Thread {
        let name = letter(thread);
        loop {
            let action = self.turns.handle(input);
            input = Input::Free;
            match action {
                Action::Run => {
                    self.begin(name);
                    let request = self.queue.pop_front().expect("a request");
                    if request.name.starts_with("cast") {
                        self.answer(name, &request);
                    }
                    return Thread::Runs(request, self.now);
                }
                Action::Read => {
                    self.read(READ_AT_ONCE);
                    if self.queue.is_empty() {
                        self.send(name);
                        input = Input::SocketEmpty;
                    }
                }
                Action::WaitForSocket if self.stopped => {
                    self.wake_all();
                    input = Input::Stopped;
                }
                Action::WaitForSocket => {
                    self.say(&format!("{name} waits for the socket"));
                    return Thread::WaitsForSocket;
                }
                Action::SendAnswers => {
                    self.send(name);
                    input = Input::AnswersSent;
                }
                Action::Park => {
                    self.say(&format!("{name} parks"));
                    self.parked.push_back(thread);
                    return Thread::Parked;
                }
                Action::Watch => {
                    // Each watcher is shown once, and not after every tick.
                    if !matches!(self.threads[thread], Thread::Woken(Input::Watched)) {
                        self.say(&format!("{name} watches"));
                    }
                    return Thread::WaitsForTick(self.now + TICK, Input::Watched);
                }
                Action::Sleep => {
                    self.say(&format!("{name} sleeps"));
                    return Thread::Sleeps;
                }
                Action::EndWatch { hand_back } => {
                    self.say(&format!("{name} no longer watches"));
                    if hand_back {
                        self.hand_back(name);
                    }
                    self.send(name);
                    self.unpark();
                }
                Action::WaitForRoom => {
                    self.say(&format!("{name} waits for room"));
                    return Thread::WaitsForTick(self.now + TICK, Input::WaitedForRoom);
                }
                Action::HandBack => {
                    self.hand_back(name);
                    self.send(name);
                }
                Action::End => {
                    self.send(name);
                    self.say(&format!("{name} ends"));
                    return Thread::Ended;
                }
            }
        }
    }

    fn begin(&mut self, name: char) {
        let wake = self.turns.begin(self.now);
        let mut line = format!("{name} runs {}", self.queue[0].name);
        if wake.watcher {
            let watcher = self.find(|thread| matches!(thread, Thread::Sleeps)).expect("a sleeping watcher");
            write!(line, ", wakes {}", letter(watcher)).unwrap();
            self.wake(watcher, Input::Watched);
        }
        if wake.parked
            && let Some(parked) = self.unpark()
        {
            write!(line, ", wakes {}", letter(parked)).unwrap();
        }
        self.say(&line);
    }

    fn unpark(&mut self) -> Option<usize> {
        let parked = self.parked.pop_front()?;
        self.wake(parked, Input::Unparked);
        Some(parked)
    }

    fn read(&mut self, most: usize) {
        while self.queue.len() < most
            && let Some((name, broker)) = self.socket.pop_front()
        {
            if broker != self.broker {
                self.broker = broker;
                self.turns.broker_changed();
            }
            if let Some(name) = name.strip_prefix("cancel:") {
                self.cancel(name);
                continue;
            }
            self.queue.push_back(Request { name, broker: self.turns.broker() });
            self.turns.received(self.now, 1);
        }
    }

    /// What runs goes on, and its handler can see it.
    fn cancel(&mut self, name: &str) {
        if let Some(request) = self.queue.iter().position(|it| it.name == name).and_then(|at| self.queue.remove(at)) {
            self.turns.handed_back();
            let name = format!("{name} back");
            self.answers.push(Request { name, ..request });
        }
    }

    fn answer(&mut self, name: char, request: &Request) {
        if self.answers.is_empty() {
            self.answers_since = self.now;
        }
        self.answers.push(request.clone());
        if self.turns.answered(self.now, self.answers_since) {
            self.send(name);
        }
    }

    fn hand_back(&mut self, name: char) {
        self.read(usize::MAX);
        let back = self.queue.split_off(self.queue.len() - self.turns.excess());
        let names: Vec<_> = back.iter().map(|request| request.name.clone()).collect();
        self.say(&format!(
            "{name} hands back {}",
            if names.is_empty() { "nothing".to_owned() } else { names.join(" ") }
        ));
        back.iter().for_each(|_| self.turns.handed_back());
    }

    fn send(&mut self, name: char) {
        let answers = std::mem::take(&mut self.answers);
        let mut parts: Vec<_> = answers.iter().map(|request| request.name.clone()).collect();
        if let Some(Credit { places, widen }) = self.turns.take_credit() {
            if places > 0 {
                parts.push(format!("+{places}"));
            }
            if widen {
                parts.push("wide".to_owned());
            }
        }
        if !parts.is_empty() {
            self.say(&format!("{name} sends {}", parts.join(" ")));
        }
        if self.turns.reader_waits() {
            self.read(READ_AT_ONCE);
            if !self.queue.is_empty() || !self.answers.is_empty() {
                self.wake_reader();
            }
        }
    }

    fn wake_reader(&mut self) {
        if let Some(reader) = self.find(|thread| matches!(thread, Thread::WaitsForSocket)) {
            self.wake(reader, Input::SocketReady);
        }
    }

    /// Wakes all threads that wait, except the reader.
    fn wake_all(&mut self) {
        self.parked.clear();
        for thread in 0..self.threads.len() {
            match self.threads[thread] {
                Thread::Parked => self.wake(thread, Input::Unparked),
                Thread::Sleeps => self.wake(thread, Input::Watched),
                Thread::WaitsForTick(_, input) => self.wake(thread, input),
                _ => {}
            }
        }
    }

    fn end(&mut self, name: &str) {
        let runs = |thread: &Thread| matches!(thread, Thread::Runs(request, _) if request.name == name);
        let thread = self.find(runs).unwrap_or_else(|| panic!("{name} does not run; so far:\n{}", self.out));
        let Thread::Runs(request, began) = self.threads[thread].clone() else { return };
        let by = letter(thread);
        if !name.starts_with("cast") {
            self.answer(by, &request);
        } else if self.turns.place_freed(request.broker) {
            self.send(by);
        }
        if self.turns.ended(request.broker, self.now - began) {
            self.hand_back(by);
            self.send(by);
        }
        self.wake(thread, Input::Free);
        self.settle();
    }

    fn advance(&mut self, span: Duration) {
        let end = self.now + span;
        let due = |thread: &Thread| match thread {
            Thread::WaitsForTick(at, input) if *at <= end => Some((*at, *input)),
            _ => None,
        };
        while let Some((thread, (at, input))) = self
            .threads
            .iter()
            .enumerate()
            .filter_map(|(name, thread)| Some((name, due(thread)?)))
            .min_by_key(|it| it.1.0)
        {
            self.now = self.now.max(at);
            self.wake(thread, input);
            self.settle();
        }
        self.now = end;
    }

    fn run(&mut self, line: &str) {
        let (options, words): (Vec<_>, Vec<_>) = line.split_whitespace().partition(|word| word.contains('='));
        let option = |name: &str| options.iter().find_map(|option| option.strip_prefix(name)?.strip_prefix('='));
        let names = words[1..].iter().map(|word| (*word).to_owned());
        match words[0] {
            "start" => {
                let workers = option("workers").expect("workers=").parse().unwrap();
                let window = option("window").map_or(workers, |window| window.parse().unwrap());
                self.turns = Turns::new(workers, window);
                for thread in 0..=usize::from(workers) {
                    self.threads.push(Thread::Ended);
                    self.wake(thread, Input::Free);
                }
            }
            "arrive" => {
                let broker = option("broker").unwrap_or("broker").to_owned();
                self.socket.extend(names.map(|name| (name, broker.clone())));
                self.wake_reader();
            }
            "end" => names.for_each(|name| self.end(&name)),
            // Without the threads: other scenarios show what they do.
            "quick" => {
                let took = option("took").map_or(Duration::from_micros(100), span);
                for _ in 0..words[1].parse().unwrap() {
                    self.turns.received(self.now, 1);
                    self.turns.begin(self.now);
                    assert!(
                        !self.turns.ended(self.turns.broker(), took),
                        "handlers have become slow, so requests go back"
                    );
                }
            }
            "advance" => self.advance(span(words[1])),
            "stop" => {
                self.stopped = true;
                if let Some(reader) = self.find(|thread| matches!(thread, Thread::WaitsForSocket)) {
                    self.wake(reader, Input::Stopped);
                    self.wake_all();
                }
            }
            other => panic!("unknown command {other:?}"),
        }
        self.settle();
    }
}

/// The scenario's text, with the results of its commands.
fn perform(text: &str) -> String {
    let (mut world, mut out) = (World::new(), String::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        writeln!(out, "{line}").unwrap();
        if line == "----" {
            let result = std::mem::take(&mut world.out);
            out.push_str(if result.is_empty() { "(nothing)\n" } else { &result });
            // The old result ends with an empty line.
            if lines.by_ref().any(str::is_empty) {
                out.push('\n');
            }
        } else if !line.is_empty() && !line.starts_with('#') {
            world.run(line);
        }
    }
    assert!(world.out.is_empty(), "the last commands have no ----");
    out
}

#[test]
fn every_scenario_has_the_results_that_it_shows() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/runtime/shared_socket/scenarios");
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 5, "{files:?}");
    let mut wrong = String::new();
    for file in files {
        let written = std::fs::read_to_string(&file).unwrap();
        let found = perform(&written);
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&file, found).unwrap();
        } else if found != written {
            let first = found.lines().zip(written.lines()).find(|(found, written)| found != written);
            writeln!(wrong, "{}: (found, written) = {first:?}\n{found}", file.display()).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
