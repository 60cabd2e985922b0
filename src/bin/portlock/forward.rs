//! Hands signals on to the command, in a thread of its own, so that nothing that fails here keeps
//! portlock from seeing the command's end.

use std::io::{self, ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use nix::unistd::{getpgid, getpgrp, getpid, getsid};
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, WaitStatus, kill_process, wait, waitid,
    waitpid,
};
use signal_hook::consts::{SIGCHLD, SIGHUP};
use signal_hook::iterator::backend::{Handle, SignalDelivery};
use signal_hook::iterator::exfiltrator::origin::{Origin, WithOrigin};

use crate::output::say;
use crate::signals::{Blocked, HANDLED};

type Delivery = SignalDelivery<UnixStream, WithOrigin>;

/// The command while it runs. Locked for every signal and for its end, because its number may be
/// another process's once it has been waited for.
type Running = Arc<Mutex<Option<Pid>>>;

/// What hands signals on, ready before there is a command.
pub(crate) struct Forwarder {
    handle: Handle,
    started: Sender<Pid>,
    running: Running,
}

impl Forwarder {
    /// Takes all that may be refused. No signal is handled yet.
    pub(crate) fn new() -> io::Result<Self> {
        // An ignored SIGCHLD would lose the command's status.
        signal_hook::flag::register(SIGCHLD, Arc::new(AtomicBool::new(false)))?;
        let (read, write) = UnixStream::pair()?;
        let none: [i32; 0] = [];
        let delivery = Delivery::with_pipe(read, write, WithOrigin::default(), none)?;
        let handle = delivery.handle();
        let (started, starts) = channel();
        let running = Running::default();
        let command = running.clone();
        std::thread::Builder::new().spawn(move || forward(delivery, &starts, &command))?;
        Ok(Self { handle, started, running })
    }

    /// Hands on what comes to `command` from here on, and what came since `blocked` was.
    pub(crate) fn start(&self, command: Pid, blocked: Blocked) {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(command);
        let add = |signal| self.handle.add_signal(signal as i32).err().map(|error| (signal, error));
        let failed: Vec<_> = HANDLED.into_iter().filter_map(add).collect();
        if let Some((_, error)) = failed.first() {
            say(&format!("warning: some signals are not handed on to the command: {error}"));
        }
        // Without a handler they would end portlock and not the command, so they stay blocked.
        let failed: Vec<_> = failed.into_iter().map(|(signal, _)| signal).collect();
        if let Err(error) = blocked.without(&failed).unblock() {
            say(&format!("warning: signals are not handed on to the command: {error}"));
        }
        // Fails if the thread has ended, which it says itself.
        let _ = self.started.send(command);
    }

    /// Returns when `command` has ended. Waits for other children too: those whose parent has ended
    /// are portlock's where it is the first process of a container.
    pub(crate) fn until_the_end_of(&self, command: Pid) -> io::Result<WaitStatus> {
        loop {
            // Without taking the status: up to the next line the number is the command's.
            match waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(_) => return self.ended(command),
            }
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == command => {
                    *running = None;
                    return Ok(status);
                }
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => {
                    drop(running);
                    return self.ended(command);
                }
            }
        }
    }

    /// The same where the system refuses to say that it has ended before it is waited for.
    fn ended(&self, command: Pid) -> io::Result<WaitStatus> {
        let ended = loop {
            match waitpid(Some(command), WaitOptions::empty()) {
                Err(Errno::INTR) | Ok(None) => {}
                Err(error) => break Err(error.into()),
                Ok(Some((_, status))) => break Ok(status),
            }
        };
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = None;
        ended
    }
}

fn forward(mut delivery: Delivery, starts: &Receiver<Pid>, running: &Running) {
    let Ok(command) = starts.recv() else { return };
    // What came until now came to portlock alone, or to a child that had not become the command yet
    // and that ends by it once. A key that is typed after the exec, and before this, is handed on
    // although the command has had it.
    for origin in once_each(delivery.pending()) {
        if !is_from(&origin, command) {
            send(running, &origin);
        }
    }
    loop {
        match delivery.poll_pending(&mut |read| Ok(read.read(&mut [0])? > 0)) {
            Ok(Some(batch)) => {
                for origin in once_each(batch) {
                    if !is_from(&origin, command) && !had_it_too(&origin, command) {
                        send(running, &origin);
                    }
                }
            }
            Ok(None) => return,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                return say(&format!("warning: no more signals are handed on: {error}"));
            }
        }
    }
}

/// One of those with the same number and the same sender: timeout(1) sends to its child and then to
/// its group, and would seem to insist.
fn once_each(batch: impl Iterator<Item = Origin>) -> Vec<Origin> {
    one_of_each(batch, |origin| sender(origin).map(|sender| (origin.signal, sender)))
}

/// The first with each key, and all without one.
fn one_of_each<T, K: PartialEq>(
    all: impl Iterator<Item = T>,
    key: impl Fn(&T) -> Option<K>,
) -> Vec<T> {
    let mut firsts: Vec<T> = Vec::new();
    for one in all {
        let known = key(&one);
        if known.is_none() || firsts.iter().all(|first| key(first) != known) {
            firsts.push(one);
        }
    }
    firsts
}

fn sender(origin: &Origin) -> Option<i32> {
    origin.process.map(|process| process.pid)
}

/// What the command itself sent to its parent, which it does not want back.
fn is_from(origin: &Origin, command: Pid) -> bool {
    sender(origin) == Some(command.as_raw_pid())
}

/// Whether the command had this signal from where portlock had it. A second INT means "now!" to
/// many programs.
///
/// The terminal sends to its whole foreground group, in which the command is if it is in portlock's;
/// except for a hang-up, which it sends to the leader of the session alone. Whether a process sent
/// to portlock or to a group cannot be known.
fn had_it_too(origin: &Origin, command: Pid) -> bool {
    let by_the_terminal = origin.process.is_none();
    let to_us_alone = origin.signal == SIGHUP && getsid(None) == Ok(getpid());
    let command = nix::unistd::Pid::from_raw(command.as_raw_pid());
    by_the_terminal && !to_us_alone && getpgid(Some(command)) == Ok(getpgrp())
}

/// An error means that portlock may not, as with a command that changed its user.
fn send(running: &Running, origin: &Origin) {
    let running = running.lock().unwrap_or_else(PoisonError::into_inner);
    if let (Some(command), Some(signal)) = (*running, Signal::from_named_raw(origin.signal)) {
        let _ = kill_process(command, signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Signals 15 and 10, from senders 7 and 8, and from the kernel.
    #[test]
    fn only_signals_of_one_sender_are_merged() {
        let batch =
            [(15, Some(7)), (15, Some(7)), (15, Some(8)), (10, Some(7)), (2, None), (2, None)];
        let key = |&(signal, sender): &(i32, Option<i32>)| sender.map(|sender| (signal, sender));
        let merged = [(15, Some(7)), (15, Some(8)), (10, Some(7)), (2, None), (2, None)];
        assert_eq!(one_of_each(batch.into_iter(), key), merged);
    }
}
