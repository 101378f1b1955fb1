//! `wkctl chart`: Helm charts and their releases.

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::session::Session;

mod action_flags;
mod cluster;
mod create;
mod dependency;
mod diff;
mod difference;
mod drift;
mod get;
mod history;
mod install;
mod lint;
mod list;
mod package;
mod post_render;
mod pull;
mod push;
mod render;
mod rendering;
mod repo;
mod rollback;
mod show;
mod show_release;
mod source;
mod status;
mod template;
mod test;
mod uninstall;
mod upgrade;
mod values;

/// Install, upgrade and inspect Helm charts
#[derive(Args)]
pub(crate) struct Chart {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Install(Box<install::Install>),
    Upgrade(Box<upgrade::Upgrade>),
    Template(Box<template::Template>),
    Lint(lint::Lint),
    #[command(visible_alias = "inspect")]
    Show(show::Show),
    Package(package::Package),
    #[command(visible_alias = "fetch")]
    Pull(pull::Pull),
    Push(push::Push),
    Create(create::Create),
    #[command(visible_alias = "dep", alias = "dependencies")]
    Dependency(dependency::Dependency),
    Repo(repo::Repo),
    #[command(visible_alias = "ls")]
    List(list::List),
    Status(status::Status),
    #[command(visible_alias = "hist")]
    History(history::History),
    Get(get::Get),
    Rollback(rollback::Rollback),
    #[command(visible_alias = "delete", alias = "del", alias = "un")]
    Uninstall(uninstall::Uninstall),
    Test(test::Test),
    Diff(Box<diff::Diff>),
    Drift(drift::Drift),
}

impl Chart {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        match self.command {
            Command::Install(command) => command.run(session).await,
            Command::Upgrade(command) => command.run(session).await,
            Command::Diff(command) => command.run(session).await,
            Command::Template(command) => command.run(session).await,
            Command::Lint(command) => command.run(session).await,
            Command::Show(command) => command.run(session).await,
            Command::Package(command) => command.run(session).await,
            Command::Pull(command) => command.run(session).await,
            Command::Push(command) => command.run(session).await,
            Command::Create(command) => command.run(session).await,
            Command::Dependency(command) => command.run(session).await,
            Command::Repo(command) => command.run(session).await,
            Command::List(command) => command.run(session).await,
            Command::Status(command) => command.run(session).await,
            Command::History(command) => command.run(session).await,
            Command::Get(command) => command.run(session).await,
            Command::Rollback(command) => command.run(session).await,
            Command::Uninstall(command) => command.run(session).await,
            Command::Test(command) => command.run(session).await,
            Command::Drift(command) => command.run(session).await,
        }
    }
}
