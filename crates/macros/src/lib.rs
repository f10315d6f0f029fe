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
use syn::{Error, Ident, ItemFn, Token};

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
#[proc_macro_attribute]
pub fn test(flags: TokenStream, function: TokenStream) -> TokenStream {
    expand("test", flags.into(), function.into()).unwrap_or_else(Error::into_compile_error).into()
}

fn expand(entry: &'static str, flags: Tokens, function: Tokens) -> Result<Tokens, Error> {
    let virtual_clock = parse_flags(entry, flags)?;
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
    let test = (entry == "test").then(|| quote!(#[::core::prelude::v1::test]));
    // Errors about the body's type point at its last expression, as they would without the attribute.
    let span = block.stmts.last().map_or_else(|| block.span(), Spanned::span);
    let entry = Ident::new(entry, span);
    let call = quote_spanned!(span=> ::evenloop::entry::#entry(#virtual_clock, async move #block));
    Ok(quote! {
        #test
        #(#attrs)*
        #vis #sig {
            #call
        }
    })
}

fn parse_flags(entry: &str, flags: Tokens) -> Result<bool, Error> {
    let mut virtual_clock = false;
    for flag in Punctuated::<Ident, Token![,]>::parse_terminated.parse2(flags)? {
        if flag != "virtual_clock" {
            let message = format!("`#[evenloop::{entry}]` knows no flag `{flag}`; there is `virtual_clock`");
            return Err(Error::new(flag.span(), message));
        }
        virtual_clock = true;
    }
    Ok(virtual_clock)
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
            "`#[evenloop::test]` knows no flag `paused`; there is `virtual_clock`"
        );
    }
}
