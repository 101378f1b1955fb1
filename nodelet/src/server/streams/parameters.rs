//! The parameters of a request, under the kubelet's names. Pure.

use runtimes::Stdio;

/// There is nothing to carry.
pub(super) const NO_STREAM: &str = "you must specify at least 1 of stdin, stdout, stderr";

/// What a request says. Others' parameters are nobody's here.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Parameters {
    /// `command`, once for each word.
    pub(super) command: Vec<String>,
    /// `input`, `output`, `error` and `tty`; a terminal has no stderr.
    pub(super) stdio: Stdio,
    /// `port`, once or several times; each may be a list.
    pub(super) ports: Vec<String>,
}

impl Parameters {
    pub(super) fn parse(query: Vec<(String, String)>) -> Parameters {
        let mut found = Parameters::default();
        for (name, value) in query {
            let on = matches!(value.as_str(), "1" | "true");
            match name.as_str() {
                "command" => found.command.push(value),
                "port" => found.ports.push(value),
                "input" => found.stdio.stdin = on,
                "output" => found.stdio.stdout = on,
                "error" => found.stdio.stderr = on,
                "tty" => found.stdio.tty = on,
                _ => {}
            }
        }
        found.stdio.stderr &= !found.stdio.tty;
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(query: &[(&str, &str)], command: &[&str], streams: &str) {
        let query = query
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()));
        let found = Parameters::parse(query.collect());
        let Stdio {
            stdin,
            stdout,
            stderr,
            tty,
        } = found.stdio;
        let on = [
            (stdin, "in"),
            (stdout, "out"),
            (stderr, "err"),
            (tty, "tty"),
        ];
        let on: Vec<_> = on
            .iter()
            .filter(|(on, _)| *on)
            .map(|(_, name)| *name)
            .collect();
        assert_eq!(
            (&found.command[..], &*on.join(" ")),
            (
                &command
                    .iter()
                    .map(|word| word.to_string())
                    .collect::<Vec<_>>()[..],
                streams
            )
        );
    }

    #[test]
    fn parameters_have_the_kubelets_names() {
        check(
            &[
                ("command", "sh"),
                ("command", "-c"),
                ("command", ""),
                ("output", "1"),
                ("error", "1"),
            ],
            &["sh", "-c", ""],
            "out err",
        );
        check(
            &[
                ("input", "1"),
                ("output", "1"),
                ("error", "1"),
                ("tty", "1"),
            ],
            &[],
            "in out tty",
        );
        check(&[("input", "0"), ("output", ""), ("stdin", "1")], &[], "");
    }
}
