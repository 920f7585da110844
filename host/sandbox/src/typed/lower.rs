//! Hands encoded arguments to a component: wasmtime's interface for types that it does not know when it is compiled.
//!
//! The public way is a tree of `Val`, which takes some forty bytes for each byte of a `list<u8>`. What `derive` and
//! `bindgen` expand to is used here instead, so that the arguments are copied as they are. A mistake in here
//! cannot do more than hand the guest a wrong value: the core values are all initialised, and memory is written through
//! slices.

#![expect(unsafe_code, reason = "implements the traits that wasmtime's macros implement")]

use std::mem::MaybeUninit;
use std::sync::{Mutex, PoisonError};

use wasmtime::ValRaw;
use wasmtime::component::__internal::{CanonicalAbiInfo, InstanceType, InterfaceType, LowerContext};
use wasmtime::component::{ComponentNamedList, ComponentType, Lower};

use crate::typed::encode::{Block, What};
use crate::typed::shape::{Item, Kind, Shape, discriminant_bytes};

/// Parameters beyond so many core values are in memory.
pub(super) const FLAT_MAX: usize = 16;

/// The arguments of one call.
pub(crate) struct Arguments {
    /// All parameters, as the tuple that they are for the canonical ABI.
    shape: std::sync::Arc<Shape>,
    /// Taken when they are handed over.
    block: Mutex<Option<Block>>,
}

impl Arguments {
    pub(super) fn new(shape: std::sync::Arc<Shape>, block: Block) -> Self {
        Self { shape, block: Mutex::new(Some(block)) }
    }
}

// SAFETY: `Lower` is a sequence of `ValRaw`, as many as the canonical ABI has at most, and all of them are written.
unsafe impl ComponentType for Arguments {
    type Lower = [ValRaw; FLAT_MAX];

    // Never read: arguments that do not fit into core values get their room below.
    const ABI: CanonicalAbiInfo = CanonicalAbiInfo::ZERO;

    /// The shape was made of the type of the function, and is compared with it at each call.
    fn typecheck(_ty: &InterfaceType, _types: &InstanceType<'_>) -> wasmtime::Result<()> {
        Ok(())
    }
}

// SAFETY: it is a tuple of parameters, see above.
unsafe impl ComponentNamedList for Arguments {}

// SAFETY: all core values are written, and memory only where the guest has allocated it.
unsafe impl Lower for Arguments {
    fn linear_lower_to_flat<T>(
        &self,
        cx: &mut LowerContext<'_, T>,
        ty: InterfaceType,
        dst: &mut MaybeUninit<Self::Lower>,
    ) -> wasmtime::Result<()> {
        let taken = self.block.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut block = taken.ok_or_else(|| wasmtime::Error::msg("the arguments were handed over before"))?;
        let abi = cx.types.canonical_abi(&ty);
        if (abi.size32 as usize, abi.align32 as usize) != (self.shape.size, self.shape.align) {
            return Err(wasmtime::Error::msg("the parameters are not those that the plugin was loaded with"));
        }
        place(cx, &mut block)?;
        let mut slots = [ValRaw::u64(0); FLAT_MAX];
        if self.shape.flat <= FLAT_MAX {
            flatten(&self.shape, &block.bytes, &mut slots.iter_mut());
        } else {
            slots[0] = ValRaw::u64(u64::from(store(cx, &block)?));
        }
        dst.write(slots);
        Ok(())
    }

    fn linear_lower_to_memory<T>(
        &self,
        _cx: &mut LowerContext<'_, T>,
        _ty: InterfaceType,
        _offset: usize,
    ) -> wasmtime::Result<()> {
        Err(wasmtime::Error::msg("arguments are never part of a value"))
    }
}

/// Puts into the guest what a block points to, and its addresses into the block.
fn place<T>(cx: &mut LowerContext<'_, T>, block: &mut Block) -> wasmtime::Result<()> {
    for part in &mut block.parts {
        let (address, length) = match &mut part.what {
            What::Text(text) => text_in_guest(cx, text)?,
            What::List(list) => {
                place(cx, list)?;
                (store(cx, list)?, u32::try_from(list.count)?)
            }
        };
        block.bytes[part.at..part.at + 4].copy_from_slice(&address.to_le_bytes());
        block.bytes[part.at + 4..part.at + 8].copy_from_slice(&length.to_le_bytes());
    }
    Ok(())
}

/// In the encoding that the guest wants.
fn text_in_guest<T>(cx: &mut LowerContext<'_, T>, text: &str) -> wasmtime::Result<(u32, u32)> {
    let mut pair = MaybeUninit::new([ValRaw::u64(0); 2]);
    text.linear_lower_to_flat(cx, InterfaceType::String, &mut pair)?;
    // SAFETY: it was initialised when it was made.
    let [address, length] = unsafe { pair.assume_init() };
    Ok((u32::try_from(address.get_u64())?, u32::try_from(length.get_u64())?))
}

fn store<T>(cx: &mut LowerContext<'_, T>, block: &Block) -> wasmtime::Result<u32> {
    let align = u32::try_from(block.align)?;
    let address = cx.realloc(0, 0, align, block.bytes.len())?;
    cx.as_slice_mut()[address..address + block.bytes.len()].copy_from_slice(&block.bytes);
    Ok(u32::try_from(address)?)
}

/// Spreads a value over core values. Those that its case does not use stay zero.
fn flatten<'a>(shape: &Shape, bytes: &[u8], slots: &mut impl Iterator<Item = &'a mut ValRaw>) {
    let mut put = |value: ValRaw| *slots.next().expect("there are as many as the shape counts") = value;
    match &shape.kind {
        Kind::Integer(integer) if integer.min < 0 && shape.size < 8 => {
            let unused = 64 - 8 * shape.size;
            put(ValRaw::i32((((number(bytes, shape.size) << unused) as i64) >> unused) as i32));
        }
        Kind::Bool | Kind::Integer(_) | Kind::F32 | Kind::F64 | Kind::Char => {
            put(ValRaw::u64(number(bytes, shape.size)));
        }
        Kind::Text | Kind::Bytes | Kind::List(_) | Kind::Map(_) => {
            put(ValRaw::u64(number(bytes, 4)));
            put(ValRaw::u64(number(&bytes[4..], 4)));
        }
        Kind::Flags(_) => {
            for word in bytes[..shape.size].chunks(4) {
                put(ValRaw::u64(number(word, word.len())));
            }
        }
        Kind::Record(fields) => {
            fields.iter().for_each(|field| flatten(&field.shape, &bytes[field.offset..], slots));
        }
        Kind::Tuple(items) => {
            items.iter().for_each(|Item { offset, shape }| flatten(shape, &bytes[*offset..], slots));
        }
        Kind::Option(payload) => {
            put(ValRaw::u64(number(bytes, 1)));
            case((bytes[0] == 1).then_some(&**payload), &bytes[payload.align..], payload.flat, slots);
        }
        Kind::Variant(variant) => {
            let index = number(bytes, discriminant_bytes(variant.cases.len()));
            put(ValRaw::u64(index));
            let payload = variant.cases.get(index as usize).and_then(|case| case.payload.as_ref());
            case(payload, &bytes[variant.payload_offset..], shape.flat - 1, slots);
        }
    }
}

fn case<'a>(payload: Option<&Shape>, bytes: &[u8], room: usize, slots: &mut impl Iterator<Item = &'a mut ValRaw>) {
    let used = payload.map_or(0, |payload| payload.flat);
    if let Some(payload) = payload {
        flatten(payload, bytes, slots);
    }
    slots.take(room - used).for_each(drop);
}

fn number(bytes: &[u8], length: usize) -> u64 {
    let mut number = [0; 8];
    number[..length].copy_from_slice(&bytes[..length]);
    u64::from_le_bytes(number)
}
