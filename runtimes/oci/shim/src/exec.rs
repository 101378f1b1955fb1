//! A command that runs beside a container's own, for as long as somebody holds on to it.
//!
//! `runc exec --detach` leaves it to this process, which tells the starter how it ended, and ends it when the
//! starter goes. The streams are the starter's own and never pass here; a terminal is handed on to it.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    process::Stdio,
    time::SystemTime,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    process::{Pid, Signal, kill_process_group},
};
use wk_shim::{Exit, wire::Frame};

use crate::{
    arguments::Arguments,
    children::{Children, kill},
    console::Console,
    runc::{self, Call},
    starter::Starter,
};

/// Runs the command that the starter brings, to its end.
pub(crate) fn run(arguments: &Arguments, starter: Starter) -> io::Result<()> {
    let mut children = Children::adopt()?;
    let (process, terminal) = match start(arguments, &starter, &mut children) {
        Ok(started) => started,
        Err(words) => return starter.say(&Frame::Failed(&words)),
    };
    let told = match &terminal {
        Some(terminal) => starter.give(&Frame::Started, terminal.as_fd()),
        None => starter.say(&Frame::Started),
    };
    // It is the starter's: nobody else is to keep it open.
    drop(terminal);
    let mut held = told.is_ok();
    if !held {
        end(process);
    }
    loop {
        children.reap();
        if let Some(code) = children.code(process) {
            let at = SystemTime::now();
            return starter.say(&Frame::Ended(Exit { code, at }));
        }
        children.forget();
        if !wait(&children, held.then_some(&starter))? && held {
            held = false;
            end(process);
        }
    }
}

/// Starts the command: its process, and the terminal it has.
fn start(
    arguments: &Arguments,
    starter: &Starter,
    children: &mut Children,
) -> Result<(Pid, Option<OwnedFd>), String> {
    let plain = |error: io::Error| error.to_string();
    let mut files = starter.process().map_err(plain)?.into_iter();
    let missing = || "the starter brought no process".to_owned();
    let process = files.next().ok_or_else(missing)?;
    // This process' number tells its files from those of others.
    let own = std::process::id();
    let name = format!("exec-{own}");
    let call = Call::new(arguments, &name);
    let pid_file = format!("{name}.pid");
    let mut command = call.command("exec");
    command.args(["--detach", "--pid-file", &pid_file, "--process"]);
    command.arg(format!("/proc/{own}/fd/{}", process.as_raw_fd()));
    let console = if arguments.tty {
        let console = Console::open(format!("{name}.sock")).map_err(plain)?;
        command.arg("--console-socket").arg(console.path());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Some(console)
    } else {
        let mut stream = || files.next().ok_or_else(missing);
        command.stdin(stream()?).stdout(stream()?).stderr(stream()?);
        None
    };
    command.arg(&arguments.id);
    let runc = runc::start(children, &mut command)?;
    // The streams are the command's alone.
    drop(command);
    let (code, terminal) = finish(runc, children, console.as_ref());
    match (code, runc::take_pid(&pid_file)) {
        (0, Some(process)) => Ok((process, terminal)),
        (code, process) => {
            process.into_iter().for_each(end);
            let words = call.words();
            Err(if words.is_empty() {
                format!("runc exec ended with code {code}")
            } else {
                words
            })
        }
    }
}

/// Waits until runc has ended: its exit code, and the terminal it brought. What it has begun it comes to the
/// end of, though the starter may have gone.
fn finish(runc: Pid, children: &mut Children, console: Option<&Console>) -> (i32, Option<OwnedFd>) {
    let mut terminal = None;
    loop {
        children.reap();
        if let Some(code) = children.code(runc) {
            return (code, terminal);
        }
        let mut files = vec![PollFd::new(children, PollFlags::IN)];
        if let Some(console) = console.filter(|_| terminal.is_none()) {
            files.push(PollFd::new(console, PollFlags::IN));
        }
        let _ = poll(&mut files, None);
        let brought = files.get(1).is_some_and(|file| !file.revents().is_empty());
        if let Some(console) = console.filter(|_| brought) {
            terminal = console.receive().ok();
        }
    }
}

/// Waits until something has ended. `false`: the starter has gone.
fn wait(children: &Children, starter: Option<&Starter>) -> io::Result<bool> {
    let mut files = vec![PollFd::new(children, PollFlags::IN)];
    files.extend(starter.map(|starter| PollFd::new(starter, PollFlags::IN)));
    match poll(&mut files, None) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    // It says nothing more, so that what can be read is its end.
    Ok(files.get(1).is_none_or(|file| file.revents().is_empty()))
}

/// Ends the command, and what it has started in its own group.
fn end(process: Pid) {
    kill(process);
    // runc gives each command a session of its own; a group that has gone is at its end.
    let _ = kill_process_group(process, Signal::KILL);
}
