use std::sync::Mutex;

use zmqv2_proto::{MessageId, Request};

use super::*;
use crate::Cancellation;
use crate::rpc::endpoint::reply;

/// Notes its name before and after. Its `before` may refuse or panic.
struct Noting {
    name: &'static str,
    notes: Arc<Mutex<Vec<String>>>,
    refuses: bool,
    panics: bool,
}

impl Interceptor for Noting {
    fn before(&self, incoming: &mut Incoming) -> Result<(), HandlerError> {
        self.notes.lock().unwrap().push(format!("before {}", self.name));
        assert!(!self.panics, "bang in {}", self.name);
        if self.refuses {
            return Err(HandlerError::new("m", "No", format!("{} says no", self.name)));
        }
        incoming.request.context = std::mem::take(&mut incoming.request.context).with(self.name, true);
        Ok(())
    }

    fn after(&self, ended: &Ended<'_>) {
        let outcome = match ended.outcome {
            RunOutcome::Done => "done".to_owned(),
            RunOutcome::Failed(failure) => failure.class.clone(),
            RunOutcome::Dropped => "dropped".to_owned(),
        };
        self.notes.lock().unwrap().push(format!("after {}: {outcome}", self.name));
        assert!(self.name != "b", "an interceptor may panic after a request, too");
    }
}

/// Runs a request with the interceptors `a`, `b` and `c`, and returns its end and the notes.
fn run(refuses: &str, panics: &str) -> (HandlerResult, Vec<String>) {
    let notes = Arc::new(Mutex::new(Vec::new()));
    let all = ["a", "b", "c"].map(|name| {
        let (notes, refuses, panics) = (Arc::clone(&notes), name == refuses, name == panics);
        Arc::new(Noting { name, notes, refuses, panics }) as Arc<dyn Interceptor>
    });
    let request = Request::new("m".parse().unwrap(), &()).unwrap();
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    let deadline = Instant::now();
    let mut incoming = Incoming { request, id: MessageId::random(), deadline, cancellation: Cancellation::default() };
    let result = Interceptors(all.to_vec()).around(&mut incoming, |incoming| {
        let seen: Vec<_> = incoming.context().iter().map(|(key, _)| key.to_owned()).collect();
        notes.lock().unwrap().push(format!("run with {}", seen.join(" ")));
        reply("ran")
    });
    let notes = notes.lock().unwrap().clone();
    (result, notes)
}

#[test]
fn after_runs_in_reverse_order_and_a_panic_in_it_ends_nothing() {
    let (result, notes) = run("", "");
    assert!(result.is_ok());
    let expected =
        ["before a", "before b", "before c", "run with a b c", "after c: done", "after b: done", "after a: done"];
    assert_eq!(notes, expected);
}

#[test]
fn a_refusal_keeps_the_method_from_running_and_only_those_that_passed_see_the_end() {
    let (result, notes) = run("b", "");
    assert_eq!(result.unwrap_err().failure().message, "b says no");
    assert_eq!(notes, ["before a", "before b", "after a: No"]);
}

#[test]
fn a_panic_before_a_request_refuses_it() {
    let (result, notes) = run("", "c");
    let error = result.unwrap_err();
    assert_eq!(error.failure().class, "Panic");
    assert!(error.failure().message.contains("bang in c"), "{error}");
    assert_eq!(notes, ["before a", "before b", "before c", "after b: Panic", "after a: Panic"]);
}
