//! On Windows: Ctrl-C and Ctrl-Break are left to the command, which has them from the console as
//! well; what is run ends with us, and its whole exit code is ours.

use std::io;
use std::process::{Child, ExitStatus};

use portlock::CancelToken;

/// The console's events do not end us from here on.
pub(crate) struct Signals(CancelToken);

impl Signals {
    pub(crate) fn new() -> io::Result<Self> {
        portlock::keep_console_events().map(Self)
    }

    /// An event that came since the last call, while there was no command that could have had it,
    /// as the signal that it is elsewhere.
    pub(crate) fn that_came(&mut self) -> Option<i32> {
        portlock::console_event()
    }

    /// Is told of each event from now on.
    pub(crate) fn cancel(&self) -> io::Result<CancelToken> {
        Ok(self.0.clone())
    }

    /// Returns when `child` has ended. It shares our console, so what comes from there it has too.
    pub(crate) fn until_the_end_of(self, child: &mut Child) -> io::Result<ExitStatus> {
        child.wait()
    }
}

/// Ends with the exit code of the command, if it is one of those of 32 bits that an `ExitCode` has
/// no room for.
pub(crate) fn exit_if_wide(ended: ExitStatus) {
    if let Some(code) = ended.code().filter(|&code| u8::try_from(code).is_err()) {
        std::process::exit(code);
    }
}
