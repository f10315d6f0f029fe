//! What ran when, recorded for a while.

/// One poll of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The task's number.
    pub task: u64,
    /// When it began, in nanoseconds since the watch over its loop began.
    pub began_ns: u64,
    /// How long it took, in nanoseconds.
    pub took_ns: u64,
}

/// How many spans are kept; those that come later are counted only. 24 MB.
const LIMIT: usize = 1_000_000;

/// What a loop ran while it was traced.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    spans: Vec<Span>,
    lost: u64,
}

impl Trace {
    pub(crate) fn push(&mut self, span: Span) {
        if self.spans.len() < LIMIT {
            self.spans.push(span);
        } else {
            self.lost += 1;
        }
    }

    /// The polls, in the order in which they ended.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// How many polls came after the trace was full, and are not in it.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

/// Starts to record what the loops of this process run, of those that are watched. What was recorded before is dropped.
///
/// # Examples
///
/// ```
/// use evenloop_executor::watch::{end_trace, start_trace};
/// use evenloop_executor::{EventLoop, yield_now};
///
/// let event_loop = EventLoop::builder().watch(true).build();
/// event_loop.run_until_complete(async {
///     start_trace();
///     yield_now().await;
///     let polls: usize = end_trace().iter().map(|(_, trace)| trace.spans().len()).sum();
///     assert!(polls > 0);
/// });
/// ```
pub fn start_trace() {
    crate::watch::record::loops().iter().for_each(|record| record.start_trace());
}

/// Ends the recording, and answers it for each watched loop, by the loop's number.
///
/// # Examples
///
/// ```
/// # use evenloop_executor::watch::{end_trace, start_trace};
/// # use evenloop_executor::{EventLoop, yield_now};
/// let event_loop = EventLoop::builder().watch(true).build();
/// start_trace();
/// event_loop.run_until_complete(async { yield_now().await });
/// let (_, trace) = end_trace().into_iter().find(|(number, _)| *number == event_loop.number()).unwrap();
/// for span in trace.spans() {
///     println!("task {} ran for {} ns", span.task, span.took_ns);
/// }
/// ```
pub fn end_trace() -> Vec<(u64, Trace)> {
    crate::watch::record::loops().iter().map(|record| (record.number, record.end_trace())).collect()
}
