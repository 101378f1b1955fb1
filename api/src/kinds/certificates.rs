//! `certificates.k8s.io`: requests for certificates.
//!
//! - [`signing_request`]: the kind. [`request`]: what is inside a request, and a certificate.
//!
//! Never signs and never decides who may approve: those are a controller's and admission's.

pub(crate) mod request;
pub(crate) mod signing_request;
