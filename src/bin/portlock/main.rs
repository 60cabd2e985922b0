//! The command: runs a program that holds a lock, shows which process holds one, and removes stale
//! lock files.
//!
//! One file for each subcommand; of `run` also `launch.rs`, `signals.rs` and `forward.rs`, and on
//! Windows `console.rs`. What they share: `place.rs` which lock, `found.rs` what is known of one,
//! `output.rs` how anything is written, `status_code.rs` the exit statuses.

mod advice;
mod clear;
mod completions;
#[cfg(windows)]
mod console;
#[cfg(unix)]
mod forward;
mod found;
#[cfg(target_os = "linux")]
mod ignored;
#[cfg(unix)]
mod launch;
mod list;
mod man;
mod output;
mod place;
mod run;
#[cfg(unix)]
mod signals;
mod status;
mod status_code;
mod sweep;
mod wait;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use output::{say, say_as_it_is};

/// Runs a command that holds a lock, shows which process holds one, removes stale lock files
#[derive(Debug, Parser)]
#[command(name = "portlock", version, after_help = LOCKS)]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

const LOCKS: &str = "\
A lock belongs to a PORT (all digits; 0 means any free port and has no lock) or a NAME: 1 to 64
letters, digits, '-', '_' and '.', of which neither '-' nor '.' is first. Lock files are in ~/.percy,
or in the directory that PORTLOCK_DIR names, unless --dir or --app say otherwise.

`portlock SUBCOMMAND --help` lists the exit statuses.";

#[derive(Debug, Subcommand)]
enum Action {
    Run(run::Run),
    Status(status::Query),
    List(list::List),
    Clear(clear::Clear),
    Sweep(sweep::Sweep),
    Wait(wait::Wait),
    Completions(completions::Completions),
    Man(man::Man),
}

fn main() -> ExitCode {
    #[cfg_attr(windows, allow(unused_mut))]
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    #[cfg(unix)]
    let child = match launch::Child::taken_from(&mut arguments) {
        Ok(child) => child,
        Err(status) => return status.into(),
    };
    let status = match Arguments::try_parse_from(arguments) {
        Ok(Arguments { action }) => match action {
            #[cfg(unix)]
            Action::Run(run) => launch::run(&run, child.as_ref()),
            #[cfg(windows)]
            Action::Run(run) => console::supervise(&run),
            Action::Status(query) => query.run(),
            Action::List(list) => list.run(),
            Action::Clear(clear) => clear.run(),
            Action::Sweep(sweep) => sweep.run(),
            Action::Wait(wait) => wait.run(),
            Action::Completions(completions) => completions.run(),
            Action::Man(man) => man.run(),
        },
        // `--help` and `--version` come as errors too. Nothing from the arguments is in them.
        Err(help) if !help.use_stderr() => {
            let _ = help.print();
            0
        }
        Err(usage) => {
            // Rendered without colours, because the arguments that it quotes must be made visible.
            let text = usage.render().to_string();
            match text.strip_prefix("error: ") {
                Some(error) => say(error.trim_end()),
                // The help, which is shown when the subcommand is missing.
                None => say_as_it_is(&text),
            }
            status_code::USAGE
        }
    };
    status.into()
}
