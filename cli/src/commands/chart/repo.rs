//! `wkctl chart repo`: the repositories that charts are found in by name, in Helm's own file.

use anyhow::{Result, bail};
use charts::fetch::index::Repository;
use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    show_release::{self, Format},
    source::{LoginFlags, network::Network, places::Places},
};
use crate::session::Session;

/// Add, list, update and remove chart repositories
#[derive(Args)]
pub(super) struct Repo {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Add a repository
    Add(Add),
    /// List the repositories
    #[command(visible_alias = "ls")]
    List(List),
    /// Fetch what repositories have
    #[command(visible_alias = "up")]
    Update {
        /// Repositories; all if none is named
        names: Vec<String>,
    },
    /// Remove repositories
    #[command(visible_alias = "rm")]
    Remove {
        /// Repositories
        #[arg(required = true)]
        names: Vec<String>,
    },
}

#[derive(Args)]
struct Add {
    /// What the repository is called here
    name: String,
    /// Its address
    url: String,
    #[command(flatten)]
    login: LoginFlags,
    /// Give the login to other hosts that the index names, too
    #[arg(long)]
    pass_credentials: bool,
    /// Replace one of the same name
    #[arg(long)]
    force_update: bool,
}

#[derive(Args)]
struct List {
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

impl Repo {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let places = Places::new()?;
        match self.command {
            Command::Add(add) => add.run(session, &places).await,
            Command::List(list) => list.run(session, &places),
            Command::Update { names } => update(session, &places, &names).await,
            Command::Remove { names } => remove(session, &places, &names),
        }
    }
}

impl Add {
    async fn run(self, session: &Session, places: &Places) -> Result<()> {
        self.login.check()?;
        let name = &self.name;
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            bail!("repository name ({name}) contains '/', or is no file's name");
        }
        if self.url.starts_with("oci://") {
            bail!(
                "registries need not be added: use {}/NAME as the chart",
                self.url
            );
        }
        let repository = Repository {
            url: self.url.clone(),
            login: self.login.given(),
            pass_everywhere: self.pass_credentials,
        };
        let mut repositories = places.repositories()?;
        let known = repositories.list().iter().any(|(known, _)| known == name);
        if known && !self.force_update {
            match repositories.find(name) {
                Ok(same) if same == repository => {
                    return session.line(format_args!(
                        "{name:?} already exists with the same configuration, skipping"
                    ));
                }
                _ => bail!(
                    "repository name ({name}) already exists, please specify a different name, or --force-update"
                ),
            }
        }
        let network = Network::connect(session, false).await?;
        places.update(name, &repository, &network).await?;
        repositories.put(name, &repository);
        places.keep(&repositories)?;
        session.line(format_args!("{name:?} has been added to your repositories"))
    }
}

impl List {
    fn run(&self, session: &Session, places: &Places) -> Result<()> {
        let repositories = places.repositories()?;
        let list = repositories.list();
        let value = || {
            let all = list.iter();
            json!(
                all.map(|(name, url)| json!({"name": name, "url": url}))
                    .collect::<Vec<_>>()
            )
        };
        if list.is_empty() && self.output == Format::Table {
            bail!("no repositories to show");
        }
        let table = || {
            let mut rows = vec![vec!["NAME".to_owned(), "URL".to_owned()]];
            let cells = list.iter();
            rows.extend(cells.map(|(name, url)| vec![(*name).to_owned(), (*url).to_owned()]));
            show_release::table(&rows)
        };
        self.output.print(session, value, table)
    }
}

async fn update(session: &Session, places: &Places, names: &[String]) -> Result<()> {
    let repositories = places.repositories()?;
    let all = repositories.list();
    if all.is_empty() {
        bail!("no repositories found. You must add one before updating");
    }
    if let Some(unknown) = names
        .iter()
        .find(|name| !all.iter().any(|(known, _)| known == name))
    {
        bail!("no repositories found matching '{unknown}'.  Nothing will be updated");
    }
    let network = Network::connect(session, false).await?;
    let mut failed = Vec::new();
    for (name, url) in all {
        if !names.is_empty() && !names.iter().any(|wanted| wanted == name) {
            continue;
        }
        let updated = match repositories.find(name) {
            Ok(repository) => places.update(name, &repository, &network).await.map(drop),
            Err(error) => Err(error.into()),
        };
        match updated {
            Ok(()) => session.line(format_args!(
                "...Successfully got an update from the {name:?} chart repository"
            ))?,
            Err(error) => {
                session.note(format_args!(
                    "...Unable to get an update from the {name:?} chart repository ({url}): {error:#}"
                ));
                failed.push(name.to_owned());
            }
        }
    }
    if !failed.is_empty() {
        bail!(
            "failed to update the following repositories: {}",
            failed.join(", ")
        );
    }
    session.line(format_args!("Update Complete."))
}

fn remove(session: &Session, places: &Places, names: &[String]) -> Result<()> {
    let mut repositories = places.repositories()?;
    for name in names {
        if !repositories.remove(name) {
            bail!("no repo named {name:?} found");
        }
        places.keep(&repositories)?;
        places.forget(name)?;
        session.line(format_args!(
            "{name:?} has been removed from your repositories"
        ))?;
    }
    Ok(())
}
