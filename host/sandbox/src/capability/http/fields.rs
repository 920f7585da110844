//! What `wasi:http/types` does in other words than wasmtime's host: header fields that are too many are an error for the
//! guest instead of a trap, and the error of a stream is told as the code that it has.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::p2::HeaderResult;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, HeaderError, Host, HostFields, IoError};
use wasmtime_wasi_http::{Error, FieldMap, FieldMapError, WasiHttpView};

use crate::instance::Guest;

const TYPES: &str = "wasi:http/types@0.2.12";

type Store<'a> = StoreContextMut<'a, Guest>;
type Answer<T> = wasmtime::Result<(Result<T, HeaderError>,)>;
type Field = (String, Vec<u8>);

pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let mut types = linker.instance(TYPES)?;
    types.func_wrap("[static]fields.from-list", |mut store: Store<'_>, (entries,): (Vec<Field>,)| {
        let made = store.data_mut().http().from_list(entries);
        answer(store.data_mut(), made)
    })?;
    types.func_wrap(
        "[method]fields.set",
        |mut store: Store<'_>, (fields, name, values): (Resource<FieldMap>, String, Vec<Vec<u8>>)| {
            let set = store.data_mut().http().set(fields, name, values);
            answer(store.data_mut(), set)
        },
    )?;
    types.func_wrap(
        "[method]fields.append",
        |mut store: Store<'_>, (fields, name, value): (Resource<FieldMap>, String, Vec<u8>)| {
            let appended = store.data_mut().http().append(fields, name, value);
            answer(store.data_mut(), appended)
        },
    )?;
    types.func_wrap("http-error-code", |mut store: Store<'_>, (error,): (Resource<IoError>,)| {
        let mut view = store.data_mut().http();
        let own = match view.table.get(&error)?.downcast_ref::<Error>() {
            Some(Error::InternalError(text)) => Some(ErrorCode::InternalError(text.clone())),
            Some(Error::ConnectionReadTimeout) => Some(ErrorCode::ConnectionReadTimeout),
            Some(Error::ConnectionTerminated) => Some(ErrorCode::ConnectionTerminated),
            Some(Error::HttpResponseIncomplete) => Some(ErrorCode::HttpResponseIncomplete),
            Some(_) => Some(ErrorCode::HttpProtocolError),
            None => None,
        };
        let code = match own {
            Some(code) => Some(code),
            None => view.http_error_code(error)?,
        };
        Ok((code,))
    })?;
    Ok(())
}

/// There is no word for too many in the interface; the log has one.
fn answer<T>(guest: &mut Guest, result: HeaderResult<T>) -> Answer<T> {
    let error = match result {
        Ok(value) => return Ok((Ok(value),)),
        Err(error) => match error.downcast() {
            Ok(error) => return Ok((Err(error),)),
            Err(error) => error,
        },
    };
    match error.downcast_ref::<FieldMapError>() {
        Some(FieldMapError::TooManyFields | FieldMapError::TotalSizeTooBig) => {
            let max = guest.http_header_bytes_max();
            let what = format!("http: header fields of more than {max} bytes, forty for each beside its text");
            guest.remarks().make(format!("{what}; raise limits.http_header"));
            Ok((Err(HeaderError::InvalidSyntax),))
        }
        _ => Err(error),
    }
}
