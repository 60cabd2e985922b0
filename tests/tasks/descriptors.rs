//! What this process has of a lock file, as the kernel lists it: other tests of the same process
//! have other files.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// How often this process has `path` open, and how often it has its file watched.
pub(crate) fn open_and_watched(path: &Path) -> (usize, usize) {
    let ino = fs::symlink_metadata(path).map(|found| found.ino()).unwrap_or_default();
    let watch = format!(" ino:{ino:x} ");
    let (mut open, mut watched) = (0, 0);
    for fd in fs::read_dir("/proc/self/fd").expect("/proc is there").flatten() {
        // Others close theirs meanwhile.
        let Ok(link) = fs::read_link(fd.path()) else { continue };
        open += usize::from(link.to_string_lossy().starts_with(&*path.to_string_lossy()));
        let info = Path::new("/proc/self/fdinfo").join(fd.file_name());
        let info = fs::read_to_string(info).unwrap_or_default();
        let of_it = |line: &&str| line.starts_with("inotify wd:") && line.contains(&watch);
        watched += info.lines().filter(of_it).count();
    }
    (open, watched)
}

/// How many queues of events this process has.
pub(crate) fn queues() -> usize {
    let fds = fs::read_dir("/proc/self/fd").expect("/proc is there").flatten();
    let links = fds.flat_map(|fd| fs::read_link(fd.path()));
    links.filter(|link| link.to_string_lossy().contains("inotify")).count()
}

/// How many threads have this name, which the threads that they start take over.
pub(crate) fn threads(name: &str) -> usize {
    let tasks = fs::read_dir("/proc/self/task").expect("/proc is there").flatten();
    let names = tasks.flat_map(|task| fs::read_to_string(task.path().join("comm")));
    names.filter(|found| found.trim_end() == name).count()
}
