//! Starting the program: what the child does between `fork` and `exec`.
//!
//! std starts programs with `posix_spawn`, which borrows this process's memory until the program is loaded and copies
//! nothing, unless something has to be done in the child that only code can do: another user or group (std's own code), a
//! session, a umask, descriptors, or signals that the starting thread blocks (here). Then std forks, which takes longer the
//! more memory this process has.
//!
//! F1. The closure that runs in the child makes system calls and nothing else: another thread of this process may have held
//!     any lock, the allocator's too, at the moment of the fork.
//! F2. Descriptors are brought to their numbers from above all numbers that are asked for, so none overwrites another.
//! F3. While the child is made, the numbers are taken in this process, so that std's own descriptors (the pipe through which
//!     a failed `exec` is told) do not lie there. What lies there already stays open that long, too.
//! F4. A child blocks no signals. std gives it the mask of the thread that starts it, which is nearly always empty.

#![allow(unsafe_code)]

use rustix::fs::Mode;
use rustix::io::FdFlags;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// What std's `Command` has no words for.
#[derive(Debug, Default)]
pub(super) struct Extras {
    pub(super) new_session: bool,
    pub(super) umask: Option<u32>,
    pub(super) inherited: Vec<Inherited>,
}

/// A descriptor that the child gets under a number.
#[derive(Debug)]
pub(super) struct Inherited {
    pub(super) fd: OwnedFd,
    pub(super) number: RawFd,
}

/// Starts the program; answers its number once it is loaded.
pub(super) fn start(command: &mut Command, extras: &mut Extras) -> io::Result<u32> {
    let _places = prepare(command, extras)?;
    Ok(command.spawn()?.id())
}

/// Has the child do what std does not. The answer keeps the numbers taken (F3).
fn prepare(command: &mut Command, extras: &mut Extras) -> io::Result<Vec<OwnedFd>> {
    let Extras { new_session, umask, inherited } = std::mem::take(extras);
    let unblocks = blocks_signals();
    if !new_session && umask.is_none() && inherited.is_empty() && !unblocks {
        return Ok(Vec::new());
    }
    let above = inherited.iter().map(|each| each.number.saturating_add(1)).max().unwrap_or(0);
    let mut places = Vec::new();
    let mut moves = Vec::new();
    for Inherited { fd, number } in inherited {
        if fd.as_raw_fd() == number {
            moves.push((fd, number));
            continue;
        }
        let raised = rustix::io::fcntl_dupfd_cloexec(&fd, above)?; // F2
        let place = rustix::io::fcntl_dupfd_cloexec(&fd, number)?;
        if place.as_raw_fd() == number {
            places.push(place); // else something lies there already, which is as good: F3
        }
        moves.push((raised, number));
        places.push(fd); // it may be what lies at another one's number
    }
    let none = no_signals();
    let in_the_child = move || -> io::Result<()> {
        if unblocks {
            // SAFETY: it reads the set, which the closure owns, and writes nowhere.
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &none, std::ptr::null_mut()) }; // F4
        }
        if new_session {
            rustix::process::setsid()?;
        }
        if let Some(mask) = umask {
            rustix::process::umask(Mode::from_raw_mode(mask));
        }
        for (fd, number) in &moves {
            if fd.as_raw_fd() == *number {
                rustix::io::fcntl_setfd(fd, FdFlags::empty())?;
                continue;
            }
            // SAFETY: whatever lies at the number in the child is the child's to overwrite (F2, F3: none of the other
            // descriptors it needs), and `ManuallyDrop` closes nothing.
            let mut place = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(*number) });
            rustix::io::dup2(fd, &mut place)?;
        }
        Ok(())
    };
    // SAFETY: F1: the closure makes system calls on what it owns; it neither allocates, nor locks, nor panics.
    unsafe { command.pre_exec(in_the_child) };
    Ok(places)
}

/// Whether this thread blocks any signal (F4).
fn blocks_signals() -> bool {
    let none = no_signals();
    let mut mask = none;
    // SAFETY: without a set to apply it changes nothing, and it writes to the mask, which is ours.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &mut mask) };
    bytes(mask) != bytes(none)
}

type Bytes = [u8; size_of::<libc::sigset_t>()];

/// Its bytes are all initialised, also those that `sigemptyset` and the kernel leave as they are.
fn no_signals() -> libc::sigset_t {
    // SAFETY: a set is nothing but integers, for which all bytes will do.
    let mut none: libc::sigset_t = unsafe { std::mem::transmute::<Bytes, _>([0; _]) };
    // SAFETY: it writes to the set, which is ours.
    unsafe { libc::sigemptyset(&mut none) };
    none
}

fn bytes(set: libc::sigset_t) -> Bytes {
    // SAFETY: a set is nothing but integers without gaps, and all of ours come from `no_signals`.
    unsafe { std::mem::transmute(set) }
}
