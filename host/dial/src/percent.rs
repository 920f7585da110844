//! Undoes the percent-encoding of URLs.

use std::borrow::Cow;

/// Undoes it. Nothing of the text is repeated in an error: it may be a secret.
pub fn decoded(text: &str) -> Result<Cow<'_, str>, String> {
    if !text.contains('%') {
        return Ok(Cow::Borrowed(text));
    }
    let broken = || "broken percent-encoding".to_owned();
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend_from_slice(before.as_bytes());
        let digits = after.get(..2).ok_or_else(broken)?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| broken())?);
        rest = &after[2..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(Cow::Owned(String::from_utf8(bytes).map_err(|_| broken())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_read_and_what_is_broken_is_not_shown() {
        assert_eq!(decoded("plain").as_deref(), Ok("plain"));
        assert_eq!(decoded("s%2Fx%C3%BC").as_deref(), Ok("s/xü"));
        for broken in ["%", "%2", "%zz", "%ff", "ü%ü"] {
            assert_eq!(decoded(broken), Err("broken percent-encoding".to_owned()), "{broken}");
        }
    }
}
