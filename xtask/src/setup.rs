//! `cargo xtask setup`: what the checks use beside Rust.
//!
//! Nothing is touched that is there already, and each step says what it did.

use crate::{Outcome, coverage, sh};

/// A program that a check needs, and the Debian package that brings it.
const PACKAGES: &[(&str, &str)] = &[
    ("curl", "curl"),
    ("h2load", "nghttp2-client"),
    ("nc", "netcat-openbsd"),
    ("openssl", "openssl"),
    // The server's programs are off the path; this one comes with them.
    ("pg_ctlcluster", "postgresql"),
    ("python3", "python3"),
    ("redis-server", "redis-server"),
    ("socat", "socat"),
    ("strace", "strace"),
    ("valgrind", "valgrind"),
    ("wrk", "wrk"),
];

/// A module that a check needs of the system's Python, and the Debian package that brings it.
const MODULES: &[(&str, &str)] = &[("grpc", "python3-grpcio"), ("websockets", "python3-websockets")];

/// Toolchains and tools of the long run. Versions are pinned: a new one is a decision.
const TOOLCHAINS: &[&str] = &["nightly", "1.85"];
const TOOLS: &[(&str, &str)] = &[("cargo-fuzz", "0.13.1"), ("cargo-semver-checks", "0.51.0")];

/// Installs the programs; with `long` toolchains and tools too.
pub(crate) fn run(long: bool) -> Outcome {
    packages()?;
    if long {
        toolchains()?;
        tools()?;
        llvm()?;
    }
    Ok(())
}

/// The tools that read what the compiler counts: those of the very LLVM that it is made of.
fn llvm() -> Outcome {
    if coverage::llvm_tools()?.is_some() {
        return Ok(());
    }
    let package = format!("llvm-{}", coverage::llvm_major()?);
    if sh::find("apt-get").is_none() {
        println!("setup: `{package}` is missing, and there is no apt-get: install it by hand");
        return Ok(());
    }
    println!("setup: installing {package}");
    sh::run(privileged("update --quiet").env("DEBIAN_FRONTEND", "noninteractive"))?;
    let mut install = privileged("install --yes --quiet --no-install-recommends");
    sh::run(install.arg(&package).env("DEBIAN_FRONTEND", "noninteractive"))
}

fn packages() -> Outcome {
    let programs = PACKAGES.iter().filter(|(program, _)| sh::find(program).is_none());
    let missing: Vec<_> = programs.chain(MODULES.iter().filter(|(module, _)| !python_has(module))).collect();
    if missing.is_empty() {
        println!("setup: all programs are there");
        return Ok(());
    }
    if sh::find("apt-get").is_none() {
        for (program, _) in missing {
            println!("setup: `{program}` is missing, and there is no apt-get: install it by hand");
        }
        return Ok(());
    }
    let names: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
    println!("setup: installing {}", names.join(", "));
    sh::run(privileged("update --quiet").env("DEBIAN_FRONTEND", "noninteractive"))?;
    let mut install = privileged("install --yes --quiet --no-install-recommends");
    sh::run(install.args(&names).env("DEBIAN_FRONTEND", "noninteractive"))?;
    println!("setup: installed {}", names.join(", "));
    Ok(())
}

/// Whether a Python here has the module: the one on the path, or the system's.
fn python_has(module: &str) -> bool {
    ["python3", "/usr/bin/python3"].iter().any(|python| {
        let mut import = std::process::Command::new(python);
        import.args(["-c", &format!("import {module}")]).stderr(std::process::Stdio::null());
        import.status().is_ok_and(|status| status.success())
    })
}

/// apt-get, through sudo where there is one: without it, we are root or apt says what is wrong.
fn privileged(words: &str) -> std::process::Command {
    match sh::find("sudo") {
        Some(_) => sh::command("sudo", &format!("--preserve-env=DEBIAN_FRONTEND apt-get {words}")),
        None => sh::command("apt-get", words),
    }
}

fn toolchains() -> Outcome {
    if sh::find("rustup").is_none() {
        println!("setup: no rustup here: {} stay as they are", TOOLCHAINS.join(" and "));
        return Ok(());
    }
    for toolchain in TOOLCHAINS.iter().filter(|toolchain| !sh::has_toolchain(toolchain)) {
        println!("setup: installing toolchain {toolchain}");
        sh::run(sh::command("rustup", "toolchain install --profile minimal").arg(toolchain))?;
    }
    Ok(())
}

fn tools() -> Outcome {
    for (tool, version) in TOOLS.iter().filter(|(tool, _)| sh::find(tool).is_none()) {
        println!("setup: installing {tool} {version}");
        sh::run(&mut sh::cargo(&format!("install --locked {tool}@{version}")))?;
    }
    Ok(())
}
