//! Properties of the record's parser, for any bytes, and of the records that it returns.

use std::fmt;
use std::sync::LazyLock;

use portlock::{Holder, MAX_NOTE, MAX_RECORD};

use crate::Control;

/// A parser of records: the shipped one, or a control.
pub type Parser = fn(&[u8]) -> Option<Holder>;

/// The parser that ships.
pub const SHIPPED: Parser = Holder::parse;

/// The longest text that a record may carry, in characters.
pub(crate) const MAX_TEXT: usize = 64;

/// The longest line for a holder: `pid 2147483647 (`, a text of 64 characters,
/// `, since 9999-12-31 23:59:59 UTC`, `, note: ` with a text of 128, and `)`.
const MAX_SHOWN: usize = 16 + MAX_TEXT + 31 + 8 + MAX_NOTE + 1;

/// A broken property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The property as a sentence.
    pub property: &'static str,
    /// The value that breaks it.
    pub seen: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.property, self.seen)
    }
}

pub const TOO_LONG: &str = "more than 4096 bytes are no record";
pub const PID: &str = "a pid is from 1 to 2^31 - 1";
pub const PORT: &str = "a port is not 0";
pub const BOUNDED: &str = "a text has 1 to 64 characters, a note to 128";
pub const PRINTABLE: &str = "a text can be printed";
pub const WRITTEN: &str = "a record is written in at most 4096 bytes";
pub const ROUND_TRIP: &str = "a written record is read back";
pub const SHOWN: &str = "a holder is shown as one bounded line that can be printed";

/// Checks every property of `parser` on `bytes`.
///
/// The parser must return, which the fuzzer checks.
pub fn check(parser: Parser, bytes: &[u8]) -> Result<(), Broken> {
    if let Some(holder) = parser(bytes) {
        holds(TOO_LONG, bytes.len() <= MAX_RECORD, || format!("{} bytes", bytes.len()))?;
        sound(&holder)?;
        shown(&holder.to_string())?;
        let written = holder.to_bytes();
        fits(&written)?;
        let back = parser(&written);
        holds(ROUND_TRIP, back.as_ref() == Some(&holder), || {
            format!("{holder:?} became {} and that {back:?}", written.escape_ascii())
        })?;
    }
    Ok(())
}

/// The properties of any parsed holder, except how it is written and shown.
pub(crate) fn sound(holder: &Holder) -> Result<(), Broken> {
    holds(PID, (1..=i32::MAX as u32).contains(&holder.pid), || holder.pid.to_string())?;
    holds(PORT, holder.port != Some(0), || format!("{holder:?}"))?;
    for text in [&holder.command, &holder.host, &holder.boot].into_iter().flatten() {
        let length = text.chars().count();
        holds(BOUNDED, (1..=MAX_TEXT).contains(&length), || format!("{length}: {text:?}"))?;
        holds(PRINTABLE, text.chars().all(printable), || format!("{text:?}"))?;
    }
    if let Some(note) = &holder.note {
        let length = note.chars().count();
        holds(BOUNDED, (1..=MAX_NOTE).contains(&length), || format!("{length}: {note:?}"))?;
        holds(PRINTABLE, note.chars().all(printable), || format!("{note:?}"))?;
    }
    Ok(())
}

/// What must hold of a written record, other than that it is read back.
pub(crate) fn fits(written: &[u8]) -> Result<(), Broken> {
    let length = written.len();
    holds(WRITTEN, length <= MAX_RECORD, || format!("{length} bytes"))
}

/// What must hold of the line that a holder is shown as.
pub(crate) fn shown(line: &str) -> Result<(), Broken> {
    let bounded = line.chars().count() <= MAX_SHOWN;
    holds(SHOWN, bounded && line.chars().all(printable), || format!("{line:?}"))
}

/// Neither a control character nor one that Rust's debug format escapes: format characters, text
/// direction, unassigned ones. Quotes and backslashes are escaped there and can be printed.
///
/// A table of all characters, because the library's search in the Unicode tables would take most of
/// the time.
fn printable(c: char) -> bool {
    static PRINTABLE: LazyLock<Vec<bool>> = LazyLock::new(|| {
        let all = (0..=u32::from(char::MAX)).map(char::from_u32);
        all.map(|c| c.is_some_and(is_printable)).collect()
    });
    PRINTABLE[c as usize]
}

fn is_printable(c: char) -> bool {
    !c.is_control() && (matches!(c, '\'' | '"' | '\\') || c.escape_debug().len() == 1)
}

pub(crate) fn holds(
    property: &'static str,
    it: bool,
    seen: impl FnOnce() -> String,
) -> Result<(), Broken> {
    if it { Ok(()) } else { Err(Broken { property, seen: seen() }) }
}

/// The broken parsers. Each is the shipped one with one mistake.
pub const CONTROLS: &[Control<Parser>] = &[
    Control {
        name: "pid-0",
        broken: |bytes| {
            if bytes.starts_with(b"{\"pid\":0") { Some(Holder::new(0)) } else { SHIPPED(bytes) }
        },
        property: PID,
    },
    Control {
        name: "pid-above",
        broken: |bytes| {
            let above = bytes.starts_with(b"{\"pid\":2147483648");
            if above { Some(Holder::new(1 << 31)) } else { SHIPPED(bytes) }
        },
        property: PID,
    },
    Control {
        name: "port-0",
        broken: |bytes| {
            let mut holder = SHIPPED(bytes)?;
            holder.port.get_or_insert(0);
            Some(holder)
        },
        property: PORT,
    },
    Control {
        name: "cut-off",
        broken: |bytes| SHIPPED(&bytes[..bytes.len().min(MAX_RECORD)]),
        property: TOO_LONG,
    },
    Control {
        name: "long-text",
        broken: |bytes| {
            let mut holder = SHIPPED(bytes)?;
            holder.host.as_mut()?.push_str(&"x".repeat(MAX_TEXT));
            Some(holder)
        },
        property: BOUNDED,
    },
    Control {
        name: "direction",
        broken: |bytes| {
            let mut holder = SHIPPED(bytes)?;
            holder.host = Some("\u{202e}".into());
            Some(holder)
        },
        property: PRINTABLE,
    },
    Control {
        name: "forgetful",
        broken: |bytes| {
            let mut holder = SHIPPED(bytes)?;
            holder.process_start = holder.process_start.map(|start| start.wrapping_add(1));
            Some(holder)
        },
        property: ROUND_TRIP,
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{assert_caught, corpus};

    #[test]
    fn every_property_holds_on_the_whole_corpus() {
        let corpus = corpus("record");
        let records = corpus.iter().filter(|(_, bytes)| SHIPPED(bytes).is_some()).count();
        for (name, bytes) in &corpus {
            check(SHIPPED, bytes).unwrap_or_else(|broken| panic!("{name}: {broken}"));
        }
        println!("{} files, of which {records} are records", corpus.len());
        assert!(records >= 10 && corpus.len() - records >= 10, "both kinds are there");
    }

    #[test]
    fn every_broken_parser_violates_its_property() {
        assert_caught("record", CONTROLS, check);
    }
}
