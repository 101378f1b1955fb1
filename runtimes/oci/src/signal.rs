//! How a container is asked to end: a signal by its name, as runc takes it.

use std::str::FromStr as _;

use nix::sys::signal::Signal;

/// The first and the last signal that have no meaning of their own, as C libraries count them.
const REALTIME: (u32, u32) = (34, 64);

/// What `runc kill` takes for `SIGTERM`, `TERM`, `15` or `SIGRTMIN+3`.
pub(crate) fn parse(text: &str) -> Option<String> {
    let upper = text.trim().to_ascii_uppercase();
    if let Ok(number) = upper.parse::<u32>() {
        return (1..=REALTIME.1)
            .contains(&number)
            .then(|| number.to_string());
    }
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let (first, last) = REALTIME;
    let number = |text: &str| match text {
        "" => Some(0),
        text => text[1..]
            .parse::<u32>()
            .ok()
            .filter(|more| *more <= last - first),
    };
    if let Some(more) = name
        .strip_prefix("RTMIN")
        .filter(|more| more.is_empty() || more.starts_with('+'))
    {
        return number(more).map(|more| (first + more).to_string());
    }
    if let Some(less) = name
        .strip_prefix("RTMAX")
        .filter(|less| less.is_empty() || less.starts_with('-'))
    {
        return number(less).map(|less| (last - less).to_string());
    }
    let signal = Signal::from_str(&format!("SIG{name}")).ok()?;
    Some((signal as i32).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, want) in [
            ("SIGTERM", Some("15")),
            ("quit", Some("3")),
            ("9", Some("9")),
            ("SIGRTMIN+3", Some("37")),
            ("RTMAX", Some("64")),
            ("RTMAX-1", Some("63")),
            ("RTMIN+99", None),
            ("RTMIN3", None),
            ("0", None),
            ("65", None),
            ("", None),
            ("SIGNOPE", None),
        ] {
            assert_eq!(parse(text).as_deref(), want, "{text}");
        }
    }
}
