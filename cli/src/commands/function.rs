//! `wkctl fn`: functions, from a directory or a file to a URL.
//!
//! - [`init`], [`build`]: a project in a language, and its component. [`source`]: what an argument of `deploy` means;
//!   [`code`]: which components can be functions.
//! - [`deploy`]: push, write, wait; [`manifest`]: the Function that is written, pure. [`dev`]: the same at each change.
//! - [`invoke`], [`logs`], [`usage`]: what a Function does. [`traffic`]: which of its revisions does it.
//!
//! Speaks to the apiserver alone, but for `invoke`, which asks the gateway.

mod build;
mod code;
mod deploy;
mod dev;
mod init;
mod invoke;
mod logs;
mod manifest;
mod source;
mod traffic;
mod usage;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    api::Api,
    columns::Columns,
    query,
    session::{Failures, Session},
    table::{self, View},
};

const GROUP: &str = "/apis/functions.wk.dev/v1";
/// The label with the Function's name, on what is its.
const FUNCTION_LABEL: &str = "functions.wk.dev/function";

/// Build, deploy, call and look after functions
#[derive(Args)]
pub(crate) struct Function {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Init(init::Init),
    Build(build::Build),
    Deploy(deploy::Deploy),
    Dev(dev::Dev),
    #[command(visible_alias = "ls")]
    List(List),
    Invoke(invoke::Invoke),
    Logs(logs::Logs),
    Usage(usage::Usage),
    Revisions(Revisions),
    Traffic(traffic::Traffic),
    Rollback(traffic::Rollback),
    #[command(visible_alias = "rm")]
    Delete(Delete),
}

impl Function {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        match self.command {
            Command::Init(command) => command.run(session),
            Command::Build(command) => command.run(session).await,
            Command::Deploy(command) => command.run(session).await,
            Command::Dev(command) => command.run(session).await,
            Command::List(command) => command.run(session).await,
            Command::Invoke(command) => command.run(session).await,
            Command::Logs(command) => command.run(session).await,
            Command::Usage(command) => command.run(session).await,
            Command::Revisions(command) => command.run(session).await,
            Command::Traffic(command) => command.run(session).await,
            Command::Rollback(command) => command.run(session).await,
            Command::Delete(command) => command.run(session).await,
        }
    }
}

/// List functions, with their URLs
#[derive(Args)]
struct List {
    /// Of every namespace
    #[arg(short = 'A', long)]
    all_namespaces: bool,
}

impl List {
    async fn run(self, session: &Session) -> Result<()> {
        let path = match self.all_namespaces {
            true => format!("{GROUP}/functions"),
            false => functions(&session.namespace().await?),
        };
        let view = View {
            namespace: self.all_namespaces,
            ..View::default()
        };
        print_table(session, &path, &view).await
    }
}

/// List the revisions of a function
#[derive(Args)]
struct Revisions {
    /// Function
    name: String,
}

impl Revisions {
    async fn run(self, session: &Session) -> Result<()> {
        let namespace = session.namespace().await?;
        find(session.api().await?, &namespace, &self.name).await?;
        let path = revisions_of(&namespace, &self.name);
        print_table(session, &path, &View::default()).await
    }
}

/// Delete functions, and with them their revisions, Services and instances
#[derive(Args)]
struct Delete {
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

impl Delete {
    async fn run(self, session: &Session) -> Result<()> {
        let (api, namespace) = (session.api().await?, session.namespace().await?);
        let mut failures = Failures::default();
        for name in &self.names {
            let path = format!("{}/{name}", functions(&namespace));
            let options = json!({"propagationPolicy": "Background"});
            match api.send(Method::DELETE, &path, &options).await {
                Ok(_) => {
                    session.line(format_args!("function.functions.wk.dev {name:?} deleted"))?;
                }
                Err(error) => failures.push(error)?,
            }
        }
        failures.finish()
    }
}

fn functions(namespace: &str) -> String {
    format!("{GROUP}/namespaces/{namespace}/functions")
}

fn revisions(namespace: &str) -> String {
    format!("{GROUP}/namespaces/{namespace}/functionrevisions")
}

/// The list of one Function's revisions.
fn revisions_of(namespace: &str, function: &str) -> String {
    let selector = format!("{FUNCTION_LABEL}={function}");
    query::with(&revisions(namespace), &[("labelSelector", &selector)])
}

/// The Function of that name.
async fn find(api: &Api, namespace: &str, name: &str) -> Result<Value> {
    api.get(&format!("{}/{name}", functions(namespace))).await
}

async fn print_table(session: &Session, path: &str, view: &View) -> Result<()> {
    let answer = session.api().await?.table(path).await?;
    let answer = match answer["kind"] == "Table" {
        true => answer,
        false => table::of_objects(answer, Timestamp::now()),
    };
    let columns = answer["columnDefinitions"].as_array();
    let columns = columns.map(Vec::as_slice).unwrap_or_default();
    let rows = answer["rows"].as_array().map(Vec::as_slice);
    let rows = rows.unwrap_or_default();
    if rows.is_empty() {
        session.note(format_args!("No functions found."));
        return Ok(());
    }
    let mut lines = vec![table::header(columns, view)];
    lines.extend(rows.iter().map(|row| table::row(columns, row, view)));
    session.text(&Columns::default().format(&lines))
}

/// A name that may be a Function's.
///
/// # Errors
/// It is none; says what one is.
fn check_name(name: &str) -> Result<()> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let starts = name.starts_with(|c: char| c.is_ascii_lowercase());
    if name.len() <= 52 && name.chars().all(fits) && starts && ends(name.chars().last()) {
        return Ok(());
    }
    bail!(
        "{name:?} is no name for a function: it must be at most 52 lower-case letters, digits and '-', begin with a letter and end with a letter or digit"
    );
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests;
