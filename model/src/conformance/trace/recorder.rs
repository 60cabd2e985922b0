//! Writes a line before and after each call of a real process.

use std::fmt;
use std::io::Write;
use std::time::Duration;

use portlock::protocol::{
    Confirm, Create, Dated, Done, FileSystem, Listen, LockReply, OpenReply, Probed, ReadReply,
    Unlink, Watch,
};
use rustix::time::{ClockId, clock_gettime};

use crate::scenario::machines::{Op, Reply};

/// The time by the clock that all processes share.
pub fn now() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32)
}

/// Begins every line of a trace.
pub(super) const MARK: &str = "trace ";

/// Writes what a participant does, a line before each call and one after it.
pub struct Recorder<F, W> {
    fs: F,
    out: W,
    /// The next call of each of these operations is not made, and fails.
    pub fails: Vec<Op>,
    /// The next call of this reply's operation that is replied to in another way gets this reply.
    pub lies: Option<Reply>,
}

impl<F: FileSystem, W: Write> Recorder<F, W> {
    pub fn new(fs: F, out: W) -> Self {
        Self { fs, out, fails: Vec::new(), lies: None }
    }

    /// Notes what the driver decides.
    pub fn note(&mut self, what: fmt::Arguments<'_>) {
        let line = format!("{MARK}{} {what}\n", now().as_nanos());
        // Nobody reads any more: the run is over.
        let _ = self.out.write_all(line.as_bytes()).and_then(|()| self.out.flush());
    }

    fn call<T: Copy>(&mut self, op: Op, call: impl FnOnce(&mut F) -> T, of: fn(T) -> Reply) -> T {
        self.note(format_args!("calls {op:?}"));
        let reply = call(&mut self.fs);
        self.note(format_args!("got {:?}", of(reply)));
        reply
    }
}

/// A method of the recorder, and how it fails.
macro_rules! recorded {
    ($($method:ident: $op:ident -> $reply:ty, $failed:expr;)+) => {
        $(fn $method(&mut self) -> $reply {
            let failed: Option<$reply> = $failed;
            if let (Some(failed), true) = (failed, self.fails.contains(&Op::$op)) {
                self.fails.retain(|&op| op != Op::$op);
                self.note(format_args!("calls {:?}", Op::$op));
                self.note(format_args!("fails {:?}", Reply::$op(failed)));
                return failed;
            }
            let Some(Reply::$op(lie)) = self.lies else {
                return self.call(Op::$op, |fs| fs.$method(), Reply::$op);
            };
            let mut truth = lie;
            let told = self.call(Op::$op, |fs| { truth = fs.$method(); lie }, Reply::$op);
            if truth != lie {
                self.lies = None;
                self.note(format_args!("lied {:?}", Reply::$op(truth)));
            }
            told
        })+
    };
}

impl<F: FileSystem, W: Write> FileSystem for Recorder<F, W> {
    recorded! {
        create: Create -> Create, Some(Create::Failed);
        open: Open -> OpenReply, Some(OpenReply::Failed);
        age: Age -> Dated, Some(Dated::Failed);
        lock: Lock -> LockReply, Some(LockReply::Failed);
        wait_event: Listen -> Listen, Some(Listen::Failed);
        write: Write -> Done, Some(Done::Failed);
        read: Read -> ReadReply, Some(ReadReply::Failed);
        probe: Probe -> Probed, Some(Probed::Failed);
        confirm: Confirm -> Confirm, Some(Confirm::Failed);
        unlink: Unlink -> Unlink, Some(Unlink::Failed);
        truncate: Void -> Done, Some(Done::Failed);
        query_lock: Watch -> Watch, None;
    }

    fn subscribe(&mut self) {
        self.call(Op::Arm, |fs| fs.subscribe(), |()| Reply::Arm);
    }

    fn close(&mut self) {
        self.call(Op::Close, |fs| fs.close(), |()| Reply::Close);
    }

    fn close_without_unlock(&mut self) {
        self.call(Op::Leave, |fs| fs.close_without_unlock(), |()| Reply::Leave);
    }
}
