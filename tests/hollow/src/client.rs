//! How a node reaches the apiserver: one HTTP/2 connection, with a bearer token that says who it is.

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, Result};
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use kube::{
    Config,
    client::ConfigExt as _,
    config::{AuthInfo, KubeConfigOptions, Kubeconfig},
};
use tower::ServiceBuilder;

/// The apiserver.
pub(crate) struct Server {
    config: Config,
    connector: HttpsConnector<HttpConnector>,
}

impl Server {
    /// The one that a kubeconfig names; who the kubeconfig is for is left out.
    pub(crate) async fn of(kubeconfig: &Path) -> Result<Server> {
        let text = Kubeconfig::read_from(kubeconfig)
            .with_context(|| format!("read the kubeconfig {}", kubeconfig.display()))?;
        let mut config = Config::from_custom_kubeconfig(text, &KubeConfigOptions::default())
            .await
            .context("read the kubeconfig")?;
        config.auth_info = AuthInfo::default();
        let mut tls = config.rustls_client_config().context("use the CA")?;
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        let connector = HttpsConnector::from((connector, Arc::new(tls)));
        Ok(Server { config, connector })
    }

    /// A client with a connection of its own.
    pub(crate) fn client(&self, token: &str) -> Result<kube::Client> {
        let mut config = self.config.clone();
        config.auth_info.token = Some(token.to_owned().into());
        let connection = Client::builder(TokioExecutor::new())
            .http2_only(true)
            .build(self.connector.clone());
        let service = ServiceBuilder::new()
            .layer(config.base_uri_layer())
            .option_layer(config.auth_layer().context("use a token")?)
            .map_err(tower::BoxError::from)
            .service(connection);
        Ok(kube::Client::new(service, config.default_namespace))
    }
}
