//! On Windows portlock itself holds the lock, because no kernel lock can be passed to another process.
//! The command is in a job that ends with portlock. It gets Ctrl-C and Ctrl-Break from the console
//! as portlock does, which leaves them to it.

use std::io;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use portlock::CancelToken;
use win32job::{ExtendedLimitInfo, Job};

use crate::output::say;
use crate::run::{Run, release};
use crate::status_code::{CANNOT_RUN, SYSTEM, of_signal};

/// SIGINT, as the C library of Windows numbers it.
const INTERRUPT: i32 = 2;

/// Sees the events of the console, which do not end portlock from here on.
pub(crate) struct Watch {
    cancel: CancelToken,
    came: Arc<AtomicBool>,
}

impl Watch {
    fn new() -> io::Result<Self> {
        let (cancel, came) = (CancelToken::new()?, Arc::new(AtomicBool::new(false)));
        let (token, noted) = (cancel.clone(), came.clone());
        let on_event = move || {
            noted.store(true, Ordering::SeqCst);
            token.cancel();
        };
        ctrlc::set_handler(on_event).map_err(io::Error::other)?;
        Ok(Self { cancel, came })
    }

    /// What ends a wait when an event comes.
    pub(crate) fn cancel(&self) -> Option<&CancelToken> {
        Some(&self.cancel)
    }

    /// Whether an event came.
    pub(crate) fn is_signalled(&self) -> bool {
        self.came.load(Ordering::SeqCst)
    }

    /// Ends portlock, while nothing is held, if an event came.
    ///
    /// # Errors
    ///
    /// The exit status.
    pub(crate) fn act(&self) -> Result<(), u8> {
        if self.is_signalled() { Err(of_signal(INTERRUPT)) } else { Ok(()) }
    }
}

/// Takes the lock, runs the command, and returns the exit status when it has ended.
pub(crate) fn supervise(run: &Run) -> u8 {
    supervised(run).unwrap_or_else(|status| status)
}

fn supervised(run: &Run) -> Result<u8, u8> {
    let watch = Watch::new().map_err(|error| {
        say(&format!("cannot watch for signals: {error}"));
        SYSTEM
    })?;
    let guard = run.lock(&watch, || Ok(()))?;
    let tied = match &guard {
        Some(_) if !run.keeps_lock_from_command() => Some(Tied::new()?),
        _ => None,
    };
    let ended =
        run.to_run().spawn().map_err(|error| (CANNOT_RUN, run.cannot_run(&error))).and_then(
            |mut child| {
                let ended = child.wait();
                ended.map_err(|error| (SYSTEM, format!("cannot wait for the command: {error}")))
            },
        );
    // What the command has left behind goes on.
    drop(tied);
    // Before any message, so that a script that reads it can start again.
    let left = guard.and_then(release);
    let ended = ended.map_err(|(status, reason)| {
        say(&reason);
        status
    });
    if let Some(left) = left {
        say(&left);
    }
    ended.map(status_of)
}

/// The exit code of the command. Ends here if it is one of those of 32 bits that an `ExitCode` has
/// no room for.
fn status_of(ended: ExitStatus) -> u8 {
    let code = ended.code().unwrap_or(i32::from(u8::MAX));
    u8::try_from(code).unwrap_or_else(|_| std::process::exit(code))
}

/// This process and those that it starts: the end of this one ends all of them
/// ([job objects](https://learn.microsoft.com/windows/win32/procthread/job-objects)), because it has
/// the only handle of their job.
struct Tied(Job);

impl Tied {
    fn new() -> Result<Self, u8> {
        let job = Job::create_with_limit_info(ExtendedLimitInfo::new().limit_kill_on_job_close());
        let tied = job.and_then(|job| {
            job.assign_current_process()?;
            Ok(Self(job))
        });
        tied.map_err(|error| {
            say(&format!(
                "cannot have the command end with portlock: {error}; -o runs it without that"
            ));
            SYSTEM
        })
    }
}

impl Drop for Tied {
    /// Without this the end of the job would be that of this process.
    fn drop(&mut self) {
        let _ = self.0.set_extended_limit_info(ExtendedLimitInfo::new().clear_limits());
    }
}
