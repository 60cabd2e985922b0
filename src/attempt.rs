//! The driver of an acquire: it answers where the machine asks, and says where time must pass. Who
//! drives it lets the time pass, in a thread or in a task.

use std::time::Duration;

use crate::error::AcquireError;
#[cfg(feature = "tokio")]
use crate::fs::Listen;
use crate::guard::{Guard, Reclaimed};
use crate::lock::Lock;
use crate::os::{LockFile, Until};
use crate::patience::{AtHolder, Limit, Patience};
use crate::protocol::{Acquire, Closing, Pausing, Refusal, Then, Unsure};
use crate::turns::Place;

/// An acquire under way.
#[derive(Debug)]
pub(crate) struct Attempt<'a> {
    lock: &'a Lock,
    file: LockFile,
    patience: Patience,
    /// From when somebody was first found to stand in the way.
    place: Option<Place>,
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
        Self { lock, file, patience, place: None, reclaimed: None, state: Acquire::START }
    }

    /// The whole acquire, in this thread.
    pub(crate) fn run(self) -> Result<Guard, AcquireError> {
        let mut next = self.go_on();
        loop {
            next = match next {
                Next::Ended(ended) => return ended,
                Next::Sleep(mut attempt, pause) => {
                    let is_behind = attempt.behind().is_some();
                    match attempt.place.as_ref().filter(|_| is_behind) {
                        Some(place) => attempt.patience.park(place),
                        None => attempt.patience.sleep(pause),
                    }
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
                    let in_front = self.place().is_none_or(Place::is_in_front);
                    match self.patience.at_holder(in_front) {
                        AtHolder::Leave => standing.leave(),
                        AtHolder::Listen => standing.listen(),
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

    /// Its place in the line of its process, if it waits in one.
    fn place(&mut self) -> Option<&Place> {
        if self.place.is_none() {
            let join = |waiter| Place::join(self.lock.shared_path(), waiter);
            self.place = self.patience.line().map(join);
        }
        self.place.as_ref()
    }

    /// Its place, if somebody stands in the way (and not something that passes) and others of this
    /// process wait before it. Nothing is open then.
    pub(crate) fn behind(&mut self) -> Option<&Place> {
        let is_kept_out = matches!(
            self.state,
            Acquire::Refused(_) | Acquire::Pausing(Pausing::Closed(Unsure::CannotProbe))
        );
        if is_kept_out { self.place().filter(|place| !place.is_in_front()) } else { None }
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

/// What a task needs besides, which must not block and may be dropped wherever it waits.
#[cfg(feature = "tokio")]
impl<'a> Attempt<'a> {
    /// Waits for an event. Blocks no thread.
    pub(crate) async fn listen(&mut self) -> Listen {
        self.file.listen_in_task().await
    }

    /// Goes on with the reply that a `listen` would have made.
    pub(crate) fn heard(mut self, reply: Listen) -> Next<'a> {
        if let Acquire::Listening(listening) = self.state {
            self.state = listening.on_listen(reply);
        }
        self.go_on()
    }

    /// The end of an acquire that nobody waits for any more: at the first state that asks, it gives
    /// up. Nothing is open afterwards, and nothing of ours stands at the path.
    pub(crate) fn give_up(mut self) {
        loop {
            self.state = match self.state {
                Acquire::Pausing(pause) => pause.give_up(),
                Acquire::Standing(standing) => standing.leave(),
                Acquire::Listening(listening) => listening.on_listen(Listen::Over),
                // Not from where time passes; if it were, then to be released again.
                Acquire::Held(guarantee) => {
                    return drop(Guard::new(self.file, guarantee, self.reclaimed));
                }
                Acquire::Refused(_) | Acquire::Failed(_) => return,
                unfinished => self.after(unfinished),
            };
        }
    }
}

#[cfg(all(test, unix))]
mod lines {
    use std::time::Instant;

    use super::*;

    /// Whether it waits for an event at the file, and not for its turn.
    fn is_at_the_file(next: &Next<'_>) -> bool {
        match next {
            Next::Listen(_) => true,
            Next::Sleep(..) => false,
            Next::Ended(ended) => panic!("{ended:?}"),
        }
    }

    fn goes_on(next: Next<'_>) -> Next<'_> {
        match next {
            Next::Sleep(attempt, _) => attempt.tried_again(),
            next => panic!("{next:?}"),
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "an end that does not come")]
    fn of_the_threads_that_wait_with_a_limit_one_is_at_the_file_and_the_next_when_it_has_left() {
        let home = tempfile::tempdir().expect("a directory");
        let lock = Lock::at(home.path().join("x.lock"));
        let held = lock.try_acquire().expect("free");
        let end = Some(Instant::now() + Duration::from_secs(3600));
        let limit = || Limit::Wait(Until { end, cancelled: None });
        let first = Attempt::new(&lock, limit()).go_on();
        assert!(is_at_the_file(&first));
        let mut second = Attempt::new(&lock, limit()).go_on();
        assert!(!is_at_the_file(&second));
        second = goes_on(second);
        assert!(!is_at_the_file(&second));
        drop(first);
        second = goes_on(second);
        assert!(is_at_the_file(&second));
        // Who may be cancelled is woken at the file alone.
        let cancelled = crate::os::cancel::Cancellation::new().expect("two descriptors");
        let until = Until { end, cancelled: Some(cancelled) };
        assert!(is_at_the_file(&Attempt::new(&lock, Limit::Wait(until)).go_on()));
        drop(held);
    }

    #[test]
    fn who_waits_without_end_stands_in_the_line_as_well() {
        let home = tempfile::tempdir().expect("a directory");
        let lock = Lock::at(home.path().join("x.lock"));
        let held = lock.try_acquire().expect("free");
        let first = Place::join(lock.shared_path(), crate::turns::Waiter::Thread);
        let second = Attempt::new(&lock, Limit::Wait(Until::default())).go_on();
        assert!(!is_at_the_file(&second));
        // With the lock held it would block now.
        drop((first, held));
        let Next::Ended(Ok(_)) = goes_on(second) else { panic!("it is free") };
    }
}

#[cfg(all(test, feature = "tokio"))]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use super::*;
    use crate::fs::{Create, FileSystem, Lock as Locked, Open};
    use crate::protocol::LockingNew;
    use crate::tasks::driven;

    /// An attempt whose newborn somebody took for an old file and locked, for that instant.
    fn with_a_newborn(lock: &Lock) -> Attempt<'_> {
        let mut attempt = Attempt::new(lock, Limit::Task);
        assert_eq!(attempt.file.create(), Create::Created);
        let mut other = LockFile::new(lock.path().to_owned(), lock.record());
        assert_eq!((other.open(), other.lock()), (Open::Opened, Locked::Ours));
        attempt.state = attempt.after(Acquire::LockingNew(LockingNew));
        other.close();
        assert_eq!(attempt.state, Acquire::Pausing(Pausing::Newborn));
        attempt
    }

    #[test]
    fn a_task_that_is_dropped_with_a_newborn_removes_it_and_one_that_only_drops_it_does_not() {
        let home = tempfile::tempdir().expect("a directory");
        let lock = Lock::at(home.path().join("x.lock"));
        let left = || std::fs::read_dir(home.path()).expect("stands").count();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.expect("a runtime").block_on(async {
            let next = with_a_newborn(&lock).go_on();
            let mut acquire = Box::pin(driven(next));
            assert!(poll_fn(|cx| Poll::Ready(acquire.as_mut().poll(cx))).await.is_pending());
            assert_eq!(left(), 1);
        });
        assert_eq!(left(), 0);
        // The control: this is what a driver would leave that gave up nothing.
        drop(with_a_newborn(&lock));
        assert_eq!(left(), 1);
    }
}
