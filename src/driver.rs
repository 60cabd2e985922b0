//! The driver of an acquire: it answers where the machine asks, and says where time must pass. Its
//! caller lets the time pass, in a thread or in a task.

use std::io;
use std::time::Duration;

use crate::backoff::{OnContention, RetryPolicy, Waiting};
use crate::error::AcquireError;
use crate::exit::{self, Left, Registered, Within};
#[cfg(feature = "tokio")]
use crate::fs::Listen;
use crate::guard::{Guard, Reclaimed};
use crate::lock::Lock;
use crate::os::{Deadline, LockFile, Origin, process};
use crate::protocol::{
    Acquire, Closing, Op, Opening, Pausing, Refusal, Stance, Standing, Then, Unsure,
};
use crate::record::Holder;
use crate::trace;
use crate::wait::WaitOptions;
use crate::wait_queue::{Ticket, Waiter};

/// An acquire under way.
#[derive(Debug)]
pub(crate) struct Driver<'a> {
    lock: &'a Lock,
    /// `None` for one that does not wait.
    options: Option<WaitOptions<'a>>,
    waiter: Waiter,
    file: LockFile,
    retries: RetryPolicy,
    /// From when a holder was first found.
    ticket: Option<Ticket>,
    /// Whether the file was closed because another waiter of this process is at it.
    is_queued: bool,
    /// The holder that was last reported, if one was: its record, if that could be read.
    reported: Option<Option<Holder>>,
    reclaimed: Option<Reclaimed>,
    state: Acquire,
    /// While a file that it has created is not yet held or withdrawn.
    within: Option<Within>,
    /// The same while it pauses, when no exit waits for it.
    left: Option<Registered>,
    /// In a forked child it is a copy of its parent's.
    origin: Origin,
}

/// What is to be done before an acquire goes on.
#[derive(Debug)]
pub(crate) enum Step<'a> {
    /// Nothing: it is over.
    Ended(Result<Guard, AcquireError>),
    /// To let so much time pass, and then to try again.
    Sleep(Driver<'a>, Duration),
    /// To let time pass until its turn has come, and then to try again.
    Queue(Driver<'a>),
    /// To let the time pass until the file has an event.
    Listen(Driver<'a>),
}

/// The state that follows the unlink of a dead holder's file.
const UNLINKED: Acquire = Acquire::Closing(Closing { then: Then::Create });

impl<'a> Driver<'a> {
    /// One that does not wait.
    pub(crate) fn trying(lock: &'a Lock) -> Self {
        Self::new(lock, None, Waiter::Thread)
    }

    pub(crate) fn waiting(lock: &'a Lock, options: WaitOptions<'a>, waiter: Waiter) -> Self {
        Self::new(lock, Some(options), waiter)
    }

    fn new(lock: &'a Lock, options: Option<WaitOptions<'a>>, waiter: Waiter) -> Self {
        // Before it says in a record which process it is.
        process::notice_fork();
        let deadline = options.as_ref().and_then(WaitOptions::deadline);
        let retries = RetryPolicy::new(deadline.map(|deadline| Waiting { deadline, waiter }));
        let mut file = LockFile::new(lock.shared_path(), lock.record());
        file.listen_until(retries.deadline());
        // The holder is asked about only if somebody wants to know.
        let reports = options.as_ref().is_some_and(|options| options.on_wait.is_some());
        if retries.is_endless() && !reports {
            file.wait_without_end();
        }
        Self {
            lock,
            options,
            waiter,
            file,
            retries,
            ticket: None,
            is_queued: false,
            reported: None,
            reclaimed: None,
            state: Acquire::START,
            within: None,
            left: None,
            origin: Origin::here(),
        }
    }

    /// The whole acquire, in this thread.
    pub(crate) fn run(self) -> Result<Guard, AcquireError> {
        let mut step = self.go_on();
        loop {
            step = match step {
                Step::Ended(ended) => return ended,
                Step::Sleep(driver, pause) => {
                    driver.retries.sleep(pause);
                    driver.tried_again()
                }
                Step::Queue(driver) => {
                    if let Some(ticket) = &driver.ticket {
                        ticket.park(&driver.retries.deadline());
                    }
                    driver.tried_again()
                }
                Step::Listen(driver) => driver.listened(),
            };
        }
    }

    /// Runs until it has ended, or time must pass. Never blocks for long.
    pub(crate) fn go_on(mut self) -> Step<'a> {
        loop {
            self.state = match self.state {
                Acquire::Creating(_) if self.within.is_none() => match exit::enter() {
                    Some(within) => {
                        self.within = Some(within);
                        self.after(self.state)
                    }
                    None => return Step::Ended(Err(self.exiting())),
                },
                Acquire::Pausing(pause) => {
                    if self.is_queued {
                        self.report(pause_refusal(pause));
                        return Step::Queue(self);
                    }
                    let passing =
                        !matches!(pause, Pausing::Denied(_)) || self.file.is_being_deleted();
                    let is_wait = self.retries.is_out_of_tries();
                    match self.retries.again(passing) {
                        Some(time) => {
                            if is_wait {
                                self.report(pause_refusal(pause));
                            }
                            return self.sleep(time);
                        }
                        None => pause.give_up(),
                    }
                }
                Acquire::Standing(standing) => self.at_holder(standing),
                Acquire::Listening(listening) => {
                    self.report(stance_refusal(listening.standing.stance));
                    return Step::Listen(self);
                }
                Acquire::Refused(why) if self.is_queued => {
                    self.report(why);
                    return Step::Queue(self);
                }
                Acquire::Refused(why) => match self.retries.for_holder() {
                    Some(time) => {
                        self.report(why);
                        return self.sleep(time);
                    }
                    None => return Step::Ended(Err(self.refused(why))),
                },
                Acquire::Held(guarantee) => {
                    self.file.listen_until(Deadline::default());
                    let guard = Guard::new(self.file, guarantee, self.reclaimed);
                    // The exit finds it registered.
                    drop(self.within);
                    trace::acquired(&guard);
                    return Step::Ended(Ok(guard));
                }
                // Not a permission error: a program keeps a removed file open, and its name taken.
                Acquire::Failed(_) if self.file.is_being_deleted() => {
                    let contended = Refusal::Unknown(Unsure::Contended);
                    return Step::Ended(Err(self.refused(contended)));
                }
                Acquire::Failed(op) => {
                    return Step::Ended(Err(self.lock.failed(self.file, op)));
                }
                unfinished => self.after(unfinished),
            };
        }
    }

    fn after(&mut self, state: Acquire) -> Acquire {
        let next = state.step(&mut self.file);
        match (state, next) {
            (Acquire::Unlinking(_), UNLINKED) => {
                self.reclaimed = Some(Reclaimed { holder: self.file.seen().cloned() });
            }
            // Another participant has created the file since, and holds or held it.
            (Acquire::Creating(_), Acquire::Opening(Opening)) => self.reclaimed = None,
            _ => {}
        }
        if !has_created(next) {
            self.within = None;
        }
        next
    }

    fn at_holder(&mut self, standing: Standing) -> Acquire {
        let Self { lock, retries, ticket, .. } = self;
        let queue = retries.queue();
        let in_front = || {
            if ticket.is_none() {
                *ticket = queue.map(|waiter| Ticket::join(lock.shared_path(), waiter));
            }
            ticket.as_ref().is_none_or(Ticket::is_in_front)
        };
        match retries.at_holder(in_front) {
            OnContention::Leave => standing.leave(),
            OnContention::Queue => {
                self.is_queued = true;
                standing.leave()
            }
            OnContention::Listen => standing.listen(),
        }
    }

    /// Lets time pass, for which no exit waits: it withdraws the file, if this has created one.
    fn sleep(mut self, time: Duration) -> Step<'a> {
        if has_created(self.state) {
            self.left = Some(exit::register(&self.file, Left::Created));
            self.within = None;
        }
        Step::Sleep(self, time)
    }

    /// Takes back what it left to the exit. `false` if the exit has cleaned it up.
    fn take_back(&mut self) -> bool {
        let Some(left) = self.left.take() else { return true };
        self.within = Some(exit::hold_off());
        exit::take(&left)
    }

    /// Says that it waits, unless the same holder was reported before.
    fn report(&mut self, why: Refusal) {
        let on_wait = self.options.as_mut().and_then(|options| options.on_wait.as_mut());
        if on_wait.is_none() && !trace::hears_of_waits() {
            return;
        }
        let holder = Lock::known_holder(&self.file, why);
        if self.reported.as_ref().map(Option::as_ref) == Some(holder) {
            return;
        }
        self.reported = Some(holder.cloned());
        let held = self.lock.held(&self.file, why);
        trace::waiting(&held);
        if let Some(on_wait) = on_wait {
            on_wait(&held);
        }
    }

    /// It did not get the lock, and does not wait any longer.
    fn refused(&self, why: Refusal) -> AcquireError {
        let held = AcquireError::Held(self.lock.held(&self.file, why));
        match &self.options {
            Some(_) if self.retries.deadline().is_cancelled() => held.cancelled(),
            Some(WaitOptions { limit: Some(limit), .. }) => held.timed_out(*limit),
            Some(WaitOptions { limit: None, .. }) | None => held,
        }
    }

    fn exiting(&self) -> AcquireError {
        let path = self.lock.path().to_path_buf();
        let source = io::Error::other("this process is exiting");
        AcquireError::Io { op: Op::Create, path, owner: None, source }
    }

    /// Goes on after a sleep.
    pub(crate) fn tried_again(mut self) -> Step<'a> {
        if self.is_a_childs_copy() {
            return self.restarted();
        }
        self.is_queued = false;
        if !self.take_back() {
            return Step::Ended(Err(self.exiting()));
        }
        self.state = match self.state {
            Acquire::Pausing(pause) => pause.again(),
            _ => Acquire::START,
        };
        self.go_on()
    }

    /// Goes on with the step that waits for an event: blocks, if there is none.
    pub(crate) fn listened(mut self) -> Step<'a> {
        if self.is_a_childs_copy() {
            return self.restarted();
        }
        self.state = self.after(self.state);
        self.go_on()
    }

    fn is_a_childs_copy(&self) -> bool {
        process::notice_fork();
        !self.origin.is_here()
    }

    /// In a forked child, which shares what is open with its parent: it begins as another
    /// participant, and what it leaves is not changed.
    fn restarted(self) -> Step<'a> {
        let Self { lock, options, waiter, .. } = self;
        Self::new(lock, options, waiter).go_on()
    }
}

/// Whether a file that it has created is open and not yet held.
fn has_created(state: Acquire) -> bool {
    match state {
        Acquire::LockingNew(_)
        | Acquire::Recording(_)
        | Acquire::ConfirmingNew(_)
        | Acquire::Pausing(Pausing::Newborn)
        | Acquire::Retaking(_)
        | Acquire::Disowning(_)
        | Acquire::Withdrawing(_)
        | Acquire::Voiding(_)
        // Until it is registered.
        | Acquire::Held(_) => true,
        Acquire::Creating(_)
        | Acquire::Opening(_)
        | Acquire::Dating(_)
        | Acquire::Peeking(_)
        | Acquire::LockingOld(_)
        | Acquire::Reading(_)
        | Acquire::Judging(_)
        | Acquire::Confirming(_)
        | Acquire::Unlinking(_)
        | Acquire::Standing(_)
        | Acquire::Woken(_)
        | Acquire::Arming(_)
        | Acquire::Noticing(_)
        | Acquire::Retrying(_)
        | Acquire::Listening(_)
        | Acquire::Closing(_)
        | Acquire::Pausing(Pausing::Closed(_) | Pausing::Denied(_))
        | Acquire::Refused(_)
        | Acquire::Failed(_) => false,
    }
}

/// What a refusal would say of a file that is waited for.
fn stance_refusal(stance: Stance) -> Refusal {
    match stance {
        Stance::Final(refusal) => refusal,
        Stance::NotFinal(unsure) => Refusal::Unknown(unsure),
    }
}

/// The same of what is tried again.
fn pause_refusal(pause: Pausing) -> Refusal {
    Refusal::Unknown(match pause {
        Pausing::Closed(unsure) => unsure,
        Pausing::Newborn | Pausing::Denied(_) => Unsure::Contended,
    })
}

/// What a task needs besides, which must not block and may be dropped wherever it waits.
#[cfg(feature = "tokio")]
impl<'a> Driver<'a> {
    /// Lets so much time pass, or less if the wait is cancelled. Blocks no thread.
    pub(crate) async fn sleep_in_task(&mut self, pause: Duration) {
        self.retries.deadline().sleep_in_task(pause).await;
    }

    /// Lets time pass until its turn. Blocks no thread.
    pub(crate) async fn queue_in_task(&mut self) {
        if let Some(ticket) = &self.ticket {
            ticket.advance(&self.retries.deadline()).await;
        }
    }

    /// Waits for an event. Blocks no thread.
    pub(crate) async fn listen_in_task(&mut self) -> Listen {
        self.file.listen_in_task().await
    }

    /// Goes on with the reply that a `listen` would have made.
    pub(crate) fn heard(mut self, reply: Listen) -> Step<'a> {
        if self.is_a_childs_copy() {
            return self.restarted();
        }
        if let Acquire::Listening(listening) = self.state {
            self.state = listening.on_listen(reply);
        }
        self.go_on()
    }

    /// The end of an acquire that nothing waits for any more: at the first state that asks, it gives
    /// up. Nothing is open afterwards, and nothing of ours is left at the path.
    ///
    /// In a forked child nothing is done: what is open is shared with its parent.
    pub(crate) fn give_up(mut self) {
        if self.is_a_childs_copy() || !self.take_back() {
            return;
        }
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
mod tests {
    use std::cell::Cell;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::time::SystemTime;

    use super::*;
    use crate::fs::{Create, FileSystem, Lock as Locked, Open};
    use crate::os::forked::{Child, in_a_child};
    #[cfg(feature = "tokio")]
    use crate::os::forked::{FORKS, alone};
    use crate::protocol::LockingNew;

    fn in_a_new_directory() -> (tempfile::TempDir, Lock) {
        let home = tempfile::tempdir().expect("a directory");
        let lock = Lock::at(home.path().join("x.lock"));
        (home, lock)
    }

    fn in_an_hour() -> WaitOptions<'static> {
        WaitOptions::new().timeout(Duration::from_secs(3600))
    }

    fn in_a_thread<'a>(lock: &'a Lock, options: WaitOptions<'a>) -> Step<'a> {
        Driver::waiting(lock, options, Waiter::Thread).go_on()
    }

    /// Whether it waits for an event at the file, and not for its turn.
    fn is_at_the_file(step: &Step<'_>) -> bool {
        match step {
            Step::Listen(_) => true,
            Step::Queue(_) => false,
            other => panic!("{other:?}"),
        }
    }

    fn goes_on(step: Step<'_>) -> Step<'_> {
        match step {
            Step::Sleep(driver, _) | Step::Queue(driver) => driver.tried_again(),
            other => panic!("{other:?}"),
        }
    }

    fn acquired(step: Step<'_>) -> Guard {
        let Step::Ended(Ok(guard)) = step else { panic!("{step:?}") };
        guard
    }

    #[test]
    fn threads_with_a_limit_come_to_the_file_in_turn() {
        let (_home, lock) = in_a_new_directory();
        let held = lock.try_acquire().expect("free");
        let first = in_a_thread(&lock, in_an_hour());
        assert!(is_at_the_file(&first));
        let mut second = in_a_thread(&lock, in_an_hour());
        assert!(!is_at_the_file(&second));
        second = goes_on(second);
        assert!(!is_at_the_file(&second));
        drop(first);
        second = goes_on(second);
        assert!(is_at_the_file(&second));
        // A thread that may be cancelled is woken at the file alone.
        let token = crate::CancelToken::new().expect("two descriptors");
        assert!(is_at_the_file(&in_a_thread(&lock, in_an_hour().cancel_token(&token))));
        drop(held);
    }

    #[test]
    fn an_endless_wait_queues_as_well() {
        let (_home, lock) = in_a_new_directory();
        let held = lock.try_acquire().expect("free");
        let first = Ticket::join(lock.shared_path(), Waiter::Thread);
        let second = in_a_thread(&lock, WaitOptions::new());
        assert!(!is_at_the_file(&second));
        // With the lock held it would block now.
        drop((first, held));
        drop(acquired(goes_on(second)));
    }

    /// A lock that is held by something without a kernel lock: an agent of the old format.
    fn held_by_an_agent() -> (tempfile::TempDir, Lock, Child) {
        let (home, lock) = in_a_new_directory();
        let agent = Child::running(|| process::pid().to_ne_bytes().to_vec());
        let pid = u32::from_ne_bytes(agent.said.clone().try_into().expect("a pid"));
        #[expect(clippy::disallowed_methods, reason = "an agent's own file, of now")]
        let started = humantime::format_rfc3339_millis(SystemTime::now());
        let record = format!("{{\"pid\":{pid},\"port\":5338,\"startedAt\":\"{started}\"}}");
        #[expect(clippy::disallowed_methods, reason = "as above")]
        std::fs::write(lock.path(), record).expect("the agent's file");
        (home, lock, agent)
    }

    /// How many looks it takes a waiter, at the least, to let a second pass.
    fn looks_in_a_second(mut step: Step<'_>) -> usize {
        let (mut looks, mut passed) = (0, Duration::ZERO);
        while passed < Duration::from_secs(1) {
            let Step::Sleep(driver, pause) = step else { panic!("{step:?}") };
            (looks, passed) = (looks + 1, passed + pause);
            step = driver.tried_again();
        }
        looks
    }

    #[test]
    fn a_holder_without_a_kernel_lock_is_polled_at_growing_intervals() {
        let (_home, lock, _agent) = held_by_an_agent();
        for options in [WaitOptions::new(), in_an_hour()] {
            let looks = looks_in_a_second(in_a_thread(&lock, options));
            // A hundred a second, or two hundred by the jitter, and some short ones at first.
            assert!(looks <= 220, "{looks} looks");
        }
    }

    #[test]
    fn waiters_behind_one_that_polls_are_parked() {
        let (_home, lock, _agent) = held_by_an_agent();
        let first = in_a_thread(&lock, in_an_hour());
        assert!(matches!(first, Step::Sleep(..)), "{first:?}");
        let second = in_a_thread(&lock, in_an_hour());
        assert!(!is_at_the_file(&second));
    }

    /// A child that outlived its parent, and has inherited the lock.
    #[test]
    fn waiters_behind_an_orphaned_lock_are_parked() {
        let (_home, lock) = in_a_new_directory();
        let mut dead = LockFile::new(lock.shared_path(), {
            let gone = in_a_child(|| process::pid().to_ne_bytes().to_vec());
            let mut record = lock.record();
            record.pid = u32::from_ne_bytes(gone.try_into().expect("a pid"));
            record
        });
        assert_eq!((dead.create(), dead.lock()), (Create::Created, Locked::Ours));
        assert_eq!(dead.write(), crate::fs::Done::Done);
        let first = in_a_thread(&lock, in_an_hour());
        assert!(is_at_the_file(&first));
        let second = in_a_thread(&lock, in_an_hour());
        assert!(!is_at_the_file(&second));
    }

    #[test]
    fn a_lock_released_in_order_since_is_not_reclaimed() {
        let (_home, lock) = in_a_new_directory();
        // An old, empty file: its creator died.
        #[expect(clippy::disallowed_methods, reason = "a dead creator's file")]
        let file = std::fs::File::create(lock.path()).expect("creates");
        file.set_modified(SystemTime::UNIX_EPOCH).expect("sets its time");
        drop(file);
        let mut driver = Driver::waiting(&lock, in_an_hour(), Waiter::Thread);
        while driver.state != Acquire::START || driver.reclaimed.is_none() {
            driver.state = driver.after(driver.state);
        }
        let other = lock.try_acquire().expect("the dead one's file is gone");
        let step = driver.go_on();
        assert!(is_at_the_file(&step));
        other.release().expect("in order");
        let Step::Listen(driver) = step else { unreachable!("as above") };
        let guard = acquired(driver.listened());
        assert_eq!(guard.reclaimed(), None);
    }

    /// A driver whose newly created file another participant took for an old one and locked, for that
    /// instant.
    fn with_a_created_file(lock: &Lock) -> Driver<'_> {
        let mut driver = Driver::waiting(lock, WaitOptions::new(), Waiter::Task);
        assert_eq!(driver.file.create(), Create::Created);
        let mut other = LockFile::new(lock.path().to_owned(), lock.record());
        assert_eq!((other.open(), other.lock()), (Open::Opened, Locked::Ours));
        driver.state = driver.after(Acquire::LockingNew(LockingNew));
        other.close();
        assert_eq!(driver.state, Acquire::Pausing(Pausing::Newborn));
        driver
    }

    #[test]
    fn an_exit_withdraws_the_file_of_an_acquire_that_pauses() {
        let (home, lock) = in_a_new_directory();
        let said = in_a_child(|| {
            let Step::Sleep(driver, _) = with_a_created_file(&lock).go_on() else {
                return b"no pause".to_vec();
            };
            exit::at_exit();
            let Step::Ended(Err(error)) = driver.tried_again() else { return b"goes on".to_vec() };
            format!("{error:#}").into_bytes()
        });
        let said = String::from_utf8(said).expect("text");
        assert!(said.contains("this process is exiting"), "{said}");
        assert_eq!(std::fs::read_dir(home.path()).expect("it is there").count(), 0);
    }

    /// A driver that pauses with a file that it has created, and what its copy in a child that was
    /// forked then returns once the parent holds the lock.
    #[cfg(feature = "tokio")]
    fn in_a_childs_copy(
        lock: &Lock,
        fork: fn() -> libc::pid_t,
        part: fn(Driver<'_>) -> String,
    ) -> (Guard, String) {
        let pending = Cell::new(Some(with_a_created_file(lock).go_on()));
        let paused = || match pending.take() {
            Some(Step::Sleep(driver, _)) => driver,
            other => panic!("{other:?}"),
        };
        let (begin, begun) = UnixStream::pair().expect("a pair");
        let child = Child::starting(fork, || {
            (&begun).read_exact(&mut [0]).expect("its parent says so");
            part(paused()).into_bytes()
        });
        let guard = acquired(paused().tried_again());
        (&begin).write_all(&[0]).expect("the child reads");
        (guard, String::from_utf8(child.answer().said.clone()).expect("text"))
    }

    #[cfg(feature = "tokio")]
    #[test]
    fn a_copy_in_a_forked_child_changes_nothing() {
        alone("driver::tests::a_copy_in_a_forked_child_changes_nothing", || {
            for &fork in FORKS {
                let (_home, lock) = in_a_new_directory();
                let (guard, said) = in_a_childs_copy(&lock, fork, |copy| {
                    copy.give_up();
                    "given up".to_owned()
                });
                assert_eq!(said, "given up");
                assert!(guard.is_current().expect("looks"), "the child removed its parent's file");
                assert!(lock.try_acquire().is_err());
            }
        });
    }

    /// As another participant: its parent holds the lock.
    #[cfg(feature = "tokio")]
    #[test]
    fn a_copy_in_a_forked_child_that_goes_on_waits() {
        alone("driver::tests::a_copy_in_a_forked_child_that_goes_on_waits", || {
            for &fork in FORKS {
                let (_home, lock) = in_a_new_directory();
                let (guard, said) =
                    in_a_childs_copy(&lock, fork, |copy| match copy.tried_again() {
                        Step::Listen(copy) => format!("waits as {}", copy.file.record().pid),
                        other => format!("{other:?}"),
                    });
                assert!(said.starts_with("waits as "), "{said}");
                assert_ne!(said, format!("waits as {}", process::pid()));
                assert!(guard.is_current().expect("looks"));
            }
        });
    }

    #[cfg(feature = "tokio")]
    mod tasks {
        use std::future::poll_fn;
        use std::task::Poll;

        use super::*;
        use crate::async_acquire::driven;

        #[test]
        fn a_dropped_task_withdraws_the_file_it_created() {
            let (home, lock) = in_a_new_directory();
            let left = || std::fs::read_dir(home.path()).expect("it is there").count();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            runtime.expect("a runtime").block_on(async {
                let step = with_a_created_file(&lock).go_on();
                let mut acquire = Box::pin(driven(step));
                assert!(poll_fn(|cx| Poll::Ready(acquire.as_mut().poll(cx))).await.is_pending());
                assert_eq!(left(), 1);
            });
            assert_eq!(left(), 0);
            // The control: this is what a driver would leave that gave up nothing.
            drop(with_a_created_file(&lock));
            assert_eq!(left(), 1);
        }
    }
}
