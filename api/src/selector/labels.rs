//! Label selectors: `app=web,tier in (a, b),!legacy,replicas>3`.

use std::collections::{BTreeMap, BTreeSet};

use super::SelectorError;
use super::lexer::{Lexer, Token};
use crate::{
    field::{FieldErrors, Path},
    name,
};

/// What an object's labels must be like; all requirements must hold.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Test {
    Exists,
    Absent,
    /// `=`, `==`, `in`.
    In(BTreeSet<String>),
    /// `!=`, `notin`: holds for an object without the label, too.
    NotIn(BTreeSet<String>),
    Greater(i64),
    Less(i64),
}

impl LabelSelector {
    /// Reads a selector. An empty one selects everything.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut lexer = Lexer::new(text);
        let mut requirements = Vec::new();
        loop {
            match lexer.peek() {
                Token::Identifier(_) | Token::In | Token::NotIn | Token::Not => {
                    let requirement = requirement(&mut lexer);
                    requirements.push(requirement.map_err(|reason| {
                        SelectorError(format!("unable to parse requirement: {reason}"))
                    })?);
                }
                Token::End => return Ok(Self { requirements }),
                other => {
                    let wanted = "!, identifier, or 'end of string'";
                    return Err(SelectorError(found(&other, wanted)));
                }
            }
            match (lexer.next(), lexer.peek()) {
                (Token::End, _) => return Ok(Self { requirements }),
                (Token::Comma, Token::Identifier(_) | Token::In | Token::NotIn | Token::Not) => {}
                (Token::Comma, other) => {
                    return Err(SelectorError(found(&other, "identifier after ','")));
                }
                (other, _) => {
                    return Err(SelectorError(found(&other, "',' or 'end of string'")));
                }
            }
        }
    }

    /// True if the labels are as required.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.requirements
            .iter()
            .all(|requirement| requirement.test.holds(labels.get(&requirement.key)))
    }

    /// True if nothing is required.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }
}

impl Test {
    fn holds(&self, label: Option<&String>) -> bool {
        let number = || label.and_then(|text| text.parse::<i64>().ok());
        match self {
            Self::Exists => label.is_some(),
            Self::Absent => label.is_none(),
            Self::In(values) => label.is_some_and(|label| values.contains(label)),
            Self::NotIn(values) => label.is_none_or(|label| !values.contains(label)),
            Self::Greater(bound) => number().is_some_and(|number| number > *bound),
            Self::Less(bound) => number().is_some_and(|number| number < *bound),
        }
    }
}

fn requirement(lexer: &mut Lexer<'_>) -> Result<Requirement, String> {
    let absent = lexer.peek() == Token::Not;
    if absent {
        lexer.next();
    }
    let key = identifier(lexer.next())?.to_owned();
    let mut errors = FieldErrors::default();
    check(
        &key,
        &Path::default(),
        &name::qualified_problems(&key),
        &mut errors,
    );
    told(&errors)?;
    if absent {
        return Ok(Requirement {
            key,
            test: Test::Absent,
        });
    }
    if matches!(lexer.peek(), Token::End | Token::Comma) {
        return Ok(Requirement {
            key,
            test: Test::Exists,
        });
    }
    let operator = lexer.next();
    let values = match operator {
        Token::In | Token::NotIn => list(lexer)?,
        Token::Equals | Token::DoubleEquals | Token::NotEquals | Token::Greater | Token::Less => {
            BTreeSet::from([exact(lexer)?])
        }
        other => return Err(found(&other, "in, notin, =, ==, !=, gt, lt")),
    };
    let test = test(&key, operator, values)?;
    Ok(Requirement { key, test })
}

/// The test of an operator with its values, or what is wrong with them.
fn test(key: &str, operator: Token<'_>, values: BTreeSet<String>) -> Result<Test, String> {
    let path = Path::root("values");
    let mut errors = FieldErrors::default();
    let mut bound = 0;
    if values.is_empty() {
        let text = "for 'in', 'notin' operators, values set can't be empty";
        errors.invalid(&path, serde_json::json!([]), text);
    }
    for (index, value) in values.iter().enumerate() {
        let path = path.index(index);
        if let Token::Greater | Token::Less = operator {
            match value.parse() {
                Ok(number) => bound = number,
                Err(_) => {
                    let text = "for 'Gt', 'Lt' operators, the value must be an integer";
                    errors.invalid(&path, value.as_str(), text);
                }
            }
        }
        check(
            value,
            &path.key(key),
            &name::label_value_problems(value),
            &mut errors,
        );
    }
    told(&errors)?;
    Ok(match operator {
        Token::NotIn | Token::NotEquals => Test::NotIn(values),
        Token::Greater => Test::Greater(bound),
        Token::Less => Test::Less(bound),
        _ => Test::In(values),
    })
}

/// `(a, b)`; an empty place is an empty value.
fn list(lexer: &mut Lexer<'_>) -> Result<BTreeSet<String>, String> {
    match lexer.next() {
        Token::Open => {}
        other => return Err(format!("found '{}' expected: '('", other.literal())),
    }
    let mut values = BTreeSet::new();
    if lexer.peek() == Token::Close {
        lexer.next();
        return Ok(values);
    }
    loop {
        let value = match lexer.peek() {
            Token::Comma | Token::Close => "",
            Token::Identifier(_) | Token::In | Token::NotIn => identifier(lexer.next())?,
            other => return Err(found(&other, "',', ')' or identifier")),
        };
        values.insert(value.to_owned());
        match lexer.next() {
            Token::Comma => {}
            Token::Close => return Ok(values),
            other => return Err(found(&other, "',' or ')'")),
        }
    }
}

/// One value; none at all is an empty one.
fn exact(lexer: &mut Lexer<'_>) -> Result<String, String> {
    match lexer.peek() {
        Token::End | Token::Comma => Ok(String::new()),
        _ => Ok(identifier(lexer.next())?.to_owned()),
    }
}

fn identifier(token: Token<'_>) -> Result<&str, String> {
    match token {
        Token::Identifier(text) => Ok(text),
        Token::In => Ok("in"),
        Token::NotIn => Ok("notin"),
        other => Err(found(&other, "identifier")),
    }
}

fn found(token: &Token<'_>, expected: &str) -> String {
    format!("found '{}', expected: {expected}", token.literal())
}

/// Reports the problems of one text together.
fn check(text: &str, path: &Path, problems: &[String], errors: &mut FieldErrors) {
    if !problems.is_empty() {
        errors.invalid(path, text, problems.join("; "));
    }
}

/// One error by itself, several in brackets.
fn told(errors: &FieldErrors) -> Result<(), String> {
    let texts: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
    match &texts[..] {
        [] => Ok(()),
        [one] => Err(one.clone()),
        several => Err(format!("[{}]", several.join(", "))),
    }
}
