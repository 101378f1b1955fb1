//! The lines of a log that somebody wants, one file after the other, and those that are yet to come.

use std::{
    io::{self, SeekFrom},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, stream};
use jiff::Timestamp;
use runtimes::log::files;
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncSeekExt as _},
    sync::watch,
};

use super::{Entry, Selection, tail};
use crate::{
    inotify::{Changes, Watch, What},
    pod::worker::ContainerView,
};

/// Read, and sent, at a time.
const CHUNK: usize = 64 << 10;
/// A line longer than this is not one of a log.
const LONGEST_LINE: usize = 1 << 20;
/// How often a log's end is looked at though nothing is said to have changed: a directory that the kernel tells of,
/// and one that it does not.
const RELIABLE: Duration = Duration::from_secs(30);
const UNRELIABLE: Duration = Duration::from_millis(250);

/// Waits for more of one attempt's log.
pub(crate) struct Follow {
    watch: Watch,
    views: watch::Receiver<Vec<ContainerView>>,
    container: String,
    attempt: u32,
}

impl Follow {
    /// Follows the log of a container's attempt until it has ended.
    pub(crate) fn new(
        changes: &Changes,
        log: &Path,
        views: watch::Receiver<Vec<ContainerView>>,
        container: &str,
        attempt: u32,
    ) -> Follow {
        Follow {
            watch: changes.watch(log.parent().unwrap_or(log), What::Writes),
            views,
            container: container.to_owned(),
            attempt,
        }
    }

    /// Whether more may come.
    fn running(&mut self) -> bool {
        let gone = self.views.has_changed().is_err();
        let views = self.views.borrow_and_update();
        let mut same = views.iter().filter(|view| *view.name == *self.container);
        !gone && same.any(|view| view.running && view.attempt == Some(self.attempt))
    }

    /// Waits until there may be more, or no more will come.
    async fn wait(&mut self) {
        let patience = if self.watch.works() {
            RELIABLE
        } else {
            UNRELIABLE
        };
        tokio::select! {
            () = self.watch.changed(patience) => {}
            // Gone is a change too: `running` says so.
            _ = self.views.changed() => {}
        }
    }
}

/// Reads a log from where the selection begins. With `follow`, its end is waited at; a log that is not there is empty.
pub(crate) async fn read(
    path: &Path,
    selection: Selection,
    follow: Option<Follow>,
) -> io::Result<impl Stream<Item = io::Result<Bytes>> + Send + use<>> {
    let mut reader = Reader {
        path: path.to_owned(),
        file: None,
        rotated: false,
        selection,
        follow,
        pending: Vec::new(),
        left: selection.limit,
        inside: false,
        last: false,
    };
    reader.begin().await?;
    Ok(stream::try_unfold(reader, |mut reader| async move {
        Ok(reader.next().await?.map(|chunk| (chunk, reader)))
    }))
}

/// A file of the log, and which one it is whatever its name.
struct Open {
    file: File,
    inode: u64,
}

impl Open {
    /// `None` if it is not there any more.
    async fn open(path: &Path) -> io::Result<Option<Open>> {
        match File::open(path).await {
            Ok(file) => Ok(Some(Open {
                inode: file.metadata().await?.ino(),
                file,
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

struct Reader {
    path: PathBuf,
    file: Option<Open>,
    /// There is a newer file: what is left of this one is all.
    rotated: bool,
    selection: Selection,
    follow: Option<Follow>,
    /// A line that is not complete.
    pending: Vec<u8>,
    left: Option<u64>,
    /// What was sent last is the part of a line.
    inside: bool,
    /// The container has ended: what is in the files now is all.
    last: bool,
}

impl Reader {
    async fn begin(&mut self) -> io::Result<()> {
        let files = self.files().await?;
        let (index, place) = match self.selection.tail {
            None => (0, 0),
            Some(lines) => {
                let files = files.clone();
                let start = tokio::task::spawn_blocking(move || tail::start(&files, lines));
                start.await.map_err(io::Error::other)??
            }
        };
        for path in files.iter().skip(index) {
            let Some(mut open) = Open::open(path).await? else {
                continue;
            };
            if Some(path) == files.get(index) {
                open.file.seek(SeekFrom::Start(place)).await?;
            }
            self.file = Some(open);
            break;
        }
        Ok(())
    }

    async fn files(&self) -> io::Result<Vec<PathBuf>> {
        let path = self.path.clone();
        let list = tokio::task::spawn_blocking(move || match files(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            list => list,
        });
        list.await.map_err(io::Error::other)?
    }

    /// The file after the one that is read; `None` if that is the newest.
    async fn newer(&self) -> io::Result<Option<Open>> {
        let own = self.file.as_ref().map(|open| open.inode);
        match tokio::fs::metadata(&self.path).await {
            Ok(newest) if own == Some(newest.ino()) => return Ok(None),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
        let mut after = None;
        for path in self.files().await? {
            let Some(open) = Open::open(&path).await? else {
                continue;
            };
            if own == Some(open.inode) {
                after = None;
            } else if after.is_none() {
                after = Some(open);
            }
        }
        Ok(after)
    }

    /// The next lines; `None` at the end.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let mut block = Vec::new();
        loop {
            if self.left == Some(0) {
                return Ok(None);
            }
            block.resize(CHUNK, 0);
            let length = match &mut self.file {
                Some(open) => open.file.read(&mut block).await?,
                None => 0,
            };
            if length == 0 {
                if self.at_end().await? {
                    return Ok(None);
                }
                continue;
            }
            self.pending.extend_from_slice(&block[..length]);
            let mut out = self.lines();
            if let Some(left) = &mut self.left {
                out.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= out.len() as u64;
            }
            if !out.is_empty() {
                return Ok(Some(out.into()));
            }
        }
    }

    /// Goes on to a newer file, or waits for more; true if there is no more to come.
    async fn at_end(&mut self) -> io::Result<bool> {
        let newer = self.newer().await?;
        if let Some(newer) = newer {
            // Looked at once more: it may have been written to before it was renamed.
            if std::mem::replace(&mut self.rotated, self.file.is_some()) || self.file.is_none() {
                self.rotated = false;
                self.pending.clear();
                self.file = Some(newer);
            }
            return Ok(false);
        }
        let Some(follow) = &mut self.follow else {
            return Ok(true);
        };
        if self.last {
            return Ok(true);
        }
        // Looked at once more after the container ended: it may have written in between.
        self.last = !follow.running();
        if !self.last {
            follow.wait().await;
        }
        Ok(false)
    }

    /// Takes the complete lines out of `pending`.
    fn lines(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut from = 0;
        while let Some(length) = self.pending[from..].iter().position(|byte| *byte == b'\n') {
            if let Some(entry) = Entry::parse(&self.pending[from..from + length])
                && wanted(entry, self.selection)
            {
                if self.selection.timestamps && !self.inside {
                    out.extend_from_slice(entry.time);
                    out.push(b' ');
                }
                out.extend_from_slice(entry.text);
                if entry.full {
                    out.push(b'\n');
                }
                self.inside = !entry.full;
            }
            from += length + 1;
        }
        if self.pending.len() - from > LONGEST_LINE {
            out.extend_from_slice(&self.pending[from..]);
            from = self.pending.len();
        }
        self.pending.drain(..from);
        out
    }
}

fn wanted(entry: Entry<'_>, selection: Selection) -> bool {
    let since = selection.since.is_none_or(|since| {
        let time = std::str::from_utf8(entry.time).ok();
        let time = time.and_then(|time| time.parse::<Timestamp>().ok());
        time.is_some_and(|time| time >= since)
    });
    let stream = selection
        .stream
        .is_none_or(|stream| stream.as_str().as_bytes() == entry.stream);
    since && stream
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt as _;
    use runtimes::log::{Rotation, append};
    use tempfile::TempDir;
    use tokio::task::JoinSet;

    use super::*;

    const LOG: &str = "2026-01-01T00:00:01.000000001Z stdout F one\n\
        2026-01-01T00:00:02Z stderr P tw\n\
        2026-01-01T00:00:02Z stderr F o\n\
        2026-01-01T00:00:03Z stdout F three\n";

    /// Small enough that every entry has a file of its own.
    const SMALL: Rotation = Rotation {
        max_bytes: 1,
        max_files: 4,
    };

    fn log(text: &str) -> (TempDir, PathBuf) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("0.log");
        std::fs::write(&path, text).expect("write");
        (directory, path)
    }

    async fn all(path: &Path, selection: Selection) -> String {
        let stream = read(path, selection, None).await.expect("open");
        let chunks = stream.try_collect::<Vec<Bytes>>().await.expect("read");
        String::from_utf8(chunks.concat()).expect("text")
    }

    async fn check(selection: Selection, expected: &str) {
        let (_directory, path) = log(LOG);
        assert_eq!(all(&path, selection).await, expected);
    }

    fn plain() -> Selection {
        Selection::default()
    }

    #[tokio::test]
    async fn a_log_is_read_as_the_container_wrote_it() {
        check(plain(), "one\ntwo\nthree\n").await;
    }

    #[tokio::test]
    async fn the_tail_is_of_lines_not_of_their_parts() {
        for (lines, expected) in [
            (0, ""),
            (1, "three\n"),
            (2, "two\nthree\n"),
            (99, "one\ntwo\nthree\n"),
        ] {
            let tail = Some(lines);
            check(Selection { tail, ..plain() }, expected).await;
        }
    }

    #[tokio::test]
    async fn lines_before_the_wanted_time_and_of_the_other_stream_are_left_out() {
        let since = "2026-01-01T00:00:02Z".parse().ok();
        check(Selection { since, ..plain() }, "two\nthree\n").await;
        let stream = Some(runtimes::log::Stream::Stdout);
        check(Selection { stream, ..plain() }, "one\nthree\n").await;
    }

    #[tokio::test]
    async fn times_are_shown_once_a_line_and_bytes_are_limited() {
        let selection = Selection {
            timestamps: true,
            tail: Some(2),
            ..plain()
        };
        let expected = "2026-01-01T00:00:02Z two\n2026-01-01T00:00:03Z three\n";
        check(selection, expected).await;
        let limit = Some(5);
        check(Selection { limit, ..plain() }, "one\nt").await;
    }

    #[tokio::test]
    async fn a_rotated_log_is_read_as_one() {
        let (_directory, path) = log("");
        for number in 1..=6 {
            let entry = format!("2026-01-01T00:00:0{number}Z stdout F {number}\n");
            append(&path, entry.as_bytes(), SMALL).expect("append");
        }
        assert_eq!(all(&path, plain()).await, "3\n4\n5\n6\n");
        let tail = Some(2);
        assert_eq!(all(&path, Selection { tail, ..plain() }).await, "5\n6\n");
    }

    #[tokio::test]
    async fn a_log_that_is_not_there_is_empty() {
        assert_eq!(all(Path::new("/nonexistent/0.log"), plain()).await, "");
    }

    fn view(running: bool) -> Vec<ContainerView> {
        vec![ContainerView {
            name: "c".into(),
            attempt: Some(0),
            running,
            waiting: None,
            ended: None,
        }]
    }

    #[tokio::test]
    async fn a_followed_log_is_told_as_it_is_written_over_rotations_until_the_container_has_ended()
    {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("0.log");
        let (views, seen) = watch::channel(view(true));
        let changes = Changes::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(changes.clone().run());
        let follow = Follow::new(&changes, &path, seen, "c", 0);
        let stream = read(&path, plain(), Some(follow)).await.expect("open");
        let mut stream = Box::pin(stream);
        let began = tokio::time::Instant::now();
        for number in 1..=6 {
            let entry = format!("2026-01-01T00:00:0{number}Z stdout F {number}\n");
            append(&path, entry.as_bytes(), SMALL).expect("append");
            let told = stream.try_next().await.expect("read").expect("a line");
            assert_eq!(told, format!("{number}\n"));
        }
        append(&path, b"2026-01-01T00:00:07Z stdout F last\n", SMALL).expect("append");
        views.send_replace(view(false));
        let told = stream.try_next().await.expect("read").expect("a line");
        assert_eq!(told, "last\n");
        assert_eq!(stream.try_next().await.expect("read"), None);
        assert!(began.elapsed() < RELIABLE, "it was waited in vain");
    }

    #[tokio::test]
    async fn a_follower_who_was_away_too_long_goes_on_with_what_is_left() {
        let (_directory, path) = log("2026-01-01T00:00:00Z stdout F 0\n");
        let (_views, seen) = watch::channel(view(true));
        let follow = Follow::new(&Changes::new(), &path, seen, "c", 0);
        let stream = read(&path, plain(), Some(follow)).await.expect("open");
        let mut stream = Box::pin(stream);
        assert_eq!(
            stream.try_next().await.expect("read").as_deref(),
            Some(&b"0\n"[..])
        );
        for number in 1..=9 {
            let entry = format!("2026-01-01T00:00:0{number}Z stdout F {number}\n");
            append(&path, entry.as_bytes(), SMALL).expect("append");
        }
        let mut told = Vec::new();
        while !told.ends_with(b"9\n") {
            told.extend(stream.try_next().await.expect("read").expect("a line"));
        }
        assert_eq!(String::from_utf8_lossy(&told), "6\n7\n8\n9\n");
    }
}
