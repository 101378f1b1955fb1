//! The ways into a pod as programs take them with kube-rs: `into-pod KUBECONFIG` runs a command in the pod `box`
//! and asks the pod `hello`, and prints what came back. A test runs it in a cluster's sandbox.

use anyhow::{Context as _, Result};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, Config,
    api::AttachParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let path = std::env::args().nth(1).context("which kubeconfig?")?;
    let kubeconfig = Kubeconfig::read_from(path)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    let pods: Api<Pod> = Api::default_namespaced(Client::try_from(config)?);
    run(&pods).await.context("run a command")?;
    let answer = ask(&pods).await.context("ask a port")?;
    // What it prints is what the test reads.
    tokio::io::stdout().write_all(answer.as_bytes()).await?;
    tokio::io::stdout().flush().await?;
    Ok(())
}

/// Sends a line through a command and back, and reads how another one ends.
async fn run(pods: &Api<Pod>) -> Result<()> {
    let streams = AttachParams::default().stdin(true).stderr(false);
    let mut process = pods.exec("box", ["pipe"], &streams).await?;
    let mut stdin = process.stdin().context("its input")?;
    let mut stdout = process.stdout().context("its output")?;
    let mut text = String::new();
    let sent = async {
        stdin.write_all(b"there and back\n").await?;
        // Its end is only told so.
        stdin.shutdown().await
    };
    let (sent, read) = tokio::join!(sent, stdout.read_to_string(&mut text));
    sent?;
    read?;
    anyhow::ensure!(text == "there and back\n", "{text:?} came back");
    process.join().await?;

    let mut process = pods.exec("box", ["quit"], &AttachParams::default()).await?;
    let status = process.take_status().context("its status")?.await;
    let status = status.context("it ends with one")?;
    let causes = status.details.and_then(|details| details.causes);
    let code = causes.and_then(|causes| causes.first()?.message.clone());
    anyhow::ensure!(code.as_deref() == Some("7"), "it ended with {code:?}");
    Ok(())
}

/// What the pod answers at its port.
async fn ask(pods: &Api<Pod>) -> Result<String> {
    let mut forwarder = pods.portforward("hello", &[8080]).await?;
    let stream = forwarder.take_stream(8080).context("the port's stream")?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = hyper::Request::get("/")
        .header("host", "hello")
        .body(Empty::<bytes::Bytes>::new())?;
    let ask = async {
        let response = sender.send_request(request).await?;
        let body = response.into_body().collect().await?.to_bytes();
        drop(sender);
        Ok::<_, anyhow::Error>(String::from_utf8_lossy(&body).into_owned())
    };
    // The connection goes on as long as it is asked.
    let (answer, connected) = tokio::join!(ask, connection);
    connected?;
    answer
}
