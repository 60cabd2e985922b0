//! One call of the shipped adapter, compared with the reply of the model.

use std::io;
use std::time::{Instant, SystemTime};

use portlock::Adapter;
use portlock::protocol::{
    Confirm, Create, Dated, Done, FileSystem, Listen, LockReply, OpenReply, Probed, ReadReply,
    Unlink, Watch,
};

use super::{CUT_SHORT, Differs, Kernel, LATE, STALLS, ago, went_wrong};
use crate::conformance::witness::Witness;
use crate::scenario::machines::Reply;
use crate::scenario::state::{Content, Listens, State, Who};

/// One call of the shipped adapter, whose reply must be the model's.
///
/// Where the real state cannot be made to give a reply, the model's is given **instead** and no
/// call is made: a probe, a call that fails, a lock on a filesystem without locks, and a watch that
/// reports unknown.
pub struct InLockStep<'k, 'a> {
    pub(super) kernel: &'k mut Kernel<'a>,
    pub(super) before: &'k State,
    pub(super) who: Who,
    pub(super) expected: Reply,
    pub(super) after: &'k State,
    pub(super) got: Option<Reply>,
    pub(super) trouble: Option<Differs>,
}

impl InLockStep<'_, '_> {
    /// Whether there was exactly one call, with the model's reply.
    pub fn end(self) -> Result<(), Differs> {
        if let Some(trouble) = self.trouble {
            return Err(trouble);
        }
        match self.got {
            Some(got) if got == self.expected => Ok(()),
            Some(got) => Err(format!("the reply is {got:?}, and {:?} in the model", self.expected)),
            None => Err("no call was made".to_owned()),
        }
    }

    /// Makes the call, or gives the model's reply instead.
    fn call<T: Copy>(
        &mut self,
        instead: Option<T>,
        of: impl FnOnce(T) -> Reply,
        call: impl FnOnce(&mut dyn Adapter) -> T,
    ) -> Option<T> {
        if self.got.is_some() {
            self.trouble = Some("a second call in one step".to_owned());
        }
        let reply = match (instead, &mut self.kernel.participants[usize::from(self.who)].adapter) {
            (Some(reply), _) => {
                self.kernel.calls.instead += 1;
                reply
            }
            (None, Some(adapter)) => {
                self.kernel.calls.made += 1;
                call(&mut **adapter)
            }
            (None, None) => {
                self.trouble = Some("a child makes a call of its parent's".to_owned());
                return None;
            }
        };
        self.got = Some(of(reply));
        Some(reply)
    }

    /// Whether an event of the model is spurious: none was kept, and the lock was not granted.
    fn is_spurious(&self) -> bool {
        let open = self.after.participant(self.who).open;
        let file = self.after.open_inode(self.who).and_then(|inode| self.after.file(inode));
        let is_ours = file.is_some_and(|file| file.lock.is_some() && file.lock == open);
        self.before.participant(self.who).listens == Listens::No && !is_ours
    }

    /// Whether the name is being deleted, which the system itself denies. Any other denial is a
    /// fault.
    fn is_pending(&self) -> bool {
        self.before.named().is_some_and(|file| file.pending)
    }

    fn witness(&mut self) -> Option<&mut Witness> {
        self.kernel.witness_of(self.before, self.who)
    }

    fn noted(&mut self, done: io::Result<()>, what: &'static str) {
        if let Err(error) = done {
            self.trouble = Some(went_wrong(what)(error));
        }
    }

    /// A failed write may leave a part of the record.
    fn fail_to_write(&mut self) {
        let (before, who) = (self.before, self.who);
        let left = before
            .open_inode(who)
            .and_then(|inode| self.after.file(inode))
            .map(|file| file.content);
        let Some(witness) = self.witness() else { return };
        let part = if left == Some(Content::Unreadable) { CUT_SHORT } else { b"" };
        let done = witness.fill(part);
        self.noted(done, "leave a part of the record");
    }
}

/// An expected failure, which is given instead of a call.
macro_rules! failure {
    ($self:ident, $op:ident, $failed:expr) => {
        matches!($self.expected, Reply::$op(reply) if reply == $failed).then_some($failed)
    };
}

impl FileSystem for InLockStep<'_, '_> {
    fn create(&mut self) -> Create {
        let denied = failure!(self, Create, Create::Denied).filter(|_| !self.is_pending());
        let instead = failure!(self, Create, Create::Failed).or(denied);
        let reply = self.call(instead, Reply::Create, |fs| fs.create()).unwrap_or(Create::Failed);
        if let (Create::Created, Some(inode)) = (reply, self.after.path) {
            let seen = self.kernel.see_new_file(inode);
            self.noted(seen, "see the new file");
        }
        reply
    }

    fn open(&mut self) -> OpenReply {
        let denied = failure!(self, Open, OpenReply::Denied).filter(|_| !self.is_pending());
        let instead = failure!(self, Open, OpenReply::Failed).or(denied);
        self.call(instead, Reply::Open, |fs| fs.open()).unwrap_or(OpenReply::Failed)
    }

    fn age(&mut self) -> Dated {
        let expected = self.expected;
        // In the model a file may look young or old at any time, so its time is set to match.
        let dated = match (self.witness(), expected) {
            (Some(witness), Reply::Age(Dated::Known(age))) => {
                witness.date(SystemTime::now() - ago(age))
            }
            _ => Ok(()),
        };
        self.noted(dated, "set a file's time");
        let failed = failure!(self, Age, Dated::Failed);
        let may_be_odd = self.kernel.times_are_odd;
        let mut odd = false;
        let look = |fs: &mut dyn Adapter| match (fs.age(), expected) {
            (Dated::Known(reported), Reply::Age(Dated::Known(age))) if may_be_odd => {
                odd = reported != age;
                Dated::Known(age)
            }
            (reported, _) => reported,
        };
        let reply = self.call(failed, Reply::Age, look).unwrap_or(Dated::Failed);
        self.kernel.calls.odd_ages += u64::from(odd);
        reply
    }

    fn lock(&mut self) -> LockReply {
        let instead = match self.expected {
            Reply::Lock(reply @ (LockReply::Failed | LockReply::Unsupported)) => Some(reply),
            _ => None,
        };
        self.call(instead, Reply::Lock, |fs| fs.lock()).unwrap_or(LockReply::Failed)
    }

    fn subscribe(&mut self) {
        let _ = self.call(None, |()| Reply::Arm, |fs| fs.subscribe());
    }

    fn wait_event(&mut self) -> Listen {
        let instead = match self.expected {
            Reply::Listen(reply @ (Listen::Over | Listen::Failed)) => Some(reply),
            Reply::Listen(reply) if self.is_spurious() => Some(reply),
            _ => None,
        };
        let began = Instant::now();
        let reply =
            self.call(instead, Reply::Listen, |fs| fs.wait_event()).unwrap_or(Listen::Failed);
        self.kernel.calls.late += u64::from(began.elapsed() > LATE);
        if self.kernel.calls.late > STALLS {
            self.trouble =
                Some("the system reports no event, and there is one in the model".into());
        }
        reply
    }

    fn write(&mut self) -> Done {
        let failed = failure!(self, Write, Done::Failed);
        let reply = self.call(failed, Reply::Write, |fs| fs.write()).unwrap_or(Done::Failed);
        if reply == Done::Failed {
            self.fail_to_write();
        }
        reply
    }

    fn read(&mut self) -> ReadReply {
        let failed = failure!(self, Read, ReadReply::Failed);
        self.call(failed, Reply::Read, |fs| fs.read()).unwrap_or(ReadReply::Failed)
    }

    fn probe(&mut self) -> Probed {
        let instead = match self.expected {
            Reply::Probe(evidence) => Some(evidence),
            _ => None,
        };
        self.call(instead, Reply::Probe, |fs| fs.probe()).unwrap_or(Probed::Failed)
    }

    fn confirm(&mut self) -> Confirm {
        let failed = failure!(self, Confirm, Confirm::Failed);
        self.call(failed, Reply::Confirm, |fs| fs.confirm()).unwrap_or(Confirm::Failed)
    }

    fn unlink(&mut self) -> Unlink {
        let failed = failure!(self, Unlink, Unlink::Failed);
        self.call(failed, Reply::Unlink, |fs| fs.unlink()).unwrap_or(Unlink::Failed)
    }

    fn truncate(&mut self) -> Done {
        let failed = failure!(self, Void, Done::Failed);
        self.call(failed, Reply::Void, |fs| fs.truncate()).unwrap_or(Done::Failed)
    }

    fn query_lock(&mut self) -> Watch {
        let Reply::Watch(expected) = self.expected else { return Watch::Unknown };
        let unknown = (expected == Watch::Unknown).then_some(Watch::Unknown);
        let mut is_unknown = false;
        let look = |fs: &mut dyn Adapter| match fs.query_lock() {
            // A system may report unknown at any time, and the model covers both replies.
            Watch::Unknown => {
                is_unknown = true;
                expected
            }
            reported => reported,
        };
        let reply = self.call(unknown, Reply::Watch, look).unwrap_or(Watch::Unknown);
        self.kernel.calls.unknown += u64::from(is_unknown);
        reply
    }

    fn close(&mut self) {
        let _ = self.call(None, |()| Reply::Close, |fs| fs.close());
    }

    fn close_without_unlock(&mut self) {
        let real = &mut self.kernel.participants[usize::from(self.who)];
        if real.adapter.is_none() {
            real.inherited = None;
            self.got = Some(Reply::Leave);
            return;
        }
        let _ = self.call(None, |()| Reply::Leave, |fs| fs.close_without_unlock());
    }
}
