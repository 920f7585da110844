//! What `plugin!` writes: a call of the first task's macro, which goes on to the next until one is asynchronous.
//!
//! What is exported in either case, the crate `taskhost` says.

use proc_macro2::TokenStream;
use quote::quote;
use syn::punctuated::Punctuated;
use syn::{Error, Path, Result, Token};

use crate::expand::hop_name;
use crate::options;

pub(crate) fn expand(tasks: TokenStream) -> Result<TokenStream> {
    let tasks = syn::parse::Parser::parse2(Punctuated::<Path, Token![,]>::parse_terminated, tasks)?;
    let mut hops = Vec::with_capacity(tasks.len());
    for task in &tasks {
        let mut hop = task.clone();
        let Some(last) = hop.segments.last_mut().filter(|last| last.arguments.is_none()) else {
            return Err(Error::new_spanned(task, "a task is named by the path of its function"));
        };
        last.ident = hop_name(&last.ident);
        hops.push(hop);
    }
    let Some((first, more)) = hops.split_first() else {
        return Err(Error::new(options::call_site(), "a plugin has at least one task"));
    };
    let tasks = tasks.iter();
    Ok(quote!(#first! { [#(#more),*] [#(#tasks),*] }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(tasks: &str, expected: &str) {
        let found = match expand(tasks.parse().expect("is Rust")) {
            Ok(tokens) => tokens.to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn each_task_is_asked_for_the_next_one() {
        check("a, m::r#b,", "__the_attribute_task_of_a ! { [m :: __the_attribute_task_of_b] [a , m :: r#b] }");
        check("", "a plugin has at least one task");
        check("a::<u8>", "a task is named by the path of its function");
        check("5", "expected identifier");
    }
}
