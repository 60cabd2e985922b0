//! A refusal and its text: the holder as far as it is known, and what to do.

use std::fmt;
use std::path::PathBuf;

use crate::percy;
use crate::protocol::{Refusal, UnknownReason};
use crate::record::{Holder, printable};
use crate::subject::Subject;

/// Another participant holds the lock, or may hold it (S4).
///
/// `{}` is one line, with the path. `{:#}` has the path and the [next step](Self::next_step) in lines
/// of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Held {
    /// The recorded holder; `None` where no record could be read. [`reason`](Self::reason) says whether it
    /// certainly holds the lock.
    pub holder: Option<Holder>,
    /// The lock file, from the root.
    pub path: PathBuf,
    /// What the refusal rests on.
    pub reason: Refusal,
    /// Which lock.
    pub(crate) subject: Subject,
    /// The processes that share the kernel lock though the recorded holder is gone
    /// ([`UnknownReason::HolderExited`]): children of it that inherited the lock file, in ascending order.
    /// Only Linux reports them, only for processes that this one may inspect, and for no more than
    /// 20,000 open files. Empty elsewhere.
    pub locked_by: Vec<u32>,
}

impl Held {
    pub(crate) fn of(
        subject: Subject,
        path: PathBuf,
        holder: Option<Holder>,
        reason: Refusal,
    ) -> Self {
        Self { holder, path, reason, subject, locked_by: Vec::new() }
    }

    /// The port that was asked for; `None` for a lock that is not a port's.
    pub fn port(&self) -> Option<u16> {
        self.subject.port()
    }

    /// The name that was asked for; `None` for a lock that has none.
    pub fn name(&self) -> Option<&str> {
        self.subject.name()
    }

    /// The words that Percy's agent had for a port in use, for callers whose users or tools search
    /// for them (S13): "Percy is already running or the port 5338 is in use". `None` without a port.
    ///
    /// It names no holder: show the refusal itself next to it.
    pub fn percy_message(&self) -> Option<String> {
        self.port().map(percy::message)
    }

    /// What is known, in one line without the path: "port 5338 is locked by pid 20211 (node, since
    /// 2026-11-23 02:09:04 UTC)".
    pub fn summary(&self) -> String {
        Headline::of(self).to_string()
    }

    /// What a person can do about it, and a program for that person.
    pub fn next_step(&self) -> String {
        let another = match self.subject {
            Subject::Port(_) => "use another port",
            Subject::Name(_) => "use another name",
            Subject::Path => "use another path",
        };
        let unsure = match self.reason {
            Refusal::Holder => return format!("stop that process, or {another}"),
            Refusal::Unknown(unsure) => unsure,
        };
        match unsure {
            UnknownReason::BeingCreated => "try again in two seconds",
            UnknownReason::Unreadable => "try again",
            UnknownReason::HolderExited if !self.locked_by.is_empty() => {
                return format!("wait for {} to end, or stop it", Pids(&self.locked_by));
            }
            UnknownReason::HolderExited => {
                "try again; if it stays, stop the command that the recorded process started"
            }
            UnknownReason::CannotProbe => {
                return format!("stop that process where it runs, or {another}");
            }
            UnknownReason::OtherMachine => {
                "if that machine no longer runs it, remove the lock with Lock::force_clear; or use \
                 a directory that is not shared"
            }
            UnknownReason::NoSharedLock => {
                "if that process no longer runs, remove the lock with Lock::force_clear; or use a \
                 directory on a local disk"
            }
            UnknownReason::NoKernelLocks => {
                "if that process no longer runs, remove the lock with Lock::force_clear; or use a \
                 directory on a filesystem with kernel locks"
            }
            UnknownReason::Contended => "try again",
            UnknownReason::CannotWatch => "try to acquire it: that finds out",
        }
        .to_owned()
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (headline, path) = (Headline::of(self), self.path.display());
        if f.alternate() {
            write!(f, "{headline}\n  lock file: {path}\n  next step: {}", self.next_step())
        } else {
            write!(f, "{headline} (lock file {path})")
        }
    }
}

/// Says what is known of a lock that is, or may be, held: "port 5338 is locked by pid 20211
/// (node, since 2026-11-23 02:09:04 UTC)".
pub(crate) struct Headline<'a> {
    pub(crate) subject: &'a Subject,
    pub(crate) holder: Option<&'a Holder>,
    pub(crate) reason: Refusal,
    pub(crate) locked_by: &'a [u32],
}

impl<'a> Headline<'a> {
    fn of(held: &'a Held) -> Self {
        let Held { holder, reason, subject, locked_by, path: _ } = held;
        Self { subject, holder: holder.as_ref(), reason: *reason, locked_by }
    }
}

impl fmt::Display for Headline<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = self.subject;
        let recorded = Recorded(self.holder);
        match self.reason {
            Refusal::Holder => write!(f, "{subject} is locked by {recorded}"),
            Refusal::Unknown(unsure) => match unsure {
                UnknownReason::BeingCreated => {
                    write!(f, "{subject} is being locked: its lock file has no record yet")
                }
                UnknownReason::Unreadable => write!(
                    f,
                    "{subject} is locked by another process, and its lock file has no readable \
                     record"
                ),
                UnknownReason::HolderExited if !self.locked_by.is_empty() => write!(
                    f,
                    "{subject} is locked: the recorded process, {recorded}, is gone, but its lock \
                     is still held by {}",
                    Pids(self.locked_by)
                ),
                UnknownReason::HolderExited => write!(
                    f,
                    "{subject} is locked: the recorded process, {recorded}, is gone, but its lock \
                     is still held by a child of it, or is just being taken over"
                ),
                // An acquire has found the kernel lock taken; a query may not know.
                UnknownReason::CannotProbe => write!(
                    f,
                    "{subject} may be locked by {recorded}{}, whose state cannot be checked from \
                     here",
                    On(self.holder)
                ),
                UnknownReason::OtherMachine => write!(
                    f,
                    "{subject} may be locked on another machine, or was on this one under another \
                     name, by {recorded}{}",
                    On(self.holder)
                ),
                UnknownReason::NoSharedLock => write!(
                    f,
                    "{subject} may be locked by {recorded}{}, which has no kernel lock that can be \
                     seen from here (another container or mount, a copy of its file, or no kernel locks)",
                    On(self.holder)
                ),
                UnknownReason::NoKernelLocks => write!(
                    f,
                    "{subject} may be locked by {recorded}; this filesystem has no kernel locks, \
                     so a stale lock looks the same as a live one"
                ),
                UnknownReason::Contended => write!(f, "{subject} changed hands at every try"),
                UnknownReason::CannotWatch => write!(
                    f,
                    "{subject} may be locked; the recorded holder is {recorded}, and whether the \
                     file is locked cannot be seen from here"
                ),
            },
        }
    }
}

/// The holder, or that there is no record of one.
pub(crate) struct Recorded<'a>(pub(crate) Option<&'a Holder>);

impl fmt::Display for Recorded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(holder) => holder.fmt(f),
            None => f.write_str("a process that left no readable record"),
        }
    }
}

/// " on build-7", if the record names a machine.
pub(crate) struct On<'a>(pub(crate) Option<&'a Holder>);

impl fmt::Display for On<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.and_then(|holder| holder.host.as_deref()).and_then(printable) {
            Some(host) => write!(f, " on {host}"),
            None => Ok(()),
        }
    }
}

/// "pid 20215", "pids 20215 and 20216".
struct Pids<'a>(&'a [u32]);

impl fmt::Display for Pids<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((last, others)) = self.0.split_last() else { return f.write_str("no process") };
        if others.is_empty() {
            return write!(f, "pid {last}");
        }
        let others: Vec<_> = others.iter().map(u32::to_string).collect();
        write!(f, "pids {} and {last}", others.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(reason: Refusal) -> Held {
        let holder = Holder::parse(
            br#"{"pid":20211,"port":5338,"startedAt":"2026-11-23T02:09:04.848Z","command":"node"}"#,
        );
        Held::of(Subject::Port(5338), "/h/agent-5338.lock".into(), holder, reason)
    }

    #[test]
    fn refusal_has_pid_command_time_path_and_advice() {
        let held = held(Refusal::Holder);
        assert_eq!(
            format!("{held:#}"),
            "port 5338 is locked by pid 20211 (node, since 2026-11-23 02:09:04 UTC)\n  \
             lock file: /h/agent-5338.lock\n  \
             next step: stop that process, or use another port"
        );
        assert_eq!(held.to_string(), format!("{} (lock file /h/agent-5338.lock)", held.summary()));
    }

    #[test]
    fn only_a_known_holder_is_said_to_hold() {
        for unsure in UnknownReason::ALL {
            let held = held(Refusal::Unknown(unsure));
            let message = held.to_string();
            assert!(!message.contains("is locked by pid"), "{message}");
            // That would be the race that this crate is there to avoid.
            assert!(!held.next_step().contains("lock file"), "{held:#}");
        }
    }

    #[test]
    fn refusal_names_children_that_still_hold_the_lock() {
        let mut held = held(Refusal::Unknown(UnknownReason::HolderExited));
        assert!(held.to_string().contains("is gone, but its lock is still held by a child"));
        assert!(held.next_step().contains("stop the command that the recorded process started"));
        held.locked_by = vec![20215];
        assert!(held.to_string().contains("is gone, but its lock is still held by pid 20215"));
        assert!(held.next_step().contains("pid 20215"), "{held}");
        held.locked_by = vec![1, 2, 3];
        assert!(held.to_string().contains("still held by pids 1, 2 and 3"), "{held}");
    }

    #[test]
    fn refusal_has_the_port_or_the_name() {
        let mut held = held(Refusal::Holder);
        assert_eq!((held.port(), held.name()), (Some(5338), None));
        held.subject = Subject::Name("build".to_owned());
        assert_eq!((held.port(), held.name()), (None, Some("build")));
    }

    #[test]
    fn machine_is_named_where_the_record_has_one() {
        let mut holder = Holder::new(7);
        assert_eq!(On(Some(&holder)).to_string(), "");
        holder.host = Some("build-7".to_owned());
        assert_eq!(On(Some(&holder)).to_string(), " on build-7");
    }

    #[test]
    fn the_old_words_are_there_for_ports_alone() {
        let mut held = held(Refusal::Holder);
        let words = "Percy is already running or the port 5338 is in use";
        assert_eq!(held.percy_message().as_deref(), Some(words));
        held.subject = Subject::Name("build".to_owned());
        assert_eq!(held.percy_message(), None);
        assert!(held.to_string().starts_with("lock build is locked by pid 20211"), "{held}");
    }
}
