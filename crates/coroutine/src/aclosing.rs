//! `async with aclosing(generator)`: the scope that closes a generator on every way out.

use std::future::Future;

use crate::AsyncGenerator;

/// Lends `generator` to `consumer`, and closes it, clean-up awaited, when the consumer is done; gives its result.
///
/// # Cancel safety
///
/// **Not cancel safe:** what the consumer holds is lost. The generator is dropped as it stands, without its clean-up.
///
/// # Panics
///
/// As [`AsyncGenerator::aclose`].
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
pub async fn aclosing<Y, B: ?Sized + Future<Output = ()>, T>(
    mut generator: AsyncGenerator<Y, B>,
    consumer: impl AsyncFnOnce(&mut AsyncGenerator<Y, B>) -> T,
) -> T {
    let value = consumer(&mut generator).await;
    generator.aclose().await;
    value
}
