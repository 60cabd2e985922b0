//! The scenarios to explore: each is one value of [`Scenario`].

mod starts;

pub use self::starts::Start;
use self::starts::{ALL_STARTS, FEW_STARTS, STARTS, UNPROBED_STARTS};
use crate::properties::property::Property;
use crate::scenario::state::{
    Content, Creator, FILES, Kind, Look, PARTICIPANTS, Participant, State,
};

/// A scenario: the participants, the possible events, and the properties to check.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub name: &'static str,
    pub kinds: Vec<Kind>,
    pub starts: &'static [Start],
    /// How many processes die in all, and what a probe finds afterwards.
    pub crashes: u8,
    pub looks: &'static [Look],
    /// How many calls fail in all.
    pub faults: u8,
    /// How often the path is removed from outside.
    pub removals: u8,
    /// How many participants stop forever without dying.
    pub suspensions: u8,
    /// How many holders lose access to the path.
    pub chroots: u8,
    /// The probe answers anything at any time.
    pub probe_lies: bool,
    /// A lying probe gives every answer, not only one of those that are judged alike.
    pub every_lie: bool,
    /// The probe of a live process may be denied.
    pub asks_may_be_denied: bool,
    /// Without /proc no process can be probed, except by its number in the old format.
    pub probe_fails: bool,
    /// A name stays taken until the last open file of it is closed.
    pub delete_pending: bool,
    /// The filesystem has kernel locks.
    pub kernel_locks: bool,
    /// Participants may wait for events of the file that blocks them.
    pub listens: bool,
    /// Waiters have no timeout, and skip the probe where the kernel lock is busy.
    pub waits_without_end: bool,
    /// With the adapter of Windows an event grants the kernel lock to the listener, or is spurious;
    /// and every open of a name that is being deleted is denied.
    pub windows: bool,
    /// A clear may use force.
    pub forces: bool,
    pub properties: &'static [Property],
}

const ALL: &[Property] =
    &[Property::P1, Property::P2, Property::P3, Property::P4, Property::P5, Property::P6];
const SAFETY: &[Property] = &[Property::P1, Property::P2];

impl Scenario {
    /// The scenario from which all others are made.
    pub fn base(participants: usize) -> Self {
        Self {
            name: "base",
            kinds: vec![Kind::Process; participants],
            starts: if participants == 2 { ALL_STARTS } else { STARTS },
            crashes: 2,
            looks: if participants == 2 {
                &[Look::Gone, Look::Zombie, Look::Reused]
            } else {
                &[Look::Gone]
            },
            faults: 0,
            removals: 0,
            suspensions: 0,
            chroots: 0,
            probe_lies: false,
            every_lie: false,
            asks_may_be_denied: participants == 2,
            probe_fails: false,
            delete_pending: false,
            kernel_locks: true,
            listens: false,
            waits_without_end: false,
            windows: false,
            forces: false,
            properties: ALL,
        }
    }

    /// Every scenario of the design, for this many participants that acquire. A forked child, an
    /// old agent, an asker and a clearer are additional, where there is room.
    pub fn all(participants: usize) -> Vec<Self> {
        let base = Self::base(participants);
        let few = participants > 2;
        let processes_and = |processes: usize, extra: Kind| {
            let mut kinds = vec![Kind::Process; processes];
            kinds.push(extra);
            kinds
        };
        let and_one = |extra| processes_and(participants, extra);
        // In the combined scenarios it replaces one of them.
        let and_among = |extra| processes_and(participants - 1, extra);
        // It replaces one of them, but at least two others are left.
        let with_one = |extra| processes_and((participants - 1).max(2), extra);
        let and_clearer = and_one(Kind::Clearer);
        let mut forked = and_one(Kind::Child);
        forked[0] = Kind::Parent;
        let mut threads = vec![Kind::Thread; 2];
        threads.resize(participants, Kind::Process);
        // At 3 two processes die, without more participants.
        let next_to_an_old_agent = Self {
            starts: &[Start::Absent, Start::File(Content::OldDead(Look::Gone))],
            crashes: if few { 2 } else { 1 },
            looks: &[Look::Gone],
            properties: SAFETY,
            ..base.clone()
        };
        let mut scenarios = vec![
            base.clone(),
            Self { name: "lying-probe", probe_lies: true, properties: SAFETY, ..base.clone() },
            Self { name: "threads", kinds: threads, ..base.clone() },
            Self {
                name: "fork",
                kinds: forked,
                starts: FEW_STARTS,
                crashes: 1,
                looks: &[Look::Gone],
                asks_may_be_denied: false,
                properties: &[Property::P1, Property::P2, Property::P3, Property::P5],
                ..base.clone()
            },
            Self {
                name: "external-unlink",
                removals: 2,
                crashes: 1,
                starts: FEW_STARTS,
                properties: SAFETY,
                ..base.clone()
            },
            Self {
                name: "legacy-agents",
                // At 3 also two of ours.
                kinds: vec![Kind::Process, Kind::Process, Kind::OldAgent],
                ..next_to_an_old_agent.clone()
            },
            Self {
                // `portlock run` and its command, of which either may die first. An old agent
                // checks only the recorded process.
                name: "command",
                kinds: vec![Kind::Runner, Kind::Command, Kind::OldAgent],
                ..next_to_an_old_agent.clone()
            },
            Self {
                // A guard that is passed to a child, while the record names the parent.
                name: "passed-to-child",
                kinds: vec![Kind::Parent, Kind::Child, Kind::OldAgent],
                ..next_to_an_old_agent.clone()
            },
            Self {
                name: "delete-pending",
                delete_pending: true,
                crashes: 1,
                properties: &[Property::P1, Property::P2, Property::P3, Property::P4, Property::P5],
                ..base.clone()
            },
            Self {
                name: "no-kernel-locks",
                kernel_locks: false,
                properties: SAFETY,
                ..base.clone()
            },
            Self {
                name: "faults",
                faults: 1,
                crashes: 1,
                properties: &[Property::P1, Property::P2, Property::P3, Property::P4, Property::P6],
                ..base.clone()
            },
            Self {
                name: "stopped-process",
                suspensions: 1,
                crashes: 1,
                properties: &[Property::P1, Property::P2, Property::P3, Property::P5],
                ..base.clone()
            },
            Self {
                name: "out-of-reach",
                chroots: 1,
                crashes: if few { 0 } else { 1 },
                starts: FEW_STARTS,
                looks: &[Look::Gone],
                asks_may_be_denied: false,
                ..base.clone()
            },
            Self {
                name: "queries",
                kinds: and_one(Kind::Asker),
                crashes: if few { 0 } else { 1 },
                starts: if few { FEW_STARTS } else { STARTS },
                looks: &[Look::Gone],
                asks_may_be_denied: false,
                properties: &[
                    Property::P1,
                    Property::P2,
                    Property::P3,
                    Property::P4,
                    Property::P5,
                    Property::P6,
                    Property::Query,
                ],
                ..base.clone()
            },
            Self { name: "listening", listens: true, ..base.clone() },
            Self {
                name: "waiting-without-end",
                listens: true,
                waits_without_end: true,
                ..base.clone()
            },
            Self {
                name: "no-probe",
                probe_fails: true,
                starts: UNPROBED_STARTS,
                looks: &[Look::Gone],
                asks_may_be_denied: false,
                ..base.clone()
            },
            Self {
                name: "author-without-locks",
                kinds: with_one(Kind::Unlocked),
                crashes: if few { 0 } else { 1 },
                starts: FEW_STARTS,
                looks: &[Look::Gone],
                asks_may_be_denied: false,
                properties: &[Property::P1, Property::P2, Property::P4],
                ..base.clone()
            },
            Self {
                name: "machines-that-look-alike",
                kinds: with_one(Kind::Remote),
                crashes: 0,
                starts: &[
                    Start::Absent,
                    Start::File(Content::Dead(Look::Gone)),
                    Start::File(Content::Dead(Look::OnOtherMachine)),
                    Start::File(Content::Empty),
                ],
                looks: &[Look::Gone],
                asks_may_be_denied: false,
                properties: &[Property::P1, Property::P2, Property::P4],
                ..base.clone()
            },
            Self {
                name: "clears",
                kinds: and_clearer.clone(),
                crashes: 0,
                starts: STARTS,
                looks: &[Look::Gone],
                asks_may_be_denied: false,
                ..base.clone()
            },
            Self {
                // The live agent of the old format only owns the file, which force may remove.
                name: "forced-removal",
                kinds: and_clearer,
                forces: true,
                crashes: 0,
                starts: &[
                    Start::Absent,
                    Start::File(Content::OldAlive),
                    Start::File(Content::Foreign),
                ],
                looks: &[Look::Gone],
                asks_may_be_denied: false,
                ..base.clone()
            },
            // Combinations, so that every transition of the table is reached.
            Self {
                name: "combined-faults",
                probe_lies: true,
                faults: 3,
                removals: 1,
                crashes: 1,
                looks: &[Look::Gone],
                starts: FEW_STARTS,
                properties: SAFETY,
                ..base.clone()
            },
            Self {
                name: "combined-faults-no-locks",
                kernel_locks: false,
                probe_lies: true,
                faults: 2,
                removals: 1,
                crashes: 1,
                looks: &[Look::Gone],
                starts: FEW_STARTS,
                properties: SAFETY,
                ..base.clone()
            },
            Self {
                name: "combined-faults-listeners",
                listens: true,
                probe_lies: true,
                faults: 1,
                removals: 1,
                crashes: 1,
                looks: &[Look::Gone],
                starts: &[
                    Start::Absent,
                    Start::File(Content::Dead(Look::Gone)),
                    Start::File(Content::Unreadable),
                ],
                properties: SAFETY,
                ..base.clone()
            },
            Self {
                name: "combined-faults-clears",
                kinds: and_among(Kind::Clearer),
                forces: true,
                delete_pending: true,
                probe_lies: true,
                faults: 1,
                removals: 1,
                crashes: 1,
                looks: &[Look::Gone],
                starts: FEW_STARTS,
                properties: SAFETY,
                ..base.clone()
            },
            Self {
                name: "combined-faults-clears-no-locks",
                kinds: and_among(Kind::Clearer),
                forces: true,
                kernel_locks: false,
                probe_lies: true,
                faults: 1,
                crashes: 1,
                looks: &[Look::Gone],
                properties: SAFETY,
                ..base.clone()
            },
            Self {
                name: "combined-faults-queries",
                kinds: and_among(Kind::Asker),
                delete_pending: true,
                every_lie: true,
                probe_lies: true,
                faults: 1,
                crashes: 1,
                looks: &[Look::Gone],
                properties: &[Property::P1, Property::P2, Property::Query],
                ..base
            },
        ];
        scenarios.retain(|scenario| scenario.kinds.len() <= PARTICIPANTS);
        scenarios
    }

    /// All events for participants with kernel locks at once: with processes, with a parent and its
    /// children, and with the threads of one process. They are too large to explore, and are proved
    /// for any number of participants.
    pub fn mixes() -> Vec<Self> {
        let mix = |name, kinds: &[Kind]| Self {
            name,
            kinds: [kinds, &[Kind::Asker, Kind::Clearer]].concat(),
            crashes: 1,
            faults: 1,
            removals: 1,
            suspensions: 1,
            chroots: 1,
            probe_lies: true,
            listens: true,
            forces: true,
            properties: SAFETY,
            ..Self::base(2)
        };
        vec![
            mix("everything", &[Kind::Process]),
            mix("everything-forked", &[Kind::Parent, Kind::Child]),
            mix("everything-in-threads", &[Kind::Thread, Kind::Process]),
        ]
    }

    pub fn named(name: &str, participants: usize) -> Option<Self> {
        let all = Self::all(participants).into_iter().chain(Self::of_windows(participants));
        all.into_iter().find(|scenario| scenario.name == name)
    }

    /// The waits of Windows, where the event grants the kernel lock: with names that are free at
    /// once, and with names that stay until the last open file is closed.
    pub fn of_windows(participants: usize) -> [Self; 2] {
        let base = Self::base(participants);
        let at_once = Self { name: "windows-waits", listens: true, windows: true, ..base };
        let stays = Self {
            name: "windows-waits-late-names",
            delete_pending: true,
            properties: &[Property::P1, Property::P2, Property::P3, Property::P4, Property::P5],
            ..at_once.clone()
        };
        [at_once, stays]
    }

    /// The scenario with the adapter of Windows.
    #[must_use]
    pub fn on_windows(mut self) -> Self {
        self.windows = true;
        self
    }

    /// The scenario with another budget of crashes.
    #[must_use]
    pub fn with_crashes(mut self, crashes: u8) -> Self {
        self.crashes = crashes;
        self
    }

    /// The states in which it can begin.
    pub fn beginnings(&self) -> Vec<State> {
        self.starts.iter().map(|&start| self.begin(start)).collect()
    }

    fn begin(&self, start: Start) -> State {
        let mut participants = [Participant::at_rest(Kind::Process); PARTICIPANTS];
        for (slot, &kind) in participants.iter_mut().zip(&self.kinds) {
            *slot = Participant::at_rest(kind);
        }
        let mut state = State {
            path: None,
            files: [None; FILES],
            opened: [None; FILES],
            participants,
            count: self.kinds.len() as u8,
            guard: None,
            aside: [None; PARTICIPANTS],
            crashes_left: self.crashes,
            faults_left: self.faults,
            removals_left: self.removals,
            suspensions_left: self.suspensions,
            chroots_left: self.chroots,
            removal_failed: false,
            robbed: false,
        };
        match start {
            Start::Absent => {}
            Start::File(content) => {
                state.place(content, Creator::Start);
            }
        }
        state
    }
}
