//! The processes of one round: started, killed, stopped, resumed and waited for.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::mem::MaybeUninit;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::env::Env;
use crate::{Role, this_binary_as};

/// A process that takes longer to end counts as a hang. All waits at the end take a few seconds, of
/// which two are the grace period.
const HANGS: Duration = Duration::from_secs(180);

pub(crate) struct Processes<'a> {
    env: &'a Env,
    /// The leader of the process group of all processes, including orphans.
    leader: Child,
    /// All have ended, so that the group's number may be reused.
    is_over: bool,
    members: BTreeMap<libc::pid_t, Member>,
    pub(crate) kills: u64,
    pub(crate) stops: u64,
}

struct Member {
    role: Role,
    stopped_until: Option<Instant>,
    killed: bool,
}

impl<'a> Processes<'a> {
    pub(crate) fn new(env: &'a Env) -> Self {
        // Orphans become children of this process, so that it can wait for them.
        // SAFETY: takes numbers.
        assert_eq!(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) }, 0);
        let leader = Command::new("cat").stdin(Stdio::piped()).process_group(0).spawn();
        let leader = leader.expect("cat runs");
        Self { env, leader, is_over: false, members: BTreeMap::new(), kills: 0, stops: 0 }
    }

    fn group(&self) -> libc::pid_t {
        libc::pid_t::try_from(self.leader.id()).expect("a pid")
    }

    pub(crate) fn start(&mut self, role: Role, seed: u64) {
        let mut command = this_binary_as(role, self.env.root(), seed);
        command.stdin(Stdio::null()).stdout(Stdio::null()).process_group(self.group());
        // No process outlives the soak.
        // SAFETY: prctl with numbers is async-signal-safe.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let pid = command.spawn().expect("it starts").id();
        let member = Member { role, stopped_until: None, killed: false };
        self.members.insert(libc::pid_t::try_from(pid).expect("a pid"), member);
    }

    /// A random live member.
    pub(crate) fn pick(&self, rng: &mut fastrand::Rng) -> Option<libc::pid_t> {
        let living: Vec<_> =
            self.members.iter().filter(|(_, member)| !member.killed).map(|(pid, _)| *pid).collect();
        rng.choice(living)
    }

    pub(crate) fn kill(&mut self, pid: libc::pid_t) {
        send(pid, libc::SIGKILL);
        self.members.get_mut(&pid).expect("a member").killed = true;
        self.kills += 1;
    }

    /// Legacy agents are not stopped: one stopped between create and write would be taken for dead.
    pub(crate) fn stop(&mut self, pid: libc::pid_t, until: Instant) {
        let member = self.members.get_mut(&pid).expect("a member");
        if member.role == Role::Ours && member.stopped_until.is_none() {
            send(pid, libc::SIGSTOP);
            member.stopped_until = Some(until);
            self.stops += 1;
        }
    }

    /// Resumes those whose time is over, or all.
    pub(crate) fn resume(&mut self, now: Option<Instant>) {
        for (pid, member) in &mut self.members {
            if member.stopped_until.is_some_and(|until| now.is_none_or(|now| now >= until)) {
                send(*pid, libc::SIGCONT);
                member.stopped_until = None;
            }
        }
    }

    /// Reaps all that have ended; returns the roles of the members among them. An unexpected exit
    /// status is a violation.
    pub(crate) fn reap(&mut self) -> Vec<Role> {
        let mut ended = Vec::new();
        while let Reaped::One(pid, status) = self.reap_one() {
            let Some(member) = self.members.remove(&pid) else { continue };
            ended.push(member.role);
            let killed = libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL;
            if !killed && status != 0 {
                let what = format!("a process of role {:?} ended with {status:#x}", member.role);
                self.env.violation(&what);
            }
        }
        ended
    }

    fn reap_one(&self) -> Reaped {
        let mut status = 0;
        // SAFETY: `status` has room for the answer.
        match unsafe { libc::waitpid(-self.group(), &raw mut status, libc::WNOHANG) } {
            0 => Reaped::NoneYet,
            pid if pid > 0 => Reaped::One(pid, status),
            _ => Reaped::NoneLeft,
        }
    }

    /// Waits until all have ended, including orphans. If one hangs, the error describes the
    /// processes.
    pub(crate) fn wait_for_all(&mut self) -> Result<(), String> {
        self.resume(None);
        let hangs = Instant::now() + HANGS;
        self.reap();
        while !self.members.is_empty() {
            self.until_one_ends(hangs, "does not end")?;
            self.reap();
        }
        // The leader ends when its input does.
        drop(self.leader.stdin.take());
        while !matches!(self.reap_one(), Reaped::NoneLeft) {
            self.until_one_ends(hangs, "left a process behind that does not end")?;
        }
        self.is_over = true;
        Ok(())
    }

    /// Kills all at once, like a power failure.
    pub(crate) fn kill_all(&mut self) -> Result<(), String> {
        // SAFETY: kill only takes numbers.
        assert_eq!(unsafe { libc::kill(-self.group(), libc::SIGKILL) }, 0);
        self.kills += self.members.len() as u64;
        self.wait_for_all()
    }

    /// Returns when one has ended that is not reaped, or when none is left.
    fn until_one_ends(&self, hangs: Instant, what: &str) -> Result<(), String> {
        let (group, (ended, has_ended)) = (self.group().unsigned_abs(), mpsc::channel());
        // `waitid` has no timeout, so a thread waits, and is left behind at the limit.
        std::thread::spawn(move || {
            let mut found = MaybeUninit::uninit();
            let which = libc::WEXITED | libc::WNOWAIT;
            // SAFETY: `found` has room for the answer, which is not read.
            unsafe { libc::waitid(libc::P_PGID, group, found.as_mut_ptr(), which) };
            // The receiver may be gone.
            let _ = ended.send(());
        });
        let left = hangs.saturating_duration_since(Instant::now());
        has_ended
            .recv_timeout(left)
            .map_err(|_| format!("a process {what}, for {HANGS:?}\n{}", self.describe()))
    }

    /// The state of each process, to diagnose a failure.
    pub(crate) fn describe(&self) -> String {
        let mut text = String::new();
        for entry in std::fs::read_dir("/proc").expect("/proc is there").flatten() {
            let read = |file| std::fs::read_to_string(entry.path().join(file)).unwrap_or_default();
            let stat = read("stat");
            // `20211 (soak) S PARENT GROUP ...`
            let group = stat.rsplit(')').next().and_then(|rest| rest.split(' ').nth(3));
            if group.and_then(|group| group.parse().ok()) == Some(self.group()) {
                let pid = entry.file_name().to_string_lossy().parse().unwrap_or(0);
                let role = self.members.get(&pid).map(|member| member.role);
                let (at, call) = (read("wchan"), read("syscall"));
                writeln!(text, "  {} {role:?} {at} {}", &stat[..stat.len().min(60)], call.trim())
                    .expect("a string");
            }
        }
        text + &directory(&self.env.locks()) + "/proc/locks:\n" + &all_locks()
    }
}

enum Reaped {
    One(libc::pid_t, libc::c_int),
    NoneYet,
    NoneLeft,
}

impl Drop for Processes<'_> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        // SAFETY: kill only takes numbers.
        unsafe { libc::kill(-self.group(), libc::SIGKILL) };
        while !matches!(self.reap_one(), Reaped::NoneLeft) {
            std::thread::yield_now();
        }
    }
}

/// Sends a signal to a member, which is not reaped.
fn send(pid: libc::pid_t, signal: libc::c_int) {
    // SAFETY: kill only takes numbers.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "{}", std::io::Error::last_os_error());
}

fn all_locks() -> String {
    std::fs::read_to_string("/proc/locks").unwrap_or_default()
}

/// The files and their content.
pub(crate) fn directory(path: &Path) -> String {
    let mut text = format!("{}:\n", path.display());
    for entry in std::fs::read_dir(path).expect("it exists").flatten() {
        let bytes = std::fs::read(entry.path()).unwrap_or_default();
        let start = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
        writeln!(text, "  {:?} {} bytes {start:?}", entry.file_name(), bytes.len())
            .expect("a string");
    }
    text
}
