//! How the command writes: answers to stdout, all else to stderr, and a closed pipe is no panic.
//!
//! Nothing unprintable from a record or an argument reaches a terminal: [`say`] makes a message
//! visible, and an answer is made of [`visible`] or [`one_line`] parts, or is [`json`].

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use serde_json::Value;

use crate::status_code::IO;

/// Writes a message to stderr, in one call so that others' lines do not get into it. If no process
/// reads it, the exit status is all there is.
pub(crate) fn say(message: &str) {
    say_as_it_is(&format!("portlock: {}\n", visible(message)));
}

/// Writes text that has nothing of a record or an argument in it to stderr.
pub(crate) fn say_as_it_is(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Writes the answer to stdout. The exit status is `status`, or says that the answer was lost; a
/// reader that left wants no more of it.
pub(crate) fn answer(text: &str, status: u8) -> u8 {
    let mut out = io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => status,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => status,
        Err(_) => {
            say("cannot write the answer");
            IO
        }
    }
}

/// Whether stdout shows colours: a terminal, and nothing asked for none (<https://no-color.org>).
pub(crate) fn is_coloured() -> bool {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
    // On Windows a console must first be set to understand escape sequences.
    cfg!(unix) && !plain && io::stdout().is_terminal()
}

/// `text` with all but printable characters and line breaks escaped, as in `\u{1b}`.
pub(crate) fn visible(text: &str) -> String {
    let shown = |c: char| if c == '\n' { c.to_string() } else { escaped(c) };
    text.chars().map(shown).collect()
}

/// A message that contains `path`, whose own line breaks are then escaped as well.
pub(crate) fn naming(path: &Path, message: &str) -> String {
    let path = path.display().to_string();
    message.replace(&path, &one_line(&path))
}

/// `text` with all but printable characters escaped.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(escaped).collect()
}

/// `value` as JSON in one line, and without loss.
pub(crate) fn json(value: &Value) -> String {
    // What serde_json leaves as it is and a terminal may not: all of it is in strings.
    let escaped = |c: char| {
        let units = |c: char| c.encode_utf16(&mut [0; 2]).to_vec();
        let escape = |unit: &u16| format!("\\u{unit:04x}");
        if is_printable(c) { c.to_string() } else { units(c).iter().map(escape).collect() }
    };
    value.to_string().chars().map(escaped).collect()
}

/// A JSON array with one element a line, for programs that read lines as well as for those that
/// read all of it.
pub(crate) fn json_array(values: &[Value]) -> String {
    if values.is_empty() {
        return "[]\n".to_owned();
    }
    let lines: Vec<String> = values.iter().map(json).collect();
    format!("[\n{}\n]\n", lines.join(",\n"))
}

fn escaped(c: char) -> String {
    if is_printable(c) { c.to_string() } else { c.escape_debug().to_string() }
}

/// Whether `c` does nothing to a terminal but appear: no control, format or unassigned character.
fn is_printable(c: char) -> bool {
    matches!(c, '\'' | '"' | '\\') || c.escape_debug().len() == 1
}
