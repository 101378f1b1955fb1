//! `wkctl exec`: another program in a container, with its streams.

use anyhow::{Result, bail};
use clap::Args;

use crate::{
    pods,
    remote::{self, Wanted},
    session::{Exit, Session},
    terminal,
};

/// Run a command in a container
#[derive(Args)]
pub(crate) struct Exec {
    /// POD, or TYPE/NAME such as deployment/hello
    #[arg(value_name = "POD")]
    target: String,
    /// The command and its arguments, after --
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
    /// Container of the pod; by default the first
    #[arg(short, long)]
    container: Option<String>,
    /// Pass our input on
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Our input is a terminal, and so is the command's
    #[arg(short, long)]
    tty: bool,
    /// Print only what the command prints
    #[arg(short, long)]
    quiet: bool,
}

impl Exec {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let namespace = session.namespace().await?;
        let pod = pods::first(session, &namespace, &self.target, "exec into").await?;
        if pods::has_ended(&pod) {
            bail!(
                "cannot exec into a container in a completed pod; current phase is {}",
                pod["status"]["phase"].as_str().unwrap_or_default()
            );
        }
        let container = self.container.as_deref();
        let container = pods::container(session, &pod, container, self.quiet)?;
        let wanted = Wanted {
            stdin: self.stdin,
            stdout: true,
            stderr: true,
            tty: self.tty && can_be_terminal(session, self.stdin, self.quiet),
        };
        let name = pods::name(&pod);
        let path = remote::path(&namespace, name, "exec", &container, wanted, &self.command);
        Exit::of_command(remote::interact(session, &path, wanted).await?)
    }
}

/// True if our side of a terminal is one, too; otherwise says that there will be none.
pub(super) fn can_be_terminal(session: &Session, stdin: bool, quiet: bool) -> bool {
    let can = !stdin || terminal::is_typed();
    if !can && !quiet {
        session.note(format_args!(
            "Unable to use a TTY - input is not a terminal or the right kind of file"
        ));
    }
    can
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use crate::session::fake::Server;

    async fn check(line: &str, expected: Expect) {
        let pods = "/api/v1/namespaces/default/pods";
        let server = Server::new()
            .on(
                &format!("GET {pods}/ended"),
                json!({"metadata": {"name": "ended"}, "status": {"phase": "Succeeded"}, "spec": {"containers": [{"name": "x"}]}}),
            )
            .on(
                &format!("GET {pods}/two"),
                json!({"metadata": {"name": "two"}, "spec": {"containers": [{"name": "x"}, {"name": "y"}]}}),
            )
            .on_error(
                &format!("GET {pods}/two/exec?container=x&stdout=true&stderr=true&command=ls&command=-l"),
                403,
                "Forbidden",
                "pods \"two\" is forbidden: no",
            );
        expected.assert_eq(&server.run(line).await);
    }

    #[tokio::test]
    async fn what_cannot_be_run_is_said() {
        check(
            "exec ended -- ls",
            expect![[r#"
                ! error: cannot exec into a container in a completed pod; current phase is Succeeded
                exit 1
            "#]],
        )
        .await;
        check(
            "exec two -c z -- ls",
            expect![[r#"
                ! error: container z is not valid for pod two
                exit 1
            "#]],
        )
        .await;
        check(
            "exec two -- ls -l",
            expect![[r#"
                ! Defaulted container "x" out of: x, y
                ! Error from server (Forbidden): pods "two" is forbidden: no
                exit 1
            "#]],
        )
        .await;
    }
}
