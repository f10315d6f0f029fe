//! What must not compile, and the sentences that the compiler says.
//!
//! After a change of toolchain: `TRYBUILD=overwrite cargo test -p evenloop-tests --test coroutine_compile_fail`, then
//! read the difference.

#[test]
fn misuse_does_not_compile() {
    trybuild::TestCases::new().compile_fail("coroutine_compile_fail/*.rs");
}
