//! This process's descriptors and watches of a lock file, by /proc. Other tests in the process use
//! other files.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The number of descriptors of `path`, and of watches on its file.
pub(crate) fn open_and_watched(path: &Path) -> (usize, usize) {
    let ino = fs::symlink_metadata(path).map(|found| found.ino()).unwrap_or_default();
    let watch = format!(" ino:{ino:x} ");
    let (mut open, mut watched) = (0, 0);
    for fd in fs::read_dir("/proc/self/fd").expect("/proc is there").flatten() {
        // Other tests may close theirs during the read.
        let Ok(link) = fs::read_link(fd.path()) else { continue };
        open += usize::from(link.to_string_lossy().starts_with(&*path.to_string_lossy()));
        let info = Path::new("/proc/self/fdinfo").join(fd.file_name());
        let info = fs::read_to_string(info).unwrap_or_default();
        let is_watch = |line: &&str| line.starts_with("inotify wd:") && line.contains(&watch);
        watched += info.lines().filter(is_watch).count();
    }
    (open, watched)
}

/// The number of this process's event queues.
pub(crate) fn queues() -> usize {
    let fds = fs::read_dir("/proc/self/fd").expect("/proc is there").flatten();
    let links = fds.flat_map(|fd| fs::read_link(fd.path()));
    links.filter(|link| link.to_string_lossy().contains("inotify")).count()
}

/// The number of threads with this name, which the threads that they start inherit.
pub(crate) fn threads(name: &str) -> usize {
    let tasks = fs::read_dir("/proc/self/task").expect("/proc is there").flatten();
    let names = tasks.flat_map(|task| fs::read_to_string(task.path().join("comm")));
    names.filter(|found| found.trim_end() == name).count()
}
