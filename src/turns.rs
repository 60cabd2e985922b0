//! Turns: of the tasks of this process that wait for one lock, one listens to its file.
//!
//! If all did, a release would wake all of them for one to get the lock, and each would have two
//! descriptors open. Those behind have none, and come to the front in the order in which they came.
//!
//! Nothing rests on it. A task that comes tries the lock before it waits for its turn, and one that
//! is behind looks at the lock all the same every second: the one in front of it may be in a future
//! that nobody polls, while the lock is free.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::AtomicPtr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::os::{Pauses, Until, per_process::PerProcess, process};

/// The longest that a task behind goes without a look. As where events of a file are kept.
const LOOK: Duration = Duration::from_secs(1);

/// Whoever has it is in front.
type Front = Arc<tokio::sync::Mutex<()>>;

/// A task's place among those of this process that wait for the same path. It is given up on drop.
pub(crate) struct Place {
    turn: Turn,
    _queue: Queue,
}

enum Turn {
    Come(#[allow(dead_code, reason = "the next is in front when it is dropped")] InFront),
    Awaited(Pin<Box<dyn Future<Output = InFront> + Send>>),
}

type InFront = tokio::sync::OwnedMutexGuard<()>;

impl Place {
    pub(crate) fn join(path: &Path) -> Self {
        let queue = Queue::join(path);
        let turn = match Arc::clone(&queue.front).try_lock_owned() {
            Ok(turn) => Turn::Come(turn),
            Err(_) => Turn::Awaited(Box::pin(Arc::clone(&queue.front).lock_owned())),
        };
        Self { turn, _queue: queue }
    }

    pub(crate) fn is_in_front(&self) -> bool {
        matches!(self.turn, Turn::Come(_))
    }

    /// Waits until it is in front, or a look is due.
    pub(crate) async fn advance(&mut self) {
        let Turn::Awaited(turn) = &mut self.turn else { return };
        let look = Pauses::from(LOOK).next(LOOK, &Until::default());
        // Its place is kept from one call to the next.
        if let Ok(turn) = tokio::time::timeout(look, turn).await {
            self.turn = Turn::Come(turn);
        }
    }
}

/// The tasks that wait for one path, which are forgotten with the last of them.
struct Queue {
    path: PathBuf,
    front: Front,
    /// Of which process: what a forked child drops of its parent's is not its own.
    generation: usize,
}

impl Queue {
    fn join(path: &Path) -> Self {
        let generation = process::generation();
        let mut queues = queues(generation);
        let (front, tasks) = queues.entry(path.to_owned()).or_default();
        *tasks += 1;
        Self { path: path.to_owned(), front: Arc::clone(front), generation }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        if self.generation != process::generation() {
            return;
        }
        let mut queues = queues(self.generation);
        if let Some((_, tasks)) = queues.get_mut(&self.path) {
            *tasks -= 1;
            if *tasks == 0 {
                queues.remove(&self.path);
            }
        }
    }
}

/// For each path, who is in front, and the number of tasks that wait.
type Queues = HashMap<PathBuf, (Front, usize)>;

fn queues(generation: usize) -> MutexGuard<'static, Queues> {
    static QUEUES: PerProcess<Mutex<Queues>> =
        PerProcess::new(AtomicPtr::new(std::ptr::null_mut()));
    // Nothing is done while it is locked that can panic.
    QUEUES.get(generation, Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn is_counted(path: &Path) -> bool {
        queues(process::generation()).contains_key(path)
    }

    /// Polls it once, and tells whether it is over.
    fn advances(place: &mut Place) -> bool {
        pin!(place.advance()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn one_is_in_front_and_the_next_follows_it_in_order_and_the_last_leaves_nothing() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.expect("a runtime");
        let _within = runtime.enter();
        let path = Path::new("/turns/of/one");
        let mut places = [(); 4].map(|()| Place::join(path));
        let other = Place::join(Path::new("/turns/of/another"));
        assert!(other.is_in_front());
        assert_eq!(places.each_ref().map(Place::is_in_front), [true, false, false, false]);
        for place in &mut places[1..] {
            assert!(!advances(place));
        }
        let [first, mut second, mut third, fourth] = places;
        drop(first);
        assert!(!advances(&mut third));
        assert!(advances(&mut second) && second.is_in_front());
        // Who leaves from the middle is skipped, and so is one whose turn came unseen.
        let mut fifth = Place::join(path);
        assert!(!advances(&mut fifth));
        drop(third);
        drop(second);
        assert!(!advances(&mut fifth));
        drop(fourth);
        assert!(advances(&mut fifth) && fifth.is_in_front());
        assert!(is_counted(path));
        drop(fifth);
        assert!(!is_counted(path));
    }

    #[test]
    fn who_is_behind_one_that_nobody_polls_looks_all_the_same() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let path = Path::new("/turns/behind");
        let _unpolled = Place::join(path);
        let mut behind = Place::join(path);
        runtime.expect("a runtime").block_on(behind.advance());
        assert!(!behind.is_in_front());
    }
}
