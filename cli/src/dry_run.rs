//! `--dry-run` of every command that writes.

use std::fmt;

use clap::{Args, ValueEnum};

/// Whether a write is carried out. Its `Display` follows the line that says what was done.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct DryRun {
    /// Only say what would be done: judged here (client), or by the server without storing it
    #[arg(long = "dry-run", value_enum, default_value_t = Mode::None, num_args = 0..=1,
        default_missing_value = "client", require_equals = true, value_name = "MODE")]
    mode: Mode,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Mode {
    None,
    Client,
    Server,
}

impl DryRun {
    /// True if nothing is sent to the server.
    pub(crate) fn client(self) -> bool {
        self.mode == Mode::Client
    }

    /// True if nothing is changed.
    pub(crate) fn any(self) -> bool {
        self.mode != Mode::None
    }

    /// The value of `dryRun`.
    pub(crate) fn parameter(self) -> &'static str {
        if self.mode == Mode::Server { "All" } else { "" }
    }
}

impl fmt::Display for DryRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.mode {
            Mode::None => "",
            Mode::Client => " (dry run)",
            Mode::Server => " (server dry run)",
        })
    }
}
