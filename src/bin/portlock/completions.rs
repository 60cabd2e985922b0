//! `portlock completions`: what a shell needs to complete the command line.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::Arguments;
use crate::output::answer;

/// Print the completions for a shell
///
/// For bash, put them into ~/.local/share/bash-completion/completions/portlock; for fish, into
/// ~/.config/fish/completions/portlock.fish; for zsh, as _portlock into a directory of $fpath.
#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

const EXIT_STATUS: &str = "\
Exit status:
   0  printed
  64  an argument is wrong
  74  they cannot be written";

impl Completions {
    pub(crate) fn run(self) -> u8 {
        let mut text = Vec::new();
        // To memory first: it panics where its writer fails.
        clap_complete::generate(self.shell, &mut Arguments::command(), "portlock", &mut text);
        answer(&String::from_utf8_lossy(&text), 0)
    }
}
