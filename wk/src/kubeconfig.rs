//! The admin kubeconfig, as text.

use base64::Engine as _;

use crate::pki::Pair;

/// Everything `kubectl` needs to act as the cluster's administrator.
pub(crate) fn admin(server: &str, ca: &str, admin: &Pair) -> String {
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    format!(
        "apiVersion: v1\n\
         kind: Config\n\
         clusters:\n\
         - name: wk\n\
         \x20 cluster:\n\
         \x20   server: {server}\n\
         \x20   certificate-authority-data: {ca}\n\
         users:\n\
         - name: wk-admin\n\
         \x20 user:\n\
         \x20   client-certificate-data: {certificate}\n\
         \x20   client-key-data: {key}\n\
         contexts:\n\
         - name: wk\n\
         \x20 context:\n\
         \x20   cluster: wk\n\
         \x20   user: wk-admin\n\
         current-context: wk\n",
        ca = encode(ca),
        certificate = encode(&admin.certificate),
        key = encode(&admin.key),
    )
}
