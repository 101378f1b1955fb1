//! Flags of Helm that are understood and refused: what they ask for is not done, so it is not passed over either.

use anyhow::{Result, bail};
use clap::Args;

/// Whom to trust; certificates are always checked, against the system's roots.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Trust {
    #[arg(long, hide = true)]
    ca_file: Option<String>,
    #[arg(long, hide = true)]
    cert_file: Option<String>,
    #[arg(long, hide = true)]
    key_file: Option<String>,
    #[arg(long, hide = true)]
    insecure_skip_tls_verify: bool,
}

/// Who signed a chart.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Provenance {
    #[arg(long, hide = true)]
    verify: bool,
    #[arg(long, hide = true)]
    prov: bool,
    #[arg(long, hide = true)]
    keyring: Option<String>,
}

impl Trust {
    pub(super) fn check(&self) -> Result<()> {
        let own = [
            ("--ca-file", self.ca_file.is_some()),
            ("--cert-file", self.cert_file.is_some()),
            ("--key-file", self.key_file.is_some()),
        ];
        if let Some((flag, _)) = own.iter().find(|(_, given)| *given) {
            bail!(
                "{flag} is not supported: certificates are checked against the system's roots (SSL_CERT_FILE names others), and none is shown"
            );
        }
        if self.insecure_skip_tls_verify {
            bail!(
                "--insecure-skip-tls-verify is not supported: certificates are always checked (SSL_CERT_FILE names other roots; --plain-http asks a registry without TLS)"
            );
        }
        Ok(())
    }
}

impl Provenance {
    pub(super) fn check(&self) -> Result<()> {
        let flags = [
            ("--verify", self.verify),
            ("--prov", self.prov),
            ("--keyring", self.keyring.is_some()),
        ];
        match flags.iter().find(|(_, given)| *given) {
            Some((flag, _)) => bail!(
                "{flag} is not supported: signatures of charts are not checked (their digests are: name a chart of a registry by oci://HOST/PATH@sha256:…)"
            ),
            None => Ok(()),
        }
    }
}
