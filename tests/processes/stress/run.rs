//! The processes of a run, and their trials.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Instant;

use super::board::{Answer, Board, Order, Slot};
use super::contender::{LOCK_PATH, NUMBER, WITNESS};
use super::{Protocol, Seen, Start};
use crate::participant::{Place, must_return, wait_until};

/// Gives a contender the board's file.
pub(super) const BOARD: &str = "PORTLOCK_TEST_STRESS";

/// Some contenders, and their memory shared with the test.
pub(super) struct StressRun {
    place: Place,
    /// Where the board and the witness are.
    elsewhere: tempfile::TempDir,
    board: &'static Board,
    contenders: Vec<Child>,
    round: u32,
}

impl StressRun {
    pub(super) fn start(processes: usize) -> Self {
        let place = Place::new();
        let elsewhere = tempfile::tempdir().expect("a directory");
        let board_path = elsewhere.path().join("board");
        let board = Board::new(&board_path);
        let entry = concat!("stress::", "exactly_one_of_simultaneous_processes_holds");
        let contenders = (0..processes).map(|number| {
            Command::new(std::env::current_exe().expect("the test binary has a path"))
                .args([entry, "--exact", "--nocapture", "--test-threads=1"])
                .env(BOARD, &board_path)
                .env(NUMBER, number.to_string())
                .env(LOCK_PATH, place.path())
                .stdout(Stdio::null())
                .spawn()
                .expect("the contender starts")
        });
        let contenders = contenders.collect();
        Self { place, elsewhere, board, contenders, round: 0 }
    }

    pub(super) fn cell(&mut self, protocol: Protocol, start: Start, trials: u32) -> Seen {
        let began = Instant::now();
        let mut seen = self.seen(protocol, start.named(), trials);
        for _ in 0..trials {
            self.wait_until_ready();
            start.put(self.place.path());
            self.go(Order::Try, protocol);
            self.wait_until_all(|slot| &slot.answered);
            self.count(&mut seen, start);
            self.board.over.store(self.round, SeqCst);
            self.wait_until_ready();
            seen.litter += u32::from(start.owner().is_none() && !self.place.is_empty());
            self.clean_up();
        }
        seen.witnessed = self.board.witnessed.swap(0, SeqCst);
        seen.time = began.elapsed();
        seen
    }

    /// All acquire and release repeatedly, until `holds` holds in total.
    pub(super) fn churn(&mut self, protocol: Protocol, holds: u32) -> Seen {
        let began = Instant::now();
        let mut seen = self.seen(protocol, "churn, 200 us held", holds);
        seen.churn = true;
        self.wait_until_ready();
        self.board.holds_left.store(holds, SeqCst);
        self.go(Order::Churn, protocol);
        self.wait_until_all(|slot| &slot.answered);
        for slot in self.slots() {
            seen.holds += slot.held.load(SeqCst);
            seen.named += slot.refused_named.load(SeqCst);
            seen.unnamed += slot.refused_unnamed.load(SeqCst);
        }
        self.board.over.store(self.round, SeqCst);
        self.wait_until_ready();
        seen.litter = u32::from(!self.place.is_empty());
        self.clean_up();
        seen.witnessed = self.board.witnessed.swap(0, SeqCst);
        seen.time = began.elapsed();
        seen
    }

    /// Ends the contenders, and checks that none of them failed.
    pub(super) fn end(mut self) {
        self.wait_until_ready();
        self.go(Order::End, Protocol::Portlock);
        for contender in &mut self.contenders {
            assert!(
                must_return("it ends", || contender.wait()).expect("it can be reaped").success()
            );
        }
    }

    fn seen(&self, protocol: Protocol, start: &'static str, trials: u32) -> Seen {
        let processes = self.contenders.len();
        Seen { protocol: protocol.named(), processes, start, trials, ..Seen::default() }
    }

    fn count(&self, seen: &mut Seen, start: Start) {
        let pids = self.contenders.iter().map(Child::id);
        let answers: Vec<(u32, Answer)> =
            pids.zip(self.slots().map(|slot| slot.answer())).collect();
        let holders: Vec<u32> = answers
            .iter()
            .filter(|(_, answer)| *answer == Answer::Held)
            .map(|(pid, _)| *pid)
            .collect();
        seen.holds += holders.len() as u32;
        seen.two_or_more += u32::from(holders.len() > 1);
        seen.unheld += u32::from(holders.is_empty());
        for (_, answer) in answers {
            match answer {
                Answer::Held => {}
                Answer::Unknown => seen.unnamed += 1,
                Answer::Refused(pid) if holders.contains(&pid) || start.owner() == Some(pid) => {
                    seen.named += 1;
                }
                Answer::Refused(_) => seen.misnamed += 1,
            }
        }
    }

    fn go(&mut self, order: Order, protocol: Protocol) {
        self.round += 1;
        self.board.order.store(order as u32, SeqCst);
        self.board.protocol.store(protocol as u32, SeqCst);
        self.board.found_stale.store(0, SeqCst);
        self.board.held.store(0, SeqCst);
        // Last, because the contenders wait for it.
        self.board.go.store(self.round, SeqCst);
    }

    fn wait_until_ready(&mut self) {
        self.all_at(self.round + 1, |slot| &slot.ready);
    }

    fn wait_until_all(&mut self, what: fn(&Slot) -> &AtomicU32) {
        self.all_at(self.round, what);
    }

    /// Returns when all have reached `round`; fails if one has ended.
    fn all_at(&mut self, round: u32, what: fn(&Slot) -> &AtomicU32) {
        let mut polls = 0_u32;
        wait_until("every contender has reached this round", || {
            polls += 1;
            if polls % 1_000 == 0 {
                for contender in &mut self.contenders {
                    let ended = contender.try_wait().expect("its status can be read");
                    assert_eq!(ended, None, "a contender has ended");
                }
            }
            self.slots().all(|slot| what(slot).load(SeqCst) == round)
        });
    }

    fn slots(&self) -> impl Iterator<Item = &'static Slot> + use<> {
        self.board.slots[..self.contenders.len()].iter()
    }

    /// Removes what a wrong protocol left, or the trial had planted.
    fn clean_up(&self) {
        let _ = fs::remove_file(self.place.path());
        let _ = fs::remove_file(self.elsewhere.path().join(WITNESS));
    }
}

impl Drop for StressRun {
    fn drop(&mut self) {
        for contender in &mut self.contenders {
            let _ = contender.kill();
            let _ = contender.wait();
        }
    }
}
