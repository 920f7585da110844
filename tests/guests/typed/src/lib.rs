//! Plain functions with every type that WIT has, and no SDK: what makes them tasks is the host's business.

use crate::exports::acme::images::everything::{Guest as Everything, Marks, Shape, Whole};
use crate::exports::acme::images::thumbnails::{Fit, Guest as Thumbnails, ResizeError, Size};

wit_bindgen::generate!({ world: "plugin", path: "wit" });

/// As the interface has them.
type Integers = (i8, u8, i16, u16, i32, u32, i64, u64);

struct Plugin;

export!(Plugin);

impl Thumbnails for Plugin {
    fn resize(url: String, width: u32, fit: Option<Fit>) -> Result<String, ResizeError> {
        println!("resizing {url}");
        match url.as_str() {
            "missing" => Err(ResizeError::NotFound),
            "large" => Err(ResizeError::TooLarge(Size { max_width: 640, max_height: None })),
            "broken" => Err(ResizeError::Other("it is no picture".to_owned())),
            _ => Ok(format!("{url} in {width}, {fit:?}")),
        }
    }

    fn measure(picture: Vec<u8>) -> Size {
        let (first, sum) =
            (picture.first().map(|byte| u16::from(*byte)), picture.iter().map(|byte| u64::from(*byte)).sum::<u64>());
        Size { max_width: sum as u16, max_height: first }
    }

    fn crash() {
        panic!("the picture bites");
    }
}

impl Everything for Plugin {
    #[allow(clippy::too_many_arguments, reason = "the interface has them")]
    fn integers(a: i8, b: u8, c: i16, d: u16, e: i32, f: u32, g: i64, h: u64) -> Integers {
        (a, b, c, d, e, f, g, h)
    }

    fn shown(shape: Shape, marks: Marks, letter: char, truth: bool, real: f32) -> String {
        format!("{shape:?} {marks:?} {letter:?} {truth} {real}")
    }

    fn echo(value: Whole) -> Whole {
        value
    }

    fn repeat(text: String, times: u32) -> Vec<String> {
        vec![text; times as usize]
    }
}
