//! The static bearer tokens that the configuration gives.
//!
//! Tokens are kept and compared as digests, all of them each time, so that the time an answer takes
//! says nothing about any of them.

use sha2::{Digest, Sha256};

use super::User;

/// A token and who holds it.
#[derive(Clone)]
pub struct StaticToken {
    pub token: String,
    pub user: User,
}

impl std::fmt::Debug for StaticToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StaticToken")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// All tokens of the configuration.
pub(crate) struct Tokens(Vec<([u8; 32], User)>);

impl Tokens {
    pub(crate) fn new(tokens: &[StaticToken]) -> Self {
        let digests = tokens
            .iter()
            .map(|entry| (digest(&entry.token), entry.user.clone()));
        Self(digests.collect())
    }

    /// The holder of a token.
    pub(crate) fn find(&self, token: &str) -> Option<&User> {
        let asked = digest(token);
        let mut found = None;
        for (own, user) in &self.0 {
            let difference = own
                .iter()
                .zip(&asked)
                .fold(0, |difference, (a, b)| difference | (a ^ b));
            if std::hint::black_box(difference) == 0 {
                found = Some(user);
            }
        }
        found
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_is_its_holder() {
        let tokens = Tokens::new(&[StaticToken {
            token: "secret".to_owned(),
            user: User::scheduler(),
        }]);
        assert_eq!(tokens.find("secret"), Some(&User::scheduler()));
        for wrong in ["", "secre", "secrets", "Secret"] {
            assert_eq!(tokens.find(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_token_is_not_shown() {
        let token = StaticToken {
            token: "secret".to_owned(),
            user: User::scheduler(),
        };
        assert!(!format!("{token:?}").contains("secret\""));
    }
}
