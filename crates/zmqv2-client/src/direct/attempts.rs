//! The attempts of a call that blocks: does one [`Step`] after the other until the call ends.

use std::time::Instant;

use crate::delivery::attempt::{AskError, Attempt, SearchPlan, Step, Verdict};

/// The surroundings of a call. A property test replaces them.
pub(super) trait World {
    type Answer;

    fn now(&self) -> Instant;
    /// Asks this candidate and waits for its answer.
    fn ask(&mut self, now: Instant, candidate: usize, attempt: &Attempt) -> Result<Self::Answer, AskError>;
    /// Looks up the candidates.
    fn look_up(&mut self, now: Instant) -> SearchPlan;
    /// Remembers whether the server is at the node that was asked last.
    fn note_server(&mut self, is_there: bool);
    fn pause(&mut self, until: Instant);
}

/// Runs a call whose first lookup has found these candidates.
pub(super) fn run<W: World>(world: &mut W, attempt: &mut Attempt, found: SearchPlan) -> Result<W::Answer, Verdict> {
    let mut now = world.now();
    let mut step = attempt.found(now, found);
    loop {
        match step {
            Step::Ask(candidate) => match world.ask(now, candidate, attempt) {
                Ok(answer) => return Ok(answer),
                Err(error) => {
                    now = world.now();
                    if let Some(is_there) = error.server_is_there() {
                        world.note_server(is_there);
                    }
                    step = attempt.failed(now, error);
                }
            },
            Step::LookUp => step = attempt.found(now, world.look_up(now)),
            Step::SearchAgain => {
                world.note_server(false);
                step = Step::LookUp;
            }
            Step::Pause { until } => {
                world.pause(until);
                now = world.now();
                step = attempt.resume(now);
            }
            Step::End(verdict) => return Err(verdict),
        }
    }
}
