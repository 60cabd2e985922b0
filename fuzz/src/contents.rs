//! Properties of the reading that decides whether a file is a lock file.

use portlock::protocol::{Contents, FileName};
use portlock::{Holder, MAX_RECORD};

use crate::Control;
use crate::holder::holder_of;
use crate::record::{Broken, holds};

/// A reading of a file's bytes: the shipped one, or a control.
pub type Reading = fn(&[u8], FileName) -> Contents;

/// The reading that ships.
pub const SHIPPED: Reading = Contents::of;

/// The files of other programs, by name, from the committed corpus.
macro_rules! others {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("../corpus/contents/other-", $name)))),*]
    };
}

/// Lock files as other programs write them, and other data.
pub const OTHERS: &[(&str, &[u8])] = others![
    "cargo-lock",
    "chrome-singleton-lock",
    "composer-lock",
    "deno-lock",
    "emacs-lock",
    "firefox-lock",
    "flake-lock",
    "gemfile-lock",
    "git-gc-pid",
    "git-index-lock",
    "git-ref-lock",
    "json-array",
    "json-null",
    "json-pid",
    "json-pid-0",
    "json-pid-name",
    "json-pid-port-0",
    "json-pid-text",
    "json-port-first",
    "json-port-object",
    "json-spaced-cut",
    "libreoffice-lock",
    "mix-lock",
    "mongod-lock",
    "newline",
    "nul-then-one",
    "package-lock-json",
    "package-lock-json-cut",
    "pid",
    "pid-padded",
    "pid-with-text",
    "pid-without-a-newline",
    "pipfile-lock",
    "pnpm-lock",
    "poetry-lock",
    "postmaster-pid",
    "sqlite",
    "terraform-lock",
    "uucp-lock",
    "uv-lock",
    "vim-swap",
    "xorg-lock",
    "yarn-lock",
];

pub const EMPTY: &str = "a file is empty if it has no bytes";
pub const LONG: &str = "more than 4096 bytes are another program's";
pub const PORTS: &str = "a file that only ports have is a lock file";
pub const RECORD: &str = "a record has a pid and a port";
pub const BEGINNING: &str = "an unreadable file consists of NULs, or begins like a record";
pub const CUT: &str = "a record that was cut at any byte is a lock file";
pub const OTHER: &str = "another program's file is no lock file, even with more bytes";

/// Checks every property of `reading` on `bytes`: as a file, as the rest of another program's file,
/// and as the texts of a record that is cut short.
pub fn check(reading: Reading, bytes: &[u8]) -> Result<(), Broken> {
    as_a_file(reading, bytes)?;
    cut_short(reading, bytes)?;
    after_another(reading, bytes)
}

fn as_a_file(reading: Reading, bytes: &[u8]) -> Result<(), Broken> {
    let [any, ports] = [FileName::Any, FileName::OfPort].map(|name| reading(bytes, name));
    let seen = || format!("{any:?}, and {ports:?} in a port's: {}", bytes.escape_ascii());
    for found in [&any, &ports] {
        holds(EMPTY, (*found == Contents::Empty) == bytes.is_empty(), seen)?;
    }
    if bytes.len() > MAX_RECORD {
        return holds(LONG, any == Contents::Foreign && ports == Contents::Foreign, seen);
    }
    holds(PORTS, ports != Contents::Foreign, seen)?;
    let parsed = Holder::parse(bytes);
    holds(PORTS, record_of(&ports) == parsed.as_ref(), seen)?;
    match &any {
        Contents::Record(holder) => {
            holds(RECORD, Some(&**holder) == parsed.as_ref(), seen)?;
            holds(RECORD, may_name_a_port(bytes), seen)
        }
        Contents::Unreadable => holds(BEGINNING, may_be_a_beginning(bytes), seen),
        Contents::Empty | Contents::Foreign => Ok(()),
    }
}

fn record_of(contents: &Contents) -> Option<&Holder> {
    match contents {
        Contents::Record(holder) => Some(holder),
        Contents::Empty | Contents::Unreadable | Contents::Foreign => None,
    }
}

/// Whether a JSON text may have the key `port`, plain or with an escaped character.
fn may_name_a_port(bytes: &[u8]) -> bool {
    bytes.contains(&b'\\') || contains(bytes, b"\"port\"")
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn may_be_a_beginning(bytes: &[u8]) -> bool {
    const BEGINNING: &[u8] = b"{\"pid\":";
    let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let text = &bytes[..end];
    match text.strip_prefix(BEGINNING) {
        Some(rest) => rest.first().is_none_or(u8::is_ascii_digit),
        None => BEGINNING.starts_with(text),
    }
}

/// Cuts a record of ours or of Percy's, with texts and length from `bytes`.
fn cut_short(reading: Reading, bytes: &[u8]) -> Result<(), Broken> {
    let (control, texts) = bytes.split_at(bytes.len().min(2));
    let [kind, at] = [0, 1].map(|index| control.get(index).copied().unwrap_or(0));
    let mut holder = holder_of(texts);
    holder.port = Some(5338).filter(|_| kind & 1 == 0);
    let whole = match kind & 6 {
        0 => percys(&holder, ""),
        2 => percys(&holder, "\""),
        _ => holder.to_bytes(),
    };
    // Every byte, or every fourth for longer records.
    let apart = if kind & 8 == 0 { 1 } else { 4 };
    let length = match usize::from(at) * apart {
        0 => whole.len(),
        at => at % whole.len(),
    };
    let mut kept = whole[..length].to_vec();
    for name in [FileName::Any, FileName::OfPort] {
        let found = reading(&kept, name);
        let is_as_expected = match found {
            Contents::Record(_) => length == whole.len(),
            Contents::Unreadable => (1..whole.len()).contains(&length),
            Contents::Empty => length == 0,
            Contents::Foreign => false,
        };
        holds(CUT, is_as_expected, || format!("{found:?}: {}", kept.escape_ascii()))?;
    }
    if length == whole.len() {
        return Ok(());
    }
    kept.resize(whole.len(), 0);
    let found = reading(&kept, FileName::Any);
    holds(CUT, found == Contents::Unreadable, || format!("{found:?}: {}", kept.escape_ascii()))
}

/// The record of an old agent: the port as a number, or as a text if it was passed one.
fn percys(holder: &Holder, quote: &str) -> Vec<u8> {
    let pid = holder.pid;
    let record = format!(
        "{{\"pid\":{pid},\"port\":{quote}5338{quote},\"startedAt\":\"2026-11-23T02:09:04.848Z\"}}"
    );
    record.into_bytes()
}

fn after_another(reading: Reading, bytes: &[u8]) -> Result<(), Broken> {
    let Some((&number, rest)) = bytes.split_first() else { return Ok(()) };
    let (name, other) = OTHERS[usize::from(number) % OTHERS.len()];
    let rest = if can_continue(other) { &[] } else { rest };
    let whole = [other, rest].concat();
    let found = reading(&whole, FileName::Any);
    holds(OTHER, found == Contents::Foreign, || {
        format!("{name} is {found:?}: {}", whole.escape_ascii())
    })
}

/// Whether more bytes can change the kind of the file: JSON that is cut short, or only space.
fn can_continue(other: &[u8]) -> bool {
    let begins = other.trim_ascii_start();
    begins.is_empty() || begins.starts_with(b"{") && !other.trim_ascii_end().ends_with(b"}")
}

/// The broken readings. Each is the shipped one with one mistake.
pub const CONTROLS: &[Control<Reading>] = &[
    Control {
        name: "space-is-empty",
        broken: |bytes, name| {
            if bytes.trim_ascii().is_empty() { Contents::Empty } else { SHIPPED(bytes, name) }
        },
        property: EMPTY,
    },
    Control {
        name: "only-its-beginning",
        broken: |bytes, name| SHIPPED(&bytes[..bytes.len().min(MAX_RECORD)], name),
        property: LONG,
    },
    Control {
        name: "ports-as-any",
        broken: |bytes, _| SHIPPED(bytes, FileName::Any),
        property: PORTS,
    },
    Control {
        name: "a-pid-is-enough",
        broken: |bytes, name| match Holder::parse(bytes) {
            Some(holder) => Contents::Record(Box::new(holder)),
            None => SHIPPED(bytes, name),
        },
        property: RECORD,
    },
    Control {
        name: "any-unfinished-json",
        broken: |bytes, name| match SHIPPED(bytes, name) {
            Contents::Foreign if bytes.starts_with(b"{") && !bytes.ends_with(b"}") => {
                Contents::Unreadable
            }
            found => found,
        },
        property: BEGINNING,
    },
    Control {
        name: "whole-or-anothers",
        broken: |bytes, name| match SHIPPED(bytes, name) {
            Contents::Unreadable if name == FileName::Any && bytes.starts_with(b"{") => {
                Contents::Foreign
            }
            found => found,
        },
        property: CUT,
    },
    Control {
        name: "nuls-are-anothers",
        broken: |bytes, name| match SHIPPED(bytes, name) {
            Contents::Unreadable if name == FileName::Any && bytes.ends_with(b"\0") => {
                Contents::Foreign
            }
            found => found,
        },
        property: CUT,
    },
    Control {
        name: "a-number-is-a-leftover",
        broken: |bytes, name| match SHIPPED(bytes, name) {
            Contents::Foreign if bytes.trim_ascii().first().is_some_and(u8::is_ascii_digit) => {
                Contents::Unreadable
            }
            found => found,
        },
        property: OTHER,
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{assert_caught, corpus};

    #[test]
    fn every_property_holds_on_the_whole_corpus() {
        for (name, bytes) in corpus("contents") {
            check(SHIPPED, &bytes).unwrap_or_else(|broken| panic!("{name}: {broken}"));
        }
    }

    #[test]
    fn each_seed_is_what_its_name_says() {
        let mut others = Vec::new();
        for (name, bytes) in corpus("contents") {
            let found = SHIPPED(&bytes, FileName::Any);
            let (kind, rest) = name.split_once('-').unwrap_or((&name, ""));
            let expected = match kind {
                "other" => {
                    others.push(rest.to_owned());
                    found == Contents::Foreign
                }
                "record" => matches!(found, Contents::Record(_)),
                "cut" => found == Contents::Unreadable,
                "long" => found == Contents::Foreign,
                "nothing" => found == Contents::Empty,
                _ => false,
            };
            assert!(expected, "{name}: {found:?}");
        }
        let listed: Vec<&str> = OTHERS.iter().map(|&(name, _)| name).collect();
        assert_eq!(listed, others, "those that the target is built with");
    }

    /// Every prefix of each file, except those with which a record begins.
    #[test]
    fn prefix_of_another_programs_file_is_no_lock() {
        for &(name, other) in OTHERS {
            for end in 1..=other.len() {
                let kept = &other[..end];
                let found = SHIPPED(kept, FileName::Any);
                let expected = found == Contents::Foreign
                    || found == Contents::Unreadable && may_be_a_beginning(kept);
                assert!(expected, "{name} cut after {end} bytes is {found:?}");
            }
        }
    }

    #[test]
    fn each_broken_reading_is_caught_by_its_property() {
        assert_caught("contents", CONTROLS, check);
    }
}
