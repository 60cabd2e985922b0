//! What a hostile neighbour may have put at the path, or into a record: for every operation of the
//! library, and for every subcommand, a clear error or a right verdict, and nothing else: no panic,
//! no hang, no foreign file removed, no signal sent, nothing raw on a terminal.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use portlock::{AcquireError, Holder, Lock, LockDir, Status, SweepOutcome, UnknownReason};

use crate::as_root;
use crate::foreign::{Opens, make_node, open_both_ways};
use crate::participant::{NOBODY, Participant, not_checked, old_record};

/// Far more than anything here takes, and less than a person waits.
const HANG: Duration = Duration::from_secs(20);

/// A directory of locks with one in it, and beside it what must stay as it is.
struct Scene {
    home: tempfile::TempDir,
    dir: LockDir,
    lock: Lock,
}

impl Scene {
    fn new() -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let dir = LockDir::at(home.path().join("locks"));
        fs::create_dir(dir.path()).expect("creates");
        let lock = dir.port(5338).expect("a port");
        Self { home, dir, lock }
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// A record of some seconds ago, so that no creator is at work.
    fn plant(&self, record: &[u8]) {
        fs::write(self.lock.path(), record).expect("writes");
        let file = File::options().write(true).open(self.lock.path()).expect("opens");
        file.set_modified(SystemTime::now() - Duration::from_secs(10)).expect("sets the time");
    }

    /// Everything below, without following a link: kind, number, mode, size, times, owner.
    fn everything(&self) -> BTreeMap<PathBuf, (u32, u64, u64, i64, i64, u32)> {
        let mut found = BTreeMap::new();
        let mut left = vec![self.home.path().to_owned()];
        while let Some(path) = left.pop() {
            let at = fs::symlink_metadata(&path).expect("stands");
            if at.is_dir() {
                left.extend(fs::read_dir(&path).expect("reads").flatten().map(|e| e.path()));
            }
            let seen = (at.mode(), at.ino(), at.size(), at.mtime(), at.mtime_nsec(), at.uid());
            found.insert(path, seen);
        }
        found
    }

    fn each_operation(&self) -> [(&'static str, Outcome); 7] {
        OPERATIONS.map(|operation| (operation, self.operate(operation)))
    }

    fn operate(&self, operation: &str) -> Outcome {
        let somebody = Holder::new(NOBODY);
        let acquired = |attempt: Result<portlock::Guard, AcquireError>| match attempt {
            Ok(guard) => Outcome::Done(guard.recovered_from().map(ToString::to_string)),
            Err(error) => error.into(),
        };
        let cleared = |attempt: Result<Option<portlock::Reclaimed>, AcquireError>| match attempt {
            Ok(from) => Outcome::Done(from.map(|from| from.to_string())),
            Err(error) => error.into(),
        };
        let status = |status: Result<Status, AcquireError>| match status {
            Ok(status) => Outcome::Told(status),
            Err(error) => error.into(),
        };
        let one = |listed: Vec<portlock::LockEntry>| {
            listed.into_iter().next().map_or(Outcome::Told(Status::Free), |one| status(one.status))
        };
        let swept = |swept: Vec<SweepOutcome>| {
            swept.into_iter().next().map_or(Outcome::Done(None), |one| match one.removed {
                Ok(from) => Outcome::Done(Some(from.to_string())),
                Err(error) => error.into(),
            })
        };
        match operation {
            "status" => status(self.lock.status()),
            "list" => one(self.dir.list().expect("the directory can be read")),
            "sweep" => swept(self.dir.sweep().expect("the directory can be read")),
            "clear" => cleared(self.lock.clear()),
            "force_clear" => cleared(self.lock.force_clear(&somebody)),
            "acquire_timeout" => acquired(self.lock.acquire_timeout(Duration::ZERO)),
            "try_acquire" => acquired(self.lock.try_acquire()),
            other => unreachable!("{other}"),
        }
    }

    /// Every subcommand: its exit status, and all that it said.
    fn each_command(&self) -> [(&'static str, i32, String); 10] {
        COMMANDS.map(|words| {
            let mut command = Command::new("timeout");
            command.args(["20", env!("CARGO_BIN_EXE_portlock")]).args(words.split(' '));
            command.env("PORTLOCK_DIR", self.dir.path()).env("HOME", self.home.path());
            let done = command.output().expect("it runs");
            let code = done.status.code().expect("no signal");
            let said = [done.stdout, done.stderr].map(|out| String::from_utf8(out).expect("UTF-8"));
            let said = said.concat();
            assert!(code != PANICKED && code != HUNG, "{words}: {code}, {said}");
            (words, code, said)
        })
    }
}

const OPERATIONS: [&str; 7] =
    ["status", "list", "sweep", "clear", "force_clear", "acquire_timeout", "try_acquire"];

const COMMANDS: [&str; 10] = [
    "status 5338",
    "status --json 5338",
    "list",
    "list --json",
    "wait --timeout 0 5338",
    "sweep",
    "clear 5338",
    "clear --force --yes 5338",
    "run --timeout 0 5338 -- true",
    "run 5338 -- true",
];

/// The exit statuses of a panic in Rust, and of `timeout`.
const PANICKED: i32 = 101;
const HUNG: i32 = 124;

/// What became of an operation.
#[derive(Debug)]
enum Outcome {
    /// It worked, on what somebody left, if anything was.
    Done(Option<String>),
    Told(Status),
    Held(String),
    NotALockFile(String),
    #[allow(dead_code, reason = "shown where nothing of the kind was expected")]
    Failed(String),
}

impl From<AcquireError> for Outcome {
    fn from(error: AcquireError) -> Self {
        let said = error.to_string();
        match error {
            AcquireError::Held(_) | AcquireError::Timeout { .. } => Self::Held(said),
            AcquireError::NotALockFile { .. } => Self::NotALockFile(said),
            _ => Self::Failed(said),
        }
    }
}

// ---- at the path --------------------------------------------------------------------------------

/// Neither opened, followed, changed nor removed by anything.
fn is_left_alone(scene: &Scene, found: &str, opens: Option<(Opens, &dyn Fn())>) {
    let before = scene.everything();
    let words = format!("{} is {found}, not a lock file", scene.lock.path().display());
    let began = Instant::now();
    for (operation, outcome) in scene.each_operation() {
        match outcome {
            Outcome::NotALockFile(said) => assert!(said.starts_with(&words), "{said}"),
            // Not provably stale, so a sweep does not name it; a list does.
            Outcome::Done(None) if operation == "sweep" => {}
            other => panic!("{operation}, {found}: {other:?}"),
        }
    }
    for (command, code, said) in scene.each_command() {
        let told = match command.split(' ').next().expect("a word") {
            "status" | "wait" => 4,
            "sweep" => 74,
            "list" => 0,
            _ => 73,
        };
        assert_eq!(code, told, "{command}, {found}: {said}");
        let is_named = said.contains(found) || said.contains("not-a-lock-file");
        assert!(is_named, "{command}: {said}");
    }
    assert!(began.elapsed() < HANG);
    assert_eq!(scene.everything(), before, "{found}");
    if let Some((opens, control)) = opens {
        opens.assert_none(control);
    }
}

#[test]
fn links_are_left_alone_by_every_operation() {
    let scene = Scene::new();
    let stale = scene.beside("stale");
    fs::write(&stale, old_record(NOBODY, SystemTime::now())).expect("writes");
    fs::create_dir(scene.beside("directory")).expect("creates");
    let looping = scene.lock.path().to_owned();
    for target in [
        scene.beside("nothing"),
        stale.clone(),
        scene.beside("directory"),
        "/etc/passwd".into(),
        "/dev/zero".into(),
        "/proc/self/mem".into(),
        looping,
    ] {
        symlink(&target, scene.lock.path()).expect("links");
        let opens = (target == stale).then(|| Opens::of(&stale));
        let control = open_of(&stale);
        is_left_alone(&scene, "a symbolic link", opens.map(|opens| (opens, &control as _)));
        assert_eq!(fs::read_link(scene.lock.path()).expect("a link"), target);
        fs::remove_file(scene.lock.path()).expect("removes");
    }
}

fn open_of(path: &Path) -> impl Fn() {
    let path = path.to_owned();
    move || drop(open_both_ways(&path))
}

#[test]
fn non_files_are_left_alone_by_every_operation() {
    let scene = Scene::new();
    let path = scene.lock.path();
    fs::create_dir(path).expect("creates");
    is_left_alone(&scene, "a directory", None);
    fs::write(path.join("inside"), "").expect("writes");
    is_left_alone(&scene, "a directory", None);
    fs::remove_dir_all(path).expect("removes");

    make_node(path, libc::S_IFIFO, 0).expect("the FIFO");
    is_left_alone(&scene, "a FIFO", Some((Opens::of(path), &open_of(path))));
    fs::remove_file(path).expect("removes");

    let listener = std::os::unix::net::UnixListener::bind(path).expect("the socket");
    is_left_alone(&scene, "a socket", None);
    listener.set_nonblocking(true).expect("it can be asked");
    assert!(listener.accept().is_err(), "nobody connects");
    fs::remove_file(path).expect("removes");

    // The null device, and one that never ends.
    for minor in [3, 5] {
        if let Err(error) = make_node(path, libc::S_IFCHR, libc::makedev(1, minor)) {
            return not_checked(&format!("no device can be made here ({error}); it takes root"));
        }
        assert!(fs::symlink_metadata(path).expect("stands").file_type().is_char_device());
        is_left_alone(&scene, "a device", Some((Opens::of(path), &open_of(path))));
        fs::remove_file(path).expect("removes");
    }
}

/// No more of it is read than a record may have.
#[test]
fn gibibyte_file_is_left_alone_cheaply() {
    let scene = Scene::new();
    let began = Instant::now();
    scene.plant(b"{\"pid\":1,");
    let file = File::options().write(true).open(scene.lock.path()).expect("opens");
    file.set_len(1 << 30).expect("a sparse file");
    file.set_modified(SystemTime::now() - Duration::from_secs(10)).expect("sets the time");
    drop(file);
    is_left_alone(&scene, "a file with other content", None);
    assert!(began.elapsed() < HANG);
}

#[test]
fn unopenable_file_of_another_user_stays_untouched() {
    if !as_root() {
        return not_checked("another user's file: it takes root to become another user");
    }
    for (mode, sticky) in [(0o600, 0o1777), (0o000, 0o777)] {
        let scene = Scene::new();
        scene.plant(old_record(NOBODY, SystemTime::now()).as_bytes());
        let permit = |path: &Path, mode| {
            fs::set_permissions(path, Permissions::from_mode(mode)).expect("permits");
        };
        permit(scene.lock.path(), mode);
        permit(scene.dir.path(), sticky);
        permit(scene.home.path(), 0o755);
        let before = scene.everything();
        let mut other = Participant::start();
        assert_eq!(other.tell("become-user 65534"), "done");
        let path = scene.lock.path().display();
        let denied = format!("failed, cannot open {path}");
        assert_eq!(other.try_acquire(scene.lock.path()), "failed, Open, PermissionDenied");
        for order in ["status", "clear"] {
            let said = other.tell(&format!("{order} {path}"));
            assert_eq!(said, denied, "{order}");
        }
        assert_eq!(
            other.tell(&format!("acquire-within 20 {path}")),
            "failed, Open, PermissionDenied"
        );
        assert_eq!(scene.everything(), before);
        // Its owner takes it for what it is.
        assert!(scene.lock.try_acquire().expect("dead").recovered_from().is_some());
    }
}

#[test]
fn linked_or_world_writable_directory_excludes() {
    let scene = Scene::new();
    fs::set_permissions(scene.dir.path(), Permissions::from_mode(0o777)).expect("permits");
    let link = scene.beside("link");
    symlink(scene.dir.path(), &link).expect("links");
    let by_link = LockDir::at(&link).port(5338).expect("a port");
    let mut holder = Participant::holding(by_link.path());
    for lock in [&by_link, &scene.lock] {
        let error = lock.try_acquire().expect_err("held");
        let named = error.held().and_then(|held| held.holder.as_ref()).map(|holder| holder.pid);
        assert_eq!(named, Some(holder.pid()), "{error}");
    }
    holder.kill();
    assert!(scene.lock.try_acquire().expect("dead").recovered_from().is_some());
    assert!(link.is_symlink());
    assert_eq!(fs::metadata(scene.dir.path()).expect("stands").mode() & 0o777, 0o777);

    // One that leads nowhere is not made to lead anywhere.
    fs::remove_file(&link).expect("removes");
    symlink(scene.beside("nowhere"), &link).expect("links");
    let before = scene.everything();
    let error = by_link.try_acquire().expect_err("no directory");
    let words = format!("cannot create a lock file in the directory {}", link.display());
    assert_eq!(error.to_string(), words);
    assert!(matches!(by_link.status(), Ok(Status::Free)));
    assert_eq!(scene.everything(), before);
}

#[test]
fn odd_paths_lock_and_nul_is_an_error() {
    let scene = Scene::new();
    for name in ["a\nb.lock", "\u{1b}[31m.lock", " ", "é\u{202e}", &"n".repeat(255)] {
        let lock = Lock::at(scene.dir.path().join(name));
        let guard = lock.try_acquire().expect("free");
        assert!(lock.try_acquire().expect_err("held").is_held());
        guard.release().expect("removes");
    }
    for name in ["a\0b.lock", &"n".repeat(256)] {
        let lock = Lock::at(scene.dir.path().join(name));
        let attempts = [lock.try_acquire().err(), lock.status().err(), lock.clear().err()];
        for error in attempts {
            let said = error.expect("it cannot be a file").to_string();
            assert!(said.starts_with("cannot "), "{said}");
        }
        let BadPlace(reason) = BadPlace::of(&scene.dir, name);
        assert!(reason.contains("cannot be a lock's name"), "{reason}");
    }
    for name in ["/", "..", "../x", "a/b", "a\0b", "a\nb", ""] {
        let BadPlace(reason) = BadPlace::of(&scene.dir, name);
        let raw = |c: char| c.is_control();
        assert!(reason.contains("cannot be a lock's name") && !reason.contains(raw), "{reason:?}");
        let app = LockDir::home(name).expect_err("no plain name").to_string();
        assert!(!app.contains(raw), "{app:?}");
    }
    assert!(fs::read_dir(scene.dir.path()).expect("reads").next().is_none());
}

struct BadPlace(String);

impl BadPlace {
    fn of(dir: &LockDir, name: &str) -> Self {
        Self(dir.name(name).expect_err("no plain name").to_string())
    }
}

// ---- in the record ------------------------------------------------------------------------------

/// Where the kernel's locks are not all listed, a query does not know that one is stale.
fn is_stale(status: &Status) -> bool {
    matches!(
        status,
        Status::Stale { .. } | Status::Unknown { reason: UnknownReason::CannotWatch, .. }
    )
}

/// A record, and the pid that it names if that process lives, or may: then it is refused.
struct Record {
    bytes: Vec<u8>,
    live: Option<u32>,
    /// Nothing tells whether it lives.
    is_elsewhere: bool,
    /// It is too long for a record.
    is_foreign: bool,
}

fn records(victim: u32) -> Vec<Record> {
    let record = |bytes: &[u8], live| Record {
        bytes: bytes.to_owned(),
        live,
        is_elsewhere: false,
        is_foreign: bytes.len() > portlock::MAX_RECORD,
    };
    let live = |text: String| record(text.as_bytes(), Some(victim));
    let dead = |bytes: &[u8]| record(bytes, None);
    let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    // Without one it is of the old format.
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let boot = boot.trim();
    let evil = r"\u001b]0;evil\u0007\u001b[31mred\r\n\u009b2J\u202eend";
    let mut records = vec![
        // Escape sequences: of another container, of a live one and of a dead one.
        Record {
            is_elsewhere: true,
            ..live(format!(
                r#"{{"pid":{victim},"command":"{evil}","host":"{evil}","boot":"{boot}","pidNamespace":7}}"#
            ))
        },
        live(format!(r#"{{"pid":{victim},"command":"{evil}","startedAt":"{evil}"}}"#)),
        dead(format!(r#"{{"pid":{NOBODY},"command":"{evil}","startedAt":"{evil}"}}"#).as_bytes()),
        dead(format!("{{\"pid\":{NOBODY},\"command\":\"\u{1b}[2J\"}}").as_bytes()),
        // The last of two keys counts, as it does for JSON.parse.
        live(format!(r#"{{"pid":{NOBODY},"pid":{victim}}}"#)),
        dead(format!(r#"{{"pid":{victim},"pid":{NOBODY}}}"#).as_bytes()),
        dead(format!(r#"{{"pid":{victim},"pid":0}}"#).as_bytes()),
        // Huge numbers and wrong kinds beside a good pid.
        live(format!(
            r#"{{"pid":{victim},"port":1e9,"processStart":18446744073709551616,"pidNamespace":-1}}"#
        )),
        live(format!(r#"{{"pid":{victim},"startedAt":"9999-12-31T23:59:59.999Z"}}"#)),
        live(format!(r#"{{"pid":{victim},"startedAt":"+999999-01-01T00:00:00Z"}}"#)),
        live(format!(r#"{{"pid":{victim},"more":{}}}"#, deep(100))),
        live(format!("{{\"pid\":{victim}}}{}", " ".repeat(3000))),
        // No records.
        dead(format!(r#"{{"pid":{victim},"more":{}}}"#, deep(1000)).as_bytes()),
        dead("[".repeat(4096).as_bytes()),
        dead("[".repeat(1_000_000).as_bytes()),
        dead(format!("\u{feff}{{\"pid\":{victim}}}").as_bytes()),
        dead(format!("{{\"pid\":{victim}}}{}", " ".repeat(5000)).as_bytes()),
        dead(format!("{{\"pid\":{victim}}}\0").as_bytes()),
        dead(&[format!("{{\"pid\":{victim},\"x\":\"").as_bytes(), b"\xff\xfe\"}"].concat()),
        dead(format!("{{\"pid\":{victim}").as_bytes()),
        dead(&[0; 4096]),
        dead(&[0xff; 100]),
    ];
    // Pids that are none: groups, everybody, and what a narrower number would make the victim's.
    for pid in [
        "0".to_owned(),
        "-1".to_owned(),
        "-0".to_owned(),
        format!("-{victim}"),
        format!("{victim}.5"),
        format!("\"{victim}\""),
        format!("[{victim}]"),
        (u64::from(victim) + (1 << 32)).to_string(),
        (i64::from(victim) - (1 << 32)).to_string(),
        "2147483648".to_owned(),
        "4294967295".to_owned(),
        "18446744073709551615".to_owned(),
        "1e400".to_owned(),
        "9".repeat(400),
        "true".to_owned(),
        "null".to_owned(),
    ] {
        records.push(dead(format!("{{\"pid\":{pid},\"port\":5338}}").as_bytes()));
    }
    // Pids that there are: the first of all, and the highest that can be.
    records.push(record(old_record(1, SystemTime::now()).as_bytes(), Some(1)));
    records.push(dead(b"{\"pid\":2147483647}"));
    records
}

#[test]
fn every_operation_agrees_on_every_hostile_record() {
    let mut victim = Participant::start();
    let scene = Scene::new();
    let others = scene.beside("locks").join("kept.txt");
    fs::write(&others, "no lock").expect("writes");
    let records = records(victim.pid());
    for Record { bytes, live, is_elsewhere, is_foreign } in &records {
        let shown = bytes[..bytes.len().min(90)].escape_ascii();
        let began = Instant::now();
        for operation in OPERATIONS {
            scene.plant(bytes);
            let before = scene.everything();
            let outcome = scene.operate(operation);
            match (live, outcome) {
                (None, Outcome::NotALockFile(_)) if *is_foreign => {}
                (Some(pid), Outcome::Told(Status::Held { holder, .. })) if !is_elsewhere => {
                    assert_eq!(holder.map(|holder| holder.pid), Some(*pid), "{operation}: {shown}");
                }
                (Some(pid), Outcome::Told(Status::Unknown { holder, reason, .. }))
                    if *is_elsewhere && reason == UnknownReason::NoSharedLock =>
                {
                    assert_eq!(holder.map(|holder| holder.pid), Some(*pid), "{operation}: {shown}");
                }
                (Some(pid), Outcome::Held(said)) => {
                    assert!(said.contains(&format!("pid {pid}")), "{operation}: {said}");
                    assert!(!said.contains(is_raw), "{said:?}");
                }
                (Some(_), Outcome::Done(None)) if operation == "sweep" => {}
                (None, Outcome::Told(status)) => {
                    assert!(is_stale(&status), "{operation}, {shown}: {status:?}");
                    assert!(!status.describe(&scene.lock).contains(is_raw), "{status:?}");
                }
                (None, Outcome::Done(Some(from))) => assert!(!from.contains(is_raw), "{from:?}"),
                (_, other) => panic!("{operation}, {shown}: {other:?}"),
            }
            let is_query = ["status", "list"].contains(&operation);
            if live.is_some() || is_query || *is_foreign {
                assert_eq!(scene.everything(), before, "{operation}: {shown}");
            } else {
                assert!(!fs::exists(scene.lock.path()).expect("looks"), "{operation}: {shown}");
            }
        }
        assert!(began.elapsed() < HANG, "{shown}");
    }
    assert_eq!(fs::read(&others).expect("stands"), b"no lock");
    assert_eq!(victim.tell("pid"), victim.pid().to_string(), "it lives");
    println!("{} records, 7 operations each", records.len());
}

/// The subcommands too, under the eyes of strace: of all signals only 0 is ever sent, to a process.
#[test]
#[cfg(target_os = "linux")]
fn subcommands_send_no_signals_and_escape_records() {
    let mut victim = Participant::start();
    let scene = Scene::new();
    let traced = Command::new("strace").arg("--version").output().is_ok();
    if !traced {
        assert!(std::env::var_os("CI").is_none(), "strace is missing: apt-get install strace");
        not_checked("the signals of the subcommands: strace is missing; apt-get install strace");
    }
    let (saved, trace) = (scene.beside("saved"), scene.beside("trace"));
    let script: String = COMMANDS
        .iter()
        .map(|words| format!("cp -p saved \"$FILE\"; timeout 20 \"$PORTLOCK\" {words}; echo =$?\n"))
        .collect();
    let (mut asked, mut codes) = (0, BTreeMap::new());
    let records = records(victim.pid());
    for Record { bytes, live, .. } in &records {
        scene.plant(bytes);
        fs::rename(scene.lock.path(), &saved).expect("renames");
        let mut shell = Command::new(if traced { "strace" } else { "sh" });
        if traced {
            let signals =
                "--trace=kill,tkill,tgkill,rt_sigqueueinfo,rt_tgsigqueueinfo,pidfd_send_signal";
            shell.args(["-f", "-qq", "--seccomp-bpf", signals, "-o"]).arg(&trace).arg("sh");
        }
        shell.args(["-c", &script]).env("FILE", scene.lock.path());
        shell.env("PORTLOCK", env!("CARGO_BIN_EXE_portlock")).env("HOME", scene.home.path());
        shell.env("PORTLOCK_DIR", scene.dir.path()).current_dir(scene.home.path());
        let done = shell.output().expect("it runs");
        let shown = bytes[..bytes.len().min(90)].escape_ascii();
        for out in [done.stdout, done.stderr] {
            let said = String::from_utf8(out).expect("UTF-8");
            assert!(!said.contains(|c| c != '\n' && is_raw(c)), "{shown}: {said:?}");
            for code in said.lines().filter_map(|line| line.strip_prefix('=')) {
                let code: i32 = code.parse().expect("a number");
                assert!(code < 128 && code != PANICKED && code != HUNG, "{shown}: {said}");
                *codes.entry((live.is_some(), code)).or_insert(0) += 1;
            }
        }
        let signals =
            if traced { fs::read_to_string(&trace).expect("it wrote") } else { "".into() };
        for line in signals.lines().filter(|line| !line.contains("---") && !line.contains("+++")) {
            let (_, call) = line.split_once(' ').expect("a pid and a call");
            let pid =
                call.trim_start().strip_prefix("kill(").and_then(|call| call.split_once(", 0)"));
            let pid: i32 = pid.and_then(|(pid, _)| pid.parse().ok()).unwrap_or(0);
            assert!(pid > 0, "{shown}: {line}");
            asked += 1;
        }
    }
    assert!(asked > 0 || !traced, "the control: the probes are seen");
    assert_eq!(victim.tell("pid"), victim.pid().to_string(), "it lives");
    println!(
        "{} records, {asked} probes; whether it lives, exit status, times: {codes:?}",
        records.len()
    );
}

fn is_raw(c: char) -> bool {
    c.is_control() || c == '\u{202e}'
}
