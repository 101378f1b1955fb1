//! A container, from its making to its end.

use std::{
    fs::{self, File},
    io,
    os::{fd::OwnedFd, unix::net::UnixListener},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant, SystemTime},
};

use runtimes_log::Stream;
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{FlockOperation, flock},
    io::Errno,
    pipe::{PipeFlags, pipe_with},
    process::{Pid, setsid},
};
use wk_shim::{EXIT, Exit, Identity, PID, SOCKET, wire::Frame};

use crate::{
    arguments::Arguments,
    children::{Children, kill},
    console::Console,
    log::Log,
    runc::{self, Call},
    starter::Starter,
    streams::{FAREWELL, Input, Streams, set_nonblocking, timespec},
};

/// How long the directory may be held by a shim that is about to end.
const TURN: Duration = Duration::from_secs(10);
/// How long runc may go on once nobody wants the container.
const ABANDONED: Duration = Duration::from_secs(10);
/// How long others may go on writing to the output of a container that has ended.
const DRAIN: Duration = Duration::from_secs(2);
/// How often it is tried to tell the end, when the disk is full.
const RETRY: Duration = Duration::from_secs(1);

/// Runs the container, tells the starter, and stays until it has ended, also if the starter has gone: who comes
/// after it finds both.
pub(crate) fn run(arguments: &Arguments, starter: Starter) -> io::Result<()> {
    // A leader of its group has a session of its own already.
    let _ = setsid();
    let mut children = Children::adopt()?;
    let made = hold_directory().and_then(|directory| {
        let (streams, init) = make(arguments, &starter, &mut children)?;
        Ok((directory, streams, init))
    });
    let (_directory, streams, init) = match made {
        Ok(made) => made,
        Err(words) => return starter.say(&Frame::Failed(&words)),
    };
    let _ = starter.say(&Frame::Started);
    drop(starter);
    prefer_others();
    stay(streams, init, children)
}

/// Makes the container and lets it run; an error is runc's words or one's own. Nothing is left behind then.
fn make(
    arguments: &Arguments,
    starter: &Starter,
    children: &mut Children,
) -> Result<(Streams, Pid), String> {
    let plain = |error: io::Error| error.to_string();
    for file in [EXIT, PID, SOCKET] {
        // A former attempt's.
        let _ = fs::remove_file(file);
    }
    let listener = UnixListener::bind(SOCKET).map_err(plain)?;
    listener.set_nonblocking(true).map_err(plain)?;
    let log = Log::new(arguments.log.clone(), arguments.rotation);
    let mut streams = Streams::new(log, listener);
    let call = Call::new(arguments, "runc");
    let mut command = call.command("run");
    command.args(["--detach", "--bundle", ".", "--pid-file", "runc.pid"]);
    let console = if arguments.tty {
        let console = Console::open("console.sock".to_owned()).map_err(plain)?;
        command.arg("--console-socket").arg(console.path());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Some(console)
    } else {
        pipes(arguments, &mut streams, &mut command).map_err(plain)?;
        None
    };
    command.arg(&arguments.id);
    let runc = runc::start(children, &mut command)?;
    // Its ends of the pipes are the container's now.
    drop(command);
    let made = wait_for(runc, starter, children, console.as_ref());
    let terminal = match made {
        Ok((0, terminal)) => terminal,
        Ok((code, _)) => {
            remove_leavings(code, arguments, children);
            let words = call.words();
            let silent = || format!("runc run ended with code {code}");
            return Err(if words.is_empty() { silent() } else { words });
        }
        Err(why) => {
            remove_leavings(finish(runc, children), arguments, children);
            return Err(why);
        }
    };
    take_over(arguments, &mut streams, terminal)
        .map(|init| (streams, init))
        .inspect_err(|_| abandon(arguments, children))
}

/// Takes over what runc has made: the container's terminal and its first process, which is written down.
fn take_over(
    arguments: &Arguments,
    streams: &mut Streams,
    terminal: Option<OwnedFd>,
) -> Result<Pid, String> {
    let plain = |error: io::Error| error.to_string();
    if let Some(terminal) = terminal {
        own_terminal(arguments, streams, terminal).map_err(plain)?;
    }
    let init = runc::take_pid("runc.pid").ok_or("runc run told no process")?;
    // One that has ended already is nobody.
    let pid = init.as_raw_pid();
    let identity = Identity::of(pid).unwrap_or_else(|_| Identity::ended(pid));
    write_file(PID, &identity.to_string()).map_err(plain)?;
    Ok(init)
}

/// After a `runc run` that made something, or was killed and may have. One that failed has cleaned up after
/// itself; what is there then is another container of that name.
fn remove_leavings(code: i32, arguments: &Arguments, children: &mut Children) {
    if code == 0 || code >= 128 {
        abandon(arguments, children);
    }
}

/// One shim has the directory at a time. What holds it may be one that is about to end.
fn hold_directory() -> Result<File, String> {
    let directory = File::open(".").map_err(|error| error.to_string())?;
    let deadline = Instant::now() + TURN;
    loop {
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(directory),
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(10));
            }
            Err(Errno::WOULDBLOCK) => {
                return Err("another shim watches over this container".to_owned());
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// Makes pipes, of which runc gets the container's ends.
fn pipes(arguments: &Arguments, streams: &mut Streams, command: &mut Command) -> io::Result<()> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC);
    for (stream, is_error) in [(Stream::Stdout, false), (Stream::Stderr, true)] {
        let (ours, theirs) = pipe()?;
        set_nonblocking(&ours)?;
        streams.outputs.push((ours, stream));
        if is_error {
            command.stderr(theirs);
        } else {
            command.stdout(theirs);
        }
    }
    if arguments.stdin {
        let (theirs, ours) = pipe()?;
        set_nonblocking(&ours)?;
        streams.input = Some(Input::new(ours, false, arguments.stdin_once));
        command.stdin(theirs);
    } else {
        command.stdin(Stdio::null());
    }
    Ok(())
}

/// Takes the terminal for all of the container's streams.
fn own_terminal(arguments: &Arguments, streams: &mut Streams, terminal: OwnedFd) -> io::Result<()> {
    set_nonblocking(&terminal)?;
    if arguments.stdin {
        let input = Input::new(terminal.try_clone()?, true, arguments.stdin_once);
        streams.input = Some(input);
    }
    streams
        .outputs
        .push((terminal.try_clone()?, Stream::Stdout));
    streams.terminal = Some(terminal);
    Ok(())
}

/// Waits until runc has ended: its exit code, and the terminal it brought. An error if the starter wants the
/// container no more; one that is gone cannot say so.
fn wait_for(
    runc: Pid,
    starter: &Starter,
    children: &mut Children,
    console: Option<&Console>,
) -> Result<(i32, Option<OwnedFd>), String> {
    let (mut terminal, mut starter) = (None, Some(starter));
    loop {
        children.reap();
        if let Some(code) = children.code(runc) {
            return match (code, console, terminal) {
                (0, Some(_), None) => Err("runc brought no terminal".to_owned()),
                (code, _, terminal) => Ok((code, terminal)),
            };
        }
        let console = console.filter(|_| terminal.is_none());
        let mut files = vec![PollFd::new(children, PollFlags::IN)];
        files.extend(console.map(|console| PollFd::new(console, PollFlags::IN)));
        files.extend(starter.map(|starter| PollFd::new(starter, PollFlags::IN)));
        match poll(&mut files, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.to_string()),
        }
        let mut ready = files[1..].iter().map(|file| !file.revents().is_empty());
        let brought = console.is_some() && ready.next() == Some(true);
        let spoke = ready.next() == Some(true);
        if let Some(by) = starter.filter(|_| spoke) {
            if by.expect(&Frame::Abandon).is_ok() {
                return Err("nobody waits for the container".to_owned());
            }
            starter = None;
        }
        if let Some(console) = console.filter(|_| brought) {
            let received = console.receive();
            terminal = Some(received.map_err(|error| error.to_string())?);
        }
    }
}

/// Lets runc come to its end, so that it leaves nothing half made; by force if it takes long. Its exit code.
fn finish(runc: Pid, children: &mut Children) -> i32 {
    let deadline = Instant::now() + ABANDONED;
    loop {
        children.reap();
        if let Some(code) = children.code(runc) {
            return code;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            kill(runc);
        }
        let mut files = [PollFd::new(children, PollFlags::IN)];
        let _ = poll(&mut files, Some(&timespec(left.max(RETRY))));
    }
}

/// Removes a container that nobody will know of.
fn abandon(arguments: &Arguments, children: &mut Children) {
    let call = Call::new(arguments, "runc-delete");
    let mut command = call.command("delete");
    command.arg("--force").arg(&arguments.id);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if let Ok(runc) = runc::start(children, &mut command) {
        finish(runc, children);
    }
    for file in [PID, SOCKET, "runc.pid"] {
        let _ = fs::remove_file(file);
    }
}

/// Where the host runs short of memory, this process is not what to end. A wish.
fn prefer_others() {
    let _ = fs::write("/proc/self/oom_score_adj", "-998");
}

/// Stays with the container until it has ended and everybody knows.
fn stay(mut streams: Streams, init: Pid, mut children: Children) -> io::Result<()> {
    let mut ended: Option<(Exit, Instant)> = None;
    loop {
        children.reap();
        if let Some(code) = children.code(init)
            && ended.is_none()
        {
            let exit = Exit {
                code,
                at: SystemTime::now(),
            };
            ended = Some((exit, Instant::now() + DRAIN));
        }
        children.forget();
        let until = ended.map(|(_, until)| until);
        if until.is_some_and(|until| streams.outputs.is_empty() || until <= Instant::now()) {
            break;
        }
        streams.turn(&children, until)?;
    }
    streams.end_outputs();
    let Some((exit, _)) = ended else {
        return Ok(());
    };
    tell(&mut streams, exit, &mut children)
}

/// Writes the end down and tells it to those who wait. On a full disk it tells them first, and goes on trying.
fn tell(streams: &mut Streams, exit: Exit, children: &mut Children) -> io::Result<()> {
    let mut kept = keep(exit);
    streams.tell(exit);
    let farewell = Instant::now() + FAREWELL;
    while !kept || (streams.is_heard() && Instant::now() < farewell) {
        let until = if kept {
            farewell
        } else {
            Instant::now() + RETRY
        };
        streams.turn(children, Some(until))?;
        children.reap();
        children.forget();
        kept = kept || keep(exit);
    }
    let _ = fs::remove_file(SOCKET);
    Ok(())
}

/// Writes the end down. `true` also if there is no place for it any more.
fn keep(exit: Exit) -> bool {
    match write_file(EXIT, &exit.to_string()) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// Writes a file that is there as a whole or not at all.
fn write_file(name: &str, text: &str) -> io::Result<()> {
    let new = format!("{name}.new");
    fs::write(&new, format!("{text}\n"))?;
    fs::rename(&new, name)
}
