//! What `#[task]` writes: the function as it was, and beside it a type of the same name that describes the task.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::ext::IdentExt as _;
use syn::spanned::Spanned;
use syn::{Attribute, Error, Expr, Item, ItemFn, Lit, Meta, Result, Visibility};

use crate::options::{self, Options};
use crate::parameter::{Argument, Missing, Parameter};
use crate::schema;

/// `crate_name` is the crate that is being compiled.
pub(crate) fn expand(attribute: TokenStream, item: TokenStream, crate_name: &str) -> Result<TokenStream> {
    let Options { name, values } = syn::parse2(attribute)?;
    let mut function = match syn::parse2::<Item>(item) {
        Ok(Item::Fn(function)) => function,
        _ => return Err(Error::new(options::call_site(), "`#[task]` belongs on a function")),
    };
    check(&function)?;
    let parameters = function.sig.inputs.iter_mut().map(Parameter::take).collect::<Result<Vec<_>>>()?;
    let arguments: Vec<&Argument> = parameters.iter().filter_map(Parameter::argument).collect();
    check_order(&function, &parameters)?;

    let ident = &function.sig.ident;
    let text = ident.to_string();
    let text = text.strip_prefix("r#").unwrap_or(&text);
    let name = name.map_or_else(|| format!("{crate_name}.{text}"), |name| name.value());
    let summary = summary(&function.attrs);
    let schema = schema::of(&parameters);
    let (option_names, option_values): (Vec<_>, Vec<_>) = values.into_iter().unzip();
    let visibility = &function.vis;
    let is_async = function.sig.asyncness.is_some();
    let body = body(ident, text, &parameters, &arguments, is_async);
    let call = match is_async {
        true => quote!(::taskhost::Call::Async(__taskhost_call)),
        false => quote!(::taskhost::Call::Sync(__taskhost_call)),
    };
    let conditions: Vec<_> = function.attrs.iter().filter(|attribute| attribute.path().is_ident("cfg")).collect();
    let hop = hop(ident, visibility, is_async, &conditions);
    Ok(quote! {
        #function

        #(#conditions)*
        #[doc(hidden)]
        #[allow(non_camel_case_types, reason = "named like the function, so that `plugin!` finds it")]
        #visibility enum #ident {}

        const _: () = {
            impl ::taskhost::Definition for #ident {
                const TASK: ::taskhost::Task = ::taskhost::Task {
                    name: #name,
                    summary: #summary,
                    schema: #schema,
                    options: &[#((#option_names, #option_values)),*],
                    function: #text,
                    call: { #body #call },
                };
            }
        };

        #hop
    })
}

fn check(function: &ItemFn) -> Result<()> {
    let signature = &function.sig;
    if let Some(unsafety) = &signature.unsafety {
        return Err(Error::new_spanned(unsafety, "a task cannot be unsafe"));
    }
    if !signature.generics.params.is_empty() {
        return Err(Error::new_spanned(&signature.generics, "a task cannot be generic: callers know only its name"));
    }
    Ok(())
}

/// As in Python, so that positional arguments can be told apart.
fn check_order(function: &ItemFn, parameters: &[Parameter]) -> Result<()> {
    let refuse = |message: String| Err(Error::new_spanned(&function.sig.inputs, message));
    let mut with_default: Option<&str> = None;
    let (mut args, mut kwargs): (Option<&str>, Option<&str>) = (None, None);
    for parameter in parameters {
        let name = match parameter {
            Parameter::Context => continue,
            Parameter::Argument(argument) => &argument.name,
            Parameter::Args(name, _) | Parameter::Kwargs(name, _) => name,
        };
        if let Some(kwargs) = kwargs {
            return refuse(format!("`{name}` cannot follow `{kwargs}`, which takes all that is given by name"));
        }
        match parameter {
            Parameter::Context => {}
            Parameter::Argument(argument) if !argument.is_required() => with_default = with_default.or(Some(name)),
            // What follows `#[args]` is given by name, in any order.
            Parameter::Argument(_) => {
                if let Some(first) = with_default.filter(|_| args.is_none()) {
                    return refuse(format!("`{name}` needs a default, since `{first}` before it has one"));
                }
            }
            Parameter::Args(..) => {
                if let Some(first) = args.replace(name) {
                    return refuse(format!("`{first}` has taken all that `{name}` could get"));
                }
            }
            Parameter::Kwargs(..) => kwargs = Some(name),
        }
    }
    Ok(())
}

/// A macro that tells `plugin!` whether this task is asynchronous, which decides what a plugin exports: it goes on with the
/// next task's macro, or ends. It is called so that the compiler's complaint about a missing one says what is wrong.
fn hop(ident: &syn::Ident, visibility: &Visibility, is_async: bool, conditions: &[&Attribute]) -> TokenStream {
    let name = hop_name(ident);
    let rules = match is_async {
        true => quote! {
            ([$($next:path),*] [$($task:path),*]) => { ::taskhost::__export_async! { $($task),* } };
        },
        false => quote! {
            ([] [$($task:path),*]) => { ::taskhost::__export_sync! { $($task),* } };
            ([$next:path $(, $more:path)*] $tasks:tt) => { $next! { [$($more),*] $tasks } };
        },
    };
    // A macro of this kind is seen within its crate at most.
    let visibility = match visibility {
        Visibility::Public(_) => quote!(pub(crate)),
        other => quote!(#other),
    };
    quote! {
        #(#conditions)*
        #[doc(hidden)]
        #[allow(unused_macros, reason = "for `plugin!`")]
        macro_rules! #name { #rules }

        #(#conditions)*
        #[doc(hidden)]
        #[allow(unused_imports, reason = "for `plugin!`")]
        #visibility use #name;
    }
}

/// What that macro is called.
pub(crate) fn hop_name(ident: &syn::Ident) -> syn::Ident {
    format_ident!("__the_attribute_task_of_{}", ident.unraw(), span = ident.span())
}

/// The function that binds, parses, calls and writes. Its names are such that nobody else has them: it calls a function
/// of any name.
fn body(
    ident: &syn::Ident,
    text: &str,
    parameters: &[Parameter],
    arguments: &[&Argument],
    is_async: bool,
) -> TokenStream {
    let count = arguments.len();
    let names = arguments.iter().map(|argument| &argument.name);
    let required = arguments.iter().map(|argument| argument.is_required());
    let locals: Vec<_> = (0..count).map(|index| format_ident!("__taskhost_argument_{index}")).collect();
    let parse = arguments.iter().zip(&locals).enumerate().map(|(index, (Argument { ty, missing, .. }, local))| {
        // The span of the type, so that a complaint about a missing `Deserialize` points there.
        let default = match missing {
            Missing::Refused => {
                return quote_spanned! { ty.span() => let #local = __TASKHOST_SIGNATURE.required::<#ty>(#index, __taskhost_bound[#index])?; };
            }
            Missing::Default => quote!(::std::default::Default::default()),
            Missing::Value(value) if is_text(value) => quote!(::std::convert::Into::into(#value)),
            Missing::Value(value) => quote!(#value),
        };
        quote_spanned! { ty.span() =>
            let #local: #ty = match __taskhost_bound[#index] {
                ::std::option::Option::Some(text) => __TASKHOST_SIGNATURE.parse::<#ty>(#index, text)?,
                ::std::option::Option::None => #default,
            };
        }
    });
    let takes_args = parameters.iter().position(|parameter| matches!(parameter, Parameter::Args(..)));
    let takes_kwargs = parameters.iter().any(|parameter| matches!(parameter, Parameter::Kwargs(..)));
    let before = &parameters[..takes_args.unwrap_or(parameters.len())];
    let positional = before.iter().filter_map(Parameter::argument).count();
    let bind = if takes_args.is_some() || takes_kwargs {
        let asked = |wanted: bool| match wanted {
            true => quote!(::std::option::Option::Some(::std::string::String::new())),
            false => quote!(::std::option::Option::None),
        };
        let (args, kwargs) = (asked(takes_args.is_some()), asked(takes_kwargs));
        quote! {
            let mut __taskhost_rest = ::taskhost::__private::Rest { args: #args, kwargs: #kwargs };
            let __taskhost_bound: [::std::option::Option<&str>; #count] = __TASKHOST_SIGNATURE.bind_rest(__taskhost_args, __taskhost_kwargs, &mut __taskhost_rest)?;
        }
    } else {
        quote!(let __taskhost_bound: [::std::option::Option<&str>; #count] = __TASKHOST_SIGNATURE.bind(__taskhost_args, __taskhost_kwargs)?;)
    };
    let mut locals_left = locals.iter();
    let passed = parameters.iter().map(|parameter| match parameter {
        Parameter::Context => quote!(__taskhost_context),
        Parameter::Args(name, ty) => {
            quote_spanned!(ty.span() => __TASKHOST_SIGNATURE.parse_rest::<#ty>(#name, __taskhost_rest.args.take())?)
        }
        Parameter::Kwargs(name, ty) => {
            quote_spanned!(ty.span() => __TASKHOST_SIGNATURE.parse_rest::<#ty>(#name, __taskhost_rest.kwargs.take())?)
        }
        Parameter::Argument(argument) => {
            let local = locals_left.next().expect("there is a local for each argument");
            if argument.borrowed { quote!(&#local) } else { quote!(#local) }
        }
    });
    // The span is what `Location::caller` gives: the line of the function rather than that of the attribute.
    let location = quote_spanned!(ident.span() => ::std::panic::Location::caller());
    let awaited = is_async.then(|| quote!(.await));
    let steps = quote! {
        use ::taskhost::__private::{ErrorKind as _, Returned, TextKind as _, ValueKind as _};
        const __TASKHOST_SIGNATURE: ::taskhost::__private::Signature = ::taskhost::__private::Signature {
            function: #text,
            parameters: &[#(::taskhost::__private::Parameter { name: #names, required: #required }),*],
            positional: #positional,
            location: #location,
        };
        #bind
        #(#parse)*
        let __taskhost_returned = #ident(#(#passed),*) #awaited;
        (&&&Returned::of(&__taskhost_returned)).kind().finish(__taskhost_returned)
    };
    let attributes = quote! {
        #[allow(unused_variables, unused_imports, clippy::unit_arg, clippy::let_unit_value, reason = "generated")]
    };
    match is_async {
        false => quote! {
            #attributes
            fn __taskhost_call(
                __taskhost_context: &::taskhost::Context,
                __taskhost_args: &str,
                __taskhost_kwargs: &str,
            ) -> ::std::result::Result<::std::string::String, ::taskhost::TaskError> {
                #steps
            }
        },
        true => quote! {
            #attributes
            fn __taskhost_call<'a>(
                __taskhost_context: &'a ::taskhost::Context,
                __taskhost_args: &'a str,
                __taskhost_kwargs: &'a str,
            ) -> ::taskhost::Running<'a> {
                ::std::boxed::Box::pin(async move { #steps })
            }
        },
    }
}

/// A string literal is no `String` yet; anything else has to be of the parameter's type.
fn is_text(value: &Expr) -> bool {
    matches!(value, Expr::Lit(literal) if matches!(literal.lit, Lit::Str(_)))
}

/// The first line of the doc comment.
fn summary(attributes: &[Attribute]) -> String {
    for attribute in attributes {
        if !attribute.path().is_ident("doc") {
            continue;
        }
        let Meta::NameValue(pair) = &attribute.meta else { continue };
        let Expr::Lit(literal) = &pair.value else { continue };
        let Lit::Str(text) = &literal.lit else { continue };
        let text = text.value();
        if let Some(line) = text.lines().map(str::trim).find(|line| !line.is_empty()) {
            return line.to_owned();
        }
    }
    String::new()
}

impl Argument {
    fn is_required(&self) -> bool {
        matches!(self.missing, Missing::Refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_refused(attribute: &str, item: &str, expected: &str) {
        let attribute = attribute.parse().expect("is Rust");
        let item = item.parse().expect("is Rust");
        match expand(attribute, item, "demo") {
            Ok(tokens) => panic!("was accepted: {tokens}"),
            Err(error) => assert_eq!(error.to_string(), expected),
        }
    }

    #[test]
    fn what_cannot_be_a_task_is_refused_with_the_reason() {
        check_refused("", "struct S;", "`#[task]` belongs on a function");
        check_refused("", "fn f<T>(x: T) {}", "a task cannot be generic: callers know only its name");
        check_refused("", "fn f(&self) {}", "a task is a function, not a method");
        check_refused(
            "",
            "fn f((a, b): (u8, u8)) {}",
            "a parameter of a task needs a name, which callers use as keyword",
        );
        check_refused("", "fn f(x: &mut u8) {}", "a parameter of a task is owned or `&T`");
        check_refused("", "fn f(#[default] context: &Context) {}", "the context is no argument and needs no default");
        check_refused("", "fn f(#[default(5)] x: u8) {}", "write `#[default]` or `#[default = value]`");
        check_refused("", "fn f(x: Option<u8>, y: u8) {}", "`y` needs a default, since `x` before it has one");
        check_refused("", "fn f(#[args = 1] a: Vec<u8>) {}", "write `#[args]`");
        check_refused("", "fn f(#[args] a: &[u8]) {}", "further arguments are owned, such as `Vec<Json>`");
        check_refused(
            "",
            "fn f(#[args] #[default] a: Vec<u8>) {}",
            "further arguments need no default: there may be none",
        );
        check_refused("", "fn f(#[args] a: A, #[args] b: A) {}", "`a` has taken all that `b` could get");
        check_refused(
            "",
            "fn f(#[kwargs] k: M, x: u8) {}",
            "`x` cannot follow `k`, which takes all that is given by name",
        );
        check_refused("queu = \"a\"", "fn f() {}", "unknown option `queu`; did you mean `queue`?");
    }

    #[test]
    fn the_default_name_is_crate_and_function() {
        let tokens = expand(
            TokenStream::new(),
            quote!(
                fn add() {}
            ),
            "demo",
        )
        .expect("is a task");
        assert!(tokens.to_string().contains("name : \"demo.add\""), "{tokens}");
    }
}
