//! The project's only build script: `cargo xtask ci` and its parts.

fn main() {}
