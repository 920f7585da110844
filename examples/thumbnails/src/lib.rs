//! Makes pictures small: reads them from one folder, and writes thumbnails into another.
//!
//! Sees no other file of the machine, whatever a picture or a client says.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Component, Path};

use image::codecs::jpeg::JpegEncoder;
use serde::Serialize;
use taskhost::{Context, Signature, TaskError, group, task};

/// The folders that the operator grants, and the attempt's own.
const PICTURES: &str = "/in";
const THUMBNAILS: &str = "/out";
const WORKPLACE: &str = "/scratch/thumbnail.jpg";

/// Where the search for a small enough file begins, and how it goes on.
const QUALITY_BEST: u8 = 90;
const QUALITY_WORST: u8 = 30;
const QUALITY_STEP: u8 = 15;

taskhost::plugin!(make, album);

/// A thumbnail that was made.
#[derive(Serialize)]
struct Thumbnail {
    file: String,
    width: u32,
    height: u32,
    bytes: u64,
}

/// Makes one picture small: it fits into the box, and its file into so many bytes.
#[task(name = "thumbnails.make", time_limit = 60)]
fn make(
    picture: &str,
    #[default = 160] width: u32,
    #[default = 160] height: u32,
    #[default = 16384] bytes: u64,
) -> Result<Thumbnail, TaskError> {
    let path = Path::new(picture);
    if !path.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(TaskError::new("ValueError", format!("{picture} is not the name of a picture")));
    }
    let small = image::open(Path::new(PICTURES).join(path))?.thumbnail(width, height).to_rgb8();
    // What is tried first may be too large. Nobody sees it: the folder is this attempt's alone, and gone with it.
    let mut quality = QUALITY_BEST;
    let size = loop {
        let mut file = BufWriter::new(File::create(WORKPLACE)?);
        small.write_with_encoder(JpegEncoder::new_with_quality(&mut file, quality))?;
        file.flush()?;
        let size = fs::metadata(WORKPLACE)?.len();
        if size <= bytes || quality <= QUALITY_WORST {
            break size;
        }
        println!("{picture} has {size} bytes at quality {quality}");
        quality -= QUALITY_STEP;
    };
    let file = path.with_extension("jpg").display().to_string();
    let place = Path::new(THUMBNAILS).join(&file);
    if let Some(folder) = place.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::copy(WORKPLACE, place)?;
    Ok(Thumbnail { file, width: small.width(), height: small.height(), bytes: size })
}

/// Makes all pictures small, side by side on whatever workers there are. Whoever called it gets the list.
#[task(name = "thumbnails.album")]
fn album(context: &Context, #[default = 160] width: u32, #[default = 160] height: u32) -> Result<(), TaskError> {
    let mut names: Vec<String> = Vec::new();
    for entry in fs::read_dir(PICTURES)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".png") || name.ends_with(".jpg") || name.ends_with(".jpeg") {
            names.push(name);
        }
    }
    if names.is_empty() {
        return Err(TaskError::new("FileNotFoundError", "there are no pictures"));
    }
    names.sort();
    println!("{} pictures for {}", names.len(), context.id());
    let make = |name| Signature::new("thumbnails.make").args((name, width, height));
    Err(TaskError::replace(&group(names.into_iter().map(make))))
}
