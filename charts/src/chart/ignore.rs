//! `.helmignore`: which files of a directory are no part of the chart. Rules are Helm's, which are not quite git's.

use super::glob::Pattern;

/// The rules of a `.helmignore`.
#[derive(Debug)]
pub struct Rules {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    pattern: Pattern,
    /// Keeps what matches, and drops everything else.
    negated: bool,
    only_directories: bool,
    /// Whether the whole path must match, not only the name.
    whole: bool,
}

impl Default for Rules {
    /// Hidden files of `templates/`, which no chart needs.
    fn default() -> Rules {
        Rules {
            rules: Rule::parse("templates/.?*").into_iter().flatten().collect(),
        }
    }
}

impl Rules {
    /// Reads rules, one a line.
    pub fn parse(text: &str) -> Result<Rules, String> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut rules = Vec::new();
        for line in text.lines() {
            rules.extend(Rule::parse(line)?);
        }
        rules.extend(Rules::default().rules);
        Ok(Rules { rules })
    }

    /// Whether a path is no part of the chart.
    pub fn ignore(&self, path: &str, directory: bool) -> bool {
        for rule in &self.rules {
            let matches = rule.matches(path);
            if rule.negated {
                if (rule.only_directories && !directory) || !matches {
                    return true;
                }
            } else if matches && (directory || !rule.only_directories) {
                return true;
            }
        }
        false
    }
}

impl Rule {
    fn parse(line: &str) -> Result<Option<Rule>, String> {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return Ok(None);
        }
        if line.contains("**") {
            return Err("double-star (**) syntax is not supported".to_owned());
        }
        let (negated, line) = match line.strip_prefix('!') {
            Some(line) => (true, line),
            None => (false, line),
        };
        let (only_directories, line) = match line.strip_suffix('/') {
            Some(line) => (true, line),
            None => (false, line),
        };
        let whole = line.contains('/');
        let pattern = Pattern::file(line.strip_prefix('/').unwrap_or(line))?;
        Ok(Some(Rule {
            pattern,
            negated,
            only_directories,
            whole,
        }))
    }

    fn matches(&self, path: &str) -> bool {
        let subject = match self.whole {
            true => path,
            false => path.rsplit_once('/').map_or(path, |(_, name)| name),
        };
        self.pattern.matches(subject)
    }
}

#[cfg(test)]
mod tests {
    use super::Rules;

    #[track_caller]
    fn check(rules: &str, ignored: &[&str], kept: &[&str]) {
        let rules = Rules::parse(rules).unwrap();
        let is_ignored =
            |path: &&str| rules.ignore(path.trim_end_matches('/'), path.ends_with('/'));
        assert_eq!(
            ignored
                .iter()
                .copied()
                .filter(|path| !is_ignored(path))
                .collect::<Vec<_>>(),
            [""; 0]
        );
        assert_eq!(
            kept.iter().copied().filter(is_ignored).collect::<Vec<_>>(),
            [""; 0]
        );
    }

    #[test]
    fn rules_are_read_as_helm_reads_them() {
        check("*.txt\n# c\n\n", &["a.txt", "x/y.txt"], &["a.md", "# c"]);
        check("/a.txt", &["a.txt"], &["x/a.txt"]);
        check("x/*.txt", &["x/a.txt"], &["a.txt", "x/y/a.txt"]);
        check("docs/", &["docs/", "x/docs/"], &["docs", "x/docs"]);
        check(
            "cargo/a?.[ch]",
            &["cargo/ab.c"],
            &["cargo/a.c", "cargo/ab.x"],
        );
        check("!keep.txt", &["other"], &["keep.txt"]);
        check("", &["templates/.hidden"], &["templates/x", ".hidden"]);
        assert!(Rules::parse("a/**").is_err());
        assert!(Rules::parse("[a").is_err());
    }
}
