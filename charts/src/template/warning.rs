//! What is no error, but seldom meant.

use std::fmt;

/// A large whole number that a template prints in the exponent form: `1000000` as `1e+06`.
#[derive(Clone, PartialEq, Debug)]
pub struct Warning {
    /// The template's file.
    pub template: String,
    /// From 1.
    pub line: usize,
    /// Bytes before it in its line.
    pub column: usize,
    /// What the template says: `.Values.port`.
    pub expression: String,
    /// Where the number is from, where that is known.
    pub path: Option<String>,
    /// The number itself.
    pub number: f64,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = format!("{}:{}:{}", self.template, self.line, self.column);
        let printed = crate::format::sprint(&crate::Value::Float(self.number));
        let printed = String::from_utf8_lossy(&printed);
        write!(
            f,
            "{place}: <{}> prints {:.0} as {printed}",
            self.expression, self.number
        )?;
        if let Some(path) = &self.path {
            write!(f, " ({path})")?;
        }
        f.write_str(": use `int64` or quote the value")
    }
}
