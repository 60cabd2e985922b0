//! `completions` and `man`.

use super::{Home, finished};

const SUBCOMMANDS: [&str; 8] =
    ["run", "status", "list", "clear", "sweep", "wait", "completions", "man"];

#[test]
fn completions_of_every_shell_know_every_subcommand() {
    let home = Home::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let done = finished(&mut home.portlock(["completions", shell]));
        assert_eq!((done.code(), &*done.err), (0, ""));
        for subcommand in SUBCOMMANDS {
            assert!(done.out.contains(subcommand), "{shell} {subcommand}");
        }
        assert!(done.out.contains("fall-back") && done.out.contains("stale"), "{shell}");
    }
}

#[test]
fn manual_has_a_page_for_each_subcommand() {
    let home = Home::new();
    let whole = finished(&mut home.portlock(["man"]));
    assert_eq!((whole.code(), &*whole.err), (0, ""));
    assert!(whole.out.contains(".TH portlock 1"), "{}", whole.out);
    for subcommand in SUBCOMMANDS {
        assert!(whole.out.contains(&format!("portlock\\-{subcommand}(1)")), "{subcommand}");
        let page = finished(&mut home.portlock(["man", subcommand]));
        assert_eq!((page.code(), &*page.err), (0, ""));
        for part in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "\"EXIT STATUS\""] {
            assert!(page.out.lines().any(|line| line == format!(".SH {part}")), "{}", page.out);
        }
        assert!(page.out.contains(&format!("portlock {subcommand}")), "{}", page.out);
    }
    let page = finished(&mut home.portlock(["man", "run"])).out;
    assert!(page.contains(" <PORT|NAME> <COMMAND>..."), "{page}");
}
