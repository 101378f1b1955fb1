//! Fetches a manifest over HTTP, whole and bounded.

use std::time::Duration;

use anyhow::{Context, Result, bail};

const DEADLINE: Duration = Duration::from_secs(30);

/// GETs a URL; more than `limit` bytes is an error.
pub(crate) async fn get(url: &str, limit: usize) -> Result<Vec<u8>> {
    let client = reqwest::Client::builder()
        .timeout(DEADLINE)
        .build()
        .context("set up the connection")?;
    let mut response = client.get(url).send().await?.error_for_status()?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > limit {
            bail!("it is larger than {limit} bytes");
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
