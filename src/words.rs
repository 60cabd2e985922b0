//! The words for what the machines and the judge say: their own files know no words for people.

use std::fmt;

use crate::protocol::{Guarantee, Refusal, UnknownReason};

impl fmt::Display for Guarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KernelLock => "kernel lock",
            Self::ExclusiveCreate => "exclusive create",
        })
    }
}

impl fmt::Display for Refusal {
    /// A clause: "the recorded holder is alive".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Holder => f.write_str("the recorded holder is alive"),
            Self::Unknown(reason) => reason.fmt(f),
        }
    }
}

impl UnknownReason {
    /// A word for programs, as in the command's JSON: `being-created`. It never changes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BeingCreated => "being-created",
            Self::Unreadable => "unreadable",
            Self::HolderExited => "holder-exited",
            Self::CannotProbe => "cannot-probe",
            Self::OtherMachine => "other-machine",
            Self::NoSharedLock => "no-shared-lock",
            Self::NoKernelLocks => "no-kernel-locks",
            Self::Contended => "contended",
            Self::CannotWatch => "cannot-watch",
        }
    }
}

impl fmt::Display for UnknownReason {
    /// A clause: "the lock file has no record yet".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BeingCreated => "the lock file has no record yet",
            Self::Unreadable => "the lock file has no readable record, and another process has it locked",
            Self::HolderExited => "the recorded process is gone, but its kernel lock is still held",
            Self::CannotProbe => "the state of the recorded process cannot be checked from here",
            Self::OtherMachine => {
                "the record is of another machine, or of this one under another name"
            }
            Self::NoSharedLock => {
                "the recorded process shares no kernel lock with this one, and cannot be checked from here"
            }
            Self::NoKernelLocks => "the filesystem has no kernel locks",
            Self::Contended => "the lock changed hands at every try",
            Self::CannotWatch => "whether the lock file is locked cannot be seen from here",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_is_one_clause() {
        let mut texts = Vec::new();
        for reason in UnknownReason::ALL {
            assert_eq!(Refusal::Unknown(reason).to_string(), reason.to_string());
            texts.push(reason.to_string());
        }
        texts.push(Refusal::Holder.to_string());
        texts.push(Guarantee::KernelLock.to_string());
        texts.push(Guarantee::ExclusiveCreate.to_string());
        for text in &texts {
            let is_clause = text.starts_with(|c: char| c.is_ascii_lowercase())
                && !text.ends_with('.')
                && !text.contains(['\n', ';']);
            assert!(is_clause, "{text}");
        }
        texts.sort();
        texts.dedup();
        assert_eq!(texts.len(), 12, "each has its own");
    }
}
