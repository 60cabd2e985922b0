//! The driver of an acquire: it answers where the machine asks, and says where time must pass. Who
//! drives it lets the time pass, in a thread or in a task.

use std::time::Duration;

use crate::error::AcquireError;
use crate::guard::{Guard, Reclaimed};
use crate::lock::Lock;
use crate::os::{LockFile, Until};
use crate::patience::{Limit, Patience};
use crate::protocol::{Acquire, Closing, Pausing, Refusal, Then, Unsure};

/// An acquire under way.
#[derive(Debug)]
pub(crate) struct Attempt<'a> {
    lock: &'a Lock,
    file: LockFile,
    patience: Patience,
    reclaimed: Option<Reclaimed>,
    state: Acquire,
}

/// What is to be done before an acquire goes on.
#[derive(Debug)]
pub(crate) enum Next<'a> {
    /// Nothing: it is over.
    Ended(Result<Guard, AcquireError>),
    /// To let so much time pass, and then to try again.
    Sleep(Attempt<'a>, Duration),
    /// To let the time pass until the file has an event.
    Listen(Attempt<'a>),
}

/// The state that follows the unlink of a dead holder's file.
const UNLINKED: Acquire = Acquire::Closing(Closing { then: Then::Create });

impl<'a> Attempt<'a> {
    pub(crate) fn new(lock: &'a Lock, limit: Limit) -> Self {
        let mut file = LockFile::new(lock.shared_path(), lock.record());
        if let Limit::Wait(until) = &limit {
            file.listen_until(until.clone());
        }
        let patience = Patience::new(limit);
        if patience.is_endless() {
            file.wait_without_end();
        }
        Self { lock, file, patience, reclaimed: None, state: Acquire::START }
    }

    /// The whole acquire, in this thread.
    pub(crate) fn run(self) -> Result<Guard, AcquireError> {
        let mut next = self.go_on();
        loop {
            next = match next {
                Next::Ended(ended) => return ended,
                Next::Sleep(attempt, pause) => {
                    attempt.patience.sleep(pause);
                    attempt.tried_again()
                }
                Next::Listen(attempt) => attempt.listened(),
            };
        }
    }

    /// Runs until it has ended, or time must pass. Blocks only where the wait has no limit.
    pub(crate) fn go_on(mut self) -> Next<'a> {
        loop {
            self.state = match self.state {
                Acquire::Pausing(pause) => {
                    let passing =
                        !matches!(pause, Pausing::Denied(_)) || self.file.is_being_deleted();
                    match self.patience.again(passing) {
                        Some(time) => return Next::Sleep(self, time),
                        None => pause.give_up(),
                    }
                }
                Acquire::Standing(standing) => {
                    if !self.patience.waits() {
                        standing.leave()
                    } else {
                        self.patience.renew();
                        // In the kernel only who waits without a limit: no lock call has one.
                        if self.patience.is_endless() { standing.wait() } else { standing.listen() }
                    }
                }
                Acquire::Listening(_) => return Next::Listen(self),
                Acquire::Refused(why) => match self.patience.for_holder() {
                    Some(time) => return Next::Sleep(self, time),
                    None => {
                        return Next::Ended(Err(AcquireError::Held(
                            self.lock.held(&self.file, why),
                        )));
                    }
                },
                Acquire::Held(guarantee) => {
                    self.file.listen_until(Until::default());
                    return Next::Ended(Ok(Guard::new(self.file, guarantee, self.reclaimed)));
                }
                // No permission lacks: a program keeps a removed file open, and its name taken.
                Acquire::Failed(_) if self.file.is_being_deleted() => {
                    let contended = Refusal::Unknown(Unsure::Contended);
                    let held = self.lock.held(&self.file, contended);
                    return Next::Ended(Err(AcquireError::Held(held)));
                }
                Acquire::Failed(op) => {
                    return Next::Ended(Err(self.lock.failed(self.file, op)));
                }
                unfinished => self.after(unfinished),
            };
        }
    }

    fn after(&mut self, state: Acquire) -> Acquire {
        let next = state.step(&mut self.file);
        if matches!(state, Acquire::Unlinking(_)) && next == UNLINKED {
            self.reclaimed = Some(Reclaimed { holder: self.file.seen().cloned() });
        }
        next
    }

    /// Goes on after a sleep.
    pub(crate) fn tried_again(mut self) -> Next<'a> {
        self.state = match self.state {
            Acquire::Pausing(pause) => pause.again(),
            _ => Acquire::START,
        };
        self.go_on()
    }

    /// Goes on with the step that waits for an event: blocks, if there is none.
    pub(crate) fn listened(mut self) -> Next<'a> {
        self.state = self.after(self.state);
        self.go_on()
    }
}
