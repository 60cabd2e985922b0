//! The machines of acquire and release as a state diagram. `ACQUIRE` and `RELEASE` place the
//! states; the edges and their replies are derived from the shipped code. A state without a place
//! is an error, and so is a place without a state.

mod edges;
mod sheet;

use portlock::protocol::{Acquire, Release};

use crate::render::svg::{Svg, pale};
use sheet::{MARGIN, OPERATION, OUTSIDE, Sheet, TITLE, WIDTH};

/// The purpose of a part of the machine, which determines its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Path {
    /// From the create of our own file until it is held.
    Take,
    /// Inspects an existing file.
    Look,
    /// Removes a dead holder's file.
    Recover,
    Refuse,
    /// Removes our own file after a failure.
    CleanUp,
    Again,
    Fail,
}

impl Path {
    fn colour(self) -> &'static str {
        match self {
            Self::Take => "green",
            Self::Look | Self::Again => "grey",
            Self::Recover => "amber",
            Self::Refuse => "blue",
            Self::CleanUp => "violet",
            Self::Fail => "red",
        }
    }
}

struct Place {
    /// The prefix of the names of its states. The longest match counts.
    states: &'static str,
    /// Distinguishes it from other places with this name.
    tag: &'static str,
    /// Replaces the operation that it waits for.
    note: &'static str,
    path: Path,
    /// Replaces the edges to this place, where it has many.
    sign: &'static str,
    /// An edge from a neighbouring column is drawn anyway.
    near: bool,
}

const fn place(states: &'static str, path: Path) -> Place {
    Place { states, tag: "", note: "", path, sign: "", near: false }
}

impl Place {
    const fn tag(self, tag: &'static str) -> Self {
        Self { tag, ..self }
    }

    const fn note(self, note: &'static str) -> Self {
        Self { note, ..self }
    }

    const fn sign(self, sign: &'static str) -> Self {
        Self { sign, ..self }
    }

    /// Same as [`sign`](Self::sign), except for edges from a neighbouring column.
    const fn far_sign(self, sign: &'static str) -> Self {
        Self { sign, near: true, ..self }
    }

    /// The name of the states, without their contents.
    fn title(&self) -> &'static str {
        self.states.split('(').next().unwrap_or(self.states)
    }
}

/// States below each other.
struct Column {
    /// The distance from the top of the diagram.
    down: i32,
    /// The side of edges between places of the column that are not neighbours.
    pass: Side,
    places: &'static [Place],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Left,
    Right,
}

const ACQUIRE: &[Column] = &[
    Column {
        down: 100,
        pass: Side::Left,
        places: &[
            place("Pausing(Created", Path::CleanUp).note("our file is locked: sleep"),
            place("CleanupLocking", Path::CleanUp),
            place("CleanupVerifying", Path::CleanUp),
            place("CleanupUnlinking", Path::CleanUp),
            place("Truncating", Path::CleanUp),
            place("Closing(Fail", Path::Fail).sign("fail"),
            place("Failed", Path::Fail).note("an operation failed").sign("Failed"),
        ],
    },
    Column {
        down: 0,
        pass: Side::Right,
        places: &[
            place("Creating", Path::Take),
            place("LockingCreated", Path::Take),
            place("Recording", Path::Take),
            place("ConfirmingCreated", Path::Take),
            place("Held", Path::Take).note("we hold the lock"),
            place("Closing(Pause", Path::Again).sign("again"),
            place("Pausing", Path::Again).note("sleep, or give up").sign("Pausing"),
            place("Refused", Path::Refuse).note("the lock is held").sign("Refused"),
            place("Closing(Refuse", Path::Refuse).sign("refuse"),
        ],
    },
    Column {
        down: 0,
        pass: Side::Right,
        places: &[
            place("Opening", Path::Look),
            place("CheckingAge", Path::Look),
            place("ReadingUnlocked", Path::Look).note("read, without the lock"),
            place("LockingExisting", Path::Look),
            place("Reading", Path::Look).note("read, under the lock"),
            place("Judging", Path::Look),
        ],
    },
    Column {
        down: 0,
        pass: Side::Right,
        places: &[
            place("Closing(Create", Path::Recover).sign("create"),
            place("Unlinking", Path::Recover),
            place("Confirming(Dead", Path::Recover).tag("dead"),
            place("Confirming", Path::Refuse).tag("not dead"),
            place("Blocked", Path::Refuse).note("leave, listen or force?"),
            place("Revalidating", Path::Look),
            place("Subscribing", Path::Look),
            place("Rechecking", Path::Look),
            place("Retrying", Path::Look),
            place("Listening", Path::Look),
        ],
    },
];

const RELEASE: &[Column] = &[
    Column { down: 0, pass: Side::Left, places: &[place("Confirming", Path::Take)] },
    Column {
        down: 0,
        pass: Side::Left,
        places: &[
            place("Unlinking", Path::Take),
            place("ReleaseFailed", Path::CleanUp).note("keep or abandon?"),
        ],
    },
    Column {
        down: 0,
        pass: Side::Left,
        places: &[
            place("Closing", Path::Take).far_sign("Closing"),
            place("Truncating", Path::CleanUp).note("truncate the file").far_sign("Truncating"),
        ],
    },
    Column {
        down: 0,
        pass: Side::Left,
        places: &[
            place("Ended", Path::Take).note("reports the outcome").far_sign("Ended"),
            place("Leaving", Path::Look).tag("after a fork"),
        ],
    },
];

/// What the colours mean.
const LEGEND: &[(Path, &str)] = &[
    (Path::Take, "our own file"),
    (Path::Look, "an existing file"),
    (Path::Recover, "a dead holder's file"),
    (Path::Refuse, "refusal"),
    (Path::CleanUp, "cleaning up"),
    (Path::Fail, "failure"),
];

pub fn draw() -> Result<String, String> {
    let mut svg = Svg::default();
    svg.text(MARGIN, 34, "Acquire", TITLE);
    for (at, (path, words)) in LEGEND.iter().enumerate() {
        let y = 58 + 16 * at as i32;
        svg.frame([OUTSIDE, y - 5, 16, 10], 3, pale(path.colour()), path.colour());
        svg.text(OUTSIDE + 24, y + 4, words, OPERATION);
    }
    let acquire = Sheet::arrange::<Acquire>(ACQUIRE, 64)?;
    acquire.draw(&mut svg);
    let heading = acquire.bottom + 40;
    svg.text(MARGIN, heading, "Release", TITLE);
    let release = Sheet::arrange::<Release>(RELEASE, heading + 20)?;
    release.draw(&mut svg);
    let description = format!("{} {}", acquire.described(), release.described());
    let title = "The machines of acquire and release, as states and the replies that lead on";
    Ok(svg.finish(WIDTH, release.bottom + MARGIN, title, &description))
}

#[cfg(test)]
mod tests {
    use super::edges::edges;
    use super::*;

    #[test]
    fn a_state_without_a_place_is_an_error() {
        let without_judging = &[ACQUIRE[0].places, ACQUIRE[1].places, &ACQUIRE[2].places[..5]];
        let columns: Vec<Column> = without_judging
            .iter()
            .chain([&ACQUIRE[3].places])
            .map(|places| Column { down: 0, pass: Side::Left, places })
            .collect();
        let why = edges::<Acquire>(&columns).expect_err("Judging has no place");
        assert!(why.starts_with("Judging(") && why.contains("has no place"), "{why}");
    }

    #[test]
    fn a_place_without_a_state_is_an_error() {
        const PLACES: &[Place] = &[place("Sleeping", Path::Again)];
        let more = RELEASE.iter().map(|column| column.places).chain([PLACES]);
        let columns: Vec<Column> =
            more.map(|places| Column { down: 0, pass: Side::Left, places }).collect();
        let why = edges::<Release>(&columns).expect_err("nothing sleeps");
        assert_eq!(why, "no state of Release begins with Sleeping");
    }
}
