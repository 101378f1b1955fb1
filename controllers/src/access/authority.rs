//! What only the owner of the cluster's keys can do. `wk` implements it.

use std::fmt::Debug;

/// A request cannot be signed as it is.
#[derive(thiserror::Error, Debug)]
#[error("{0}")]
pub struct Refused(pub String);

/// Holds the cluster's certificate authority and the key that signs tokens.
pub trait Authority: Debug + Send + Sync + 'static {
    /// The certificate by which clients know the apiserver, as PEM.
    fn root_certificate(&self) -> &str;

    /// Signs a certificate for a client: a PKCS#10 request as PEM in, a certificate as PEM out. Holds for
    /// `seconds`, or for a year, and no longer than the authority itself.
    ///
    /// # Errors
    /// The request cannot be read, or its signature is not its key's.
    fn sign_client(&self, request: &str, seconds: Option<i32>) -> Result<String, Refused>;

    /// Signs the token of a ServiceAccount that stands in a Secret.
    ///
    /// # Errors
    /// The key cannot sign.
    fn secret_token(
        &self,
        namespace: &str,
        account: &str,
        account_uid: &str,
        secret: &str,
    ) -> Result<String, Refused>;
}
