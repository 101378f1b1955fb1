//! The built-in OCI registry: images and other artifacts, pushed and pulled by the protocol of the OCI distribution specification 1.1.
