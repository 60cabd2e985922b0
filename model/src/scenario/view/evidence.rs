//! The evidence about a record's author: the truth of the state, or a lie of the probe.

use std::sync::LazyLock;

use portlock::protocol::{
    Acquire, Author, Clear, Evidence, FreeLock, Guarantee, Judging, KernelLock, LockDomain, Probe,
    Probed, judge,
};

use super::View;
use crate::scenario::machines::authors;
use crate::scenario::state::{Activity, Content, Kind, Look};

impl View<'_> {
    /// The true evidence about the author of a record. `choice` selects one of several
    /// possibilities.
    pub(super) fn truth(&self, content: Content, choice: u8) -> Author {
        // Each machine recognizes the other as another.
        let mine = self.state.participant(self.me).kind == Kind::Remote;
        let is_remote = |author| self.state.participant(author).kind == Kind::Remote;
        let unlocked = FreeLock::of(Guarantee::ExclusiveCreate, LockDomain::Shared);
        let shared = if self.scenario.kernel_locks {
            FreeLock::of(Guarantee::KernelLock, LockDomain::Shared)
        } else {
            unlocked
        };
        let here = |free, probe| {
            let unprobed = self.scenario.probe_fails || choice == 1;
            Author::Here(free, if unprobed { Probe::Unknown } else { probe })
        };
        let dead = |look| match look {
            Look::Gone => here(shared, Probe::Gone),
            Look::Zombie => here(shared, Probe::Zombie),
            Look::Reused => here(shared, Probe::Other),
            Look::Thread => here(shared, Probe::Thread),
            Look::EarlierBoot => Author::EarlierBoot,
            Look::OtherNamespace => Author::OtherNamespace(shared),
            Look::Unlocked if choice == 0 => here(unlocked, Probe::Gone),
            Look::Unlocked => Author::OtherNamespace(unlocked),
            Look::OnOtherMachine => Author::OtherMachine,
        };
        match content {
            Content::Of(author) if self.state.same_process(author, self.me) => {
                Author::Here(shared, Probe::Ourselves)
            }
            Content::Of(author) if mine != is_remote(author) => Author::OtherMachine,
            Content::Of(author) if self.state.participant(author).kind == Kind::Unlocked => {
                if choice == 0 {
                    here(unlocked, Probe::Alive)
                } else {
                    Author::OtherNamespace(unlocked)
                }
            }
            Content::Of(_) => here(shared, Probe::Alive),
            Content::OldOf(_) | Content::OldAlive => {
                Author::OldFormat(if choice == 0 { Probe::Alive } else { Probe::NotPermitted })
            }
            Content::Dead(Look::OnOtherMachine) if mine => here(shared, Probe::Gone),
            Content::Dead(_) if mine => Author::OtherMachine,
            Content::Dead(look) => dead(look),
            Content::OldDead(Look::Zombie) => Author::OldFormat(Probe::Zombie),
            Content::OldDead(Look::Reused) => Author::OldFormat(Probe::StartedLater),
            Content::OldDead(Look::Thread) => Author::OldFormat(Probe::Thread),
            Content::OldDead(
                Look::Gone
                | Look::EarlierBoot
                | Look::OtherNamespace
                | Look::Unlocked
                | Look::OnOtherMachine,
            ) => Author::OldFormat(Probe::Gone),
            Content::Empty | Content::Unreadable | Content::Foreign => {
                unreachable!("the machines probe what they have read")
            }
        }
    }

    /// The number of possibilities for [`truth`](Self::truth).
    pub(super) fn ways(&self, content: Content) -> u8 {
        let two = match content {
            Content::Of(author) => {
                let kind = self.state.participant(author).kind;
                (self.scenario.asks_may_be_denied || kind == Kind::Unlocked)
                    && !self.state.same_process(author, self.me)
                    && kind != Kind::Remote
            }
            Content::OldOf(_) | Content::OldAlive => self.scenario.asks_may_be_denied,
            Content::Dead(Look::Unlocked) => true,
            Content::Empty
            | Content::Unreadable
            | Content::Foreign
            | Content::Dead(_)
            | Content::OldDead(_) => false,
        };
        if two { 2 } else { 1 }
    }

    pub(super) fn probe_the_scenario(&mut self) -> Probed {
        if self.scenario.probe_lies {
            let lies = if self.scenario.every_lie { every_author() } else { lies() };
            return match self.choose(lies.len() as u8, 1) {
                Ok(choice) => Probed::Known(lies[usize::from(choice)]),
                Err(_) => Probed::Failed,
            };
        }
        let seen = self.state.participant(self.me).seen;
        if !seen.is_record() {
            // Only a wrong protocol probes without a record. The adapters answer the same.
            return Probed::Failed;
        }
        let ways = self.ways(seen);
        match self.choose(ways, 1) {
            Ok(_) if self.skips_the_probe() => {
                let shared = FreeLock::of(Guarantee::KernelLock, LockDomain::Shared);
                Probed::Known(Author::Here(shared, Probe::Unknown))
            }
            Ok(choice) => Probed::Known(self.truth(seen, choice)),
            Err(_) => Probed::Failed,
        }
    }

    /// Whether the probe is skipped: a waiter without a timeout is not refused, whatever it would
    /// find.
    pub(super) fn skips_the_probe(&self) -> bool {
        let judges_a_busy_lock = matches!(
            self.state.participant(self.me).activity,
            Activity::Acquiring(Acquire::Judging(Judging { lock: KernelLock::Busy }))
                | Activity::Clearing(Clear::At(Acquire::Judging(Judging {
                    lock: KernelLock::Busy
                })))
        );
        self.scenario.waits_without_end && judges_a_busy_lock
    }
}

fn every_author() -> &'static [Author] {
    static AUTHORS: LazyLock<Vec<Author>> = LazyLock::new(authors);
    &AUTHORS
}

/// One author for each way in which the judge can decide.
fn lies() -> &'static [Author] {
    static LIES: LazyLock<Vec<Author>> = LazyLock::new(|| {
        let mut known = Vec::new();
        let mut lies = authors();
        lies.retain(|&lie| {
            let verdicts = [KernelLock::Ours, KernelLock::Busy, KernelLock::Unsupported]
                .map(|lock| judge(lock, Evidence::Record(lie)));
            let new = !known.contains(&verdicts);
            if new {
                known.push(verdicts);
            }
            new
        });
        lies
    });
    &LIES
}
