//! Running runc.

use std::{fs, path::PathBuf, process::Command};

use rustix::process::Pid;

use crate::{arguments::Arguments, children::Children};

/// One call of runc, and the file it tells its errors in.
pub(crate) struct Call<'a> {
    arguments: &'a Arguments,
    log: PathBuf,
}

impl<'a> Call<'a> {
    /// `name` tells this call's files from others' in the container's directory.
    pub(crate) fn new(arguments: &'a Arguments, name: &str) -> Call<'a> {
        let log = PathBuf::from(format!("{name}.log"));
        // A former call's, which did not come to its end.
        let _ = fs::remove_file(&log);
        Call { arguments, log }
    }

    /// `runc … <verb>`, to which the verb's arguments are to be added.
    pub(crate) fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.arguments.runc);
        command.arg("--root").arg(&self.arguments.runc_root);
        command.arg("--log").arg(&self.log);
        command.args(["--log-format", "json", verb]);
        command
    }

    /// What runc says of its failure: the last line of its log, as JSON; empty if it said nothing.
    pub(crate) fn words(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        log.lines().next_back().unwrap_or_default().to_owned()
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        // runc makes none if it has nothing to say.
        let _ = fs::remove_file(&self.log);
    }
}

/// The number in a file that runc was asked to write; the file is removed.
pub(crate) fn take_pid(file: &str) -> Option<Pid> {
    let text = fs::read_to_string(file).ok()?;
    let _ = fs::remove_file(file);
    Pid::from_raw(text.trim().parse().ok()?)
}

/// Starts runc, and says so in its own words if that fails.
pub(crate) fn start(children: &Children, command: &mut Command) -> Result<Pid, String> {
    children.spawn(command).map_err(|error| {
        let program = command.get_program().to_string_lossy();
        format!("cannot run {program}: {error}")
    })
}
