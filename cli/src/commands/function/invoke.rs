//! `wkctl fn invoke`: a request to a function, through the gateway.

use std::{io::Read as _, net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;
use http::{HeaderName, HeaderValue, Method, Uri};

use super::{find, text};
use crate::{
    api::Api,
    duration,
    session::{Exit, Session},
};

/// Call a function, and print what it answers
#[derive(Args)]
#[command(
    after_help = "Examples:\n  wkctl fn invoke hello\n  wkctl fn invoke hello /greet?name=Ada\n  wkctl fn invoke hello -d '{\"name\": \"Ada\"}' -H content-type=application/json\n\nThe exit code is 1 if the answer's status is 400 or more."
)]
pub(super) struct Invoke {
    /// Function
    name: String,
    /// Path and query
    #[arg(default_value = "/")]
    path: String,
    /// Method [default: GET, or POST with --data]
    #[arg(short = 'X', long)]
    method: Option<Method>,
    /// Body: text, @FILE, or @- for stdin
    #[arg(short, long, value_name = "TEXT|@FILE")]
    data: Option<String>,
    /// Header NAME=VALUE or 'NAME: VALUE'; may be given several times
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE")]
    headers: Vec<String>,
    /// Print the status and headers too
    #[arg(short, long)]
    include: bool,
    /// The revision that has this tag
    #[arg(long)]
    tag: Option<String>,
    /// How long the answer may take
    #[arg(long, value_parser = duration::parse, default_value = "60s")]
    timeout: Duration,
}

impl Invoke {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let api = session.api().await?;
        let function = find(api, &session.namespace().await?, &self.name).await?;
        let url = self.url(&function["status"])?;
        let client = client(api, &url, self.timeout).await?;
        let body = self.data.as_deref().map(body).transpose()?;
        let default = if body.is_some() {
            Method::POST
        } else {
            Method::GET
        };
        let mut request = client.request(self.method.clone().unwrap_or(default), url.to_string());
        for given in &self.headers {
            let (name, value) = header(given)?;
            request = request.header(name, value);
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        let mut response = request
            .send()
            .await
            .with_context(|| format!("call {url}"))?;
        if self.include {
            session.line(format_args!(
                "{:?} {}",
                response.version(),
                response.status()
            ))?;
            for (name, value) in response.headers() {
                session.line(format_args!(
                    "{name}: {}",
                    value.to_str().unwrap_or("<bytes>")
                ))?;
            }
            session.line(format_args!(""))?;
        }
        while let Some(chunk) = response.chunk().await.context("read the answer")? {
            session.bytes(&chunk)?;
        }
        if response.status().as_u16() >= 400 {
            let message = format!("error: {:?} answered {}", self.name, response.status());
            return Err(Exit { code: 1, message }.into());
        }
        Ok(())
    }

    /// Where the request goes.
    fn url(&self, status: &serde_json::Value) -> Result<Uri> {
        let base = match &self.tag {
            None => text(&status["url"]),
            Some(tag) => {
                let mut entries = status["traffic"].as_array().into_iter().flatten();
                let found = entries.find(|entry| entry["tag"] == **tag);
                found
                    .map(|entry| text(&entry["url"]))
                    .with_context(|| format!("function {:?} has no tag {tag:?}", self.name))?
            }
        };
        if base.is_empty() {
            bail!(
                "function {:?} has no URL yet; wkctl fn list shows how it is",
                self.name
            );
        }
        let slash = if self.path.starts_with('/') { "" } else { "/" };
        let url = format!("{}{slash}{}", base.trim_end_matches('/'), self.path);
        url.parse()
            .with_context(|| format!("{:?} is no path", self.path))
    }
}

/// A client that reaches the gateway: names below `localhost` are at the machine of the apiserver.
async fn client(api: &Api, url: &Uri, timeout: Duration) -> Result<reqwest::Client> {
    let mut client = reqwest::Client::builder().timeout(timeout).no_proxy();
    let host = url.host().unwrap_or_default();
    if let (true, Some(config)) = (host.ends_with(".localhost"), api.config()) {
        let server = config.cluster_url.host().unwrap_or("127.0.0.1");
        let server = server.trim_matches(['[', ']']);
        let port = url.port_u16().unwrap_or(80);
        let mut addresses = tokio::net::lookup_host((server, port))
            .await
            .with_context(|| format!("look {server} up"))?;
        let address: SocketAddr = addresses
            .next()
            .with_context(|| format!("{server} has no address"))?;
        client = client.resolve(host, address);
    }
    client.build().context("set up the connection")
}

fn body(data: &str) -> Result<Vec<u8>> {
    match data.strip_prefix('@') {
        Some("-") => {
            let mut bytes = Vec::new();
            std::io::stdin()
                .read_to_end(&mut bytes)
                .context("read stdin")?;
            Ok(bytes)
        }
        Some(file) => std::fs::read(file).with_context(|| format!("read {file}")),
        None => Ok(data.as_bytes().to_vec()),
    }
}

fn header(given: &str) -> Result<(HeaderName, HeaderValue)> {
    let wrong = || anyhow!("--header {given:?}: it must be NAME=VALUE");
    let place = given.find([':', '=']).ok_or_else(wrong)?;
    let (name, value) = (&given[..place], given[place + 1..].trim());
    let name = name.trim().parse().map_err(|_| wrong())?;
    Ok((name, value.parse().map_err(|_| wrong())?))
}
