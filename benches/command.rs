//! The command as a whole process, next to `flock(1)` and the agent that it replaces.
//!
//! `cargo bench -p portlock-bench --bench command`. Each runs `true`, and the time is from the
//! start of the process to its end. `PORTLOCK_BENCH_ROUNDS` gives the rounds for each ratio,
//! otherwise 300, `PORTLOCK_BENCH_DIRS` the directories. Missing programs are reported as NOT
//! MEASURED.
//!
//! The child that becomes the command is a second portlock. On ext4 on 2 busy cores, medians of
//! 300, against `true` alone in the same rounds: `run` 2.0 ms (3.3 times) while portlock held the
//! lock itself, 3.3 ms (5.0 times) since the command holds it; `-F` 2.9 times.

#[cfg(not(unix))]
fn main() {
    println!("not measured here: flock(1) needs Unix");
}

#[cfg(unix)]
fn main() {
    measured::main();
}

#[cfg(unix)]
#[path = "../tests/percy/published.rs"]
mod published;

#[cfg(unix)]
mod measured {
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Stdio};

    use portlock_bench::place::Place;
    use portlock_bench::rounds::{Contender, compare};
    use portlock_bench::{built, load, measures, number};

    use crate::published;

    /// An agent's use of its lock, around an empty process.
    const AGENT: &str = "
        import { spawnSync } from 'node:child_process';
        import { acquireLock, releaseLockSync } from './lock.mjs';
        const handle = acquireLock({ port: 5338 });
        spawnSync('true');
        releaseLockSync(handle);";

    /// The same without a lock.
    const NO_AGENT: &str = "
        import { spawnSync } from 'node:child_process';
        spawnSync('true');";

    pub(crate) fn main() {
        let rounds = if measures() { number("PORTLOCK_BENCH_ROUNDS", 300) } else { 2 };
        let portlock = built::portlock();
        println!("load {}; medians of {rounds} rounds, a tenth of that with node", load());
        for place in Place::all(env!("CARGO_TARGET_TMPDIR")) {
            println!(
                "\n| one `true`, {place} | ms | of `true` alone | quartiles | ms more \
                 |\n| --- | --- | --- | --- | --- |"
            );
            for (name, command, divided) in commands(&place, &portlock) {
                let mut alone = running(|| Command::new("true"));
                let compared =
                    compare(&mut alone, &mut running(command), (rounds / divided).max(1));
                let ratio = compared.ratio;
                println!(
                    "| {name} | {:.2} | {:.2} | {:.2} to {:.2} | {:+.2} |",
                    compared.other.median / 1e6,
                    ratio.median,
                    ratio.low,
                    ratio.high,
                    compared.more.median / 1e6
                );
            }
        }
        println!("\nload {}", load());
    }

    /// Name, command, and the divisor of the number of rounds.
    type Row = (&'static str, Box<dyn Fn() -> Command>, usize);

    fn commands(place: &Place, portlock: &Path) -> Vec<Row> {
        let mut rows: Vec<Row> = vec![("`true`", Box::new(|| Command::new("true")), 1)];
        let file = place.file("flock");
        if Command::new("flock").arg("--version").stdout(Stdio::null()).status().is_ok() {
            rows.push((
                "`flock -n FILE true`: no record, the file stays",
                Box::new(move || with(Command::new("flock"), &["-n", path(&file), "true"])),
                1,
            ));
        } else {
            println!("NOT MEASURED: flock(1) is not installed");
        }
        for (name, words) in [
            ("**`portlock run 5338 true`**", ["run", "5338", "true"].as_slice()),
            ("`portlock run -o 5338 true`", &["run", "-o", "5338", "true"]),
            ("`portlock status 5338`", &["status", "5338"]),
            (
                "`portlock run -F 5338 true`: reclaims the file of the previous run",
                &["run", "-F", "5338", "true"],
            ),
        ] {
            let (portlock, dir) = (portlock.to_owned(), place.path().to_owned());
            let command = move || {
                let mut command = with(Command::new(&portlock), words);
                command.env("PORTLOCK_DIR", &dir);
                command
            };
            rows.push((name, Box::new(command), 1));
        }
        match scripts(place.path()) {
            Ok(scripts) => {
                for (name, script) in
                    [("node, without a lock", "none.mjs"), ("node, with Percy's lock", "agent.mjs")]
                {
                    let (script, home) = (scripts.join(script), place.path().to_owned());
                    let command = move || {
                        let mut command = with(Command::new("node"), &[path(&script)]);
                        command.env("HOME", &home).env_remove("NODE_OPTIONS");
                        command
                    };
                    rows.push((name, Box::new(command), 10));
                }
            }
            Err(reason) => println!("NOT MEASURED: node with Percy's lock: {reason}"),
        }
        rows
    }

    fn with(mut command: Command, words: &[&str]) -> Command {
        command.args(words);
        command
    }

    fn path(path: &Path) -> &str {
        path.to_str().expect("UTF-8")
    }

    /// From the start to the end of the process, which must succeed.
    fn running(command: impl Fn() -> Command) -> Contender<'static> {
        let mut made = command();
        made.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Contender::new(move || {
            assert!(made.status().expect("it runs").success(), "{made:?}");
        })
    }

    // ---- the agent --------------------------------------------------------------------------------

    /// The published lock and its users, or the reason why it is not available.
    fn scripts(place: &Path) -> Result<PathBuf, String> {
        let lock = published::published_lock()?;
        let scripts = place.join("scripts");
        fs::create_dir_all(&scripts).expect("made");
        for (name, text) in [
            ("lock.mjs", &*lock),
            ("agent.mjs", AGENT.as_bytes()),
            ("none.mjs", NO_AGENT.as_bytes()),
        ] {
            fs::write(scripts.join(name), text).expect("written");
        }
        Ok(scripts)
    }
}
