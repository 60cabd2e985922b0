//! Situations with less evidence about a holder than usual: overlays, mounts, hidden processes.
//! Each is a shell script in its own namespaces, as root; `$P` is portlock.

use std::process::Command;

use super::skip_report::not_checked;
use super::{Home, PORT, finished, is_root};

/// Functions for every script. A holder is the parent of the script that it runs, so it is alive
/// while the script runs.
const FUNCTIONS: &str = r#"
    report() { name=$1 code=0; shift; "$@" 2>&1 || code=$?; echo "$name: $code"; }
    other_namespace() { unshare --pid --fork --mount-proc "$@"; }
"#;

/// Runs `script` in a new mount namespace, on a new filesystem. Returns its output, or `None`,
/// reported as not checked, where `needed` does not work.
fn run_script(needed: &[&str], script: &str) -> Option<String> {
    let home = Home::new();
    let in_a_namespace = |script: &str| {
        let mut unshare = Command::new("timeout");
        unshare.args(["120", "unshare", "--mount", "sh", "-euc", script]);
        unshare.env("P", env!("CARGO_BIN_EXE_portlock")).env("PORT", PORT);
        unshare.env("FUNCTIONS", FUNCTIONS).env("HOME", home.path()).env_remove("PORTLOCK_DIR");
        unshare.current_dir(home.path());
        finished(&mut unshare)
    };
    let works = |command: &&&str| is_root() && in_a_namespace(command).status.success();
    let missing: Vec<_> = needed.iter().filter(|command| !works(command)).collect();
    if !missing.is_empty() || !is_root() {
        not_checked(&format!("this takes root and commands that do not work here: {missing:?}"));
        return None;
    }
    let beginning = "eval \"$FUNCTIONS\"; mount -t tmpfs none \"$PWD\"; cd \"$PWD\"; chmod 755 .";
    let done = in_a_namespace(&format!("{beginning}\n{script}"));
    assert_eq!((done.code(), &*done.err), (0, ""), "{done:?}");
    Some(done.out)
}

/// The lines of `out` that report an exit status.
fn reports(out: &str) -> Vec<&str> {
    out.lines()
        .filter(|line| line.split_once(": ").is_some_and(|(_, code)| is_code(code)))
        .collect()
}

fn is_code(text: &str) -> bool {
    text.parse::<u8>().is_ok()
}

/// A container with `-v DIR:DIR:O`: its file is a copy, with separate kernel locks.
#[test]
fn overlay_over_live_lock_is_refused_without_copying() {
    let overlay = "mount -t tmpfs none /mnt; cd /mnt; mkdir a b c; \
                   mount -t overlay -o lowerdir=a,upperdir=b,workdir=c none /mnt";
    let script = r#"
        mkdir low up work view
        "$P" run --dir low "$PORT" -- sh -euc '
            eval "$FUNCTIONS"
            mount -t overlay -o lowerdir=low,upperdir=up,workdir=work none view
            report status "$P" status --dir view "$PORT"
            report list "$P" list --dir view
            report wait "$P" wait -w 0 --dir view "$PORT"
            report elsewhere other_namespace "$P" status --dir view "$PORT"
            ls up
            report run "$P" run --dir view "$PORT" -- echo ran
            report run-elsewhere other_namespace "$P" run --dir view "$PORT" -- echo ran
            report clear-elsewhere other_namespace "$P" clear --dir view "$PORT"
            # The control: a query that copied the file would show in the upper directory.
            : >>view/agent-$PORT.lock; ls up
        '
    "#;
    let Some(out) = run_script(&[overlay], script) else { return };
    let expected = [
        "status: 75",
        "list: 0",
        "wait: 75",
        "elsewhere: 4",
        "run: 75",
        "run-elsewhere: 75",
        "clear-elsewhere: 75",
    ];
    assert_eq!(reports(&out), expected, "{out}");
    let copied = format!("agent-{PORT}.lock");
    let line = |text: &str| out.lines().position(|line| line == text);
    let place = line(&copied).expect("the control");
    assert!(line("run: 75").is_some_and(|run| run < place), "a query has copied the file:\n{out}");
    assert!(out.contains("a copy of its file"), "{out}");
    assert!(!out.lines().any(|line| line == "ran" || line.contains("gone")), "{out}");
}

const BINDFS: &str = "mount -t tmpfs none /mnt; cd /mnt; mkdir a b; bindfs a b; umount b";

/// Each mount has separate kernel locks, and two containers may both have the same pid.
#[test]
fn two_fuse_mounts_of_one_directory_exclude() {
    let script = r#"
        mkdir real one two
        bindfs real one; bindfs real two; trap "umount one two" EXIT
        # The same process, which holds through the other mount.
        report itself "$P" run -F --dir one "$PORT" -- "$P" run -F --dir two "$PORT" -- echo ran
        report leftover "$P" run --dir one "$PORT" -- true
        "$P" run --dir one "$PORT" -- sh -euc '
            eval "$FUNCTIONS"
            report status "$P" status --dir two "$PORT"
            report run "$P" run --dir two "$PORT" -- echo ran
            report elsewhere other_namespace "$P" status --dir two "$PORT"
            report run-elsewhere other_namespace "$P" run --dir two "$PORT" -- echo ran
        '
        # Both are pid 1, of different namespaces.
        other_namespace "$P" run -F --dir one "$PORT" -- sh -euc "
            eval \"\$FUNCTIONS\"
            report pid-1 other_namespace $P run -F --dir two $PORT -- echo ran
            report pid-1 other_namespace $P status --dir two $PORT
        "
    "#;
    let Some(out) = run_script(&[BINDFS], script) else { return };
    let expected = [
        "itself: 75",
        "leftover: 0",
        "status: 75",
        "run: 75",
        "elsewhere: 4",
        "run-elsewhere: 75",
        "pid-1: 75",
        "pid-1: 4",
    ];
    assert_eq!(reports(&out), expected, "{out}");
    assert!(!out.lines().any(|line| line == "ran"), "{out}");
}

/// Its record says that its exclusion relies on the create alone, so that a free kernel lock proves
/// nothing in any namespace.
#[test]
fn holder_without_kernel_locks_is_unknown_across_namespaces() {
    let script = r#"
        mkdir real
        strace -qq -o /dev/null -e trace=flock -e inject=flock:error=ENOSYS \
            "$P" run -F --dir real "$PORT" -- sh -euc '
            eval "$FUNCTIONS"
            report status "$P" status --dir real "$PORT"
            report run "$P" run --dir real "$PORT" -- echo ran
            report elsewhere other_namespace "$P" status --dir real "$PORT"
            report run-elsewhere other_namespace "$P" run --dir real "$PORT" -- echo ran
            report wait-elsewhere other_namespace "$P" wait -w 0 --dir real "$PORT"
            report sweep-elsewhere other_namespace "$P" sweep --dir real
            ls real
        '
        # Dead, it is recovered where its pid can be probed.
        report dead "$P" run --dir real "$PORT" -- echo recovered
    "#;
    let Some(out) = run_script(&["strace -qq -o /dev/null true"], script) else { return };
    let expected = [
        "status: 75",
        "run: 75",
        "elsewhere: 4",
        "run-elsewhere: 75",
        "wait-elsewhere: 4",
        "sweep-elsewhere: 0",
        "dead: 0",
    ];
    assert_eq!(reports(&out), expected, "{out}");
    assert!(out.contains(&format!("\nagent-{PORT}.lock\n")), "the file stays: {out}");
    assert!(!out.lines().any(|line| line == "ran"), "{out}");
}

/// Another user's process is hidden and cannot be identified: its pid may have been reused.
#[test]
fn hidden_processes_are_neither_named_nor_dead() {
    let hidden = "mount -t proc -o hidepid=2 proc /proc; setpriv --reuid 1001 --clear-groups true";
    let script = r#"
        cp "$P" portlock; mkdir -m 777 real
        cat >query <<'END'
            eval "$FUNCTIONS"
            mount -t proc -o hidepid=2 proc /proc
            as_another() { setpriv --reuid 1001 --regid 1001 --clear-groups "$@"; }
            report $1-status as_another ./portlock status --dir real "$PORT"
            report $1-run as_another ./portlock run -F --dir real "$PORT" -- echo "$1 ran"
END
        mkfifo -m 666 ready go; chmod 666 ready go
        setpriv --reuid 1000 --regid 1000 --clear-groups timeout 60 ./portlock run -F --dir real \
            "$PORT" -- sh -euc 'chmod 644 real/*; echo >ready; read line <go' &
        timeout 60 sh -c 'read line <ready'
        unshare --mount sh -eu query live
        timeout 60 sh -c 'echo >go'; wait
        # Dead, and its pid is another process's: this shell's, which is root's.
        sed "s/\"pid\":[0-9]*/\"pid\":$$/" real/* >record; cat record >real/agent-$PORT.lock
        unshare --mount sh -eu query dead
    "#;
    let Some(out) = run_script(&[hidden], script) else { return };
    assert_eq!(
        reports(&out),
        ["live-status: 75", "live-run: 75", "dead-status: 3", "dead-run: 0"],
        "{out}"
    );
    assert!(out.contains("whose state cannot be checked from here"), "{out}");
    assert!(!out.lines().any(|line| line == "live ran") && out.contains("dead ran\n"), "{out}");
}

#[test]
fn without_proc_the_kernel_lock_decides() {
    let script = r#"
        mkdir real
        "$P" run --dir real "$PORT" -- unshare --mount sh -euc '
            eval "$FUNCTIONS"; mount -t tmpfs none /proc
            report live-status "$P" status --dir real "$PORT"
            report live-run "$P" run -F --dir real "$PORT" -- echo "live ran"
            report live-sweep "$P" sweep --dir real
            ls real
        '
        "$P" run -F --dir real "$PORT" -- true
        # Its pid is another process's, which cannot be identified there: this shell's.
        sed "s/\"pid\":[0-9]*/\"pid\":$$/" real/* >record; cat record >real/agent-$PORT.lock
        unshare --mount sh -euc '
            eval "$FUNCTIONS"; mount -t tmpfs none /proc
            report dead-status "$P" status --dir real "$PORT"
            report dead-run "$P" run -F --dir real "$PORT" -- echo "dead ran"
        '
    "#;
    let Some(out) = run_script(&[], script) else { return };
    assert_eq!(
        reports(&out),
        ["live-status: 4", "live-run: 75", "live-sweep: 0", "dead-status: 4", "dead-run: 0"],
        "{out}"
    );
    assert!(out.contains(&format!("\nagent-{PORT}.lock\n")), "the file stays: {out}");
    assert!(!out.lines().any(|line| line == "live ran") && out.contains("dead ran\n"), "{out}");
}

/// On ramfs a killed container is recovered, although its pid is meaningless here. On FUSE it is
/// not, because its kernel lock may be local to one mount.
#[test]
fn dead_container_is_recovered_on_local_filesystems_alone() {
    let script = r#"
        mkdir ram real fuse other
        mount -t ramfs none ram; bindfs real fuse; bindfs real other
        trap "umount fuse other" EXIT
        for dir in ram fuse; do
            other_namespace "$P" run -F --dir $dir "$PORT" -- true
        done
        report ram-status "$P" status --dir ram "$PORT"
        report ram "$P" run --dir ram "$PORT" -- echo "ram ran"
        report same-mount "$P" status --dir fuse "$PORT"
        report other-status "$P" status --dir other "$PORT"
        report other "$P" run --dir other "$PORT" -- echo "other ran"
    "#;
    let Some(out) = run_script(&[BINDFS], script) else { return };
    let expected = ["ram-status: 3", "ram: 0", "same-mount: 3", "other-status: 4", "other: 75"];
    assert_eq!(reports(&out), expected, "{out}");
    assert!(out.contains("ram ran\n") && !out.contains("other ran\n"), "{out}");
}
