//! Keeps signals for the command, waits for it, and hands them on.

use std::io;
use std::os::unix::net::UnixStream;
use std::process::{Child, ExitStatus};

use portlock::CancelToken;
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::origin::{Origin, WithOrigin};
use signal_hook::low_level::pipe;

/// The signals that are handed on, if they were not ignored when we started.
const HANDED_ON: [i32; 6] = [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2];

/// Signals are kept from here on, for a command that is yet to start.
pub(crate) struct Signals {
    kept: SignalsInfo<WithOrigin>,
    handled: Vec<i32>,
}

impl Signals {
    pub(crate) fn new() -> io::Result<Self> {
        // An ignored signal stays ignored, as under nohup, and the command inherits that.
        let handled: Vec<i32> =
            HANDED_ON.into_iter().filter(|&signal| !portlock::is_ignored(signal)).collect();
        let and_its_end = handled.iter().copied().chain([SIGCHLD]);
        // Without the last the command's end would never be told. A parent that takes its own
        // from a file has it blocked, and we inherit that.
        let kept = portlock::undisturbed(SIGCHLD, || SignalsInfo::new(and_its_end))?;
        Ok(Self { kept, handled })
    }

    /// Told by the next signal that is handed on. It goes on telling for as long as we live, which
    /// costs a signal one write.
    pub(crate) fn cancel(&self) -> io::Result<CancelToken> {
        let (told, tell) = UnixStream::pair()?;
        for &signal in &self.handled {
            pipe::register(signal, tell.try_clone()?)?;
        }
        Ok(CancelToken::from_fd(told))
    }

    /// A signal that came since the start: there is no command yet that it could be meant for. It
    /// is not kept any longer.
    pub(crate) fn that_came(&mut self) -> Option<i32> {
        self.kept.pending().map(|origin| origin.signal).find(|&signal| signal != SIGCHLD)
    }

    /// Returns when `child` has ended.
    ///
    /// Only this thread reaps it, so its number is its own at every signal that is sent to it.
    pub(crate) fn until_the_end_of(mut self, child: &mut Child) -> io::Result<ExitStatus> {
        let command = Pid::from_child(child);
        // What came until now is handed on whoever sent it: before the fork it came to us alone,
        // and between fork and exec to our handler in the child. A key that is typed between the
        // exec and this line reaches the command twice, since it cannot be told from those.
        for origin in self.kept.pending().filter(|origin| !is_own(origin, command)) {
            send(command, origin.signal);
        }
        loop {
            if let Some(ended) = child.try_wait()? {
                return Ok(ended);
            }
            for origin in self.kept.wait() {
                if !is_own(&origin, command) && !had_it_too(&origin, command) {
                    send(command, origin.signal);
                }
            }
        }
    }
}

/// What the command itself caused: its end, or a signal to its parent. It wants neither back.
fn is_own(origin: &Origin, command: Pid) -> bool {
    origin.signal == SIGCHLD
        || origin.process.is_some_and(|sender| sender.pid == command.as_raw_pid())
}

/// Whether the command had this signal from where we had it. A second INT means "now!" to many.
///
/// A process sends to one. The terminal sends to its whole foreground group, in which the command
/// is if it is in ours; other than for a hang-up, which it tells to the session's leader alone.
fn had_it_too(origin: &Origin, command: Pid) -> bool {
    let by_the_terminal = origin.process.is_none();
    // Not by rustix, for which a group or session outside of our container is a defect.
    let to_us_alone = origin.signal == SIGHUP && portlock::leads_its_session();
    let in_our_group = portlock::is_in_our_group(command.as_raw_pid());
    by_the_terminal && !to_us_alone && in_our_group
}

/// Sends to a process that is not reaped yet. An error tells that we may not, as with a command
/// that changed its user, and nothing else can be done.
fn send(command: Pid, signal: i32) {
    if let Some(signal) = Signal::from_named_raw(signal) {
        let _ = kill_process(command, signal);
    }
}
