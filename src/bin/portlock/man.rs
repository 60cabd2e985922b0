//! `portlock man`: the manual, in the language of man(1).

use std::io;

use clap::{Args, Command, CommandFactory};
use clap_mangen::roff::{Roff, bold, roman};

use crate::Arguments;
use crate::output::{answer, say};
use crate::status_code::{SYSTEM, USAGE};

/// Print the manual, or the page of a subcommand
///
/// To read it: portlock man run | man -l -
#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS)]
pub(crate) struct Man {
    /// The subcommand whose page is printed
    #[arg(value_name = "SUBCOMMAND")]
    subcommand: Option<String>,
}

const EXIT_STATUS: &str = "\
Exit status:
   0  printed
  64  an argument is wrong
  74  it cannot be written";

impl Man {
    pub(crate) fn run(self) -> u8 {
        let mut whole = Arguments::command();
        // Gives each subcommand its full name, as in portlock-run(1).
        whole.build();
        let found = match &self.subcommand {
            None => Some(whole),
            Some(name) => whole.find_subcommand(name).cloned(),
        };
        let Some(command) = found else {
            let name = self.subcommand.unwrap_or_default();
            say(&format!("there is no subcommand {name:?}; portlock --help lists them"));
            return USAGE;
        };
        match page(command) {
            Ok(text) => answer(&String::from_utf8_lossy(&text), 0),
            Err(error) => {
                say(&format!("cannot make the manual: {error}"));
                SYSTEM
            }
        }
    }
}

fn page(mut command: Command) -> io::Result<Vec<u8>> {
    let (synopsis, notes) = (synopsis(&mut command), notes(&command));
    let source = concat!("portlock ", env!("CARGO_PKG_VERSION"));
    let has_parts = command.has_subcommands();
    let man = clap_mangen::Man::new(command).source(source);
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    synopsis.to_writer(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if has_parts {
        man.render_subcommands_section(&mut text)?;
    }
    notes.to_writer(&mut text)?;
    Ok(text)
}

/// The line that `--help` has, which unlike the generator's shows values and the `--`.
fn synopsis(command: &mut Command) -> Roff {
    let usage = command.render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").trim().to_owned();
    let mut section = Roff::new();
    section.control("SH", ["SYNOPSIS"]);
    let name = command.get_bin_name().unwrap_or("portlock");
    match usage.strip_prefix(name) {
        Some(rest) => section.text([bold(name), roman(rest)]),
        None => section.text([roman(usage)]),
    };
    section
}

/// The text after the options in `--help`, laid out as there, because it has tables.
fn notes(command: &Command) -> Roff {
    let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let mut section = Roff::new();
    let (notes, status) = match text.find("Exit status") {
        Some(at) => text.split_at(at),
        None => (&*text, ""),
    };
    for (head, text) in [("NOTES", notes.trim()), ("EXIT STATUS", status.trim())] {
        if text.is_empty() {
            continue;
        }
        section.control("SH", [head]);
        section.control("nf", []);
        for line in text.lines().filter(|&line| line != "Exit status:") {
            section.text([roman(line)]);
        }
        section.control("fi", []);
    }
    section
}
