//! Static bearer tokens from a CSV file, as Kubernetes' `--token-auth-file`:
//! `token,user,uid,"group1,group2"`; uid and groups may be left out.

use std::path::Path;

use anyhow::{Context, Result, bail};
use api::auth::{StaticToken, User};

/// Reads a token file; an error names the line.
pub(crate) fn read(path: &Path) -> Result<Vec<StaticToken>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("read the token file {}", path.display()))?;
    parse(&text).with_context(|| format!("read the token file {}", path.display()))
}

fn parse(text: &str) -> Result<Vec<StaticToken>> {
    let mut tokens = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let fields = fields(line);
        let [token, user, rest @ ..] = fields.as_slice() else {
            bail!("line {}: expected token,user[,uid[,\"groups\"]]", index + 1);
        };
        if token.is_empty() || user.is_empty() {
            bail!(
                "line {}: the token and the user must not be empty",
                index + 1
            );
        }
        let groups: Vec<&str> = rest
            .get(1)
            .map(|groups| groups.split(',').map(str::trim).collect())
            .unwrap_or_default();
        tokens.push(StaticToken {
            token: token.clone(),
            user: User {
                uid: rest.first().cloned().unwrap_or_default(),
                ..User::new(user.clone(), &groups)
            },
        });
    }
    Ok(tokens)
}

/// The fields of one line; a field in double quotes may hold commas.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for character in line.trim().chars() {
        match character {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            other => fields.last_mut().expect("it starts with one").push(other),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_a_user_and_groups() {
        let tokens =
            parse("# comment\n\ns3cret,ci,7,\"system:masters, dev\"\nplain,bob\n").unwrap();
        assert_eq!(tokens.len(), 2);
        assert_eq!(tokens[0].user.groups[..2], ["system:masters", "dev"]);
        assert_eq!(tokens[0].user.uid, "7");
        assert_eq!(tokens[1].user.name, "bob");
    }

    #[test]
    fn a_bad_line_is_named() {
        assert_eq!(
            parse("a,b\nlonely\n").unwrap_err().to_string(),
            "line 2: expected token,user[,uid[,\"groups\"]]"
        );
    }
}
