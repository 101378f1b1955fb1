//! Versions and ranges of versions, as Masterminds/semver has them.
//!
//! Versions may be short (`1.2`) and begin with `v`. A range names no prerelease unless it has one itself.

use std::{cmp::Ordering, fmt};

/// A version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Version {
    pub major: u64,
    pub minor: u64,
    pub patch: u64,
    pub prerelease: String,
    pub build: String,
    /// The text that it was read from.
    pub original: String,
}

impl Version {
    /// Reads a version, short ones too.
    pub fn parse(text: &str) -> Option<Version> {
        let rest = text.strip_prefix('v').unwrap_or(text);
        let (rest, build) = match rest.split_once('+') {
            Some((rest, build)) => (rest, Some(build)),
            None => (rest, None),
        };
        let (numbers, prerelease) = match rest.split_once('-') {
            Some((numbers, prerelease)) => (numbers, Some(prerelease)),
            None => (rest, None),
        };
        let identifiers = |text: Option<&str>| {
            text.is_none_or(|text| {
                text.split('.').all(|part| {
                    !part.is_empty()
                        && part
                            .bytes()
                            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                })
            })
        };
        if !identifiers(prerelease) || !identifiers(build) {
            return None;
        }
        let mut numbers = numbers.split('.').map(number);
        let version = Version {
            major: numbers.next()??,
            minor: numbers.next().unwrap_or(Some(0))?,
            patch: numbers.next().unwrap_or(Some(0))?,
            prerelease: prerelease.unwrap_or_default().to_owned(),
            build: build.unwrap_or_default().to_owned(),
            original: text.to_owned(),
        };
        numbers.next().is_none().then_some(version)
    }

    fn numbers(&self) -> (u64, u64, u64) {
        (self.major, self.minor, self.patch)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)?;
        if !self.prerelease.is_empty() {
            write!(f, "-{}", self.prerelease)?;
        }
        if !self.build.is_empty() {
            write!(f, "+{}", self.build)?;
        }
        Ok(())
    }
}

/// By precedence: what is built from it does not count.
impl Ord for Version {
    fn cmp(&self, other: &Version) -> Ordering {
        let numbers = self.numbers().cmp(&other.numbers());
        numbers.then_with(|| by_prerelease(&self.prerelease, &other.prerelease))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Version) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn by_prerelease(a: &str, b: &str) -> Ordering {
    match (a.is_empty(), b.is_empty()) {
        (true, true) => return Ordering::Equal,
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    let (mut left, mut right) = (a.split('.'), b.split('.'));
    loop {
        let order = match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(a), Some(b)) => match (number(a), number(b)) {
                (Some(a), Some(b)) => a.cmp(&b),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => a.cmp(b),
            },
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// A range: alternatives, each of comparisons that must all hold.
#[derive(Clone, Debug)]
pub struct Constraint {
    alternatives: Vec<Vec<Comparison>>,
}

#[derive(Clone, Debug)]
struct Comparison {
    operator: Operator,
    version: Version,
    /// Which numbers are left open.
    dirty: Dirty,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Operator {
    Equal,
    NotEqual,
    Greater,
    Less,
    AtLeast,
    AtMost,
    Tilde,
    Caret,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Debug)]
enum Dirty {
    None,
    Patch,
    Minor,
    Major,
}

impl Constraint {
    /// Reads a range: `>=1.2, <2 || ^3.1 || 1.x || 1 - 2`.
    pub fn parse(text: &str) -> Option<Constraint> {
        let alternatives = text.split("||").map(|text| {
            let spaced = spread(text)?;
            if spaced.is_empty() {
                return None;
            }
            spaced.iter().map(|text| Comparison::parse(text)).collect()
        });
        let alternatives = alternatives.collect::<Option<_>>()?;
        Some(Constraint { alternatives })
    }

    pub fn allows(&self, version: &Version) -> bool {
        self.alternatives.iter().any(|comparisons| {
            comparisons
                .iter()
                .all(|comparison| comparison.holds(version))
        })
    }

    /// As [`allows`](Self::allows); what is no version is not within.
    pub fn allows_text(&self, version: &str) -> bool {
        Version::parse(version).is_some_and(|version| self.allows(&version))
    }
}

/// The comparisons of one alternative, with `a - b` written as two.
fn spread(text: &str) -> Option<Vec<String>> {
    let words: Vec<&str> = text
        .split([',', ' ', '\t', '\n'])
        .filter(|word| !word.is_empty())
        .collect();
    let mut comparisons = Vec::new();
    let mut words = words.into_iter().peekable();
    let mut operator = String::new();
    while let Some(word) = words.next() {
        let only_operator = word.chars().all(|letter| "=!<>~^".contains(letter));
        if only_operator {
            if !operator.is_empty() {
                return None;
            }
            word.clone_into(&mut operator);
            continue;
        }
        if operator.is_empty() && words.next_if_eq(&"-").is_some() {
            comparisons.push(format!(">={word}"));
            comparisons.push(format!("<={}", words.next()?));
            continue;
        }
        let mut from = 0;
        // Comparisons may stand together: `>1<2`.
        let starts: Vec<usize> = word
            .char_indices()
            .filter(|(at, letter)| {
                let before = word[..*at].chars().next_back();
                *at > 0
                    && "=!<>~^".contains(*letter)
                    && before.is_some_and(|before| !"=!<>~^".contains(before))
            })
            .map(|(at, _)| at)
            .collect();
        for at in starts.into_iter().chain([word.len()]) {
            comparisons.push(format!("{operator}{}", &word[from..at]));
            operator.clear();
            from = at;
        }
    }
    operator.is_empty().then_some(comparisons)
}

impl Comparison {
    fn parse(text: &str) -> Option<Comparison> {
        let end = text
            .find(|letter| !"=!<>~^".contains(letter))
            .unwrap_or(text.len());
        let operator = match &text[..end] {
            "" | "=" | "==" => Operator::Equal,
            "!=" => Operator::NotEqual,
            ">" => Operator::Greater,
            "<" => Operator::Less,
            ">=" | "=>" => Operator::AtLeast,
            "<=" | "=<" => Operator::AtMost,
            "~" | "~>" => Operator::Tilde,
            "^" => Operator::Caret,
            _ => return None,
        };
        let (version, dirty) = partial(&text[end..])?;
        // `=1.2` and `1.2` mean any 1.2.x.
        Some(Comparison {
            operator,
            version,
            dirty,
        })
    }

    fn holds(&self, version: &Version) -> bool {
        let wanted = &self.version;
        if !version.prerelease.is_empty() && wanted.prerelease.is_empty() {
            // `!=` excludes; it invites no prerelease either.
            return false;
        }
        let order = version.cmp(wanted);
        let same_major = version.major == wanted.major;
        let same_minor = same_major && version.minor == wanted.minor;
        match self.operator {
            Operator::Equal => match self.dirty {
                Dirty::None => order.is_eq(),
                _ => self.within_tilde(version),
            },
            Operator::NotEqual => match self.dirty {
                Dirty::None => order.is_ne(),
                Dirty::Patch => !same_minor,
                Dirty::Minor => !same_major,
                Dirty::Major => false,
            },
            Operator::Greater => match self.dirty {
                Dirty::None => order.is_gt(),
                Dirty::Patch => (version.major, version.minor) > (wanted.major, wanted.minor),
                Dirty::Minor => version.major > wanted.major,
                Dirty::Major => false,
            },
            Operator::Less => order.is_lt(),
            Operator::AtLeast => order.is_ge(),
            Operator::AtMost => match self.dirty {
                Dirty::None => order.is_le(),
                Dirty::Patch => (version.major, version.minor) <= (wanted.major, wanted.minor),
                Dirty::Minor => version.major <= wanted.major,
                Dirty::Major => true,
            },
            Operator::Tilde => self.within_tilde(version),
            Operator::Caret => self.within_caret(version),
        }
    }

    fn within_tilde(&self, version: &Version) -> bool {
        let wanted = &self.version;
        version >= wanted
            && match self.dirty {
                Dirty::Major => true,
                Dirty::Minor => version.major == wanted.major,
                Dirty::None | Dirty::Patch => {
                    (version.major, version.minor) == (wanted.major, wanted.minor)
                }
            }
    }

    fn within_caret(&self, version: &Version) -> bool {
        let wanted = &self.version;
        if version < wanted {
            return false;
        }
        if wanted.major > 0 || self.dirty >= Dirty::Minor {
            return self.dirty == Dirty::Major || version.major == wanted.major;
        }
        if version.major > 0 {
            return false;
        }
        if wanted.minor > 0 || self.dirty == Dirty::Patch {
            return version.minor == wanted.minor;
        }
        version.minor == 0 && version.patch == wanted.patch
    }
}

/// A version with numbers left out or written `x`.
fn partial(text: &str) -> Option<(Version, Dirty)> {
    let rest = text.strip_prefix('v').unwrap_or(text);
    let end = rest.find(['-', '+']).unwrap_or(rest.len());
    let (numbers, suffix) = rest.split_at(end);
    let open = |part: &str| matches!(part, "x" | "X" | "*");
    let parts: Vec<&str> = numbers.split('.').collect();
    let known = parts.iter().take_while(|part| !open(part)).count();
    let dirty = match known {
        0 => Dirty::Major,
        1 => Dirty::Minor,
        2 => Dirty::Patch,
        3 => Dirty::None,
        _ => return None,
    };
    if parts.len() > 3
        || !parts[known..]
            .iter()
            .all(|part| open(part) || number(part).is_some())
    {
        return None;
    }
    let mut numbers: Vec<&str> = parts[..known].to_vec();
    numbers.resize(3, "0");
    let version = Version::parse(&format!("{}{suffix}", numbers.join(".")))?;
    Some((version, dirty))
}
