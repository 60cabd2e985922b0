//! What is in a lock file: a total parser and a writer, and the one place that decides whether a
//! file is a lock file at all.
//!
//! A record is one JSON object. Percy's three keys come first, in its order and formats (S2), so
//! that its agents read our files; ours follow, and are all optional, so that we read its:
//!
//! ```json
//! {"pid":20211,"port":5338,"startedAt":"2026-11-23T02:09:04.848Z","command":"node",
//!  "host":"build-7","machine":"9f0c…","boot":"6ae6…","pidNamespace":4026531836,
//!  "processStart":81234,"kernelLock":true,"device":65024,"note":"http://localhost:5338"}
//! ```
//!
//! (One line in the file, without spaces or a final newline.) Unknown keys are ignored. Any bytes
//! may be read: the result is one of [`Contents`], in time and memory bounded by [`MAX_RECORD`].

use std::borrow::Cow;
use std::fmt;
use std::time::SystemTime;

use serde_json::Value;

/// The longest record, in bytes; a longer file is unreadable as one.
pub const MAX_RECORD: usize = 4096;

/// Room for a record of ours, as records usually are.
const USUAL_RECORD: usize = 256;

/// The longest text that is kept from a record (command, host, boot), in characters.
const MAX_TEXT: usize = 64;

/// The longest [note](Holder::note), in characters.
pub const MAX_NOTE: usize = 128;

/// The highest pid: `pid_t` is a signed 32-bit integer, and 0 and negative ones mean groups.
const MAX_PID: u64 = i32::MAX as u64;

/// A holder, live or dead: what the record in the lock file says.
///
/// Everything here is what its author wrote: worth showing, and not proof. Texts contain no
/// control or otherwise unprintable characters and have at most 64 characters, a note 128.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// The process, 1 to 2^31 - 1, numbered in its own pid namespace.
    pub pid: u32,
    /// The port that is locked; `None` for a lock that is not a port's.
    pub port: Option<u16>,
    /// When the record was written, by the author's clock, to the millisecond.
    pub started_at: Option<SystemTime>,
    /// The name of the program.
    pub command: Option<String>,
    /// The name of the machine. Many machines may have it.
    pub host: Option<String>,
    /// What distinguishes the machine from others: a digest of the number that the system got when
    /// it was installed (Linux: machine-id(5)). A copy of a system has the same.
    pub machine: Option<String>,
    /// What distinguishes this boot of the machine from others (Linux: `boot_id`).
    pub boot: Option<String>,
    /// The pid namespace (Linux: the inode number of `/proc/self/ns/pid`).
    pub pid_namespace: Option<u64>,
    /// When the process started, in units of the system that only serve to compare (Linux: clock
    /// ticks since boot, field 22 of `/proc/PID/stat`).
    pub process_start: Option<u64>,
    /// Whether its exclusion rests on the kernel lock of the file. Agents of the old format take
    /// none, and neither does a process whose system or filesystem has none.
    pub kernel_lock: bool,
    /// The device number of the filesystem, as the author saw it (`st_dev` of stat(2)). Within one
    /// boot it says whether a kernel lock of the author excludes ours.
    pub device: Option<u64>,
    /// What the program wants others to know: a URL, a version ([`Lock::note`](crate::Lock::note)).
    pub note: Option<String>,
}

impl Holder {
    /// The record that this process would write, without port and time.
    pub fn of_this_process() -> Self {
        crate::sys::process::current_process().into_owned()
    }

    /// A record of the old format: a pid and no more. What is known besides can be set afterwards.
    pub fn new(pid: u32) -> Self {
        Self {
            pid,
            port: None,
            started_at: None,
            command: None,
            host: None,
            machine: None,
            boot: None,
            pid_namespace: None,
            process_start: None,
            kernel_lock: false,
            device: None,
            note: None,
        }
    }

    /// Reads a record. Total: `None` is "unreadable as a record", whatever the bytes.
    ///
    /// Unreadable are: more than [`MAX_RECORD`] bytes, anything but one JSON object in UTF-8, and
    /// a `pid` that is not an integer from 1 to 2^31 - 1. Other keys of the wrong kind are
    /// ignored. `port` may be a number or a string of digits, as Percy stores what it was passed.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > MAX_RECORD {
            return None;
        }
        Self::of_json(&serde_json::from_slice(bytes).ok()?)
    }

    fn of_json(json: &Value) -> Option<Self> {
        let keys = json.as_object()?;
        let pid = keys.get("pid")?.as_u64().filter(|pid| (1..=MAX_PID).contains(pid))?;
        let raw = |key| keys.get(key).and_then(Value::as_str);
        let text = |key| raw(key).and_then(printable);
        Some(Self {
            pid: u32::try_from(pid).ok()?,
            port: keys.get("port").and_then(port),
            started_at: keys.get("startedAt").and_then(Value::as_str).and_then(parse_time),
            command: text("command"),
            host: text("host"),
            machine: text("machine"),
            boot: text("boot"),
            pid_namespace: keys.get("pidNamespace").and_then(Value::as_u64),
            process_start: keys.get("processStart").and_then(Value::as_u64),
            kernel_lock: keys.get("kernelLock").and_then(Value::as_bool).unwrap_or(false),
            device: keys.get("device").and_then(Value::as_u64),
            note: raw("note").and_then(|note| shown(note, MAX_NOTE)).map(Cow::into_owned),
        })
    }

    /// The bytes of the record: at most [`MAX_RECORD`], and what [`parse`](Self::parse) reads back.
    ///
    /// A record without a port has `"port":null`, so that Percy's three keys keep their places.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut record = Written(Vec::with_capacity(USUAL_RECORD));
        record.number("pid", Some(self.pid.into()));
        match self.port {
            Some(port) => record.number("port", Some(port.into())),
            None => record.put("port", "null"),
        }
        record.text("startedAt", self.started_at.and_then(format_time).as_deref());
        for (key, text) in [
            ("command", &self.command),
            ("host", &self.host),
            ("machine", &self.machine),
            ("boot", &self.boot),
        ] {
            record.text(key, text.as_deref().and_then(|text| shown(text, MAX_TEXT)).as_deref());
        }
        record.number("pidNamespace", self.pid_namespace);
        record.number("processStart", self.process_start);
        if self.kernel_lock {
            record.put("kernelLock", "true");
        }
        record.number("device", self.device);
        let note = self.note.as_deref().and_then(|note| shown(note, MAX_NOTE));
        record.text("note", note.as_deref());
        record.0.push(b'}');
        record.0
    }
}

/// The value of the key `port`: a number, or a string of digits. Port 0 takes no lock.
fn port(value: &Value) -> Option<u16> {
    match value {
        Value::String(digits) => digits.parse().ok(),
        other => other.as_u64().and_then(|port| u16::try_from(port).ok()),
    }
    .filter(|&port| port != 0)
}

/// What is in a file at a lock's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contents {
    /// Nothing: a creator may be about to write.
    Empty,
    /// A record.
    Record(Box<Holder>),
    /// What a writer of a record can leave when it or the machine dies, and what no process will
    /// complete: both this crate and Percy's agents write a record with one call.
    Unreadable,
    /// Another program's data. Such a file is never locked, emptied or removed.
    Foreign,
}

/// Whether other programs may have a file of this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileName {
    /// `agent-<port>.lock`, which only a port's lock has.
    OfPort,
    /// Any other name.
    Any,
}

impl Contents {
    /// Reads the first [`MAX_RECORD`] + 1 bytes of a file, or all of it if it has fewer.
    ///
    /// A file is a lock file if it is
    ///
    /// - empty;
    /// - a record: a JSON object of at most [`MAX_RECORD`] bytes that has a `pid` and a `port`, as
    ///   every record of ours and of Percy's agents has (the port may be `null`);
    /// - the beginning of a record as both write it (`{"pid":20211,"port":5338,"sta`), with NULs
    ///   behind it or nothing but NULs: a short write, or a loss of power;
    /// - in a file that only ports have, anything of at most [`MAX_RECORD`] bytes (S8).
    ///
    /// Anything else is another program's: longer files, texts, JSON without these two keys.
    pub fn of(bytes: &[u8], name: FileName) -> Self {
        if bytes.is_empty() {
            return Self::Empty;
        }
        if bytes.len() > MAX_RECORD {
            return Self::Foreign;
        }
        let is_ports = name == FileName::OfPort;
        let cut = match serde_json::from_slice::<Value>(bytes) {
            Ok(json) => match Holder::of_json(&json) {
                Some(holder) if is_ports || has_port(&json) => {
                    return Self::Record(Box::new(holder));
                }
                Some(_) | None => false,
            },
            Err(_) => is_cut_short(bytes),
        };
        if cut || is_ports { Self::Unreadable } else { Self::Foreign }
    }
}

fn has_port(json: &Value) -> bool {
    json.get("port").is_some_and(|value| value.is_null() || port(value).is_some())
}

/// Whether these bytes are the beginning of a record, with NULs where the rest was lost.
fn is_cut_short(bytes: &[u8]) -> bool {
    let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let text = &bytes[..end];
    match first_two_keys(text) {
        Err(Stops::AtTheEnd) => true,
        Err(Stops::Within) => false,
        // Beyond them a record is any JSON object that goes on.
        Ok(_) => serde_json::from_slice::<Value>(text).is_err_and(|error| error.is_eof()),
    }
}

/// Where bytes stop being the beginning of a record.
enum Stops {
    /// Nowhere: there are no more.
    AtTheEnd,
    /// At a byte that no record has there.
    Within,
}

/// What follows `{"pid":20211,"port":5338,` as both writers write it.
fn first_two_keys(text: &[u8]) -> Result<&[u8], Stops> {
    let text = number(literal(text, b"{\"pid\":")?)?;
    let text = literal(text, b",\"port\":")?;
    let text = match text.first() {
        Some(b'"') => literal(number(&text[1..])?, b"\"")?,
        Some(b'n') => literal(text, b"null")?,
        Some(_) | None => number(text)?,
    };
    literal(text, b",")
}

fn literal<'a>(text: &'a [u8], expected: &[u8]) -> Result<&'a [u8], Stops> {
    match text.strip_prefix(expected) {
        Some(rest) => Ok(rest),
        None if expected.starts_with(text) => Err(Stops::AtTheEnd),
        None => Err(Stops::Within),
    }
}

fn number(text: &[u8]) -> Result<&[u8], Stops> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    match text.get(digits) {
        None => Err(Stops::AtTheEnd),
        Some(_) if digits == 0 => Err(Stops::Within),
        Some(_) => Ok(&text[digits..]),
    }
}

/// A JSON object under way, by the key: much faster than a tree of values that is then written.
struct Written(Vec<u8>);

impl Written {
    fn put(&mut self, key: &str, value: &str) {
        self.0.push(if self.0.is_empty() { b'{' } else { b',' });
        for part in ["\"", key, "\":", value] {
            self.0.extend_from_slice(part.as_bytes());
        }
    }

    fn number(&mut self, key: &str, number: Option<u64>) {
        if let Some(number) = number {
            self.put(key, &number.to_string());
        }
    }

    fn text(&mut self, key: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.put(key, "");
            // Nothing is wrong with a text, and a vector takes all that is written.
            let written = serde_json::to_writer(&mut self.0, text);
            debug_assert!(written.is_ok(), "{written:?}");
        }
    }
}

impl fmt::Display for Holder {
    /// `pid 20211 (node, since 2026-11-23 02:09:04 UTC, note: http://localhost:5338)`, with the
    /// parts that are known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {}", self.pid)?;
        let since = self.started_at.and_then(format_time).map(|time| {
            let (date, clock) = time.split_once('T').unwrap_or((&time, ""));
            format!("since {date} {} UTC", clock.split('.').next().unwrap_or(clock))
        });
        let command = self.command.as_deref().and_then(|command| shown(command, MAX_TEXT));
        let note = self.note.as_deref().and_then(|note| shown(note, MAX_NOTE));
        let note = note.map(|note| Cow::Owned(format!("note: {note}")));
        let known: Vec<_> = [command, since.map(Cow::Owned), note].into_iter().flatten().collect();
        if known.is_empty() { Ok(()) } else { write!(f, " ({})", known.join(", ")) }
    }
}

/// `text` without what must not reach a terminal (control, format and unassigned characters), cut
/// to [`MAX_TEXT`] characters; `None` if nothing is left.
pub(crate) fn printable(text: &str) -> Option<String> {
    shown(text, MAX_TEXT).map(Cow::into_owned)
}

/// The same, cut to `most` characters, without a copy of what can be shown as it is.
fn shown(text: &str, most: usize) -> Option<Cow<'_, str>> {
    // As nearly all are, and every acquire writes some.
    if text.len() <= most && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return (!text.is_empty()).then_some(Cow::Borrowed(text));
    }
    let kept: String = text.chars().filter(|&c| is_printable(c)).take(most).collect();
    (!kept.trim().is_empty()).then(|| kept.trim().to_owned().into())
}

/// Of ASCII all but the control characters; of the rest what Rust's debug format does not escape.
fn is_printable(c: char) -> bool {
    // The debug format looks each character up in the tables of Unicode, which takes most of the
    // time of reading a long text.
    if c.is_ascii() { !c.is_ascii_control() } else { c.escape_debug().len() == 1 }
}

/// ISO 8601 in UTC with milliseconds, for the years 1970 to 9999.
fn format_time(time: SystemTime) -> Option<String> {
    use std::fmt::Write;
    time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let mut text = String::with_capacity("2026-11-23T02:09:04.848Z".len());
    write!(text, "{}", humantime::format_rfc3339_millis(time)).ok()?;
    Some(text)
}

/// A time as a record has it.
#[cfg(feature = "serde")]
pub(crate) fn time_text(time: SystemTime) -> Option<String> {
    format_time(time)
}

/// The reverse of [`format_time`]; anything else is no time.
fn parse_time(text: &str) -> Option<SystemTime> {
    let time = humantime::parse_rfc3339(text).ok()?;
    // Cut to the millisecond, so that a record that is written again reads the same.
    humantime::parse_rfc3339(&format_time(time)?).ok()
}

#[cfg(test)]
mod tests;
