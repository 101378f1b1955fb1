//! `wkctl completion`.

use anyhow::Result;
use clap::{Args, CommandFactory as _};
use clap_complete::{Generator as _, Shell};

use crate::{commands::Cli, session::Session};

/// Print the completion script of a shell
#[derive(Args)]
pub(crate) struct Completion {
    /// bash, zsh, fish, elvish or powershell; load with: source <(wkctl completion bash)
    shell: Shell,
}

impl Completion {
    pub(super) fn run(self, session: &Session) -> Result<()> {
        let mut command = Cli::command();
        command.set_bin_name("wkctl");
        command.build();
        let mut script = Vec::new();
        self.shell.try_generate(&command, &mut script)?;
        session.bytes(&script)
    }
}

#[cfg(test)]
mod tests {
    use crate::session::fake::Server;

    #[tokio::test]
    async fn every_shell_has_a_script_that_names_the_commands() {
        for shell in ["bash", "zsh", "fish"] {
            let script = Server::new().run(&format!("completion {shell}")).await;
            assert!(
                script.contains("api-resources") && script.contains("rollout"),
                "{shell}"
            );
        }
    }
}
