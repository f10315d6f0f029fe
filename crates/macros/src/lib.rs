//! `#[evenloop::main]` and `#[evenloop::test]`: an async function with a loop around it.
//!
//! Use them through the `evenloop` crate, which documents them and holds what they expand to. Each turns
//! `async fn name() -> T { body }` into `fn name() -> T { evenloop::… (async move { body }) }`, and nothing else: attributes,
//! visibility and the return type stay as they are.

#![forbid(unsafe_code)]

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Tokens;
use quote::{quote, quote_spanned};
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{AttrStyle, Error, Expr, ExprLit, Ident, ItemFn, Lit, Meta, Token};

/// Runs an async `main` on an event loop of its own.
///
/// `#[evenloop::main(virtual_clock)]` runs it on the virtual clock. An interrupted program (Ctrl-C) ends with status 130.
#[proc_macro_attribute]
pub fn main(flags: TokenStream, function: TokenStream) -> TokenStream {
    expand("main", flags.into(), function.into()).unwrap_or_else(Error::into_compile_error).into()
}

/// Runs an async test on an event loop of its own.
///
/// `#[evenloop::test(virtual_clock)]` runs it on the virtual clock: time jumps to the next deadline whenever nothing can
/// run, so an hour of sleeping takes no time and is exact.
///
/// `#[evenloop::test(limit = "2s")]` fails with what the tasks wait for when the test takes longer than that, of real time;
/// without it the limit is five minutes. A time is written `200ms`, `2s` or `1m`.
///
/// `#[evenloop::test(virtual_clock, seeds = 100)]` runs the test a hundred times, with the seeds from 0 on: a seed decides which
/// of the tasks that are ready runs next, at each step. `seed = 7` is one of them. The first that fails is named, with the way to
/// run it alone: the environment variable `EVENLOOP_TEST_SEED`, which every test under this attribute obeys.
#[proc_macro_attribute]
pub fn test(flags: TokenStream, function: TokenStream) -> TokenStream {
    expand("test", flags.into(), function.into()).unwrap_or_else(Error::into_compile_error).into()
}

fn expand(entry: &'static str, flags: Tokens, function: Tokens) -> Result<Tokens, Error> {
    let Flags { virtual_clock, limit, seeds } = parse_flags(entry, flags)?;
    let ItemFn { attrs, vis, mut sig, block } = syn::parse2(function)?;
    if sig.asyncness.take().is_none() {
        let message =
            format!("`#[evenloop::{entry}]` needs an async function: write `async fn {}`", sig.ident);
        return Err(Error::new(sig.fn_token.span(), message));
    }
    if !sig.inputs.is_empty() {
        let message = format!("`#[evenloop::{entry}]` calls the function itself, so it takes no arguments");
        return Err(Error::new(sig.inputs.span(), message));
    }
    if let Some(parameter) = sig.generics.params.first() {
        let message =
            format!("`#[evenloop::{entry}]` calls the function itself, so it has no generic parameters");
        return Err(Error::new(parameter.span(), message));
    }
    let (inner, outer): (Vec<_>, Vec<_>) =
        attrs.iter().partition(|it| matches!(it.style, AttrStyle::Inner(_)));
    let test = (entry == "test").then(|| quote!(#[::core::prelude::v1::test]));
    // Errors about the body's type point at its last expression, as they would without the attribute.
    let span = block.stmts.last().map_or_else(|| block.span(), Spanned::span);
    let entry = Ident::new(entry, span);
    let time = match limit {
        None => quote_spanned!(span=> ::evenloop::entry::limit()),
        Some(millis) => quote_spanned!(span=> ::core::time::Duration::from_millis(#millis)),
    };
    let call = match (limit, seeds) {
        (_, Some((first, end))) => quote_spanned! {span=>
            ::evenloop::entry::test_seeds(#virtual_clock, #time, #first..#end, || async move #block)
        },
        (None, None) => quote_spanned!(span=> ::evenloop::entry::#entry(#virtual_clock, async move #block)),
        (Some(_), None) => quote_spanned! {span=>
            ::evenloop::entry::test_within(#virtual_clock, #time, async move #block)
        },
    };
    Ok(quote! {
        #test
        #(#outer)*
        #vis #sig {
            #(#inner)*
            #call
        }
    })
}

struct Flags {
    virtual_clock: bool,
    /// In milliseconds.
    limit: Option<u64>,
    /// The first seed, and the one after the last.
    seeds: Option<(u64, u64)>,
}

fn parse_flags(entry: &str, flags: Tokens) -> Result<Flags, Error> {
    let mut known = Flags { virtual_clock: false, limit: None, seeds: None };
    let there_is = match entry {
        "test" => "there are `virtual_clock`, `limit`, `seed` and `seeds`",
        _ => "there is `virtual_clock`",
    };
    for flag in Punctuated::<Meta, Token![,]>::parse_terminated.parse2(flags)? {
        match &flag {
            Meta::Path(name) if name.is_ident("virtual_clock") => known.virtual_clock = true,
            Meta::NameValue(pair) if entry == "test" && pair.path.is_ident("limit") => {
                known.limit = Some(parse_limit(&pair.value)?);
            }
            Meta::NameValue(pair) if entry == "test" && pair.path.is_ident("seed") => {
                let seed = parse_number(&pair.value, 0, "a seed is a number: `seed = 7`")?;
                known.seeds = Some((seed, seed + 1));
            }
            Meta::NameValue(pair) if entry == "test" && pair.path.is_ident("seeds") => {
                let many = "the number of seeds is a number, at least 1: `seeds = 100`";
                known.seeds = Some((0, parse_number(&pair.value, 1, many)?));
            }
            _ => {
                let name = flag.path().get_ident().map_or_else(String::new, ToString::to_string);
                let message = format!("`#[evenloop::{entry}]` knows no flag `{name}`; {there_is}");
                return Err(Error::new(flag.span(), message));
            }
        }
    }
    Ok(known)
}

/// A number that is not less than `least`, and less than the greatest there is.
fn parse_number(value: &Expr, least: u64, message: &str) -> Result<u64, Error> {
    let number = match value {
        Expr::Lit(ExprLit { lit: Lit::Int(number), .. }) => number.base10_parse().ok(),
        _ => None,
    };
    let number = number.filter(|number| *number >= least && *number < u64::MAX);
    number.ok_or_else(|| Error::new(value.span(), message))
}

/// The milliseconds of `"200ms"`, `"2s"` or `"1m"`.
fn parse_limit(value: &Expr) -> Result<u64, Error> {
    let text = match value {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => text.value(),
        _ => String::new(),
    };
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        _ => None,
    };
    let millis = unit.and_then(|unit| digits.parse::<u64>().ok()?.checked_mul(unit));
    millis.ok_or_else(|| {
        Error::new(value.span(), "a limit is a time in quotes: `limit = \"2s\"`, `\"200ms\"` or `\"1m\"`")
    })
}

#[cfg(test)]
mod tests {
    use super::{Tokens, expand, quote};
    use core::prelude::v1::test;

    fn message(flags: Tokens, function: Tokens) -> String {
        expand("test", flags, function).unwrap_err().to_string()
    }

    #[test]
    fn keeps_attributes_visibility_and_return_type() {
        let expanded = expand(
            "test",
            quote!(virtual_clock),
            quote! {
                #[should_panic]
                pub(crate) async fn name() -> Result<(), Error> {
                    Ok(())
                }
            },
        );
        let expected = quote! {
            #[::core::prelude::v1::test]
            #[should_panic]
            pub(crate) fn name() -> Result<(), Error> {
                ::evenloop::entry::test(true, async move { Ok(()) })
            }
        };
        assert_eq!(expanded.unwrap().to_string(), expected.to_string());
    }

    #[test]
    fn inner_attributes_stay_inside() {
        let expanded = expand(
            "main",
            quote!(),
            quote!(
                async fn main() {
                    #![allow(unused)]
                    let x = 1;
                }
            ),
        );
        let expected = quote! {
            fn main() {
                #![allow(unused)]
                ::evenloop::entry::main(false, async move { let x = 1; })
            }
        };
        assert_eq!(expanded.unwrap().to_string(), expected.to_string());
    }

    #[test]
    fn misuse_is_a_sentence() {
        assert_eq!(
            message(
                quote!(),
                quote!(
                    fn name() {}
                )
            ),
            "`#[evenloop::test]` needs an async function: write `async fn name`"
        );
        assert_eq!(
            message(
                quote!(),
                quote!(
                    async fn name(n: u32) {}
                )
            ),
            "`#[evenloop::test]` calls the function itself, so it takes no arguments"
        );
        assert_eq!(
            message(
                quote!(),
                quote!(
                    async fn name<T>() {}
                )
            ),
            "`#[evenloop::test]` calls the function itself, so it has no generic parameters"
        );
        assert_eq!(
            message(
                quote!(paused),
                quote!(
                    async fn name() {}
                )
            ),
            "`#[evenloop::test]` knows no flag `paused`; there are `virtual_clock`, `limit`, `seed` and `seeds`"
        );
        let refused = message(
            quote!(limit = "soon"),
            quote!(
                async fn name() {}
            ),
        );
        assert_eq!(refused, "a limit is a time in quotes: `limit = \"2s\"`, `\"200ms\"` or `\"1m\"`");
        let refused = message(
            quote!(seeds = 0),
            quote!(
                async fn name() {}
            ),
        );
        assert_eq!(refused, "the number of seeds is a number, at least 1: `seeds = 100`");
    }

    #[test]
    fn a_test_with_seeds_can_run_more_than_once() {
        let expanded = expand(
            "test",
            quote!(seeds = 10, limit = "2s"),
            quote! {
                async fn name() {}
            },
        );
        let expected = quote! {
            #[::core::prelude::v1::test]
            fn name() {
                ::evenloop::entry::test_seeds(
                    false,
                    ::core::time::Duration::from_millis(2000u64),
                    0u64..10u64,
                    || async move {}
                )
            }
        };
        assert_eq!(expanded.unwrap().to_string(), expected.to_string());
    }
}
