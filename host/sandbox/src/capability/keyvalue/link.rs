//! The two drafts of the interface, by hand: what they have in common is written once.

use std::future::Future;

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Linker, Lower, Resource, ResourceType};

use super::operate::Operation;
use super::{Bucket, Cas, Trouble};
use crate::instance::Guest;

/// The draft that wasmtime's own host follows, and the one of Spin and wasmCloud.
pub(crate) const VERSIONS: &[&str] = &[FIRST, SECOND];
const FIRST: &str = "0.2.0-draft";
const SECOND: &str = "0.2.0-draft2";

/// The variant `error`.
#[derive(ComponentType, Lower)]
#[component(variant)]
enum Error {
    #[component(name = "no-such-store")]
    #[expect(dead_code, reason = "a case of the interface that does not happen: a bucket is there if it is granted")]
    NoSuchStore,
    #[component(name = "access-denied")]
    AccessDenied,
    #[component(name = "other")]
    Other(String),
}

impl From<Trouble> for Error {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::AccessDenied => Self::AccessDenied,
            Trouble::Other(text) => Self::Other(text),
        }
    }
}

/// The record `key-response` of the first draft.
#[derive(ComponentType, Lower)]
#[component(record)]
struct NumberedKeys {
    keys: Vec<String>,
    cursor: Option<u64>,
}

/// The same of the second.
#[derive(ComponentType, Lower)]
#[component(record)]
struct NamedKeys {
    keys: Vec<String>,
    cursor: Option<String>,
}

/// The variant `cas-error`.
#[derive(ComponentType, Lower)]
#[component(variant)]
enum CasError {
    #[component(name = "store-error")]
    StoreError(Error),
    #[component(name = "cas-failed")]
    CasFailed(Resource<Cas>),
}

type Context<'a> = StoreContextMut<'a, Guest>;
type Pending<'a, T, E = Error> = Box<dyn Future<Output = wasmtime::Result<(Result<T, E>,)>> + Send + 'a>;
type Key = (Resource<Bucket>, String);

pub(in super::super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    for version in VERSIONS {
        let mut store = linker.instance(&format!("wasi:keyvalue/store@{version}"))?;
        store.resource("bucket", ResourceType::host::<Bucket>(), drop_bucket)?;
        store.func_wrap_async("open", open)?;
        store.func_wrap_async("[method]bucket.get", get)?;
        store.func_wrap_async("[method]bucket.set", set)?;
        store.func_wrap_async("[method]bucket.delete", delete)?;
        store.func_wrap_async("[method]bucket.exists", exists)?;
        match *version {
            FIRST => store.func_wrap_async("[method]bucket.list-keys", list_by_number)?,
            _ => store.func_wrap_async("[method]bucket.list-keys", list_by_name)?,
        }
        let mut atomics = linker.instance(&format!("wasi:keyvalue/atomics@{version}"))?;
        match *version {
            FIRST => atomics.func_wrap_async("increment", increment_unsigned)?,
            _ => {
                atomics.func_wrap_async("increment", increment)?;
                atomics.resource("cas", ResourceType::host::<Cas>(), drop_cas)?;
                atomics.func_wrap_async("[static]cas.new", look)?;
                atomics.func_wrap("[method]cas.current", current)?;
                atomics.func_wrap_async("swap", swap)?;
            }
        }
    }
    Ok(())
}

fn drop_bucket(mut context: Context<'_>, bucket: u32) -> wasmtime::Result<()> {
    context.data_mut().table().delete(Resource::<Bucket>::new_own(bucket))?;
    Ok(())
}

fn drop_cas(mut context: Context<'_>, cas: u32) -> wasmtime::Result<()> {
    context.data_mut().table().delete(Resource::<Cas>::new_own(cas))?;
    Ok(())
}

fn answer<T>(done: Result<T, Trouble>) -> wasmtime::Result<(Result<T, Error>,)> {
    Ok((done.map_err(Error::from),))
}

fn open(mut context: Context<'_>, (name,): (String,)) -> Pending<'_, Resource<Bucket>> {
    Box::new(async move {
        let guest = context.data_mut();
        match guest.bucket(&name).await {
            Ok(bucket) => Ok((Ok(guest.table().push(bucket)?),)),
            Err(trouble) => answer(Err(trouble)),
        }
    })
}

fn get(mut context: Context<'_>, (bucket, key): Key) -> Pending<'_, Option<Vec<u8>>> {
    Box::new(async move { answer(context.data_mut().operation(&bucket)?.get(&key).await) })
}

fn set(mut context: Context<'_>, (bucket, key, value): (Resource<Bucket>, String, Vec<u8>)) -> Pending<'_, ()> {
    Box::new(async move { answer(context.data_mut().operation(&bucket)?.set(&key, value).await) })
}

fn delete(mut context: Context<'_>, (bucket, key): Key) -> Pending<'_, ()> {
    Box::new(async move { answer(context.data_mut().operation(&bucket)?.delete(&key).await) })
}

fn exists(mut context: Context<'_>, (bucket, key): Key) -> Pending<'_, bool> {
    Box::new(async move { answer(context.data_mut().operation(&bucket)?.exists(&key).await) })
}

fn list_by_number(
    mut context: Context<'_>,
    (bucket, cursor): (Resource<Bucket>, Option<u64>),
) -> Pending<'_, NumberedKeys> {
    Box::new(async move {
        let page = context.data_mut().operation(&bucket)?.list(cursor).await;
        answer(page.map(|(keys, cursor)| NumberedKeys { keys, cursor }))
    })
}

fn list_by_name(
    mut context: Context<'_>,
    (bucket, cursor): (Resource<Bucket>, Option<String>),
) -> Pending<'_, NamedKeys> {
    Box::new(async move {
        let operation = context.data_mut().operation(&bucket)?;
        let Ok(cursor) = cursor.map(|cursor| cursor.parse::<u64>()).transpose() else {
            return answer(Err(Trouble::other("the cursor is none that was given out")));
        };
        let page = operation.list(cursor).await;
        answer(page.map(|(keys, cursor)| NamedKeys { keys, cursor: cursor.map(|cursor| cursor.to_string()) }))
    })
}

fn increment(mut context: Context<'_>, (bucket, key, delta): (Resource<Bucket>, String, i64)) -> Pending<'_, i64> {
    Box::new(async move { answer(context.data_mut().operation(&bucket)?.increment(&key, delta).await) })
}

/// The first draft counts without a sign.
fn increment_unsigned(
    mut context: Context<'_>,
    (bucket, key, delta): (Resource<Bucket>, String, u64),
) -> Pending<'_, u64> {
    Box::new(async move {
        let operation = context.data_mut().operation(&bucket)?;
        let Ok(delta) = i64::try_from(delta) else {
            return answer(Err(Trouble::other("the sum would be no number of 63 bits")));
        };
        let sum = operation.increment(&key, delta).await;
        answer(sum.and_then(|sum| u64::try_from(sum).map_err(|_| Trouble::other("the number is below zero"))))
    })
}

fn look(mut context: Context<'_>, (bucket, key): Key) -> Pending<'_, Resource<Cas>> {
    Box::new(async move {
        let guest = context.data_mut();
        match guest.operation(&bucket)?.look(key).await {
            Ok(cas) => Ok((Ok(guest.table().push(cas)?),)),
            Err(trouble) => answer(Err(trouble)),
        }
    })
}

type Current = (Result<Option<Vec<u8>>, Error>,);

fn current(mut context: Context<'_>, (cas,): (Resource<Cas>,)) -> wasmtime::Result<Current> {
    answer(Ok(context.data_mut().table().get(&cas)?.current.clone()))
}

fn swap(mut context: Context<'_>, (cas, value): (Resource<Cas>, Vec<u8>)) -> Pending<'_, (), CasError> {
    Box::new(async move {
        let guest = context.data_mut();
        let cas = guest.table().delete(cas)?;
        let operation = guest.on(cas.bucket.clone());
        let swapped = match operation.swap(cas, value).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(changed)) => Err(CasError::CasFailed(guest.table().push(changed)?)),
            Err(trouble) => Err(CasError::StoreError(trouble.into())),
        };
        Ok((swapped,))
    })
}

impl Guest {
    /// What is to be done with a bucket that the guest has.
    fn operation(&mut self, bucket: &Resource<Bucket>) -> wasmtime::Result<Operation> {
        let bucket = self.table().get(bucket)?.clone();
        Ok(self.on(bucket))
    }

    fn on(&self, bucket: Bucket) -> Operation {
        Operation { bucket, waiting: self.waiting(), value_bytes_max: self.limits().keyvalue_value_bytes }
    }
}
