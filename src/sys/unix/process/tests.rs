use super::*;

fn recorded(pid: u32) -> Holder {
    let mut holder = current_process().into_owned();
    holder.pid = pid;
    holder
}

fn by_start(holder: &Holder) -> Probe {
    probe(holder, Identify::ByStart, None, false).expect("there are descriptors")
}

fn by_number(holder: &Holder, written: Option<SystemTime>) -> Probe {
    probe(holder, Identify::ByNumber, written, false).expect("there are descriptors")
}

#[test]
fn own_process_needs_more_than_its_pid() {
    let mine = recorded(std::process::id());
    assert_eq!(by_start(&mine), Probe::Ourselves);
    let mut reused = mine.clone();
    reused.process_start = Some(1);
    assert_eq!(by_start(&reused), Probe::Other);
    assert_eq!(by_number(&Holder::new(mine.pid), None), Probe::Ourselves);
}

/// Found by its number, it may be another one that has it now.
#[test]
#[cfg(target_os = "linux")]
fn live_process_is_identified_by_its_start_alone() {
    let child = crate::sys::forked::Child::running(|| {
        let start = current_process().process_start.expect("/proc is there");
        [u64::from(std::process::id()), start].map(u64::to_ne_bytes).concat()
    });
    let (pid, start) = child.said.split_first_chunk().expect("two numbers");
    let pid = u32::try_from(u64::from_ne_bytes(*pid)).expect("a pid");
    let mut holder = recorded(pid);
    holder.process_start = Some(u64::from_ne_bytes(start.try_into().expect("a number")));
    assert_eq!(by_start(&holder), Probe::Alive);
    holder.process_start = None;
    assert_eq!(by_start(&holder), Probe::Unknown);
}

#[test]
fn process_is_alive_then_zombie_then_gone() {
    let mut child = std::process::Command::new("cat")
        .stdin(std::process::Stdio::piped())
        .spawn()
        .expect("cat runs");
    let old = Holder::new(child.id());
    let now = Some(SystemTime::now());
    assert_eq!(by_number(&old, now), Probe::Alive);
    let long_ago = Some(SystemTime::UNIX_EPOCH);
    let knows_starts =
        cfg!(any(target_os = "linux", target_vendor = "apple", target_os = "freebsd"));
    let reused = if knows_starts { Probe::StartedLater } else { Probe::Alive };
    assert_eq!(by_number(&old, long_ago), reused);
    let mut here = recorded(child.id());
    here.process_start = Some(1);
    let other = if knows_starts { Probe::Other } else { Probe::Alive };
    assert_eq!(by_start(&here), other);

    drop(child.stdin.take());
    // Waits until it has ended, and leaves it a zombie.
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    let flags = libc::WEXITED | libc::WNOWAIT;
    // SAFETY: `info` has room for the answer.
    unsafe {
        libc::waitid(libc::P_PID, child.id() as libc::id_t, info.as_mut_ptr(), flags);
    }
    let zombie = if knows_starts { Probe::Zombie } else { Probe::Alive };
    assert_eq!(by_number(&old, now), zombie);
    child.wait().expect("the child is reaped");
    assert_eq!(by_number(&old, now), Probe::Gone);
}

#[test]
#[cfg(target_os = "linux")]
fn a_live_threads_id_is_no_process() {
    let (send, receive) = std::sync::mpsc::channel();
    let (finish, wait) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        // SAFETY: gettid only returns a number.
        send.send(unsafe { libc::gettid() }).expect("the test listens");
        wait.recv().ok();
    });
    let tid = receive.recv().expect("the thread runs");
    let holder = Holder::new(u32::try_from(tid).expect("positive"));
    assert_eq!(by_number(&holder, Some(SystemTime::now())), Probe::Thread);
    drop(finish);
    thread.join().expect("the thread ends");
}

#[test]
fn process_that_denies_signals_is_not_gone() {
    assert_eq!(signal_zero(1), if running_as_root() { Probe::Alive } else { Probe::NotPermitted });
    assert_eq!(signal_zero(0), Probe::Unknown, "a process group is never asked");
    assert_eq!(signal_zero(u32::MAX), Probe::Unknown);
}

#[test]
fn lock_of_a_lockless_author_is_never_free() {
    let old = Holder::new(7);
    let mut ours = old.clone();
    ours.kernel_lock = true;
    assert!(is_its_lock_free(&ours, true));
    assert!(!is_its_lock_free(&ours, false) && !is_its_lock_free(&old, true));
}

/// As another user than the one that is asked about: root may signal anything.
#[test]
fn a_process_of_another_user_is_not_gone() {
    if !running_as_root() {
        return;
    }
    let parent = std::process::id();
    let said = crate::sys::forked::in_a_child(|| {
        // SAFETY: takes a number.
        let became = unsafe { libc::setuid(64_999) } == 0;
        vec![u8::from(became && signal_zero(parent) == Probe::NotPermitted)]
    });
    assert_eq!(said, [1]);
}

/// In the same tick and with the same number it is the same process; a tick apart it is another.
#[test]
#[cfg(target_os = "linux")]
fn start_one_tick_off_is_another_process() {
    let mine = recorded(std::process::id());
    let start = mine.process_start.expect("/proc is there");
    for other in [start - 1, start + 1] {
        let holder = Holder { process_start: Some(other), ..mine.clone() };
        assert_eq!(by_start(&holder), Probe::Other);
    }
}

/// A process whose first thread has ended is shown as a zombie, and its other threads work on.
#[test]
#[cfg(target_os = "linux")]
fn process_without_its_first_thread_is_alive() {
    use std::io::Read;

    use crate::sys::forked::{Child, FORKS, alone};

    let body = || {
        let (mut ends, says) = std::os::unix::net::UnixStream::pair().expect("a pair");
        let child = Child::starting(FORKS[0], || {
            let first = std::process::id();
            std::thread::spawn(move || {
                let stat = format!("/proc/self/task/{first}/stat");
                while !std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") Z ")) {
                    std::thread::yield_now();
                }
                std::io::Write::write_all(&mut &says, &first.to_ne_bytes()).expect("writes");
                loop {
                    std::thread::park();
                }
            });
            // SAFETY: ends this thread alone.
            unsafe { libc::syscall(libc::SYS_exit, 0) };
            Vec::new()
        });
        let minute = Some(std::time::Duration::from_secs(60));
        ends.set_read_timeout(minute).expect("a socket has one");
        let mut pid = [0; 4];
        ends.read_exact(&mut pid).expect("its first thread has ended");
        let old = Holder::new(u32::from_ne_bytes(pid));
        assert_eq!(by_number(&old, Some(SystemTime::now())), Probe::Alive);
        drop(child);
    };
    alone("sys::unix::process::tests::process_without_its_first_thread_is_alive", body);
}

fn running_as_root() -> bool {
    // SAFETY: geteuid only returns a number.
    unsafe { libc::geteuid() == 0 }
}

#[test]
fn forked_child_has_new_generation_and_identity() {
    let before = (generation(), current_process().pid);
    // SAFETY: the child only compares atomics and leaves by _exit.
    match unsafe { libc::fork() } {
        0 => {
            let differs = generation() != before.0 && current_process().pid != before.1;
            // SAFETY: leaves at once, without running the parent's exit handlers.
            unsafe { libc::_exit(i32::from(!differs)) }
        }
        child => {
            let mut status = 1;
            // SAFETY: `status` has room for the answer.
            unsafe { libc::waitpid(child, &mut status, 0) };
            assert_eq!(status, 0, "the child saw its parent's generation or pid");
        }
    }
    assert_eq!((generation(), current_process().pid), before);
}

#[test]
#[cfg(target_os = "linux")]
fn system_and_process_agree_on_names_and_limits() {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("/proc is there");
    assert_eq!(host(), crate::record::printable(name.trim_end()));
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).expect("a small number"));
    assert_eq!(descriptor_limit(), limit);
    assert_eq!(reserve_descriptors(3).len(), 3);
    assert_eq!(pid_namespace(), current_process().pid_namespace);
}

#[test]
#[cfg(target_os = "linux")]
fn process_is_asked_again_until_all_is_known() {
    let whole = Myself::ask();
    assert!(whole.is_complete(), "all is known here");
    let forget: [fn(&mut Holder); 3] = [
        |record| record.boot = None,
        |record| record.pid_namespace = None,
        |record| record.process_start = None,
    ];
    for forget in forget {
        let mut partial = whole.clone();
        forget(&mut partial.record);
        assert!(!partial.is_complete(), "{:?}", partial.record);
    }
}
