//! The parameters of a task function: which are arguments, and what stands in for a missing one.

use syn::{Attribute, Error, Expr, FnArg, Meta, Pat, PatType, Path, PathArguments, Result, Type, TypeReference};

/// One parameter.
pub(crate) enum Parameter {
    /// `context: &Context`.
    Context,
    Argument(Box<Argument>),
    /// `#[args]`, Python's `*args`: the type to parse.
    Args(String, Type),
    /// `#[kwargs]`, Python's `**kwargs`: the type to parse.
    Kwargs(String, Type),
}

/// A parameter that callers give.
pub(crate) struct Argument {
    pub(crate) name: String,
    /// The type to parse; for a parameter `&T` it is the owned type behind it.
    pub(crate) ty: Type,
    pub(crate) borrowed: bool,
    pub(crate) missing: Missing,
}

/// What happens when no value is given.
pub(crate) enum Missing {
    Refused,
    /// `#[default]`, or a parameter that is an `Option`.
    Default,
    /// `#[default = 5]`.
    Value(Box<Expr>),
}

impl Parameter {
    /// Reads a parameter and removes the attributes that only we understand.
    pub(crate) fn take(parameter: &mut FnArg) -> Result<Parameter> {
        let PatType { attrs, pat, ty, .. } = match parameter {
            FnArg::Typed(typed) => typed,
            FnArg::Receiver(receiver) => {
                return Err(Error::new_spanned(receiver, "a task is a function, not a method"));
            }
        };
        let given = take_default(attrs)?;
        let (args, kwargs) = (take_mark(attrs, "args")?, take_mark(attrs, "kwargs")?);
        if is_context(ty) {
            return match given {
                Some(_) => Err(Error::new_spanned(ty, "the context is no argument and needs no default")),
                None => Ok(Parameter::Context),
            };
        }
        let Pat::Ident(name) = &**pat else {
            return Err(Error::new_spanned(pat, "a parameter of a task needs a name, which callers use as keyword"));
        };
        let name = name.ident.to_string();
        let name = name.strip_prefix("r#").unwrap_or(&name).to_owned();
        if args || kwargs {
            if given.is_some() {
                return Err(Error::new_spanned(ty, "further arguments need no default: there may be none"));
            }
            let (ty, borrowed) = owned(ty)?;
            if borrowed {
                return Err(Error::new_spanned(ty, "further arguments are owned, such as `Vec<Json>`"));
            }
            return Ok(if args { Parameter::Args(name, ty) } else { Parameter::Kwargs(name, ty) });
        }
        let missing = match given {
            Some(missing) => missing,
            None if last_segment(ty).is_some_and(|segment| segment.ident == "Option") => Missing::Default,
            None => Missing::Refused,
        };
        let (ty, borrowed) = owned(ty)?;
        Ok(Parameter::Argument(Box::new(Argument { name, ty, borrowed, missing })))
    }

    pub(crate) fn argument(&self) -> Option<&Argument> {
        match self {
            Parameter::Argument(argument) => Some(argument),
            Parameter::Context | Parameter::Args(..) | Parameter::Kwargs(..) => None,
        }
    }
}

fn take_default(attributes: &mut Vec<Attribute>) -> Result<Option<Missing>> {
    let Some(index) = attributes.iter().position(|attribute| attribute.path().is_ident("default")) else {
        return Ok(None);
    };
    let attribute = attributes.remove(index);
    match attribute.meta {
        Meta::Path(_) => Ok(Some(Missing::Default)),
        Meta::NameValue(pair) => Ok(Some(Missing::Value(Box::new(pair.value)))),
        Meta::List(list) => Err(Error::new_spanned(list, "write `#[default]` or `#[default = value]`")),
    }
}

/// Removes the attribute of that name, which has no value.
fn take_mark(attributes: &mut Vec<Attribute>, name: &str) -> Result<bool> {
    let Some(index) = attributes.iter().position(|attribute| attribute.path().is_ident(name)) else {
        return Ok(false);
    };
    match attributes.remove(index).meta {
        Meta::Path(_) => Ok(true),
        other => Err(Error::new_spanned(other, format!("write `#[{name}]`"))),
    }
}

fn is_context(ty: &Type) -> bool {
    match ty {
        Type::Reference(reference) => last_segment(&reference.elem).is_some_and(|segment| segment.ident == "Context"),
        _ => false,
    }
}

fn last_segment(ty: &Type) -> Option<&syn::PathSegment> {
    match ty {
        Type::Path(path) => path.path.segments.last(),
        _ => None,
    }
}

/// What is parsed for a parameter of this type, and whether the function gets a reference to it.
fn owned(ty: &Type) -> Result<(Type, bool)> {
    let Type::Reference(TypeReference { elem, mutability: None, .. }) = ty else {
        return match ty {
            Type::Reference(_) | Type::ImplTrait(_) => {
                Err(Error::new_spanned(ty, "a parameter of a task is owned or `&T`"))
            }
            _ => Ok((ty.clone(), false)),
        };
    };
    let owned = match &**elem {
        Type::Slice(slice) => {
            let element = &slice.elem;
            syn::parse_quote!(::std::vec::Vec<#element>)
        }
        Type::Path(path) if is_str(&path.path) => syn::parse_quote!(::std::string::String),
        other => other.clone(),
    };
    Ok((owned, true))
}

fn is_str(path: &Path) -> bool {
    path.segments.len() == 1
        && path.segments[0].ident == "str"
        && matches!(path.segments[0].arguments, PathArguments::None)
}
