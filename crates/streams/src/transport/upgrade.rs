//! TLS on a connection that is running.
