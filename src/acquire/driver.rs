//! The driver of an acquire: it answers where the machine asks, and says when to wait. Its caller
//! waits, in a thread or in a task.

use std::io;
use std::time::Duration;

use crate::acquire::backoff::{OnContention, RetryPolicy, Waiting};
use crate::acquire::wait::WaitOptions;
use crate::acquire::wait_queue::{Ticket, Waiter};
use crate::error::AcquireError;
use crate::exit::{self, Left, Registered, Within};
use crate::guard::{Guard, Reclaimed};
use crate::lock::Lock;
#[cfg(feature = "tokio")]
use crate::protocol::Listen;
use crate::protocol::{
    Acquire, Blocked, Closing, Disposition, Op, Opening, Pausing, Refusal, Then, UnknownReason,
};
use crate::record::Holder;
use crate::sys::{Deadline, LockFile, Origin, process};
use crate::trace;

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
        // The holder is probed only if it can be reported.
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
                Acquire::Creating(_) => match exit::enter() {
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
                Acquire::Blocked(blocked) => self.at_holder(blocked),
                Acquire::Listening(listening) => {
                    self.report(disposition_refusal(listening.blocked.disposition));
                    return Step::Listen(self);
                }
                Acquire::Refused(reason) if self.is_queued => {
                    self.report(reason);
                    return Step::Queue(self);
                }
                Acquire::Refused(reason) => match self.retries.for_holder() {
                    Some(time) => {
                        self.report(reason);
                        return self.sleep(time);
                    }
                    None => return Step::Ended(Err(self.refused(reason))),
                },
                Acquire::Held(guarantee) => {
                    self.file.listen_until(Deadline::default());
                    let guard = Guard::new(self.file, guarantee, self.reclaimed);
                    // The exit finds it registered.
                    drop(self.within);
                    if let Some(from) = guard.recovered_from() {
                        let pid = from.holder.as_ref().map(|holder| holder.pid);
                        trace::reclaimed(guard.path(), pid, from);
                    }
                    return Step::Ended(Ok(guard));
                }
                // Not a permission error: a program keeps a removed file open, and its name taken.
                Acquire::Failed(_) if self.file.is_being_deleted() => {
                    let contended = Refusal::Unknown(UnknownReason::Contended);
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

    fn at_holder(&mut self, blocked: Blocked) -> Acquire {
        let Self { lock, retries, ticket, .. } = self;
        let queue = retries.queue();
        let in_front = || {
            if ticket.is_none() {
                *ticket = queue.map(|waiter| Ticket::join(lock.shared_path(), waiter));
            }
            ticket.as_ref().is_none_or(Ticket::is_in_front)
        };
        match retries.at_holder(in_front) {
            OnContention::Leave => blocked.leave(),
            OnContention::Queue => {
                self.is_queued = true;
                blocked.leave()
            }
            OnContention::Listen => blocked.listen(),
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
    fn report(&mut self, reason: Refusal) {
        let on_wait = self.options.as_mut().and_then(|options| options.on_wait.as_mut());
        if on_wait.is_none() && !trace::hears_of_waits() {
            return;
        }
        let holder = Lock::known_holder(&self.file, reason);
        if self.reported.as_ref().map(Option::as_ref) == Some(holder) {
            return;
        }
        self.reported = Some(holder.cloned());
        let held = self.lock.held(&self.file, reason);
        trace::waiting(&held);
        if let Some(on_wait) = on_wait {
            on_wait(&held);
        }
    }

    /// It did not get the lock, and does not wait any longer.
    fn refused(&self, reason: Refusal) -> AcquireError {
        let held = AcquireError::Held(self.lock.held(&self.file, reason));
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
        Acquire::LockingCreated(_)
        | Acquire::Recording(_)
        | Acquire::ConfirmingCreated(_)
        | Acquire::Pausing(Pausing::Created)
        | Acquire::CleanupLocking(_)
        | Acquire::CleanupVerifying(_)
        | Acquire::CleanupUnlinking(_)
        | Acquire::Truncating(_)
        // Until it is registered.
        | Acquire::Held(_) => true,
        Acquire::Creating(_)
        | Acquire::Opening(_)
        | Acquire::CheckingAge(_)
        | Acquire::ReadingUnlocked(_)
        | Acquire::LockingExisting(_)
        | Acquire::Reading(_)
        | Acquire::Judging(_)
        | Acquire::Confirming(_)
        | Acquire::Unlinking(_)
        | Acquire::Blocked(_)
        | Acquire::Revalidating(_)
        | Acquire::Subscribing(_)
        | Acquire::Rechecking(_)
        | Acquire::Retrying(_)
        | Acquire::Listening(_)
        | Acquire::Closing(_)
        | Acquire::Pausing(Pausing::Closed(_) | Pausing::Denied(_))
        | Acquire::Refused(_)
        | Acquire::Failed(_) => false,
    }
}

/// What a refusal would say of a file that is waited for.
fn disposition_refusal(disposition: Disposition) -> Refusal {
    match disposition {
        Disposition::Final(refusal) => refusal,
        Disposition::NotFinal(unsure) => Refusal::Unknown(unsure),
    }
}

/// The same of what is tried again.
fn pause_refusal(pause: Pausing) -> Refusal {
    Refusal::Unknown(match pause {
        Pausing::Closed(unsure) => unsure,
        Pausing::Created | Pausing::Denied(_) => UnknownReason::Contended,
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
            self.state = listening.on_wait_event(reply);
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
                Acquire::Blocked(blocked) => blocked.leave(),
                Acquire::Listening(listening) => listening.on_wait_event(Listen::Over),
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
mod tests;
