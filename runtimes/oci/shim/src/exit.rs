//! How a process ended, as text: `<code> <seconds>.<nanoseconds>`.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime},
};

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exit {
    /// 0–255; 128 + signal if it was killed.
    pub code: i32,
    pub at: SystemTime,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.at.duration_since(SystemTime::UNIX_EPOCH);
        let since = since.unwrap_or(Duration::ZERO);
        let (seconds, nanoseconds) = (since.as_secs(), since.subsec_nanos());
        write!(f, "{} {seconds}.{nanoseconds:09}", self.code)
    }
}

/// It is not how an end is told.
#[derive(PartialEq, Eq, Debug)]
pub struct NotAnExit;

impl FromStr for Exit {
    type Err = NotAnExit;

    fn from_str(text: &str) -> Result<Exit, NotAnExit> {
        let parse = || {
            let (code, at) = text.trim_end().split_once(' ')?;
            let (seconds, nanoseconds) = at.split_once('.')?;
            let nanoseconds: u32 = nanoseconds.parse().ok()?;
            let since = Duration::new(seconds.parse().ok()?, 0)
                .checked_add(Duration::from_nanos(nanoseconds.into()))?;
            Some(Exit {
                code: code.parse().ok()?,
                at: SystemTime::UNIX_EPOCH.checked_add(since)?,
            })
        };
        parse().ok_or(NotAnExit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_is_read_as_it_was_written() {
        let exit = Exit {
            code: 137,
            at: SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 6),
        };
        assert_eq!(exit.to_string(), "137 1700000000.000000006");
        assert_eq!(format!("{exit}\n").parse(), Ok(exit));
    }

    #[test]
    fn what_is_no_exit_is_not_read() {
        for text in ["", "1", "1 2", "x 1.0", "1 18446744073709551615.000000000"] {
            assert_eq!(text.parse::<Exit>(), Err(NotAnExit), "{text}");
        }
    }
}
