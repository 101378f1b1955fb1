//! Many watchers of one resource, and a writer: how many events arrive.
//!
//! A reader counts the ends of events, which no other part of the stream looks like, and parses nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use http::Method;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{interval, timeout},
};

use crate::{
    child::Child,
    client::{self, Client},
    load::Measured,
    objects,
};

/// Watchers at once.
pub(crate) const COUNT: usize = 1_000;
/// Events a second.
const RATE: usize = 1_000;
/// Who write them: enough that none has to wait for its turn.
const WRITERS: usize = 64;
/// How long events are written.
const SECONDS: usize = 4;
/// Objects that are changed in turn.
const OBJECTS: usize = 50;
/// How long the last event may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);

/// Deliveries of the API: objects of so many bytes are changed, all watchers are told.
pub(crate) async fn of_server(child: &Child, bytes: usize, tls: bool) -> Result<Measured> {
    let mut writers = Vec::new();
    for _ in 0..WRITERS {
        writers.push(Client::connect(child).await?);
    }
    for index in 0..OBJECTS {
        let body = objects::config_map(index, 0, bytes).to_string();
        let path = format!("{}/map-{index}", objects::MAPS);
        let writer = writers.first_mut().context("a writer")?;
        let put = objects::request(Method::PUT, &path, body.clone());
        if writer.ask(put).await?.0 == 404 {
            let post = objects::request(Method::POST, objects::MAPS, body);
            writer.ask(post).await?;
        }
    }
    let seen = Arc::new(AtomicUsize::new(0));
    let mut readers = JoinSet::new();
    let path = format!("{}?watch=true&resourceVersion=0", objects::MAPS);
    for _ in 0..COUNT {
        let seen = seen.clone();
        if tls {
            let certificate = child.certificate().context("a certificate")?;
            let stream = client::connect_tls(child, certificate).await?;
            readers.spawn(read(stream, path.clone(), seen));
        } else {
            let stream = TcpStream::connect(child.plain).await.context("connect")?;
            readers.spawn(read(stream, path.clone(), seen));
        }
    }
    arrive(&seen, COUNT * OBJECTS).await?;
    let (before, cpu, begun) = (
        seen.load(Ordering::Relaxed),
        child.cpu_seconds()?,
        Instant::now(),
    );
    let writes = RATE * SECONDS;
    let next = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for mut writer in writers {
        let next = next.clone();
        tasks.spawn(async move {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= writes {
                    return Ok(());
                }
                let due = Duration::from_millis(1) * u32::try_from(index).unwrap_or(u32::MAX);
                tokio::time::sleep_until((begun + due).into()).await;
                let object = index % OBJECTS;
                let body = objects::config_map(object, index + 1, bytes).to_string();
                let path = format!("{}/map-{object}", objects::MAPS);
                let (code, _) = writer
                    .ask(objects::request(Method::PUT, &path, body))
                    .await?;
                if code != 200 {
                    bail!("a write was answered with {code}");
                }
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.context("run a writer")??;
    }
    arrive(&seen, before + writes * COUNT).await?;
    Ok(Measured {
        count: writes * COUNT,
        cpu_seconds: child.cpu_seconds()? - cpu,
        seconds: begun.elapsed().as_secs_f64(),
        times: Vec::new(),
    })
}

/// The same bytes from the floor.
pub(crate) async fn of_floor(child: &Child, bytes: usize) -> Result<Measured> {
    let mut writer = Client::connect(child).await?;
    let seen = Arc::new(AtomicUsize::new(0));
    let mut readers = JoinSet::new();
    for _ in 0..COUNT {
        let stream = TcpStream::connect(child.plain).await.context("connect")?;
        readers.spawn(read(stream, format!("/watch/{bytes}"), seen.clone()));
    }
    // A watcher counts from when its request came: the first events show that all are there.
    let event =
        |count: usize| objects::request(Method::GET, &format!("/events/{count}"), String::new());
    let mut ready = 0;
    while ready < COUNT {
        let before = seen.load(Ordering::Relaxed);
        writer.ask(event(1)).await?;
        tokio::time::sleep(Duration::from_millis(200)).await;
        ready = seen.load(Ordering::Relaxed) - before;
    }
    let (before, cpu, begun) = (
        seen.load(Ordering::Relaxed),
        child.cpu_seconds()?,
        Instant::now(),
    );
    let mut ticks = interval(Duration::from_millis(4));
    let events = RATE * SECONDS;
    for _ in 0..events / 4 {
        ticks.tick().await;
        writer.ask(event(4)).await?;
    }
    arrive(&seen, before + events * COUNT).await?;
    Ok(Measured {
        count: events * COUNT,
        cpu_seconds: child.cpu_seconds()? - cpu,
        seconds: begun.elapsed().as_secs_f64(),
        times: Vec::new(),
    })
}

/// Waits until so many events were seen.
async fn arrive(seen: &AtomicUsize, wanted: usize) -> Result<()> {
    let arrived = timeout(PATIENCE, async {
        while seen.load(Ordering::Relaxed) < wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    if arrived.await.is_err() {
        bail!(
            "{} of {wanted} events arrived in time",
            seen.load(Ordering::Relaxed)
        );
    }
    Ok(())
}

/// Reads a watch for as long as it is there and counts its events.
async fn read<S>(mut stream: S, path: String, seen: Arc<AtomicUsize>) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\r\n",
        objects::TOKEN
    );
    stream.write_all(request.as_bytes()).await.context("ask")?;
    let mut buffer = vec![0; 64 * 1024];
    let mut last = 0;
    loop {
        let length = stream.read(&mut buffer).await.context("read a watch")?;
        if length == 0 {
            bail!("a watch ended");
        }
        let mut count = 0;
        for &byte in &buffer[..length] {
            count += usize::from(byte == b'\n' && last == b'}');
            last = byte;
        }
        seen.fetch_add(count, Ordering::Relaxed);
    }
}
