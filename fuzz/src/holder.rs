//! Properties of a record as it is written and shown, for a host or a program of any name.

use std::time::{Duration, SystemTime};

use portlock::{Holder, MAX_RECORD};

use crate::Control;
use crate::record::{Broken, MAX_TEXT, ROUND_TRIP, SHOWN, WRITTEN, fits, holds, shown, sound};

/// The two forms of a holder: the shipped ones, or a control's.
#[derive(Debug, Clone, Copy)]
pub struct Forms {
    /// The bytes of its record.
    pub written: fn(&Holder) -> Vec<u8>,
    /// The line of a refusal.
    pub shown: fn(&Holder) -> String,
}

/// The forms that ship.
pub const SHIPPED: Forms = Forms { written: Holder::to_bytes, shown: Holder::to_string };

/// How much of the input becomes text, in bytes: more than a text may have, and repeated more than a
/// note may. Longer texts are cut off, which would take most of the time.
const MOST_WRITTEN: usize = MAX_TEXT + 8;

/// Checks every property of `forms` on a holder that is made of `bytes`.
pub fn check(forms: Forms, bytes: &[u8]) -> Result<(), Broken> {
    let holder = holder_of(bytes);
    shown(&(forms.shown)(&holder))?;
    let written = (forms.written)(&holder);
    fits(&written)?;
    let Some(back) = Holder::parse(&written) else {
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

/// Bytes as UTF-8, where an invalid byte becomes the character of its number. So 0x80 to 0x9f, which
/// a terminal obeys, are among the characters.
fn text_of(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|&byte| char::from(byte)));
    }
    text
}

/// The broken forms. Each is the shipped one with one mistake.
pub const CONTROLS: &[Control<Forms>] = &[
    Control {
        name: "start-forgotten",
        broken: Forms {
            written: |holder| {
                let mut holder = holder.clone();
                holder.process_start = None;
                holder.to_bytes()
            },
            ..SHIPPED
        },
        property: ROUND_TRIP,
    },
    Control {
        name: "cut-short",
        broken: Forms {
            written: |holder| {
                let mut written = holder.to_bytes();
                written.truncate(written.len() / 2);
                written
            },
            ..SHIPPED
        },
        property: ROUND_TRIP,
    },
    Control {
        name: "padded",
        broken: Forms {
            written: |holder| {
                let mut written = holder.to_bytes();
                written.resize(MAX_RECORD + 1, b' ');
                written
            },
            ..SHIPPED
        },
        property: WRITTEN,
    },
    Control {
        name: "note-as-it-is",
        broken: Forms {
            shown: |holder| format!("{holder} {}", holder.note.as_deref().unwrap_or_default()),
            ..SHIPPED
        },
        property: SHOWN,
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{assert_caught, corpus};

    #[test]
    fn every_property_holds_on_the_whole_corpus() {
        for (name, bytes) in corpus("holder").iter().chain(&corpus("record")) {
            check(SHIPPED, bytes).unwrap_or_else(|broken| panic!("{name}: {broken}"));
        }
    }

    #[test]
    fn each_broken_form_is_caught_by_its_property() {
        assert_caught("holder", CONTROLS, check);
    }
}
