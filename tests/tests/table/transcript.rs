//! Reads a transcript: Markdown whose fenced blocks are files to write and commands to run. Pure.

/// One thing to do, in the order of the file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Write a file into the directory where the commands run.
    Write {
        name: String,
        text: String,
    },
    Run(Command),
}

/// A command and what is expected of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Command {
    /// Where it stands: the number of its line, from 1.
    pub(crate) line: usize,
    /// How many lines of expectation follow.
    pub(crate) expected_lines: usize,
    pub(crate) text: String,
    /// Tried again until it does what is expected.
    pub(crate) eventually: bool,
    pub(crate) stdout: Vec<String>,
    pub(crate) stderr: Vec<String>,
    pub(crate) code: i32,
}

/// The steps of a transcript for a kubectl of this minor version.
pub(crate) fn parse(text: &str, minor: u32) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut lines = (1..).zip(text.lines());
    while let Some((_, line)) = lines.next() {
        let Some(info) = line.strip_prefix("```") else {
            continue;
        };
        let block: Vec<_> = lines
            .by_ref()
            .take_while(|(_, line)| *line != "```")
            .collect();
        match info.split_once(' ') {
            Some((_, name)) => {
                let text = block.iter().map(|(_, line)| format!("{line}\n")).collect();
                let name = name.to_owned();
                steps.push(Step::Write { name, text });
            }
            None if info == "console" => steps.extend(commands(&block, minor)),
            None => {}
        }
    }
    steps
}

fn commands(block: &[(usize, &str)], minor: u32) -> Vec<Step> {
    let mut found: Vec<(bool, Command)> = Vec::new();
    for (number, line) in block {
        let (wanted, line) = guarded(line, minor);
        let (eventually, start) = match line.strip_prefix("eventually ") {
            Some(rest) => (true, rest),
            None => (false, line),
        };
        if let Some(text) = start.strip_prefix("$ ") {
            let command = Command {
                line: *number,
                text: text.to_owned(),
                eventually,
                ..Command::default()
            };
            found.push((wanted, command));
            continue;
        }
        let Some((_, command)) = found.last_mut() else {
            continue;
        };
        command.expected_lines += 1;
        if !wanted {
            continue;
        }
        if let Some(more) = line.strip_prefix("> ") {
            command.text = format!("{}\n{more}", command.text);
        } else if line == "!" || line.starts_with("! ") {
            command
                .stderr
                .push(line[1..].trim_start_matches(' ').to_owned());
        } else if let Some(code) = line.strip_prefix("? ") {
            command.code = code.trim().parse().expect("an exit code is a number");
        } else {
            command.stdout.push(line.to_owned());
        }
    }
    found
        .into_iter()
        .filter(|(wanted, _)| *wanted)
        .map(|(_, mut command)| {
            trim(&mut command.stdout);
            Step::Run(command)
        })
        .collect()
}

/// Takes a guard such as `[1.30-1.31] `, `[-1.31] ` or `[1.32-] ` off a line, and answers whether the
/// line is for this version.
fn guarded(line: &str, minor: u32) -> (bool, &str) {
    let guard = line
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("] "));
    let range = guard.and_then(|(range, rest)| Some((range.split_once('-')?, rest)));
    let Some(((from, to), rest)) = range else {
        return (true, line);
    };
    let bound = |text: &str, open: u32| match text.strip_prefix("1.") {
        Some(minor) => minor.parse().ok(),
        None => text.is_empty().then_some(open),
    };
    match (bound(from, 0), bound(to, u32::MAX)) {
        (Some(from), Some(to)) => ((from..=to).contains(&minor), rest),
        _ => (true, line),
    }
}

/// Drops empty lines at both ends.
pub(crate) fn trim(lines: &mut Vec<String>) {
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    let start = lines.iter().take_while(|line| line.is_empty()).count();
    lines.drain(..start);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(steps: &[Step]) -> Vec<&Command> {
        let commands = steps.iter().filter_map(|step| match step {
            Step::Run(command) => Some(command),
            Step::Write { .. } => None,
        });
        commands.collect()
    }

    #[test]
    fn blocks_are_files_and_commands() {
        let text = "# Title\n```yaml a.yaml\nkind: A\n```\ntext\n```console\n$ one\nout\n! error\n? 3\n\neventually $ two\n> more\n```\n";
        let steps = parse(text, 33);
        assert_eq!(
            steps[0],
            Step::Write {
                name: "a.yaml".to_owned(),
                text: "kind: A\n".to_owned()
            }
        );
        let [one, two] = run(&steps)[..] else {
            panic!("{steps:?}");
        };
        assert_eq!((one.line, one.expected_lines, one.code), (7, 4, 3));
        assert_eq!(
            (&one.stdout[..], &one.stderr[..]),
            (&["out".to_owned()][..], &["error".to_owned()][..])
        );
        assert_eq!((two.text.as_str(), two.eventually), ("two\nmore", true));
    }

    #[test]
    fn a_guard_is_for_a_range_of_versions() {
        let text = "```console\n[1.30-] $ one\n[-1.31] old\n[1.32-] new\n[plain] text\n```\n";
        assert_eq!(run(&parse(text, 29)).len(), 0);
        assert_eq!(run(&parse(text, 31))[0].stdout, ["old", "[plain] text"]);
        assert_eq!(run(&parse(text, 33))[0].stdout, ["new", "[plain] text"]);
    }
}
