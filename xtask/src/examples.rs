//! `cargo xtask examples`: every example of the facade runs, with two sets of durations or seeds.
//!
//! Which, stands in `xtask/examples.toml`; an example without its runs is a failure. What they print is compared in
//! `tests/`; here they have to end well and in time. A run is its arguments, or a client beside a server:
//!
//! ```toml
//! say_after = ["--virtual", "--virtual --first 40"]
//! echo_client = [{ server = "echo_server 18881", client = "18881" }, { server = "echo_server 18882", client = "18882" }]
//! ```
//!
//! The client is tried until the server listens; then the server gets Ctrl-C and has to end.

use crate::{Outcome, sh, tree};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// No example of a check takes longer than this.
const LIMIT: Duration = Duration::from_secs(5);

/// Runs the examples with these names, or all.
pub(crate) fn run(names: &[String]) -> Outcome {
    let table = tree::manifest(&sh::root().join("xtask/examples.toml"));
    let files = tree::files("crates/evenloop/examples", "rs");
    // Folders below hold what several examples share.
    let flat = files.iter().filter(|file| file.parent().is_some_and(|folder| folder.ends_with("examples")));
    let all: Vec<_> = flat.filter_map(|file| file.file_stem()?.to_str()).collect();
    if let Some(stale) = table.keys().find(|name| !all.contains(&name.as_str())) {
        return Err(format!("xtask/examples.toml: there is no example `{stale}`"));
    }
    if let Some(unknown) = names.iter().find(|name| !all.contains(&name.as_str())) {
        return Err(format!("there is no example `{unknown}`"));
    }
    if all.is_empty() {
        return Err("crates/evenloop/examples holds no example".into());
    }
    let text = |run: &toml::Value, key: &str| run.get(key).and_then(|text| text.as_str()).map(str::to_owned);
    let servers: Vec<_> = table
        .values()
        .filter_map(|runs| runs.as_array())
        .flatten()
        .filter_map(|run| text(run, "server")?.split(' ').next().map(str::to_owned))
        .collect();
    sh::run(&mut sh::cargo("build --quiet --package evenloop --examples --all-features"))?;
    for name in all.into_iter().filter(|name| names.is_empty() || names.iter().any(|asked| asked == name)) {
        if servers.iter().any(|server| server == name) {
            if names.is_empty() {
                continue; // Runs beside its client.
            }
            return Err(format!("`{name}` runs beside its client: ask for that (xtask/examples.toml)"));
        }
        let runs = table.get(name).and_then(|runs| runs.as_array()).filter(|runs| runs.len() >= 2);
        let runs = runs.ok_or_else(|| {
            format!(
                "xtask/examples.toml: add `{name} = [\"ARGUMENTS\", \"OTHER ARGUMENTS\"]`: two runs at least"
            )
        })?;
        if let Some(again) =
            runs.iter().enumerate().find_map(|(at, run)| runs[..at].iter().find(|it| *it == run))
        {
            return Err(format!(
                "xtask/examples.toml: {name}: {again:?} twice: the second run wants another set"
            ));
        }
        for run in runs {
            let begin = Instant::now();
            let shown = match (run.as_str(), text(run, "server"), text(run, "client")) {
                (Some(arguments), ..) => {
                    let shown = format!("{name} {arguments}");
                    println!("-- {shown}");
                    ends_well(example(&shown), &shown)?;
                    shown
                }
                (None, Some(server), Some(client)) => {
                    let shown = format!("{name} {client}");
                    println!("-- {shown} (beside {server})");
                    beside(&server, &shown)?;
                    shown
                }
                _ => {
                    return Err(format!(
                        "xtask/examples.toml: {name}: {run:?} is neither arguments nor a server and a client"
                    ));
                }
            };
            if begin.elapsed() > LIMIT {
                return Err(format!("{shown}: took {:.1?}, the limit is {LIMIT:?}", begin.elapsed()));
            }
        }
    }
    Ok(())
}

/// An example with its arguments, as one would type them; what it prints is not shown.
fn example(line: &str) -> Command {
    let (name, arguments) = line.split_once(' ').unwrap_or((line, ""));
    let mut example = sh::command(&format!("target/debug/examples/{name}"), arguments);
    example.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
    example
}

fn ends_well(mut example: Command, shown: &str) -> Outcome {
    let mut child = example.spawn().map_err(|error| format!("{shown}: {error}"))?;
    match wait(&mut child, LIMIT) {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(format!("{shown}: {status}")),
        None => Err(format!("{shown}: did not end in {LIMIT:?}")),
    }
}

/// Runs the client until the server is there to serve it, then ends the server with Ctrl-C.
fn beside(server: &str, client: &str) -> Outcome {
    let mut serving = example(server).spawn().map_err(|error| format!("{server}: {error}"))?;
    let begin = Instant::now();
    let served = loop {
        let mut attempt = example(client);
        attempt.stderr(Stdio::null());
        match ends_well(attempt, client) {
            Err(_) if begin.elapsed() < LIMIT / 2 => thread::sleep(Duration::from_millis(50)),
            outcome => break outcome,
        }
    };
    let interrupted = sh::run(Command::new("kill").arg("-INT").arg(serving.id().to_string()));
    let ended = wait(&mut serving, LIMIT / 2);
    served?;
    interrupted?;
    match ended {
        // 130 is a shell's word for Ctrl-C; a signal has no code.
        Some(status) if matches!(status.code(), None | Some(0 | 130)) => Ok(()),
        Some(status) => Err(format!("{server}: after Ctrl-C: {status}")),
        None => Err(format!("{server}: does not end on Ctrl-C")),
    }
}

/// Waits so long; whoever has not ended then is killed.
fn wait(child: &mut Child, limit: Duration) -> Option<std::process::ExitStatus> {
    let begin = Instant::now();
    while begin.elapsed() < limit {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        thread::sleep(Duration::from_millis(5));
    }
    // It may have ended meanwhile; then there is nothing to kill.
    let _ = child.kill();
    let _ = child.wait();
    None
}
