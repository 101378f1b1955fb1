//! OCI containers: images unpacked into layers, run by runc, watched over by a shim each.
