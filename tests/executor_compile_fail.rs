//! `!Send` where `Send` is needed must not compile: what goes to another thread is checked by the compiler, and by nothing else.
//! And a future that is forgotten has to be named where `unused_must_use` is denied.
//!
//! After a change of toolchain: `TRYBUILD=overwrite cargo test -p evenloop-tests --test executor_compile_fail`, then
//! read the difference.

#[test]
fn what_a_compiler_can_see_it_sees() {
    trybuild::TestCases::new().compile_fail("executor_compile_fail/*.rs");
}
