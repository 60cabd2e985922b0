use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::*;
use crate::sys::in_time::in_time;

#[test]
fn waiters_and_other_lock_kinds_are_no_locks() {
    let found = |line| entry(line).and_then(flock);
    let expected = Some(((0xfe, 0x10), 5678));
    assert_eq!(found("3: FLOCK  ADVISORY  WRITE 20211 fe:10:5678 0 EOF"), expected);
    assert_eq!(found("3: FLOCK  ADVISORY  READ  20211 fe:10:5678 0 EOF"), expected);
    assert_eq!(found("3: -> FLOCK  ADVISORY  WRITE 20211 fe:10:5678 0 EOF"), None);
    assert_eq!(found("3: POSIX  ADVISORY  WRITE 20211 fe:10:5678 0 EOF"), None);
    assert_eq!(found("3: FLOCK  ADVISORY  WRITE 20211 <none>:0 0 EOF"), None);
    assert_eq!(found(""), None);
}

#[test]
fn fdinfo_lists_own_flocks_and_no_other_lines() {
    let info = "pos:\t0\nflags:\t0100002\nmnt_id:\t29\nino:\t5678\n\
                lock:\t1: FLOCK  ADVISORY  WRITE 20211 fe:10:5678 0 EOF\n\
                lock:\t2: POSIX  ADVISORY  WRITE 20211 fe:10:5679 0 EOF\n";
    assert_eq!(own_locks(info).collect::<Vec<_>>(), [((0xfe, 0x10), 5678)]);
    assert_eq!(own_locks("lock:\nlock:\tx\n").count(), 0);
}

#[test]
fn search_ends_when_its_budget_is_spent() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let name = file.path().file_name().expect("a name");
    fs4::FileExt::try_lock(file.as_file()).expect("it is free");
    let wanted = identity(file.as_file(), &devices()).expect("/proc has it");
    let open = names_in("/proc/self/fd").expect("/proc is there").count();
    let found = |mut left| {
        let found = shares_lock(std::process::id(), name, wanted, &mut left);
        (found, left)
    };
    assert_eq!(found(0), (false, 0));
    assert_eq!(found(1), (false, 0), "one for the process, and none for its files");
    let mut left = 9;
    assert!(!shares_lock(0, name, wanted, &mut left), "there is no such process");
    assert_eq!(left, 8);
    // Other tests of this process open files at the same time.
    let (has_lock, left) = found(open + 1000);
    assert!(has_lock && (1..open + 999).contains(&left), "{left}");
}

#[test]
fn processes_after_the_recorded_one_come_first() {
    let pids = vec![9, 1, 5, 4, 7];
    assert_eq!(in_order_after(4, pids.clone()), [5, 7, 9, 1, 4]);
    assert_eq!(in_order_after(6, pids.clone()), [7, 9, 1, 4, 5]);
    for recorded in [0, 9, u32::MAX] {
        assert_eq!(in_order_after(recorded, pids.clone()), [1, 4, 5, 7, 9], "{recorded}");
    }
}

#[test]
fn link_is_not_followed_to_a_lock() {
    let [mine, other] = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let [path, link] = [&mine, &other].map(|dir| dir.path().join("x.lock"));
    let file = File::create(&path).expect("creates");
    fs4::FileExt::try_lock(&file).expect("it is free");
    std::os::unix::fs::symlink(&path, &link).expect("links");
    let pids = |path: &Path| pids_with_lock(path, 0).expect("/proc is there");
    assert!(pids(&path).contains(&std::process::id()));
    assert!(pids(&link).is_empty());
}

#[test]
fn own_process_shares_its_own_lock() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let of = |recorded| pids_with_lock(file.path(), recorded).expect("/proc is there");
    let mine = std::process::id();
    assert!(!of(0).contains(&mine), "it is free");
    fs4::FileExt::try_lock(file.as_file()).expect("it is free");
    // From the recorded process on, and then from the first one.
    for recorded in [0, mine - 1, mine, u32::MAX] {
        assert!(of(recorded).contains(&mine), "{recorded}");
    }
}

#[test]
fn a_held_lock_is_seen_without_taking_it() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let other = file.reopen().expect("opens again");
    let watch = |namespace| KernelLocks::snapshot().watch(&other, namespace);
    fs4::FileExt::try_lock(file.as_file()).expect("it is free");
    assert_eq!(watch(None), Watch::Held);
    fs4::FileExt::unlock(file.as_file()).expect("unlocks");
    assert_eq!(watch(None), Watch::Unknown, "hidden locks are possible");
    let mut locks = KernelLocks::snapshot();
    locks.listed.is_complete = true;
    assert_eq!(locks.watch(&other, Some(INITIAL_PID_NAMESPACE)), Watch::Free);
    locks.listed.is_complete = false;
    assert_eq!(locks.watch(&other, Some(INITIAL_PID_NAMESPACE)), Watch::Unknown);
}

/// Gives out these pieces, one a read.
struct Pieces<I>(I);

impl<'a, I: Iterator<Item = &'a str>> Read for Pieces<I> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let piece = self.0.next().unwrap_or("").as_bytes();
        into[..piece.len()].copy_from_slice(piece);
        Ok(piece.len())
    }
}

#[test]
fn rest_of_a_cut_line_is_left_out() {
    // Twice it ends within a line, whose rest looks like one, and once between two.
    let pieces = ["1: a\n1", "2: b\n3: c\n1", "4: d\n", "", "5: e\n", "6: f", "", "7: g\n"];
    let mut reader = Reader::of(Pieces(pieces.into_iter()));
    let expected: [&[&str]; 8] = [&["a"], &["c"], &[], &[], &["e"], &[], &[], &["g"]];
    let mut read = 0;
    for (piece, expected) in pieces.iter().zip(expected) {
        let given = reader.next(100).expect("reads");
        assert_eq!(given.length, piece.len());
        assert_eq!(given.entries, expected, "{piece:?}");
        read += piece.len();
        assert_eq!(reader.offset, read);
    }
}

#[test]
fn one_complete_reading_of_several_is_enough() {
    let listed = |inodes: &[u64], is_complete| {
        let flocks = inodes.iter().map(|&inode| ((0xfe, 0), inode)).collect();
        Listed { flocks, is_complete }
    };
    for (first, later, both) in
        [(false, false, false), (true, false, true), (false, true, true), (true, true, true)]
    {
        let all = listed(&[1, 2], first).and(listed(&[2, 3], later));
        assert_eq!((all.flocks, all.is_complete), (listed(&[1, 2, 3], both).flocks, both));
    }
}

/// How often the list was opened, the longest read, and what was found.
fn readings(list: &[&[&str]], step: usize) -> (usize, usize, Listed) {
    let (opens, longest) = (Cell::new(0), Cell::new(0));
    let listed = Listed::read(step, || {
        let pieces = list[opens.get().min(list.len() - 1)].iter().copied();
        opens.set(opens.get() + 1);
        Ok(Longest { list: Pieces(pieces), longest: &longest })
    });
    (opens.get(), longest.get(), listed.expect("reads"))
}

/// Notes for how many bytes it was asked, at most.
struct Longest<'a, L> {
    list: L,
    longest: &'a Cell<usize>,
}

impl<L: Read> Read for Longest<'_, L> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.longest.set(self.longest.get().max(into.len()));
        self.list.read(into)
    }
}

/// An entry of the list, with its number.
fn line(number: usize, inode: u64) -> String {
    format!("{number}: FLOCK  ADVISORY  WRITE 20211 fe:00:{inode} 0 EOF\n")
}

#[test]
fn short_list_takes_one_open() {
    let inodes =
        |listed: &Listed| -> Vec<u64> { listed.flocks.iter().map(|&(_, inode)| inode).collect() };
    let [one, two] = [line(1, 1), line(2, 2)];
    let (opens, _, listed) = readings(&[&[&one]], 1000);
    assert_eq!((opens, inodes(&listed), listed.is_complete), (1, vec![1], true));
    // Another lock was taken in between. What was before it may have moved.
    let (opens, _, listed) = readings(&[&[&one, &two]], 1000);
    assert_eq!((opens, inodes(&listed), listed.is_complete), (1, vec![1, 2], false));
}

#[test]
fn one_reader_goes_a_step_beyond_the_other() {
    let [one, two] = [line(1, 1), line(2, 2)];
    let step = one.len();
    let (opens, longest, listed) = readings(&[&[&one, &two], &[&one, &two]], step);
    assert_eq!((opens, longest, listed.flocks.len()), (2, 2 * step, 2));
}

/// After it the list has become shorter than what was read of it, so that neither reader sees
/// what is behind.
#[test]
fn piece_that_we_cut_ends_no_list() {
    let lines = |numbers: std::ops::RangeInclusive<usize>| -> String {
        numbers.map(|number| line(number, 100 + number as u64)).collect()
    };
    let [ahead, both, again] = [lines(10..=17), lines(10..=25), lines(18..=25)];
    let (_, _, listed) = readings(&[&[&ahead], &[&both, &again]], ahead.len());
    assert!(!listed.is_complete);
    // The control: with a piece that is shorter than asked for.
    let (_, _, listed) = readings(&[&[&ahead], &[&both, &lines(18..=24)]], ahead.len());
    assert!(listed.is_complete);
}

#[test]
fn complete_reading_contains_every_lock_held_throughout() {
    in_time(complete_readings);
}

fn complete_readings() {
    let mut complete = 0;
    for seed in 0..400 {
        let kernel = Kernel::new(seed);
        let stable = kernel.borrow().stable();
        let open = || Ok(ListFile::of(&kernel));
        let listed = Listed::read(STEPS[seed as usize % 4], open).expect("reads");
        if listed.is_complete {
            complete += 1;
            let missing: Vec<_> = stable.difference(&listed.flocks).collect();
            assert!(missing.is_empty(), "seed {seed}: {missing:?}");
        }
    }
    assert!(complete > 200, "{complete} of 400");
}

/// The wrong variant: the list is read once, and taken for complete.
#[test]
fn single_reading_misses_locks_held_throughout() {
    let misses = |seed: &u64| {
        let kernel = Kernel::new(*seed);
        let stable = kernel.borrow().stable();
        let mut reader = Reader::of(ListFile::of(&kernel));
        let mut found = BTreeSet::new();
        loop {
            // As large as the kernel's pieces, so that no line is cut.
            let piece = reader.next(1 << 20).expect("reads");
            if piece.length == 0 {
                return !stable.is_subset(&found);
            }
            found.extend(piece.entries.iter().filter_map(|entry| flock(entry)));
        }
    };
    let missed = (0..400).filter(misses).count();
    assert!(missed > 100, "{missed} of 400");
}

/// The kernel's list, which changes before each read (seq_file and locks_start in the kernel).
struct Kernel {
    /// For each processor the inode numbers of its locks. An odd one comes and goes.
    lists: Vec<Vec<u64>>,
    gone: Vec<u64>,
    churn: u64,
    random: u64,
}

impl Kernel {
    fn new(seed: u64) -> Rc<RefCell<Self>> {
        let random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut new = Self { lists: vec![Vec::new(); 4], gone: Vec::new(), churn: 0, random };
        for inode in 0..new.random(700) {
            let odd = u64::from(new.random(3) == 0);
            let processor = new.random(4) as usize;
            new.lists[processor].push(inode * 2 + odd);
        }
        // A little, or more than an overlap.
        new.churn = if new.random(2) == 0 { new.random(8) } else { new.random(200) };
        Rc::new(RefCell::new(new))
    }

    /// xorshift.
    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    fn stable(&self) -> BTreeSet<Identity> {
        let all = self.lists.iter().flatten();
        all.filter(|&&inode| inode % 2 == 0).map(|&inode| ((0xfe, 0), inode)).collect()
    }

    /// Some are released, wherever they are listed, or some taken, at the head of a list.
    fn change(&mut self) {
        let releases = self.random(2) == 0;
        for _ in 0..self.churn {
            let processor = self.random(4) as usize;
            if releases {
                let odd: Vec<usize> = (0..self.lists[processor].len())
                    .filter(|&at| self.lists[processor][at] % 2 == 1)
                    .collect();
                if !odd.is_empty() {
                    let at = odd[self.random(odd.len() as u64) as usize];
                    let released = self.lists[processor].remove(at);
                    self.gone.push(released);
                }
            } else if let Some(taken) = self.gone.pop() {
                self.lists[processor].insert(0, taken);
            }
        }
    }
}

/// An open /proc/locks: its next entry by number, and the rest of one that was cut.
struct ListFile {
    kernel: Rc<RefCell<Kernel>>,
    next: usize,
    rest: Vec<u8>,
}

impl ListFile {
    fn of(kernel: &Rc<RefCell<Kernel>>) -> Self {
        Self { kernel: kernel.clone(), next: 0, rest: Vec::new() }
    }
}

impl Read for ListFile {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        const PAGE: usize = 4096;
        self.kernel.borrow_mut().change();
        let mut text = String::new();
        for inode in self.kernel.borrow().lists.iter().flatten().skip(self.next) {
            let before = text.len();
            if self.rest.len() + before >= into.len() {
                break;
            }
            text += &line(self.next + 1, *inode);
            if text.len() > PAGE {
                text.truncate(before);
                break;
            }
            self.next += 1;
        }
        self.rest.extend(text.as_bytes());
        let given = self.rest.len().min(into.len());
        into[..given].copy_from_slice(&self.rest[..given]);
        self.rest.drain(..given);
        Ok(given)
    }
}
