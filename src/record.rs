//! What stands in a lock file: a total parser and a writer.
//!
//! A record is one JSON object. Percy's three keys come first, in its order and formats (S2), so
//! that its agents read our files; ours follow, and are all optional, so that we read its:
//!
//! ```json
//! {"pid":20211,"port":5338,"startedAt":"2026-11-23T02:09:04.848Z","command":"node",
//!  "host":"build-7","boot":"6ae6…","pidNamespace":4026531836,"processStart":81234,
//!  "note":"http://localhost:5338"}
//! ```
//!
//! (One line in the file, without spaces or a final newline.) Unknown keys are ignored. Any bytes
//! may be parsed: the result is a [`Holder`] or nothing, in time and memory bounded by
//! [`MAX_RECORD`].

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

/// Who holds a lock, or held it: what the record in the lock file says.
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
    pub since: Option<SystemTime>,
    /// The name of the program.
    pub command: Option<String>,
    /// The name of the machine.
    pub host: Option<String>,
    /// What distinguishes this boot of the machine from others (Linux: `boot_id`).
    pub boot: Option<String>,
    /// The pid namespace (Linux: the inode number of `/proc/self/ns/pid`).
    pub pid_namespace: Option<u64>,
    /// When the process started, in units of the system that only serve to compare (Linux: clock
    /// ticks since boot, field 22 of `/proc/PID/stat`).
    pub process_start: Option<u64>,
    /// What the program wants others to know: a URL, a version ([`Lock::note`](crate::Lock::note)).
    pub note: Option<String>,
}

impl Holder {
    /// The record that this process would write, without port and time.
    pub fn of_this_process() -> Self {
        crate::os::process::me()
    }

    /// A record of the old format: a pid and no more. What is known besides can be set afterwards.
    pub fn new(pid: u32) -> Self {
        Self {
            pid,
            port: None,
            since: None,
            command: None,
            host: None,
            boot: None,
            pid_namespace: None,
            process_start: None,
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
        let Value::Object(keys) = serde_json::from_slice(bytes).ok()? else { return None };
        let pid = keys.get("pid")?.as_u64().filter(|pid| (1..=MAX_PID).contains(pid))?;
        let port = keys.get("port").and_then(|port| match port {
            Value::String(digits) => digits.parse().ok(),
            other => other.as_u64().and_then(|port| u16::try_from(port).ok()),
        });
        let raw = |key| keys.get(key).and_then(Value::as_str);
        let text = |key| raw(key).and_then(printable);
        Some(Self {
            pid: u32::try_from(pid).ok()?,
            port: port.filter(|&port| port != 0),
            since: keys.get("startedAt").and_then(Value::as_str).and_then(parse_time),
            command: text("command"),
            host: text("host"),
            boot: text("boot"),
            pid_namespace: keys.get("pidNamespace").and_then(Value::as_u64),
            process_start: keys.get("processStart").and_then(Value::as_u64),
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
        record.text("startedAt", self.since.and_then(format_time).as_deref());
        for (key, text) in [("command", &self.command), ("host", &self.host), ("boot", &self.boot)]
        {
            record.text(key, text.as_deref().and_then(|text| shown(text, MAX_TEXT)).as_deref());
        }
        record.number("pidNamespace", self.pid_namespace);
        record.number("processStart", self.process_start);
        let note = self.note.as_deref().and_then(|note| shown(note, MAX_NOTE));
        record.text("note", note.as_deref());
        record.0.push(b'}');
        record.0
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
        let since = self.since.and_then(format_time).map(|time| {
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
    let kept: String = text
        .chars()
        .filter(|c| matches!(c, '\'' | '"' | '\\') || c.escape_debug().len() == 1)
        .take(most)
        .collect();
    (!kept.trim().is_empty()).then(|| kept.trim().to_owned().into())
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
mod tests {
    use super::*;
    use std::time::Duration;

    /// The example of PERCY.md: what its agents write, byte for byte.
    const PERCY: &[u8] = br#"{"pid":20211,"port":5338,"startedAt":"2026-11-23T02:09:04.848Z"}"#;

    #[test]
    fn percys_record_is_read_and_written_byte_for_byte() {
        let holder = Holder::parse(PERCY).expect("a record");
        assert_eq!((holder.pid, holder.port), (20211, Some(5338)));
        assert_eq!(holder.to_string(), "pid 20211 (since 2026-11-23 02:09:04 UTC)");
        assert_eq!(holder.to_bytes(), PERCY);
    }

    #[test]
    fn our_keys_follow_percys_three() {
        let mut holder = Holder::parse(PERCY).expect("a record");
        holder.command = Some("node".into());
        holder.host = Some("build-7".into());
        holder.boot = Some("6ae6".into());
        holder.pid_namespace = Some(4_026_531_836);
        holder.process_start = Some(81_234);
        let bytes = holder.to_bytes();
        assert!(bytes.starts_with(&PERCY[..PERCY.len() - 1]), "{}", bytes.escape_ascii());
        assert_eq!(
            bytes[PERCY.len() - 1..].escape_ascii().to_string().replace('\\', ""),
            r#","command":"node","host":"build-7","boot":"6ae6","pidNamespace":4026531836,"processStart":81234}"#
        );
        assert_eq!(Holder::parse(&bytes), Some(holder));
    }

    #[test]
    fn every_payload_that_percy_would_hold_for_ever_is_unreadable() {
        for pid in
            ["null", "0", "-1", "1.5", "\"abc\"", "\"7\"", "2147483648", "1e400", "[7]", "true"]
        {
            let payload = format!("{{\"pid\":{pid},\"port\":5338}}");
            assert_eq!(Holder::parse(payload.as_bytes()), None, "{payload}");
        }
        for payload in [
            "",
            "{}",
            "[]",
            "123",
            "null",
            "{\"pid\":7",
            "\0\0\0",
            "{\"pid\":7}x",
            "\u{feff}{\"pid\":7}",
        ] {
            assert_eq!(Holder::parse(payload.as_bytes()), None, "{payload:?}");
        }
        assert_eq!(Holder::parse(b"{\"pid\":7,\"x\":\"\xff\"}"), None, "not UTF-8");
        assert_eq!(Holder::parse("[".repeat(4096).as_bytes()), None, "deep");
        assert_eq!(
            Holder::parse(b"{\"pid\":2147483647}").map(|holder| holder.pid),
            Some(2147483647)
        );
    }

    #[test]
    fn a_time_is_kept_to_the_millisecond() {
        let finer = br#"{"pid":7,"startedAt":"2026-11-23T02:09:04.848123456Z"}"#;
        let holder = Holder::parse(finer).expect("a record");
        assert_eq!(Holder::parse(&holder.to_bytes()), Some(holder));
    }

    #[test]
    fn a_record_of_4096_bytes_is_read_and_one_of_4097_is_not() {
        let fill = |len: usize| {
            let record = "{\"pid\":7}";
            format!("{record}{}", " ".repeat(len - record.len())).into_bytes()
        };
        assert_eq!(Holder::parse(&fill(MAX_RECORD)), Some(Holder::new(7)));
        assert_eq!(Holder::parse(&fill(MAX_RECORD + 1)), None);
    }

    #[test]
    fn keys_of_the_wrong_kind_are_ignored() {
        let odd = br#"{"pid":7,"port":70000,"startedAt":"tomorrow","command":7,"host":null,
            "boot":{},"pidNamespace":-1,"processStart":"now","more":[1]}"#;
        assert_eq!(Holder::parse(odd), Some(Holder::new(7)));
        let port =
            |port| Holder::parse(format!("{{\"pid\":7,\"port\":{port}}}").as_bytes()).unwrap().port;
        assert_eq!(port("\"5338\""), Some(5338), "stored as it was passed");
        assert_eq!([port("0"), port("65536"), port("\"x\""), port("-1")], [None; 4]);
    }

    #[test]
    fn unprintable_characters_are_dropped_on_the_way_in_and_out() {
        let shown = Holder::parse(
            "{\"pid\":7,\"command\":\"a\\u001b[2J\\nb\\u202ec\\u0000 d\\u200b'\\\"\\\\\"}"
                .as_bytes(),
        )
        .expect("a record");
        assert_eq!(shown.command.as_deref(), Some("a[2Jbc d'\"\\"));
        let mut raw = Holder::new(7);
        raw.command = Some("x\u{7}\u{9b}y".into());
        raw.host = Some("\r\n".into());
        assert_eq!(raw.to_string(), "pid 7 (xy)");
        let back = Holder::parse(&raw.to_bytes()).expect("a record");
        assert_eq!((back.command.as_deref(), back.host), (Some("xy"), None));
        raw.command = Some("é".repeat(65));
        assert_eq!(Holder::parse(&raw.to_bytes()).unwrap().command, Some("é".repeat(64)));
    }

    #[test]
    fn note_is_last_bounded_and_shown() {
        let mut holder = Holder::parse(PERCY).expect("a record");
        holder.note = Some("http://localhost:5338, \u{1b}[1mversion 1.2".into());
        let bytes = holder.to_bytes();
        let end = br#","note":"http://localhost:5338, [1mversion 1.2"}"#;
        assert!(bytes.ends_with(end), "{}", bytes.escape_ascii());
        let back = Holder::parse(&bytes).expect("a record");
        assert_eq!(
            back.to_string(),
            "pid 20211 (since 2026-11-23 02:09:04 UTC, note: http://localhost:5338, [1mversion 1.2)"
        );
        holder.note = Some("é".repeat(MAX_NOTE + 1));
        let back = Holder::parse(&holder.to_bytes()).expect("a record");
        assert_eq!(back.note, Some("é".repeat(MAX_NOTE)));
        for none in ["", " ", "\n"] {
            holder.note = Some(none.into());
            assert_eq!(holder.to_bytes(), PERCY);
        }
        assert_eq!(Holder::parse(br#"{"pid":7,"note":["a"]}"#).expect("a record").note, None);
    }

    /// Every text as long as can be, of the characters that take the most room.
    #[test]
    fn longest_record_fits() {
        let mut holder = Holder::new(i32::MAX as u32);
        let far = Duration::from_secs(253_402_300_799);
        (holder.port, holder.since) = (Some(u16::MAX), Some(SystemTime::UNIX_EPOCH + far));
        for character in ["\u{10fffd}", "\\", "\"", "\u{1f512}"] {
            let text = Some(character.repeat(1000));
            (holder.command, holder.host) = (text.clone(), text.clone());
            (holder.boot, holder.note) = (text.clone(), text);
            (holder.pid_namespace, holder.process_start) = (Some(u64::MAX), Some(u64::MAX));
            let bytes = holder.to_bytes();
            assert!(bytes.len() <= MAX_RECORD, "{}", bytes.len());
            assert!(Holder::parse(&bytes).is_some());
        }
    }

    #[test]
    fn a_time_that_cannot_be_written_is_left_out() {
        let mut holder = Holder::new(7);
        let far = Duration::from_secs(400_000_000_000);
        for time in [SystemTime::UNIX_EPOCH - Duration::from_secs(1), SystemTime::UNIX_EPOCH + far]
        {
            holder.since = Some(time);
            assert_eq!(holder.to_bytes(), br#"{"pid":7,"port":null}"#);
            assert_eq!(holder.to_string(), "pid 7");
        }
    }
}
