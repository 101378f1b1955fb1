//! Which process a number means, though numbers are used again.

use std::{fmt, fs, io, str::FromStr};

/// A process, for as long as the host runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    pub pid: i32,
    /// In clock ticks after the host's start.
    pub started: u64,
}

impl Identity {
    /// The process that has this number now. One that has ended and that nobody has asked for its end is none.
    ///
    /// # Errors
    /// There is none.
    pub fn of(pid: i32) -> io::Result<Identity> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let started = started(&stat).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Identity { pid, started })
    }
}

/// The 22nd field, unless the third says that the process has ended; the second is the program's name in brackets,
/// with anything in it.
fn started(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    if ["Z", "X", "x"].contains(&state) {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.pid, self.started)
    }
}

impl FromStr for Identity {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<Identity> {
        let parse = || {
            let (pid, started) = text.trim_end().split_once(' ')?;
            Some(Identity {
                pid: pid.parse().ok()?,
                started: started.parse().ok()?,
            })
        };
        parse().ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_itself() {
        let pid = std::process::id().try_into().unwrap();
        let own = Identity::of(pid).unwrap();
        assert_eq!(own.to_string().parse::<Identity>().unwrap(), own);
        assert!(own.started > 0);
        assert!("17".parse::<Identity>().is_err());
    }

    #[test]
    fn a_programs_name_may_look_like_fields() {
        let stat = "7 (a) S 1 2) R 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 1 2";
        assert_eq!(started(stat), Some(12345));
    }
}
