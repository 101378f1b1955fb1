//! `wkctl version`.

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::{encode, session::Session};

/// Print the versions of this program and of the server
#[derive(Args)]
pub(crate) struct Version {
    /// Only the version of this program; needs no server
    #[arg(long)]
    client: bool,
    /// Print all that is known
    #[arg(short, long, value_enum)]
    output: Option<Format>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Json,
    Yaml,
}

impl Version {
    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let client = concat!("v", env!("CARGO_PKG_VERSION"));
        let mut versions = json!({"clientVersion": {
            "gitVersion": client,
            "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
        }});
        // What is known here is printed even when the server does not answer.
        let server: Result<Option<Value>> = match self.client {
            true => Ok(None),
            false => match session.api().await {
                Ok(api) => api.get("/version").await.map(Some),
                Err(error) => Err(error),
            },
        };
        if let Ok(Some(server)) = &server {
            versions["serverVersion"] = server.clone();
        }
        match self.output {
            Some(Format::Json) => session.text(&encode::json(&versions)?)?,
            Some(Format::Yaml) => session.text(&encode::yaml(&versions)?)?,
            None => {
                session.line(format_args!("Client Version: {client}"))?;
                if let Some(version) = versions["serverVersion"]["gitVersion"].as_str() {
                    session.line(format_args!("Server Version: {version}"))?;
                }
            }
        }
        server.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use crate::session::fake::Server;

    #[tokio::test]
    async fn both_versions_are_printed() {
        let server = Server::new().on(
            "GET /version",
            json!({"gitVersion": "v1.36.0", "major": "1"}),
        );
        expect![[r#"
            Client Version: v0.1.0
            Server Version: v1.36.0
        "#]]
        .assert_eq(&server.run("version").await);
        expect![[r#"
            Client Version: v0.1.0
        "#]]
        .assert_eq(&server.run("version --client").await);
        expect![[r#"
            Client Version: v0.1.0
            ! Error from server (NotFound): nothing at GET /version
            exit 1
        "#]]
        .assert_eq(&Server::default().run("version").await);
    }
}
