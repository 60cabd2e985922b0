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
    /// boot it tells whether a kernel lock of the author excludes ours.
    pub device: Option<u64>,
    /// What the program wants others to know: a URL, a version ([`Lock::note`](crate::Lock::note)).
    pub note: Option<String>,
}

impl Holder {
    /// The record that this process would write, without port and time.
    pub fn of_this_process() -> Self {
        crate::os::process::me().into_owned()
    }

    /// A record of the old format: a pid and no more. What is known besides can be set afterwards.
    pub fn new(pid: u32) -> Self {
        Self {
            pid,
            port: None,
            since: None,
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
            since: keys.get("startedAt").and_then(Value::as_str).and_then(parse_time),
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
        record.text("startedAt", self.since.and_then(format_time).as_deref());
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
        holder.machine = Some("9f0c".into());
        holder.boot = Some("6ae6".into());
        holder.pid_namespace = Some(4_026_531_836);
        holder.process_start = Some(81_234);
        holder.kernel_lock = true;
        holder.device = Some(65_024);
        let bytes = holder.to_bytes();
        assert!(bytes.starts_with(&PERCY[..PERCY.len() - 1]), "{}", bytes.escape_ascii());
        assert_eq!(
            bytes[PERCY.len() - 1..].escape_ascii().to_string().replace('\\', ""),
            concat!(
                r#","command":"node","host":"build-7","machine":"9f0c","boot":"6ae6""#,
                r#","pidNamespace":4026531836,"processStart":81234,"kernelLock":true,"device":65024}"#
            )
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
            "boot":{},"pidNamespace":-1,"processStart":"now","kernelLock":1,"device":[],"more":[1]}"#;
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
    fn ascii_is_printable_as_the_debug_format_says() {
        for c in (0..=u8::MAX).map(char::from).chain(['\u{ad}', '\u{202e}', '\u{e9}', '\u{300}']) {
            let is_quoted = matches!(c, '\'' | '"' | '\\');
            assert_eq!(is_printable(c), is_quoted || c.escape_debug().len() == 1, "{c:?}");
        }
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

    fn anywhere(bytes: &[u8]) -> Contents {
        Contents::of(bytes, FileName::Any)
    }

    fn in_a_ports_file(bytes: &[u8]) -> Contents {
        Contents::of(bytes, FileName::OfPort)
    }

    /// A record of ours with every key, and one of Percy's, also with the port as a string.
    fn written() -> Vec<Vec<u8>> {
        let mut ours = Holder::parse(PERCY).expect("a record");
        ours.command = Some("n\u{f6}de".into());
        ours.host = Some("build-7".into());
        ours.kernel_lock = true;
        let mut named = ours.clone();
        named.port = None;
        let string = br#"{"pid":7,"port":"5338","startedAt":"2026-11-23T02:09:04.848Z"}"#;
        vec![PERCY.to_vec(), ours.to_bytes(), named.to_bytes(), string.to_vec()]
    }

    #[test]
    fn record_cut_at_any_byte_is_unreadable_and_never_foreign() {
        for record in written() {
            assert!(matches!(anywhere(&record), Contents::Record(_)));
            for end in 1..record.len() {
                let (kept, lost) = record.split_at(end);
                let mut zeroed = kept.to_vec();
                zeroed.resize(kept.len() + lost.len(), 0);
                for cut in [kept, &zeroed] {
                    let shown = cut.escape_ascii();
                    assert_eq!(anywhere(cut), Contents::Unreadable, "{shown}");
                    assert_eq!(in_a_ports_file(cut), Contents::Unreadable, "{shown}");
                }
            }
        }
        assert_eq!(anywhere(b""), Contents::Empty);
        assert_eq!(anywhere(&[0; 300]), Contents::Unreadable, "a loss of power");
    }

    /// Lock files of other programs, as they write them, and other data.
    const FOREIGN: &[&[u8]] = &[
        b"# This file is automatically @generated by Cargo.\nversion = 4\n",
        b"# THIS IS AN AUTOGENERATED FILE. DO NOT EDIT THIS FILE DIRECTLY.\n# yarn lockfile v1\n",
        b"# This file is automatically @generated by Poetry 1.8.2\n\n[[package]]\nname = \"a\"\n",
        b"{\n    \"_readme\": [\"This file locks the dependencies\"],\n    \"packages\": []\n}\n",
        b"{\"nodes\":{\"root\":{}},\"root\":\"root\",\"version\":7}",
        b"{\"_meta\":{\"hash\":{\"sha256\":\"9c\"}}}",
        b"GEM\n  remote: https://rubygems.org/\n",
        b"12345\n",
        b"     12345\nhost\n",
        b"{\"pid\":12345}",
        b"{\"pid\":12345,\"name\":\"editor\"}",
        b"{\"pid\":12345,\"name\":",
        b"{\"pid\":12345,\"port\":{}}",
        b"{\"pid\":0,\"port\":5338}",
        b"{\"pid\": 12345, \"por",
        b"{}",
        b"[]",
        b"null",
        b"SQLite format 3\0\x10\0\x01\x01",
        b"\0\0\0\0\0\x01",
        b"\n",
        b" ",
    ];

    #[test]
    fn data_of_other_programs_is_foreign_except_in_a_ports_own_file() {
        for data in FOREIGN {
            let shown = data.escape_ascii();
            assert_eq!(anywhere(data), Contents::Foreign, "{shown}");
            assert_ne!(in_a_ports_file(data), Contents::Foreign, "{shown}");
        }
    }

    #[test]
    fn file_longer_than_a_record_is_foreign_even_in_a_ports_own_file() {
        for longer in [vec![0; MAX_RECORD + 1], vec![b'x'; MAX_RECORD + 1]] {
            assert_eq!(anywhere(&longer), Contents::Foreign);
            assert_eq!(in_a_ports_file(&longer), Contents::Foreign);
            assert_eq!(in_a_ports_file(&longer[1..]), Contents::Unreadable);
        }
    }

    #[test]
    fn ports_own_file_that_names_a_pid_is_a_record() {
        let named = Contents::Record(Box::new(Holder::new(7)));
        assert_eq!(in_a_ports_file(b"{\"pid\":7}"), named);
    }
}
