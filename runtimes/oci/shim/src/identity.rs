//! Which process a number means, though numbers are used again.

use std::{fmt, fs, io, str::FromStr};

/// Where the kernel says which start of the host this is.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// A process, on this host and no other start of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    pub pid: i32,
    /// In clock ticks after the host's start.
    pub started: u64,
    /// The host's start, by the random number that it has.
    pub boot: u128,
}

impl Identity {
    /// The process that has this number now. One that has ended and that nobody has asked for its end is none.
    ///
    /// # Errors
    /// There is none.
    pub fn of(pid: i32) -> io::Result<Identity> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let started = started(&stat).ok_or(io::ErrorKind::InvalidData)?;
        let boot = boot()?;
        Ok(Identity { pid, started, boot })
    }

    /// A process that has ended, and is nobody any more.
    pub fn ended(pid: i32) -> Identity {
        Identity {
            pid,
            started: 0,
            boot: 0,
        }
    }
}

fn boot() -> io::Result<u128> {
    let text = fs::read_to_string(BOOT)?.replace('-', "");
    u128::from_str_radix(text.trim_end(), 16).map_err(|_| io::ErrorKind::InvalidData.into())
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
        write!(f, "{} {} {:x}", self.pid, self.started, self.boot)
    }
}

impl FromStr for Identity {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<Identity> {
        let parse = || {
            let mut fields = text.trim_end().splitn(3, ' ');
            let (pid, started, boot) = (fields.next()?, fields.next()?, fields.next()?);
            Some(Identity {
                pid: pid.parse().ok()?,
                started: started.parse().ok()?,
                boot: u128::from_str_radix(boot, 16).ok()?,
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
        assert!(own.boot > 0);
        let before = Identity {
            boot: own.boot ^ 1,
            ..own
        };
        assert_ne!(before.to_string(), own.to_string());
        for text in ["17", "17 1", "17 1 x"] {
            assert!(text.parse::<Identity>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_programs_name_may_look_like_fields() {
        let stat = "7 (a) S 1 2) R 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 1 2";
        assert_eq!(started(stat), Some(12345));
    }
}
