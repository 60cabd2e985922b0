//! Properties of the record's parser and writer, for any bytes.

use std::fmt;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use portlock::{Holder, MAX_NOTE, MAX_RECORD};

use crate::Control;

/// A parser of records: the shipped one, or a control.
pub type Parser = fn(&[u8]) -> Option<Holder>;

/// The parser that ships.
pub const SHIPPED: Parser = Holder::parse;

/// The longest text that a record may carry, in characters.
const MAX_TEXT: usize = 64;

/// The longest line for a holder: `pid 2147483647 (`, a text of 64 characters,
/// `, since 9999-12-31 23:59:59 UTC`, `, note: ` with a text of 128, and `)`.
const MAX_SHOWN: usize = 16 + MAX_TEXT + 31 + 8 + MAX_NOTE + 1;

/// How many bytes of the input are used for the writer's texts: more than a text may have, and
/// twice that is more than a note may have. Cutting off a longer text would take most of the time.
const MOST_WRITTEN: usize = MAX_TEXT + 8;

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

/// Checks every property of `parser`, and of the writer, on `bytes`.
///
/// The parser must return, which the fuzzer checks.
pub fn check(parser: Parser, bytes: &[u8]) -> Result<(), Broken> {
    if let Some(holder) = parser(bytes) {
        holds(TOO_LONG, bytes.len() <= MAX_RECORD, || format!("{} bytes", bytes.len()))?;
        sound(&holder)?;
        let written = written(&holder)?;
        let back = parser(&written);
        holds(ROUND_TRIP, back.as_ref() == Some(&holder), || {
            format!("{holder:?} became {} and that {back:?}", written.escape_ascii())
        })?;
    }
    writer(parser, bytes)
}

/// A record with `bytes` as its texts: the writer must be as careful as the parser, because a host
/// or a program can have any name.
fn writer(parser: Parser, bytes: &[u8]) -> Result<(), Broken> {
    let holder = holder_of(bytes);
    shown(&holder)?;
    let written = written(&holder)?;
    let Some(back) = parser(&written) else {
        return Err(Broken { property: ROUND_TRIP, seen: written.escape_ascii().to_string() });
    };
    sound(&back)?;
    holds(
        ROUND_TRIP,
        back.pid == holder.pid
            && back.process_start == holder.process_start
            && (back.started_at.is_none() || back.started_at == holder.started_at),
        || format!("{holder:?} became {back:?}"),
    )
}

/// A holder whose numbers are the first bytes, and whose texts are the rest.
pub(crate) fn holder_of(bytes: &[u8]) -> Holder {
    let (number, text) = bytes.split_at(bytes.len().min(8));
    let number = number.iter().fold(0, |sum, &byte| (sum << 8) | u64::from(byte));
    let text = text_of(&text[..text.len().min(MOST_WRITTEN)]);
    let mut holder = Holder::new(u32::try_from(number >> 33).map_or(1, |pid| pid.max(1)));
    holder.started_at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(number));
    holder.command = Some(text.clone());
    holder.host = Some(text.chars().rev().collect());
    holder.note = Some(text.repeat(2));
    holder.boot = Some(text);
    holder.process_start = Some(number);
    holder
}

/// Bytes as text: UTF-8, and each invalid byte as the character of its number. So invalid bytes
/// give many characters, among them the control characters 0x80 to 0x9f.
fn text_of(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|&byte| char::from(byte)));
    }
    text
}

/// The properties of any parsed holder, except for those of the writer.
fn sound(holder: &Holder) -> Result<(), Broken> {
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
    shown(holder)
}

fn written(holder: &Holder) -> Result<Vec<u8>, Broken> {
    let written = holder.to_bytes();
    let length = written.len();
    holds(WRITTEN, length <= MAX_RECORD, || format!("{length} bytes"))?;
    Ok(written)
}

fn shown(holder: &Holder) -> Result<(), Broken> {
    let line = holder.to_string();
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
    use crate::corpus;

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
        for control in CONTROLS {
            let caught: Vec<_> = corpus("record")
                .iter()
                .filter_map(|(_, bytes)| check(control.broken, bytes).err())
                .map(|broken| broken.property)
                .collect();
            assert!(caught.contains(&control.property), "{}: {caught:?}", control.name);
        }
    }
}
