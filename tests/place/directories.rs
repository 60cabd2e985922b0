//! The choice of the directory: by the environment, the home directory, or a fallback.

use std::fs::{self, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use crate::child::{Child, child};
use crate::participant::not_checked;
use crate::{STRANGER, is_root, our_id};

/// A home, a runtime and a temporary directory, which a child gets by its environment.
struct Environment {
    all: tempfile::TempDir,
}

impl Environment {
    fn new() -> Self {
        let all = tempfile::tempdir().expect("a directory");
        fs::set_permissions(all.path(), Permissions::from_mode(0o755)).expect("permits");
        for (name, mode) in [("home", 0o755), ("run", 0o700), ("tmp", 0o700)] {
            fs::DirBuilder::new().mode(mode).create(all.path().join(name)).expect("creates");
        }
        Self { all }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.all.path().join(name)
    }

    fn permit(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), Permissions::from_mode(mode)).expect("permits");
    }

    fn mode(&self, name: &str) -> u32 {
        fs::symlink_metadata(self.path(name)).expect("exists").mode() & 0o7777
    }

    /// A child without `PORTLOCK_DIR` and `XDG_RUNTIME_DIR`.
    fn child(&self, order: &str) -> Child {
        child(order, self.all.path())
            .env("HOME", Some(&self.path("home")))
            .env("TMPDIR", Some(&self.path("tmp")))
            .env("XDG_RUNTIME_DIR", None::<&str>)
            .env("PORTLOCK_DIR", None::<&str>)
    }

    /// A child whose home directory cannot be created, not even by root.
    fn homeless(&self, order: &str) -> Child {
        self.child(order).env("HOME", Some("/dev/null/home"))
    }

    fn temporary(&self) -> PathBuf {
        self.path(&self.temporary_name())
    }

    fn temporary_name(&self) -> String {
        format!("tmp/portlock-{}", our_id())
    }

    fn entries(&self, of: &str) -> usize {
        fs::read_dir(self.path(of)).expect("exists").count()
    }
}

#[test]
fn s15_directory_is_from_environment_or_home() {
    let all = Environment::new();
    let home = all.path("home/.percy").display().to_string();
    let named = all.path("named").display().to_string();
    for order in ["user", "user-or-fallback"] {
        assert_eq!(all.child(order).run(), home);
        assert_eq!(all.child(order).env("PORTLOCK_DIR", Some("")).run(), home);
        assert_eq!(all.child(order).env("PORTLOCK_DIR", Some(&named)).run(), named);
        // Relative to the working directory.
        assert_eq!(all.child(order).env("PORTLOCK_DIR", Some("named")).run(), named);
    }
    let taken = all.child("acquire-5338").env("PORTLOCK_DIR", Some(&named)).run();
    assert_eq!(taken, format!("{named}/agent-5338.lock"));
    assert_eq!(all.child("acquire-5338").run(), format!("{home}/agent-5338.lock"));
    assert_eq!([all.entries("run"), all.entries("tmp")], [0, 0], "the fallbacks are unused");
}

#[test]
fn ambiguous_directory_in_environment_is_an_error() {
    let all = Environment::new();
    for order in ["user", "user-or-fallback"] {
        for (variable, value, words) in [
            ("PORTLOCK_DIR", "~/locks", "and only a shell expands '~'"),
            ("PORTLOCK_DIR", "~", "and only a shell expands '~'"),
            ("PORTLOCK_DIR", "~me/locks", "and only a shell expands '~'"),
            ("HOME", "home", "which is not a path from the root"),
            ("HOME", "~/home", "and only a shell expands '~'"),
        ] {
            let said = all.child(order).env(variable, Some(value)).run();
            let advice = format!("set {variable} to a path from the root");
            assert_eq!(said, format!("{variable} is {value:?}, {words}; {advice}"));
        }
    }
    assert_eq!(all.entries("tmp"), 0, "there is no fallback");
}

#[test]
#[cfg(target_os = "linux")]
fn relative_directory_needs_a_working_directory() {
    let all = Environment::new();
    assert_eq!(
        all.child("in-a-removed-directory").run(),
        "\"\" counts from the working directory, which cannot be found out; name the directory by \
         its path from the root"
    );
}

#[test]
fn directory_named_by_environment_never_falls_back() {
    let all = Environment::new();
    let named = "/dev/null/named";
    let child = all.homeless("user-or-fallback").env("PORTLOCK_DIR", Some(named));
    assert_eq!(child.run(), named);
    assert_eq!(all.entries("tmp"), 0);
}

#[test]
fn unwritable_home_falls_back_to_runtime_directory() {
    let all = Environment::new();
    let run = Some(all.path("run"));
    let fallback = all.path("run/portlock").display().to_string();
    for _ in 0..2 {
        let said = all.homeless("user-or-fallback").env("XDG_RUNTIME_DIR", run.as_ref()).run();
        let reason = "no lock file can be made in /dev/null/home/.percy: Not a directory (";
        assert!(said.starts_with(&format!("{fallback} instead: {reason}")), "{said}");
        assert_eq!(all.mode("run/portlock"), 0o700);
    }
    // The fallback is opt-in: the command and the library's short form use the user's directory.
    assert_eq!(all.homeless("user").run(), "/dev/null/home/.percy");
    // A runtime directory must not be readable by others.
    all.permit("run", 0o755);
    let said = all.homeless("user-or-fallback").env("XDG_RUNTIME_DIR", run.as_ref()).run();
    assert!(said.starts_with(&format!("{} instead: ", all.temporary().display())), "{said}");
    // It must exist, and have an absolute path.
    for other in ["/dev/null/run", "run"] {
        let said = all.homeless("user-or-fallback").env("XDG_RUNTIME_DIR", Some(other)).run();
        assert!(said.starts_with(&format!("{} instead: ", all.temporary().display())), "{said}");
    }
}

#[test]
fn temporary_directory_fallback_is_private() {
    let all = Environment::new();
    let fallback = all.temporary().display().to_string();
    // As for /tmp.
    all.permit("tmp", 0o1777);
    for _ in 0..2 {
        let said = all.homeless("user-or-fallback").run();
        assert!(said.starts_with(&format!("{fallback} instead: ")), "{said}");
        assert_eq!(all.mode(&all.temporary_name()), 0o700);
    }
    // No fallback is needed.
    let home = all.path("home/.percy").display().to_string();
    assert_eq!(all.child("user-or-fallback").run(), home);
    assert_eq!(all.entries("home"), 0, "the query created the directory");
}

#[test]
fn s15_unwritable_home_directory_falls_back() {
    let all = Environment::new();
    all.permit("tmp", 0o1777);
    all.permit("home", 0o555);
    let (user, id) = if is_root() { (Some(STRANGER), STRANGER) } else { (None, our_id()) };
    let query = || {
        let child = all.child("user-or-fallback");
        if let Some(user) = user { child.user(user) } else { child }
    };
    let fallback = all.path(&format!("tmp/portlock-{id}")).display().to_string();
    let home = all.path("home/.percy").display().to_string();
    let reason = format!("no lock file can be made in {home}: Permission denied (");
    let said = query().run();
    assert!(said.starts_with(&format!("{fallback} instead: {reason}")), "{said}");

    // The directory itself is checked if it exists, otherwise its nearest ancestor.
    all.permit("home", 0o755);
    fs::create_dir(all.path("home/.percy")).expect("creates");
    all.permit("home/.percy", 0o555);
    assert!(query().run().starts_with(&format!("{fallback} instead: ")));
    all.permit("home/.percy", 0o777);
    assert_eq!(query().run(), home);
    fs::remove_dir(all.path("home/.percy")).expect("removes");

    // A file or a dangling link makes a directory impossible.
    fs::write(all.path("home/.percy"), b"").expect("writes");
    all.permit("home/.percy", 0o777);
    assert!(query().run().contains("instead: "));
    fs::remove_file(all.path("home/.percy")).expect("removes");
    symlink("nowhere", all.path("home/.percy")).expect("links");
    assert!(query().run().contains("instead: "));
}

#[test]
fn s15_missing_home_falls_back_only_when_allowed() {
    if !is_root() {
        return not_checked("a user without a home directory: it takes root to become one");
    }
    let all = Environment::new();
    all.permit("tmp", 0o1777);
    let stranger = |order| all.child(order).env("HOME", None::<&str>).user(STRANGER);
    let said = stranger("user").run();
    assert!(said.starts_with("there is no home directory; set HOME"), "{said}");
    let said = stranger("user-or-fallback").run();
    let fallback = all.path(&format!("tmp/portlock-{STRANGER}"));
    assert!(
        said.starts_with(&format!("{} instead: there is no home", fallback.display())),
        "{said}"
    );
}

#[test]
#[cfg(target_os = "linux")]
fn home_on_read_only_filesystem_falls_back() {
    let all = Environment::new();
    let home = all.path("home").display().to_string();
    let mounted = format!(
        "mount --bind '{home}' '{home}' && mount -o remount,ro,bind '{home}' && exec \"$0\" \"$@\""
    );
    let within = ["unshare", "--mount", "--", "sh", "-c", &mounted];
    match all.child("user-or-fallback").within(&within).try_run() {
        Ok(said) => assert!(said.contains(": Read-only file system ("), "{said}"),
        Err(reason) => not_checked(&format!("nothing can be mounted here: {reason}")),
    }
}

#[test]
fn unsafe_fallback_directory_is_refused_and_left_alone() {
    let all = Environment::new();
    let name = all.temporary_name();
    let refused = |reason: &str| {
        let said = all.homeless("user-or-fallback").run();
        let expected = format!("{} is not safe: {reason}; ", all.temporary().display());
        assert!(said.starts_with(&expected), "{said}");
    };

    fs::create_dir(all.path("tmp/other")).expect("creates");
    symlink("other", all.temporary()).expect("links");
    refused("it is a symbolic link");
    assert_eq!(fs::read_link(all.temporary()).expect("a link"), Path::new("other"));
    fs::remove_file(all.temporary()).expect("removes");

    fs::write(all.temporary(), b"a file").expect("writes");
    refused("it is not a directory");
    assert_eq!(fs::read(all.temporary()).expect("exists"), b"a file");
    fs::remove_file(all.temporary()).expect("removes");

    fs::create_dir(all.temporary()).expect("creates");
    for mode in [0o770, 0o707, 0o722] {
        all.permit(&name, mode);
        refused("others may write to it");
        assert_eq!(all.mode(&name), mode, "it is not repaired");
    }
    all.permit(&name, 0o755);
    assert!(all.homeless("user-or-fallback").run().contains("instead: "), "the control");

    if is_root() {
        chown(all.temporary(), Some(STRANGER), None).expect("root may");
        refused("it belongs to another user");
    } else {
        not_checked("a directory of another user: it takes root to make one");
    }
}

#[test]
fn fallback_avoids_directories_others_can_replace() {
    let all = Environment::new();
    for mode in [0o777, 0o770] {
        all.permit("tmp", mode);
        let said = all.homeless("user-or-fallback").run();
        assert!(said.contains(" is not safe: others can replace it; "), "{said}");
        assert_eq!(all.entries("tmp"), 0);
    }
}
