//! Where a child's standard streams lead.

use super::pipes::{ChildOutput, ChildStdin};
use crate::reader::StreamReader;
use crate::writer::StreamWriter;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

/// A pipe to or from this process: asyncio's `PIPE`.
pub const PIPE: Stdio = Stdio(Kind::Pipe);
/// Nothing: reading ends at once, what is written is gone. asyncio's `DEVNULL`.
pub const DEVNULL: Stdio = Stdio(Kind::Null);
/// For stderr: wherever stdout leads. asyncio's `STDOUT`.
pub const STDOUT: Stdio = Stdio(Kind::Stdout);
/// This process's own stream: asyncio's `None`.
pub const INHERIT: Stdio = Stdio(Kind::Inherit);

/// Where one of a child's standard streams leads: [`PIPE`], [`DEVNULL`], [`STDOUT`], [`INHERIT`], a file, or the pipe of
/// another process.
///
/// # Examples
///
/// A pipeline, whose bytes do not come through this process:
///
/// ```no_run
/// use evenloop_streams::process::{Command, PIPE};
/// # async fn example() -> std::io::Result<()> {
/// let mut list = Command::new("ls").stdout(PIPE).spawn()?;
/// let sort = Command::new("sort").arg("-r").stdin(list.stdout.take().unwrap()).output().await?;
/// list.wait().await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Stdio(pub(super) Kind);

#[derive(Debug)]
pub(super) enum Kind {
    Inherit,
    Null,
    Pipe,
    Stdout,
    Descriptor(OwnedFd),
}

/// The descriptor as it is: one that is non-blocking is so for the child, too.
impl From<OwnedFd> for Stdio {
    fn from(fd: OwnedFd) -> Self {
        Self(Kind::Descriptor(fd))
    }
}

impl From<File> for Stdio {
    fn from(file: File) -> Self {
        Self(Kind::Descriptor(file.into()))
    }
}

/// The output of another process. It becomes blocking, as programs expect.
impl From<ChildOutput> for Stdio {
    fn from(output: ChildOutput) -> Self {
        Self(Kind::Descriptor(output.into()))
    }
}

/// The input of another process. It becomes blocking, as programs expect.
///
/// # Panics
///
/// It was closed.
impl From<ChildStdin> for Stdio {
    fn from(stdin: ChildStdin) -> Self {
        Self(Kind::Descriptor(stdin.into()))
    }
}

/// The output of another process.
///
/// # Panics
///
/// `Stdio::from` needs a reader whose bytes were all taken: the child would not see them.
impl From<StreamReader<ChildOutput>> for Stdio {
    fn from(reader: StreamReader<ChildOutput>) -> Self {
        let (output, buffered) = reader.into_parts();
        assert!(
            buffered.is_empty(),
            "`Stdio::from` needs a reader whose bytes were all taken, and {} are buffered: the child would not see them",
            buffered.len()
        );
        output.into()
    }
}

/// The input of another process.
///
/// # Panics
///
/// `Stdio::from` needs a writer whose bytes were all sent: await `drain` first. Or it was closed.
impl From<StreamWriter<ChildStdin>> for Stdio {
    fn from(writer: StreamWriter<ChildStdin>) -> Self {
        let (stdin, unsent) = writer.into_parts();
        assert!(
            unsent.is_empty(),
            "`Stdio::from` needs a writer whose bytes were all sent, and {} are not: await `drain` first",
            unsent.len()
        );
        stdin.into()
    }
}

/// The child's end of one stream.
pub(super) enum End {
    Inherit,
    Null,
    Descriptor(OwnedFd),
}

impl End {
    /// Where stderr leads when it goes where stdout goes.
    pub(super) fn beside(stdout: &Self) -> io::Result<Self> {
        Ok(match stdout {
            Self::Null => Self::Null,
            Self::Descriptor(fd) => Self::Descriptor(fd.try_clone()?),
            Self::Inherit => Self::Descriptor(io::stdout().as_fd().try_clone_to_owned()?),
        })
    }
}

impl From<End> for std::process::Stdio {
    fn from(end: End) -> Self {
        match end {
            End::Inherit => Self::inherit(),
            End::Null => Self::null(),
            End::Descriptor(fd) => fd.into(),
        }
    }
}
