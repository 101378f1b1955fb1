//! One file per command: an args struct and `run`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Error;
use clap::{Args, Parser, Subcommand};

use crate::{
    api::{ServerError, Unreachable},
    session::{Exit, Failures, OutputClosed, Session},
};

mod api_resources;
mod apply;
mod attach;
mod chart;
mod completion;
mod cp;
mod create;
mod debug;
mod delete;
mod describe;
mod exec;
mod function;
mod get;
mod image;
mod logs;
mod port_forward;
mod rollout;
mod run;
mod scale;
mod simulate;
mod version;

/// Command line of wk clusters
#[derive(Parser)]
#[command(
    name = "wkctl",
    version,
    disable_help_subcommand = true,
    args_override_self = true
)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Flags that every command takes.
#[derive(Args, Clone, Debug)]
pub struct Global {
    /// Kubeconfig to use; by default the one of `wk up` on this machine, else KUBECONFIG
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig to use
    #[arg(long, global = true)]
    pub context: Option<String>,
    /// Namespace to work in
    #[arg(short, long, global = true)]
    pub namespace: Option<String>,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    Get(get::Get),
    Describe(describe::Describe),
    Logs(logs::Logs),
    Exec(exec::Exec),
    Attach(attach::Attach),
    Run(run::Run),
    Cp(cp::Cp),
    Debug(debug::Debug),
    PortForward(port_forward::PortForward),
    Apply(apply::Apply),
    Create(create::Create),
    Delete(delete::Delete),
    Scale(scale::Scale),
    Rollout(rollout::Rollout),
    Simulate(simulate::Simulate),
    Image(image::Image),
    Chart(chart::Chart),
    #[command(name = "fn", visible_alias = "function")]
    Function(function::Function),
    ApiResources(api_resources::ApiResources),
    Version(version::Version),
    Completion(completion::Completion),
}

impl Cli {
    pub(crate) fn into_parts(self) -> (Global, Command) {
        (self.global, self.command)
    }
}

/// Runs one command; its exit code is 0 or 1, as `kubectl`'s, or that of what ran in a container.
pub async fn run(cli: Cli) -> ExitCode {
    let (global, command) = cli.into_parts();
    ExitCode::from(run_in(&Session::new(global), command).await)
}

/// Runs one command and reports its error; answers the exit code.
pub(crate) async fn run_in(session: &Session, command: Command) -> u8 {
    let result = match command {
        Command::Get(command) => command.run(session).await,
        Command::Describe(command) => command.run(session).await,
        Command::Logs(command) => command.run(session).await,
        Command::Exec(command) => command.run(session).await,
        Command::Attach(command) => command.run(session).await,
        Command::Run(command) => command.run(session).await,
        Command::Cp(command) => command.run(session).await,
        Command::Debug(command) => command.run(session).await,
        Command::PortForward(command) => command.run(session).await,
        Command::Apply(command) => command.run(session).await,
        Command::Create(command) => command.run(session).await,
        Command::Delete(command) => command.run(session).await,
        Command::Scale(command) => command.run(session).await,
        Command::Rollout(command) => command.run(session).await,
        Command::Simulate(command) => command.run(session).await,
        Command::Image(command) => command.run(session).await,
        Command::Chart(command) => command.run(session).await,
        Command::Function(command) => command.run(session).await,
        Command::ApiResources(command) => command.run(session).await,
        Command::Version(command) => command.run(session).await,
        Command::Completion(command) => command.run(session),
    };
    let Err(error) = result else { return 0 };
    if let Some(Exit { code, message }) = error.downcast_ref() {
        session.note(format_args!("{message}"));
        return *code;
    }
    match error.downcast_ref::<Failures>() {
        _ if error.is::<OutputClosed>() => {}
        Some(failures) => {
            for failure in &failures.0 {
                session.note(format_args!("{}", error_line(failure)));
            }
        }
        None => session.note(format_args!("{}", error_line(&error))),
    }
    1
}

/// An error as `kubectl` words it: what the server said after its reason, anything else after `error: `.
fn error_line(error: &Error) -> String {
    if let Some(unreachable) = error.downcast_ref::<Unreachable>() {
        return unreachable.to_string();
    }
    let Some(server) = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<ServerError>())
    else {
        return format!("error: {error:#}");
    };
    let mut doing = String::new();
    for context in error.chain().take_while(|cause| !cause.is::<ServerError>()) {
        doing.push_str(&format!("{context}: "));
    }
    match server.reason.as_str() {
        "Unauthorized" => "error: You must be logged in to the server (Unauthorized)".to_owned(),
        "Invalid" => format!("The {}", server.message),
        reason => format!("Error from server ({reason}): {doing}{}", server.message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn not_found() -> ServerError {
        ServerError {
            code: 404,
            reason: "NotFound".to_owned(),
            message: "pods \"a\" not found".to_owned(),
        }
    }

    #[test]
    fn errors_are_worded_as_kubectl_words_them() {
        assert_eq!(
            error_line(&not_found().into()),
            "Error from server (NotFound): pods \"a\" not found"
        );
        assert_eq!(
            error_line(&Error::new(not_found()).context("error when deleting \"a.yaml\"")),
            "Error from server (NotFound): error when deleting \"a.yaml\": pods \"a\" not found"
        );
        assert_eq!(
            error_line(&Error::msg("why").context("what")),
            "error: what: why"
        );
        assert_eq!(
            error_line(&Unreachable::Refused("a:1".to_owned()).into()),
            "The connection to the server a:1 was refused - did you specify the right host or port? (`wk up` starts a cluster)"
        );
    }

    #[test]
    fn what_is_invalid_is_named_by_the_server() {
        let error = ServerError {
            code: 422,
            reason: "Invalid".to_owned(),
            message: "Pod \"a\" is invalid: spec.containers: Required value".to_owned(),
        };
        assert_eq!(
            error_line(&Error::new(error).context("error when creating \"a.yaml\"")),
            "The Pod \"a\" is invalid: spec.containers: Required value"
        );
    }

    #[test]
    fn the_last_of_a_flag_given_twice_counts() {
        let line = [
            "wkctl", "get", "po", "-n", "a", "-n", "b", "-f", "x", "-f", "y",
        ];
        assert!(
            Cli::try_parse_from(line).is_err(),
            "names and files exclude each other"
        );
        let cli = Cli::try_parse_from(["wkctl", "get", "-f", "x", "-n", "a", "-f", "y", "-n", "b"]);
        let (global, command) = cli.unwrap().into_parts();
        assert_eq!(global.namespace.as_deref(), Some("b"));
        assert!(matches!(command, Command::Get(_)));
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}
