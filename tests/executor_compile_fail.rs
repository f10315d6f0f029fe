//! `!Send` where `Send` is needed must not compile: what goes to another thread is checked by the compiler, and by nothing else.
//!
//! After a change of toolchain: `TRYBUILD=overwrite cargo test -p evenloop-tests --test executor_compile_fail`, then
//! read the difference.

#[test]
fn what_cannot_change_threads_does_not() {
    trybuild::TestCases::new().compile_fail("executor_compile_fail/*.rs");
}
