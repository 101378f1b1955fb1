//! The process that stays with a container: it runs it through `runc run`, holds its streams, keeps its log,
//! and tells how it ended; so that whoever runs the node may come and go. Also the process that stays with a
//! command that runs beside a container's own (`runc exec`), for as long as somebody holds on to it.
//!
//! - [`arguments`]: what it is told.
//! - [`starter`]: the connection to who started it.
//! - [`children`]: signals, and processes that have ended.
//! - [`runc`]: running it, and what it says when it fails.
//! - [`console`]: a terminal, as runc hands it over.
//! - [`watch`]: a container, from its making to its end.
//! - [`streams`]: its streams while it runs; [`log`], [`client`].
//! - [`exec`]: a command beside it.
//! - [`pause`]: something else, the first process of what a pod's containers share.
//!
//! One thread, no allocation that grows with what passes through. It never reads what the container wrote but for
//! line ends, never starts anything but runc, and knows no Kubernetes.

mod arguments;
mod children;
mod client;
mod console;
mod exec;
mod log;
mod pause;
mod runc;
mod starter;
mod streams;
mod watch;

use std::process::ExitCode;

use wk_shim::PAUSE;

use crate::{
    arguments::{Arguments, Task},
    starter::Starter,
};

fn main() -> ExitCode {
    if std::env::args_os().next().is_some_and(|name| name == PAUSE) {
        return end(pause::run());
    }
    let arguments = match Arguments::read() {
        Ok(arguments) => arguments,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    let ended = Starter::from_stdin().and_then(|starter| match arguments.task {
        Task::Watch => watch::run(&arguments, starter),
        Task::Exec => exec::run(&arguments, starter),
    });
    end(ended)
}

fn end(ended: std::io::Result<()>) -> ExitCode {
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
