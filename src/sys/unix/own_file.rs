//! Open files that a forked child does not keep.
//!
//! A child gets a copy of each descriptor, and the kernel lock of a file lives for as long as any
//! copy does. A child that kept one would keep the lock when its parent has died. It cannot be left
//! to the child's copies of our values: some are on the stacks of threads that it does not have, and
//! most are never dropped. So the numbers are in a table, and the child's fork handler puts a
//! closed pipe in the place of each file. The number stays taken, so that the child's copy of a
//! value owns what it closes, and never a file that got the same number later.
//!
//! The table only grows, by nodes that are never freed, so that the handler, which may neither lock
//! nor allocate, can walk it.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::fork::Moment;
use super::process;
use crate::sys::Origin;
use crate::sys::per_process::PerProcess;

/// How often a file is opened again because a fork may have come between its open and its entry in
/// the table. A fork that is still under way then may be waiting for this very thread.
const OPENS: u32 = 1000;

/// An open file of this process alone.
#[derive(Debug)]
pub(crate) struct OwnFile {
    file: ManuallyDrop<File>,
    entry: &'static Entry,
    origin: Origin,
}

impl OwnFile {
    /// What `open` returns. It is called again if a child that was being forked may have got the
    /// file before the file was in the table.
    pub(crate) fn opened(open: impl Fn() -> io::Result<File>) -> io::Result<Self> {
        let mut opens = 0;
        loop {
            let before = Moment::now();
            let own = Self::enter(open()?);
            opens += 1;
            if before.is_undivided() || opens == OPENS {
                return Ok(own);
            }
            drop(own);
            std::thread::yield_now();
        }
    }

    /// The same for a file that can be created only once: `reopen` opens it again. Where that fails,
    /// or finds another file, the first stays.
    pub(crate) fn created(
        create: impl FnOnce() -> io::Result<File>,
        reopen: impl Fn() -> io::Result<File>,
    ) -> io::Result<Self> {
        let before = Moment::now();
        let first = Self::enter(create()?);
        if before.is_undivided() {
            return Ok(first);
        }
        let identity = |file: &File| file.metadata().map(|found| (found.dev(), found.ino())).ok();
        match Self::opened(reopen) {
            Ok(again) if identity(&again).is_some_and(|it| identity(&first) == Some(it)) => {
                Ok(again)
            }
            Ok(_) | Err(_) => Ok(first),
        }
    }

    fn enter(file: File) -> Self {
        let origin = Origin::here();
        let entry = Entry::take();
        entry.passed.store(0, SeqCst);
        entry.number.store(file.as_raw_fd(), SeqCst);
        Self { file: ManuallyDrop::new(file), entry, origin }
    }

    /// Whether this process opened it, as far as forks were noticed.
    pub(crate) fn is_ours(&self) -> bool {
        self.origin.is_here()
    }
}

impl AsFd for OwnFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Deref for OwnFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

impl Drop for OwnFile {
    fn drop(&mut self) {
        // Out of the table first: what gets the number next is not ours to replace.
        if self.entry.number.swap(NONE, SeqCst) != CLOSED {
            // SAFETY: it is dropped here alone, and not used afterwards.
            unsafe { ManuallyDrop::drop(&mut self.file) };
        }
        free().push(self.entry);
    }
}

/// The right of a command to inherit a file, for as long as this value lives.
///
/// A child cannot know, when its fork handler runs, whether it will execute that command. So for as
/// long as there is one of these, the children of this process keep the file.
#[derive(Debug)]
pub(crate) struct Passed(Weak<OwnFile>);

impl Passed {
    pub(crate) fn new(file: &Arc<OwnFile>) -> Self {
        file.entry.passed.fetch_add(1, SeqCst);
        Self(Arc::downgrade(file))
    }

    /// Has this process keep the file when it executes a program. Async-signal-safe.
    ///
    /// # Errors
    ///
    /// `ENOLCK` if the file has been closed since, so that there is nothing to inherit.
    pub(crate) fn keep_on_exec(&self) -> io::Result<()> {
        let file = self.0.upgrade().filter(|file| file.entry.number.load(SeqCst) >= 0);
        let Some(file) = file else { return Err(io::Error::from_raw_os_error(libc::ENOLCK)) };
        // SAFETY: fcntl on a number; the file is open.
        match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFD, 0) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }
}

impl Drop for Passed {
    fn drop(&mut self) {
        // Without its file the entry is another's.
        if let Some(file) = self.0.upgrade() {
            file.entry.passed.fetch_sub(1, SeqCst);
        }
    }
}

/// A line of the table.
#[derive(Debug)]
struct Entry {
    /// A descriptor, or one of the two below.
    number: AtomicI32,
    /// How many commands may inherit it.
    passed: AtomicUsize,
    /// The one that was added before it.
    next: *mut Entry,
}

// SAFETY: `next` is written before the entry is shared, never again, and what it points to is never
// freed.
unsafe impl Sync for Entry {}

/// There is no descriptor.
const NONE: RawFd = -1;

/// A fork handler has closed it, and the number may be another file's by now.
const CLOSED: RawFd = -2;

/// The entry that was added last.
static LAST: AtomicPtr<Entry> = AtomicPtr::new(ptr::null_mut());

impl Entry {
    /// One that is unused: given back, or a new one.
    fn take() -> &'static Self {
        let given_back = free().pop();
        given_back.unwrap_or_else(Self::add)
    }

    fn add() -> &'static Self {
        let (number, passed) = (AtomicI32::new(NONE), AtomicUsize::new(0));
        let new = Box::into_raw(Box::new(Self { number, passed, next: ptr::null_mut() }));
        let mut last = LAST.load(SeqCst);
        loop {
            // SAFETY: it came from a box just now, and no other thread has seen it.
            unsafe { (*new).next = last };
            match LAST.compare_exchange(last, new, SeqCst, SeqCst) {
                // SAFETY: as above, and it is never freed from here on.
                Ok(_) => return unsafe { &*new },
                Err(other) => last = other,
            }
        }
    }
}

/// The unused entries. A forked child begins with none: another thread may have locked
/// its parent's.
fn free() -> MutexGuard<'static, Vec<&'static Entry>> {
    static FREE: PerProcess<Mutex<Vec<&'static Entry>>> =
        PerProcess::new(AtomicPtr::new(ptr::null_mut()));
    // Nothing is done while it is locked that can panic.
    let free = FREE.get(process::generation(), Mutex::default);
    free.lock().unwrap_or_else(PoisonError::into_inner)
}

/// In a forked child: gives up every file of the table that no command may inherit.
/// Async-signal-safe.
pub(crate) fn leave_all() {
    let mut stand_in = None;
    let mut next = LAST.load(SeqCst);
    while !next.is_null() {
        // SAFETY: every pointer but null came from a box, and is never freed.
        let entry = unsafe { &*next };
        next = entry.next;
        let number = entry.number.load(SeqCst);
        if number < 0 || entry.passed.load(SeqCst) > 0 {
            continue;
        }
        let stand_in = stand_in.get_or_insert_with(ClosedPipe::new);
        entry.number.store(stand_in.replace(number), SeqCst);
    }
}

/// A pipe without a writer, to replace files that are given up; or none, if there is no
/// descriptor left.
struct ClosedPipe(Option<[RawFd; 2]>);

impl ClosedPipe {
    fn new() -> Self {
        let mut ends = [0; 2];
        // SAFETY: there is room for two numbers.
        match unsafe { libc::pipe(ends.as_mut_ptr()) } {
            0 => Self(Some(ends)),
            _ => Self(None),
        }
    }

    /// Puts the pipe in the place of an open file. Returns what the table is to say of it.
    fn replace(&self, number: RawFd) -> RawFd {
        // SAFETY: calls on numbers, of which `number` is open and replaced at once, or closed.
        unsafe {
            match self.0 {
                Some([end, _]) if libc::dup2(end, number) == number => {
                    libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC);
                    NONE
                }
                _ => {
                    libc::close(number);
                    CLOSED
                }
            }
        }
    }
}

impl Drop for ClosedPipe {
    fn drop(&mut self) {
        for end in self.0.into_iter().flatten() {
            // SAFETY: it was opened here, and is closed once.
            unsafe { libc::close(end) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::os::fd::FromRawFd;
    use std::os::unix::fs::FileTypeExt;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use super::*;
    use crate::sys::forked::{Child, alone, in_a_child, no_more_descriptors};
    use crate::sys::unix::fork;

    fn a_file() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x");
        File::create(&path).expect("creates");
        (dir, path)
    }

    fn own(path: &Path) -> OwnFile {
        OwnFile::opened(|| File::open(path)).expect("opens")
    }

    /// Whether the kernel lock of a file outlives it in this process, as if the process had died.
    /// In a process without other tests, whose children would have it for a moment.
    fn outlives(path: &Path, file: impl Deref<Target = File>) -> bool {
        fs4::FileExt::try_lock(&*file).expect("free");
        drop(file);
        let other = File::open(path).expect("opens");
        fs4::FileExt::try_lock(&other).is_err()
    }

    fn nothing() -> Vec<u8> {
        Vec::new()
    }

    #[test]
    fn lock_never_outlives_its_process_in_a_child() {
        alone("sys::unix::own_file::tests::lock_never_outlives_its_process_in_a_child", || {
            let (_dir, path) = a_file();
            let file = own(&path);
            let child = Child::running(nothing);
            assert!(!outlives(&path, file));
            drop(child);
            // The control: a file that is in no table.
            let file = Box::new(File::open(&path).expect("opens"));
            let _child = Child::running(nothing);
            assert!(outlives(&path, file));
        });
    }

    #[test]
    fn fork_right_after_open_inherits_nothing() {
        alone("sys::unix::own_file::tests::fork_right_after_open_inherits_nothing", || {
            let (_dir, path) = a_file();
            let children = RefCell::new(Vec::new());
            let open_and_fork = || {
                let file = File::open(&path);
                if children.borrow().is_empty() {
                    children.borrow_mut().push(Child::running(nothing));
                }
                file
            };
            let file = OwnFile::opened(open_and_fork).expect("opens");
            assert!(!outlives(&path, file));
            drop(children.take());

            let file = OwnFile::created(open_and_fork, || File::open(&path)).expect("opens");
            assert!(!outlives(&path, file));
            drop(children.take());
            // The control: without a check for a fork.
            let file = OwnFile::enter(open_and_fork().expect("opens"));
            assert!(outlives(&path, file));
        });
    }

    /// The thread that forks may wait for this one.
    #[test]
    fn fork_that_goes_on_delays_no_open_forever() {
        let (_dir, path) = a_file();
        let said = in_a_child(|| {
            fork::begin();
            let opens = std::cell::Cell::new(0);
            let file = OwnFile::opened(|| {
                opens.set(opens.get() + 1);
                assert!(opens.get() <= OPENS, "one more");
                File::open(&path)
            });
            vec![u8::from(file.is_ok_and(|file| file.is_ours()) && opens.get() == OPENS)]
        });
        assert_eq!(said, [1]);
    }

    #[test]
    fn created_file_stays_if_reopening_fails() {
        let (dir, path) = a_file();
        let another = dir.path().join("y");
        File::create(&another).expect("creates");
        let identity = |file: &File| file.metadata().expect("is open").ino();
        let first = identity(&File::open(&path).expect("opens"));
        let reopens: [&dyn Fn() -> io::Result<File>; 2] =
            [&|| File::open(&another), &|| Err(io::ErrorKind::NotFound.into())];
        for reopen in reopens {
            let create = || {
                let _child = Child::running(nothing);
                File::open(&path)
            };
            let file = OwnFile::created(create, reopen).expect("opens");
            assert_eq!(identity(&file), first);
        }
    }

    #[test]
    fn childs_copy_closes_only_the_inherited_file() {
        let (_dir, path) = a_file();
        let file = RefCell::new(Some(own(&path)));
        let said = in_a_child(|| {
            let copy = file.take().expect("the parent's");
            let found = copy.metadata().expect("its number is open");
            let ours = u8::from(copy.is_ours());
            let number = copy.as_raw_fd();
            drop(copy);
            // SAFETY: fcntl on a number.
            let closed = unsafe { libc::fcntl(number, libc::F_GETFD) } == -1;
            vec![u8::from(found.file_type().is_fifo()), ours, u8::from(closed)]
        });
        assert_eq!(said, [1, 0, 1], "a pipe, not its own, closed");
        let file = file.take().expect("still there");
        assert!(file.is_ours() && file.metadata().expect("is open").is_file());
    }

    #[test]
    fn unused_lines_are_no_files_of_a_child() {
        let (_dir, path) = a_file();
        drop(own(&path));
        let before = identities(0..3);
        assert_eq!(in_a_child(|| vec![u8::from(identities(0..3) == before)]), [1]);
    }

    /// What is at these numbers.
    fn identities(numbers: std::ops::Range<RawFd>) -> Vec<Option<(u64, u64)>> {
        let identity = |number| {
            // SAFETY: it is a number, and nothing is closed here.
            let file = ManuallyDrop::new(unsafe { File::from_raw_fd(number) });
            file.metadata().ok().map(|found| (found.dev(), found.ino()))
        };
        numbers.map(identity).collect()
    }

    #[test]
    fn file_left_without_descriptors_is_closed_once() {
        let (_dir, path) = a_file();
        let said = in_a_child(|| {
            let file = own(&path);
            let before = identities(0..3);
            no_more_descriptors();
            leave_all();
            let is_closed = file.metadata().is_err();
            leave_all();
            vec![u8::from(is_closed), u8::from(identities(0..3) == before)]
        });
        assert_eq!(said, [1, 1]);
    }

    #[test]
    fn leaving_files_takes_no_descriptors() {
        let (_dir, path) = a_file();
        let said = in_a_child(|| {
            let files = [own(&path), own(&path)];
            let is_open = || identities(0..1024).into_iter().map(|identity| identity.is_some());
            let before: Vec<bool> = is_open().collect();
            leave_all();
            let are_pipes = files
                .iter()
                .all(|file| file.metadata().is_ok_and(|found| found.file_type().is_fifo()));
            vec![u8::from(are_pipes), u8::from(is_open().eq(before))]
        });
        assert_eq!(said, [1, 1]);
    }

    #[test]
    fn children_keep_a_file_commands_may_inherit() {
        let (_dir, path) = a_file();
        let file = Arc::new(own(&path));
        let keeps = || in_a_child(|| vec![u8::from(file.metadata().expect("open").is_file())])[0];
        let [first, second] = [(); 2].map(|()| Passed::new(&file));
        drop(first);
        assert_eq!(keeps(), 1);
        drop(second);
        assert_eq!(keeps(), 0);
    }

    #[test]
    fn passed_file_is_inheritable_until_closed() {
        let (_dir, path) = a_file();
        let file = Arc::new(own(&path));
        let passed = Passed::new(&file);
        let flags = |file: &OwnFile| {
            // SAFETY: fcntl on a number; the file is open.
            unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFD) }
        };
        assert_eq!(flags(&file), libc::FD_CLOEXEC);
        passed.keep_on_exec().expect("it is open");
        assert_eq!(flags(&file), 0);
        drop(file);
        // What gets its number and its line of the table next.
        let another = own(&path);
        let error = passed.keep_on_exec().expect_err("it is closed");
        assert_eq!(error.raw_os_error(), Some(libc::ENOLCK));
        assert_eq!(flags(&another), libc::FD_CLOEXEC);
        drop(passed);
        assert_eq!(another.entry.passed.load(SeqCst), 0);
    }

    #[test]
    fn a_started_program_inherits_nothing() {
        alone("sys::unix::own_file::tests::a_started_program_inherits_nothing", || {
            let (_dir, path) = a_file();
            let file = own(&path);
            let mut cat = Command::new("cat");
            cat.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null());
            let mut cat = cat.spawn().expect("it starts");
            assert!(!outlives(&path, file));
            drop(cat.stdin.take());
            assert!(cat.wait().expect("ends").success());
        });
    }

    #[test]
    fn lines_of_the_table_are_used_again() {
        let (_dir, path) = a_file();
        let of_one = |_| {
            let file = own(&path);
            ptr::from_ref(file.entry) as usize
        };
        let used: std::collections::BTreeSet<_> = (0..1000).map(of_one).collect();
        // Other tests take some at the same time.
        assert!(used.len() < 200, "{} lines", used.len());
    }
}
