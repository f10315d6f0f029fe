//! Other programs: how they are started, and whether they are there.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The folder that holds the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a folder of the workspace")
}

/// `cargo WORDS...` in the workspace; `words` are separated by spaces.
pub(crate) fn cargo(words: &str) -> Command {
    command(&std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()), words)
}

/// `cargo +TOOLCHAIN WORDS...`, past the toolchain that runs us.
pub(crate) fn cargo_of(toolchain: &str, words: &str) -> Command {
    let mut cargo = command("cargo", words);
    // Cargo started us with its own place in front; the proxy that chooses a toolchain is further on.
    cargo.env("RUSTUP_TOOLCHAIN", toolchain).env_remove("CARGO").env_remove("RUSTC").env_remove("RUSTDOC");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let kept = std::env::split_paths(&path).filter(|folder| !folder.to_string_lossy().contains("toolchains"));
    cargo.env("PATH", std::env::join_paths(kept).unwrap_or(path.clone()));
    cargo
}

/// `program WORDS...` in the workspace; `words` are separated by spaces.
pub(crate) fn command(program: &str, words: &str) -> Command {
    let mut command = Command::new(program);
    command.args(words.split_whitespace()).current_dir(root());
    command
}

/// Runs to the end, output shown.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let status = command.status().map_err(|error| format!("{}: {error}", shown(command)))?;
    if status.success() { Ok(()) } else { Err(format!("`{}` failed: {status}", shown(command))) }
}

/// Runs to the end; answers its standard output, shows its standard error.
pub(crate) fn read(command: &mut Command) -> Result<String, String> {
    let output =
        command.stderr(Stdio::inherit()).output().map_err(|error| format!("{}: {error}", shown(command)))?;
    if !output.status.success() {
        return Err(format!("`{}` failed: {}", shown(command), output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command as one would type it in the workspace, with the variables that it needs in front.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let program = match program.strip_prefix(root()) {
        Ok(ours) => Path::new(".").join(ours).into_os_string(),
        Err(_) => program.file_name().unwrap_or(program.as_os_str()).to_owned(),
    };
    // The path only leads past the toolchain that runs us, to the `cargo` that one would type.
    let variables = command.get_envs().filter(|(name, _)| *name != "PATH");
    let variables =
        variables.filter_map(|(name, value)| Some(format!("{}={}", name.to_string_lossy(), quoted(value?))));
    variables.chain([quoted(&program)]).chain(command.get_args().map(quoted)).collect::<Vec<_>>().join(" ")
}

/// A word as a shell takes it for one.
fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.into_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// Where `program` is, if it is installed.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Whether rustup has this toolchain ("nightly", "1.85").
pub(crate) fn has_toolchain(toolchain: &str) -> bool {
    let Ok(output) = Command::new("rustup").args(["toolchain", "list"]).output() else { return false };
    String::from_utf8_lossy(&output.stdout).lines().any(|line| {
        line.strip_prefix(toolchain).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', ' ', '.']))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_with_its_variables_and_a_shell_reads_it_as_it_is() {
        let mut doc = cargo_of("nightly", "doc --quiet");
        doc.arg("it's").env("RUSTFLAGS", "-D warnings");
        assert_eq!(
            shown(&doc),
            r"RUSTFLAGS='-D warnings' RUSTUP_TOOLCHAIN=nightly cargo doc --quiet 'it'\''s'"
        );
        let ours = root().join("target/debug/soak");
        assert_eq!(
            shown(&command(&ours.to_string_lossy(), "--minutes 1")),
            "./target/debug/soak --minutes 1"
        );
    }
}
