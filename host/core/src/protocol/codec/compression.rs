//! Reads compressed bodies (kombu/compression.py).
//!
//! Never compresses, and never answers more than it is allowed to: a few bytes may say that they are
//! gigabytes.

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use flate2::{Decompress, FlushDecompress};
use lzma_rust2::{Action, LzmaStream, XzStream};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// What is decompressed between two looks at the limit.
const STEP_BYTES: usize = 32 * 1024;

/// Memory that a decoder may need beside what it answers: the dictionary of `xz -9` is 64 MiB.
const WORK_BYTES_MAX: usize = 80 * 1024 * 1024;

/// The window of `zstd -19`, which small bodies may ask for as well.
const ZSTD_WINDOW_BYTES: usize = 8 * 1024 * 1024;

/// A way to compress that kombu knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// What kombu calls gzip is zlib. Both are read.
    Zlib,
    Bzip2,
    Brotli,
    /// An xz container, or lzma's own.
    Lzma,
    Zstd,
}

/// Why a body could not be decompressed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompressionError {
    #[error("`{0}` is not a compression that this host reads")]
    Unknown(String),
    #[error("it ends too early")]
    Truncated,
    #[error("it is damaged, cut off, or compressed with something else")]
    Damaged,
    #[error("it is over {bytes_max} bytes when decompressed")]
    TooLarge { bytes_max: usize },
}

impl Compression {
    /// The compression of that mime type or alias.
    pub fn parse(name: &str) -> Result<Self, CompressionError> {
        match name {
            "application/x-gzip" | "gzip" | "zlib" => Ok(Self::Zlib),
            "application/x-bz2" | "bzip2" | "bzip" => Ok(Self::Bzip2),
            "application/x-brotli" | "brotli" => Ok(Self::Brotli),
            "application/x-lzma" | "lzma" | "xz" => Ok(Self::Lzma),
            "application/zstd" | "zstd" | "zstandard" => Ok(Self::Zstd),
            _ => Err(CompressionError::Unknown(name.to_owned())),
        }
    }

    /// What the bytes were before they were compressed, if that is not more than `bytes_max`.
    pub fn decompress(self, bytes: &[u8], bytes_max: usize) -> Result<Vec<u8>, CompressionError> {
        match self {
            Self::Zlib => zlib(bytes, bytes_max),
            Self::Bzip2 => bzip2(bytes, bytes_max),
            Self::Brotli => brotli(bytes, bytes_max),
            Self::Lzma => lzma(bytes, bytes_max),
            Self::Zstd => zstd(bytes, bytes_max),
        }
    }
}

/// How far one step came.
struct Step {
    consumed: usize,
    produced: usize,
    is_end: bool,
}

/// Steps to the end of one stream. Answers how much of the input it took.
fn drain(
    mut bytes: &[u8],
    out: &mut Vec<u8>,
    bytes_max: usize,
    mut step: impl FnMut(&[u8], &mut [u8]) -> Result<Step, CompressionError>,
) -> Result<usize, CompressionError> {
    let given = bytes.len();
    let mut buffer = vec![0; STEP_BYTES];
    loop {
        let Step { consumed, produced, is_end } = step(bytes, &mut buffer)?;
        bytes = &bytes[consumed..];
        append(out, &buffer[..produced], bytes_max)?;
        if is_end {
            return Ok(given - bytes.len());
        }
        if consumed == 0 && produced == 0 {
            return Err(CompressionError::Truncated);
        }
    }
}

fn append(out: &mut Vec<u8>, more: &[u8], bytes_max: usize) -> Result<(), CompressionError> {
    if more.len() > bytes_max - out.len() {
        return Err(CompressionError::TooLarge { bytes_max });
    }
    out.extend_from_slice(more);
    Ok(())
}

fn zlib(bytes: &[u8], bytes_max: usize) -> Result<Vec<u8>, CompressionError> {
    const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
    const WINDOW_BITS: u8 = 15;
    let mut decoder = match bytes.starts_with(GZIP_MAGIC) {
        true => Decompress::new_gzip(WINDOW_BITS),
        false => Decompress::new(true),
    };
    let mut out = Vec::new();
    drain(bytes, &mut out, bytes_max, |input, buffer| {
        let before = (decoder.total_in(), decoder.total_out());
        let status = decoder.decompress(input, buffer, FlushDecompress::None);
        Ok(Step {
            is_end: status.map_err(|_| CompressionError::Damaged)? == flate2::Status::StreamEnd,
            consumed: advance(before.0, decoder.total_in()),
            produced: advance(before.1, decoder.total_out()),
        })
    })?;
    Ok(out)
}

/// Several streams, one after the other, are one, as in Python.
fn bzip2(mut bytes: &[u8], bytes_max: usize) -> Result<Vec<u8>, CompressionError> {
    let mut out = Vec::new();
    loop {
        let mut decoder = bzip2::Decompress::new(false);
        let taken = drain(bytes, &mut out, bytes_max, |input, buffer| {
            let before = (decoder.total_in(), decoder.total_out());
            let status = decoder.decompress(input, buffer).map_err(|_| CompressionError::Damaged)?;
            Ok(Step {
                is_end: status == bzip2::Status::StreamEnd,
                consumed: advance(before.0, decoder.total_in()),
                produced: advance(before.1, decoder.total_out()),
            })
        })?;
        bytes = &bytes[taken..];
        if !bytes.starts_with(b"BZh") {
            return Ok(out);
        }
    }
}

fn advance(before: u64, after: u64) -> usize {
    usize::try_from(after - before).expect("a step stays within its slices")
}

fn brotli(bytes: &[u8], bytes_max: usize) -> Result<Vec<u8>, CompressionError> {
    let heap = StandardAlloc::default;
    let mut state = BrotliState::new_strict(heap(), heap(), heap());
    let mut out = Vec::new();
    let mut total = 0;
    drain(bytes, &mut out, bytes_max, |input, buffer| {
        let (mut available_in, mut consumed) = (input.len(), 0);
        let (mut available_out, mut produced) = (buffer.len(), 0);
        let result = BrotliDecompressStream(
            &mut available_in,
            &mut consumed,
            input,
            &mut available_out,
            &mut produced,
            buffer,
            &mut total,
            &mut state,
        );
        if matches!(result, BrotliResult::ResultFailure) {
            return Err(CompressionError::Damaged);
        }
        Ok(Step { consumed, produced, is_end: matches!(result, BrotliResult::ResultSuccess) })
    })?;
    Ok(out)
}

fn lzma(bytes: &[u8], bytes_max: usize) -> Result<Vec<u8>, CompressionError> {
    const XZ_MAGIC: &[u8] = b"\xfd7zXZ\0";
    const MEMORY_KIB_MAX: u32 = (WORK_BYTES_MAX / 1024) as u32;
    let mut out = Vec::new();
    let step = |result: Result<lzma_rust2::StreamResult, _>| {
        let result = result.map_err(|_| CompressionError::Damaged)?;
        Ok(Step {
            consumed: result.bytes_consumed,
            produced: result.bytes_produced,
            is_end: result.status == lzma_rust2::Status::StreamEnd,
        })
    };
    if bytes.starts_with(XZ_MAGIC) {
        let mut decoder = XzStream::new_mem_limit(true, MEMORY_KIB_MAX);
        drain(bytes, &mut out, bytes_max, |input, buffer| step(decoder.process(input, buffer, Action::Finish)))?;
    } else {
        let mut decoder = LzmaStream::new_mem_limit(MEMORY_KIB_MAX, None);
        drain(bytes, &mut out, bytes_max, |input, buffer| step(decoder.process(input, buffer, Action::Finish)))?;
    }
    Ok(out)
}

fn zstd(mut bytes: &[u8], bytes_max: usize) -> Result<Vec<u8>, CompressionError> {
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(bytes_max.max(ZSTD_WINDOW_BYTES) as u64);
    let mut out = Vec::new();
    let source = &mut bytes;
    decoder.init(&mut *source).map_err(|_| CompressionError::Damaged)?;
    while !decoder.is_finished() {
        let step = BlockDecodingStrategy::UptoBytes(STEP_BYTES);
        decoder.decode_blocks(&mut *source, step).map_err(|_| CompressionError::Damaged)?;
        append(&mut out, &decoder.collect().unwrap_or_default(), bytes_max)?;
    }
    if decoder.get_checksum_from_data().is_some_and(|sum| decoder.get_calculated_checksum() != Some(sum)) {
        return Err(CompressionError::Damaged);
    }
    Ok(out)
}
