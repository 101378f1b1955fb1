//! Constraints on versions: `>=1.20-0, <2 || ~3.1 || 1.2 - 1.4`, as the library behind `semverCompare` understands them.
//!
//! A version that is a prerelease fulfils only groups in which some constraint is on a prerelease.

use std::{borrow::Cow, sync::LazyLock};

use regex::Regex;

use super::versions::{LENGTH, Version, compare_prereleases, identifiers, is_prerelease};
use crate::Failure;

const MOST_BYTES: usize = 512;
const MOST_GROUPS: usize = 32;

/// Groups of which one must hold; all of a group must.
pub struct Constraints(Vec<Group>);

struct Group {
    constraints: Vec<Constraint>,
    prereleases: bool,
}

struct Constraint {
    operator: Operator,
    version: Version,
    /// From which number on it says anything will do.
    open: Open,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Greater,
    GreaterEqual,
    Less,
    LessEqual,
    Tilde,
    Caret,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Not,
    Major,
    Minor,
    Patch,
}

/// The longer before what they begin with.
const OPERATORS: [(&str, Operator); 11] = [
    ("!=", Operator::NotEqual),
    (">=", Operator::GreaterEqual),
    ("=>", Operator::GreaterEqual),
    ("<=", Operator::LessEqual),
    ("=<", Operator::LessEqual),
    ("~>", Operator::Tilde),
    ("=", Operator::Equal),
    (">", Operator::Greater),
    ("<", Operator::Less),
    ("~", Operator::Tilde),
    ("^", Operator::Caret),
];

impl Constraints {
    /// Reads a range: `>=1.2, <2 || ^3.1`.
    pub fn parse(text: &str) -> Result<Constraints, Failure> {
        if text.len() > MOST_BYTES {
            let message = format!("constraint string is too long (max {MOST_BYTES} bytes)");
            return Err(Failure::new(message));
        }
        let text = without_ranges(text);
        let groups: Vec<&str> = text.split("||").collect();
        if groups.len() > MOST_GROUPS {
            let message = format!("too many constraint groups (max {MOST_GROUPS})");
            return Err(Failure::new(message));
        }
        let groups = groups.into_iter().map(Group::parse);
        Ok(Constraints(groups.collect::<Result<_, _>>()?))
    }

    /// Whether a version is within the range.
    pub fn allow(&self, version: &Version) -> bool {
        self.0.iter().any(|group| {
            (version.prerelease.is_empty() || group.prereleases)
                && group
                    .constraints
                    .iter()
                    .all(|constraint| constraint.allows(version))
        })
    }
}

/// `1.2 - 1.4` as two comparisons.
fn without_ranges(text: &str) -> Cow<'_, str> {
    static RANGE: LazyLock<Regex> = LazyLock::new(|| {
        const VERSION: &str = r"v?[0-9|xX*]+(?:\.[0-9|xX*]+)?(?:\.[0-9|xX*]+)?(?:-[0-9A-Za-z\-]+(?:\.[0-9A-Za-z\-]+)*)?(?:\+[0-9A-Za-z\-]+(?:\.[0-9A-Za-z\-]+)*)?";
        let space = r"[\t\n\x0C\r ]";
        Regex::new(&format!(
            "{space}*({VERSION}){space}+-{space}+({VERSION}){space}*"
        ))
        .expect("a pattern of our own is right")
    });
    RANGE.replace_all(text, ">= $1, <= $2 ")
}

impl Group {
    fn parse(text: &str) -> Result<Group, Failure> {
        let improper = || {
            let shown = crate::format::sprintf(b"%q", &[crate::Value::string(text.to_owned())]);
            let shown = String::from_utf8_lossy(&shown);
            Failure::new(format!("improper constraint: {shown}"))
        };
        let mut pieces = Vec::new();
        let mut rest = trim_start(text);
        loop {
            let (piece, after) = Piece::read(rest).ok_or_else(improper)?;
            pieces.push(piece);
            let trimmed = trim_start(after);
            if trimmed.is_empty() {
                break;
            }
            rest = match trimmed.strip_prefix(',') {
                Some(next) => trim_start(next),
                None if trimmed.len() < after.len() => trimmed,
                None => return Err(improper()),
            };
        }
        let constraints = pieces.into_iter().map(Piece::into_constraint);
        let constraints: Vec<Constraint> = constraints.collect::<Result<_, _>>()?;
        Ok(Group {
            prereleases: constraints
                .iter()
                .any(|one| !one.version.prerelease.is_empty()),
            constraints,
        })
    }
}

fn trim_start(text: &str) -> &str {
    text.trim_start_matches([' ', '\t', '\n', '\u{C}', '\r'])
}

/// A constraint's text, taken apart.
struct Piece<'a> {
    operator: Operator,
    segments: Vec<&'a str>,
    prerelease: &'a str,
    size: usize,
}

impl<'a> Piece<'a> {
    fn read(text: &'a str) -> Option<(Piece<'a>, &'a str)> {
        let found = OPERATORS.iter().find_map(|(sign, operator)| {
            text.strip_prefix(sign)
                .map(|rest| (*operator, trim_start(rest)))
        });
        let (operator, start) = found.unwrap_or((Operator::Equal, text));
        let mut rest = start.strip_prefix('v').unwrap_or(start);
        let mut segments = Vec::new();
        while segments.len() < 3 {
            let segment = match (segments.len(), rest.strip_prefix('.')) {
                (0, _) => rest,
                (_, Some(segment)) => segment,
                (_, None) => break,
            };
            let is_part = |c: char| matches!(c, '0'..='9' | 'x' | 'X' | '*' | '|');
            let end = segment.find(|c: char| !is_part(c)).unwrap_or(segment.len());
            if end == 0 {
                break;
            }
            segments.push(&segment[..end]);
            rest = &segment[end..];
        }
        if segments.is_empty() {
            return None;
        }
        let (prerelease, rest) = identifiers(rest, '-');
        let (_, rest) = identifiers(rest, '+');
        let piece = Piece {
            operator,
            segments,
            prerelease,
            size: start.len() - rest.len(),
        };
        Some((piece, rest))
    }

    fn into_constraint(self) -> Result<Constraint, Failure> {
        let wrong = || Failure::new("constraint parser error");
        let is_any = |index: usize| match self.segments.get(index) {
            Some(segment) => matches!(*segment, "x" | "X" | "*"),
            None => true,
        };
        let open = match (is_any(0), is_any(1), is_any(2)) {
            (true, _, _) => Open::Major,
            (_, true, _) => Open::Minor,
            (_, _, true) => Open::Patch,
            _ => Open::Not,
        };
        let number = |index: usize, wanted: bool| match wanted {
            true => self.segments[index].parse::<u64>().map_err(|_| wrong()),
            false => Ok(0),
        };
        let major = number(0, open != Open::Major)?;
        let minor = number(1, matches!(open, Open::Patch | Open::Not))?;
        let patch = number(2, open == Open::Not)?;
        if !is_prerelease(self.prerelease) || self.size > LENGTH {
            return Err(wrong());
        }
        let prerelease = if open == Open::Major {
            ""
        } else {
            self.prerelease
        };
        Ok(Constraint {
            operator: self.operator,
            version: Version::new(major, minor, patch, prerelease),
            open,
        })
    }
}

impl Constraint {
    fn allows(&self, version: &Version) -> bool {
        let wanted = &self.version;
        let order = version.compare(wanted);
        let same_major = version.major == wanted.major;
        let same_minor = version.minor == wanted.minor;
        match self.operator {
            Operator::Equal if self.open != Open::Not => self.is_near(version),
            Operator::Equal => order.is_eq(),
            Operator::NotEqual => match self.open {
                Open::Not => order.is_ne(),
                _ if !same_major => true,
                Open::Minor => false,
                _ if !same_minor => true,
                Open::Patch => {
                    let one = &version.prerelease;
                    compare_prereleases(one, &wanted.prerelease).is_ne()
                }
                Open::Major => order.is_ne(),
            },
            Operator::Greater => match self.open {
                Open::Not => order.is_gt(),
                _ if !same_major => version.major > wanted.major,
                Open::Minor => false,
                Open::Patch => version.minor > wanted.minor,
                Open::Major => order.is_gt(),
            },
            Operator::GreaterEqual => order.is_ge(),
            Operator::Less => order.is_lt(),
            Operator::LessEqual => match self.open {
                Open::Not => order.is_le(),
                Open::Minor => version.major <= wanted.major,
                _ => (version.major, version.minor) <= (wanted.major, wanted.minor),
            },
            Operator::Tilde => self.is_near(version),
            Operator::Caret => order.is_ge() && self.is_compatible(version),
        }
    }

    /// From the wanted version on, within what it leaves open; `0.0.0` leaves everything.
    fn is_near(&self, version: &Version) -> bool {
        let wanted = &self.version;
        if version.compare(wanted).is_lt() {
            return false;
        }
        let zero = (wanted.major, wanted.minor, wanted.patch) == (0, 0, 0);
        if zero && !matches!(self.open, Open::Minor | Open::Patch) {
            return true;
        }
        version.major == wanted.major && (version.minor == wanted.minor || self.open == Open::Minor)
    }

    /// Equal in the first number that isn't 0.
    fn is_compatible(&self, version: &Version) -> bool {
        let wanted = &self.version;
        if wanted.major > 0 || self.open == Open::Minor {
            return version.major == wanted.major;
        }
        if version.major > 0 {
            return false;
        }
        if wanted.minor > 0 || self.open == Open::Patch {
            return version.minor == wanted.minor;
        }
        version.minor == 0 && version.patch == wanted.patch
    }
}
