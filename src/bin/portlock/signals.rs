//! Signals while portlock takes a lock, or is about to become the command.
//!
//! They are blocked, and each one acts where nothing is half done, by its own default action. No
//! handler is installed. So what is ignored stays ignored, and a signal that comes just before the
//! exec is not lost: it is pending, and acts when it is unblocked.

use std::io;

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use portlock::CancelToken;

use crate::status_code::of_signal;

/// The signals that end a wait for the lock, and that are handed on to the command.
pub(crate) const HANDLED: [Signal; 6] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// Signals that portlock blocks. The caller's own blocked signals are not among them: they stay
/// blocked, for the command too.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Blocked(SigSet);

impl Blocked {
    /// Blocks them in this thread.
    pub(crate) fn here() -> io::Result<Self> {
        let before = SigSet::thread_get_mask()?;
        Self::these(HANDLED.into_iter().filter(|&signal| !before.contains(signal)))
    }

    /// Blocks these, which the parent has blocked already.
    pub(crate) fn these(signals: impl IntoIterator<Item = Signal>) -> io::Result<Self> {
        let set: SigSet = signals.into_iter().collect();
        set.thread_block()?;
        Ok(Self(set))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Signal> {
        self.0.iter()
    }

    /// A signal that came acts now, and others when they come.
    pub(crate) fn unblock(&self) -> io::Result<()> {
        Ok(self.0.thread_unblock()?)
    }

    pub(crate) fn block_again(&self) -> io::Result<()> {
        Ok(self.0.thread_block()?)
    }

    /// The same, except for these: they stay blocked until the process ends.
    pub(crate) fn without(&self, signals: &[Signal]) -> Self {
        Self(self.0.iter().filter(|signal| !signals.contains(signal)).collect())
    }
}

/// Sees which of the blocked signals came, and ends a wait for the lock by it.
pub(crate) struct Watch {
    blocked: Blocked,
    #[cfg(target_os = "linux")]
    pending: Pending,
}

/// What is readable while a signal is pending (signalfd(2)).
#[cfg(target_os = "linux")]
struct Pending {
    signals: nix::sys::signalfd::SignalFd,
    cancel: CancelToken,
}

impl Watch {
    pub(crate) fn new(blocked: Blocked) -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        let pending = {
            use nix::sys::signalfd::{SfdFlags, SignalFd};
            use std::os::fd::AsFd;
            // An ignored signal that is blocked is pending nevertheless, and must end no wait.
            let ending = blocked.iter().filter(|&signal| !crate::ignored::is_ignored(signal));
            let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
            let signals = SignalFd::with_flags(&ending.collect(), flags)?;
            let cancel = CancelToken::from_fd(signals.as_fd().try_clone_to_owned()?);
            Pending { signals, cancel }
        };
        Ok(Self {
            blocked,
            #[cfg(target_os = "linux")]
            pending,
        })
    }

    /// What ends a wait when a signal comes. `None` where nothing does: then a wait must be short,
    /// and [`act`](Self::act) comes between two of them.
    pub(crate) fn cancel(&self) -> Option<&CancelToken> {
        #[cfg(target_os = "linux")]
        return Some(&self.pending.cancel);
        #[cfg(not(target_os = "linux"))]
        return None;
    }

    /// Whether a signal is pending that would end this process. Not known everywhere.
    pub(crate) fn is_signalled(&self) -> bool {
        self.cancel().is_some_and(CancelToken::is_cancelled)
    }

    /// Lets the signals act that came. To be called while nothing is held: they end this process.
    ///
    /// # Errors
    ///
    /// The exit status, where a signal came that cannot end this process: the kernel keeps those
    /// without a handler from the first process of a container.
    pub(crate) fn act(&self) -> Result<(), u8> {
        #[cfg(target_os = "linux")]
        if is_first_process() {
            if let Ok(Some(came)) = self.pending.signals.read_signal() {
                return Err(of_signal(i32::try_from(came.ssi_signo).unwrap_or(0)));
            }
        }
        // Where that fails, the signals act at the next call.
        let _ = self.blocked.0.thread_swap_mask(SigmaskHow::SIG_UNBLOCK);
        let _ = self.blocked.block_again();
        Ok(())
    }
}

/// Ends this process by `signal`, as the command was ended: so a shell ends its loop at Ctrl-C, and
/// shows 128 + `signal` as the status. Returns that number where the process cannot end so.
pub(crate) fn end_by(signal: i32) -> u8 {
    if !is_first_process() {
        without_core_dump();
        let _ = signal_hook::low_level::emulate_default_handler(signal);
    }
    of_signal(signal)
}

/// The first process of a container ends by no signal of its own.
fn is_first_process() -> bool {
    std::process::id() == 1
}

/// The command has left its own, if it was to.
fn without_core_dump() {
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_dumpable(false);
    #[cfg(not(target_os = "linux"))]
    {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};
        let _ = getrlimit(Resource::RLIMIT_CORE)
            .and_then(|(_, most)| setrlimit(Resource::RLIMIT_CORE, 0, most));
    }
}
