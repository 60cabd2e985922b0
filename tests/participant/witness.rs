//! A contender, and the witness that only one holds at a time, which does not use this crate.

use std::path::Path;

use portlock::Lock;

/// `ROUNDS WITNESS PATH`: acquires and releases until it has held the lock `ROUNDS` times. Each
/// holder takes the witness exclusively, which fails if another process holds.
pub(super) fn contend(order: &str) -> String {
    let mut words = order.splitn(3, ' ');
    let mut word = || words.next().expect("three words");
    let rounds: u64 = word().parse().expect("a number");
    let witness = Witness::open(Path::new(word()));
    let lock = Lock::at(word());
    let (mut held, mut refused) = (0, 0);
    while held < rounds {
        match lock.try_acquire() {
            Ok(guard) => {
                let Some(alone) = witness.take() else { return "two hold".to_owned() };
                drop(alone);
                held += 1;
                let released = super::ending(&guard.release());
                if released != "released" {
                    return released.to_owned();
                }
            }
            Err(error) if error.is_held() => refused += 1,
            Err(error) => return error.to_string(),
        }
    }
    format!("held {held} times, refused {refused} times")
}

/// On Unix a byte-range lock, which the kernel gives to one process.
#[cfg(unix)]
struct Witness(std::fs::File);

#[cfg(unix)]
struct Alone<'a>(&'a Witness);

#[cfg(unix)]
impl Witness {
    fn open(path: &Path) -> Self {
        Self(std::fs::File::options().write(true).open(path).expect("the witness opens"))
    }

    /// `None` if another process has it.
    fn take(&self) -> Option<Alone<'_>> {
        self.set(libc::F_WRLCK).then_some(Alone(self))
    }

    fn set(&self, kind: impl TryInto<libc::c_short>) -> bool {
        super::set_byte_lock(&self.0, kind)
    }
}

#[cfg(unix)]
impl Drop for Alone<'_> {
    fn drop(&mut self) {
        assert!(self.0.set(libc::F_UNLCK), "it can be unlocked");
    }
}

/// On Windows an open file that no other process may open.
#[cfg(windows)]
struct Witness(std::path::PathBuf);

#[cfg(windows)]
impl Witness {
    fn open(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// `None` if another process has it.
    fn take(&self) -> Option<std::fs::File> {
        use std::os::windows::fs::OpenOptionsExt;
        std::fs::File::options().write(true).share_mode(0).open(&self.0).ok()
    }
}

/// Ends the process as the return from `main` does: `exit` of the C library.
#[cfg(windows)]
#[allow(unsafe_code)]
pub(super) fn exit_of_c() -> ! {
    unsafe extern "C" {
        fn exit(status: i32) -> !;
    }
    // SAFETY: takes a number and does not return.
    unsafe { exit(0) }
}

/// How many threads acquire when the process exits.
const THREADS: usize = 4;

/// Exits after each of some threads has held a lock, while they continue to acquire and release.
pub(super) fn exit_among(dir: &Path) -> ! {
    let (held, has_held) = std::sync::mpsc::channel();
    for number in 0..THREADS {
        let (lock, held) = (Lock::at(dir.join(format!("{number}.lock"))), held.clone());
        std::thread::spawn(move || {
            loop {
                // It fails after the exit has begun.
                if let Ok(guard) = lock.try_acquire() {
                    drop(guard);
                    let _ = held.send(number);
                }
            }
        });
    }
    let mut yet = [false; THREADS];
    while yet.contains(&false) {
        yet[has_held.recv().expect("the threads run")] = true;
    }
    std::process::exit(0)
}
