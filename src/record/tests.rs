use super::*;
use std::time::Duration;

/// The example of PERCY.md: what its agents write, byte for byte.
const PERCY: &[u8] = br#"{"pid":20211,"port":5338,"startedAt":"2026-11-23T02:09:04.848Z"}"#;

#[test]
fn percys_record_round_trips_byte_for_byte() {
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
fn payloads_that_wedge_percy_are_unreadable() {
    for pid in ["null", "0", "-1", "1.5", "\"abc\"", "\"7\"", "2147483648", "1e400", "[7]", "true"]
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
    assert_eq!(Holder::parse(b"{\"pid\":2147483647}").map(|holder| holder.pid), Some(2147483647));
}

#[test]
fn a_time_is_kept_to_the_millisecond() {
    let finer = br#"{"pid":7,"startedAt":"2026-11-23T02:09:04.848123456Z"}"#;
    let holder = Holder::parse(finer).expect("a record");
    assert_eq!(Holder::parse(&holder.to_bytes()), Some(holder));
}

#[test]
fn record_is_limited_to_4096_bytes() {
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
fn unprintable_characters_are_dropped_both_ways() {
    let shown = Holder::parse(
        "{\"pid\":7,\"command\":\"a\\u001b[2J\\nb\\u202ec\\u0000 d\\u200b'\\\"\\\\\"}".as_bytes(),
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
    (holder.port, holder.started_at) = (Some(u16::MAX), Some(SystemTime::UNIX_EPOCH + far));
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
fn unrepresentable_time_is_left_out() {
    let mut holder = Holder::new(7);
    let far = Duration::from_secs(400_000_000_000);
    for time in [SystemTime::UNIX_EPOCH - Duration::from_secs(1), SystemTime::UNIX_EPOCH + far] {
        holder.started_at = Some(time);
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
fn truncated_record_is_unreadable_never_foreign() {
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
    b"{\"pid\":,\"port\":",
    b"{\"pid\":7,\"port\":,",
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
fn other_programs_data_is_foreign_outside_ports_files() {
    for data in FOREIGN {
        let shown = data.escape_ascii();
        assert_eq!(anywhere(data), Contents::Foreign, "{shown}");
        assert_ne!(in_a_ports_file(data), Contents::Foreign, "{shown}");
    }
}

#[test]
fn overlong_file_is_foreign_even_under_ports_name() {
    for longer in [vec![0; MAX_RECORD + 1], vec![b'x'; MAX_RECORD + 1]] {
        assert_eq!(anywhere(&longer), Contents::Foreign);
        assert_eq!(in_a_ports_file(&longer), Contents::Foreign);
        assert_eq!(in_a_ports_file(&longer[1..]), Contents::Unreadable);
    }
}

#[test]
fn ports_file_with_a_pid_is_a_record() {
    let named = Contents::Record(Box::new(Holder::new(7)));
    assert_eq!(in_a_ports_file(b"{\"pid\":7}"), named);
}
