//! The container's log. What cannot be written is counted, and told of as soon as something can.

use std::{path::PathBuf, time::SystemTime};

use runtimes_log::{Lines, Rotation, Stream, Tag, append, write_entry};

/// A buffer that has become larger than this is not kept.
const KEEP: usize = 64 << 10;

/// A container's log file.
pub(crate) struct Log {
    path: PathBuf,
    rotation: Rotation,
    stdout: Lines,
    stderr: Lines,
    entries: Vec<u8>,
    lost: Lost,
}

/// What could not be written.
#[derive(Default)]
struct Lost {
    bytes: usize,
    why: String,
}

impl Log {
    pub(crate) fn new(path: PathBuf, rotation: Rotation) -> Log {
        Log {
            path,
            rotation,
            stdout: Lines::new(Stream::Stdout),
            stderr: Lines::new(Stream::Stderr),
            entries: Vec::new(),
            lost: Lost::default(),
        }
    }

    /// Keeps what the container wrote.
    pub(crate) fn write(&mut self, stream: Stream, bytes: &[u8]) {
        let lines = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        lines.push(SystemTime::now(), bytes, &mut self.entries);
        if !self.entries.is_empty() {
            self.append();
        }
    }

    /// The container writes nothing more.
    pub(crate) fn finish(&mut self) {
        let now = SystemTime::now();
        self.stdout.finish(now, &mut self.entries);
        self.stderr.finish(now, &mut self.entries);
        if !self.entries.is_empty() || self.lost.bytes > 0 {
            self.append();
        }
    }

    fn append(&mut self) {
        let written = self
            .tell_loss()
            .and_then(|()| append(&self.path, &self.entries, self.rotation));
        if let Err(error) = written {
            self.lost.bytes += self.entries.len();
            self.lost.why = error.to_string();
        }
        self.entries.clear();
        self.entries.shrink_to(KEEP);
    }

    /// Writes that something was lost, where it is missing.
    fn tell_loss(&mut self) -> std::io::Result<()> {
        if self.lost.bytes == 0 {
            return Ok(());
        }
        let Lost { bytes, why } = &self.lost;
        let text = format!("[{bytes} bytes of this log were lost: {why}]");
        let mut entry = Vec::new();
        write_entry(
            &mut entry,
            SystemTime::now(),
            Stream::Stderr,
            Tag::Full,
            text.as_bytes(),
        );
        append(&self.path, &entry, self.rotation)?;
        self.lost = Lost::default();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lost_is_told_when_something_can_be_written() {
        let directory = std::env::temp_dir().join(format!("wk-shim-log-{}", std::process::id()));
        let path = directory.join("0.log");
        let mut log = Log::new(path.clone(), Rotation::default());
        log.write(Stream::Stdout, b"lost\n");
        log.write(Stream::Stderr, b"lost too\nhalf");
        std::fs::create_dir(&directory).unwrap();
        log.write(Stream::Stdout, b"kept\n");
        log.finish();
        let text = std::fs::read_to_string(path).unwrap();
        std::fs::remove_dir_all(directory).unwrap();
        let lines: Vec<_> = text
            .lines()
            .map(|line| line.split_once(' ').unwrap().1)
            .collect();
        assert_eq!(
            lines,
            [
                "stderr F [94 bytes of this log were lost: No such file or directory (os error 2)]",
                "stdout F kept",
                "stderr F half",
            ]
        );
    }
}
