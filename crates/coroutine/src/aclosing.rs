//! `async with aclosing(generator)`: the scope that closes a generator on every way out.

use evenloop_core::cancel::catch_cancel;

use crate::{AsyncBody, AsyncGenerator};

/// Lends `generator` to `consumer`, and closes it, clean-up awaited, when the consumer is done; gives its result.
///
/// Also when the consumer is cancelled by a scope around it (its task, a timeout): the generator is closed first, then
/// the cancellation goes on.
///
/// # Cancel safety
///
/// **Not cancel safe:** what the consumer holds is lost. If the future is dropped without having been asked, as by a
/// `select!`, so is the generator, without its clean-up.
///
/// # Panics
///
/// As [`AsyncGenerator::aclose`]. If the consumer panics, the generator is dropped without its clean-up.
///
/// # Examples
///
/// ```
/// use evenloop_coroutine::{AsyncGenerator, aclosing};
///
/// # futures::executor::block_on(async {
/// let numbers = AsyncGenerator::new(async |mut co| {
///     let mut n = 0;
///     while co.yield_(n).await.is_ok() {
///         n += 1;
///     }
///     println!("cleaned up"); // before "found"
/// });
/// let found = aclosing(numbers, async |numbers| {
///     while let Some(n) = numbers.next().await {
///         if n * n > 50 {
///             return Some(n);
///         }
///     }
///     None
/// });
/// assert_eq!(found.await, Some(8));
/// println!("found");
/// # });
/// ```
pub async fn aclosing<Y, B: ?Sized + AsyncBody<Y>, T>(
    mut generator: AsyncGenerator<Y, B>,
    consumer: impl AsyncFnOnce(&mut AsyncGenerator<Y, B>) -> T,
) -> T {
    let outcome = catch_cancel(consumer(&mut generator)).await;
    generator.aclose().await;
    match outcome {
        Ok(value) => value,
        Err(cancelled) => match cancelled.resume().await {},
    }
}
