//! Splits texts into words.

use taskhost::task;

/// The words of a text in lower case, in order. What is between them is no part of any.
#[task(name = "words.split", soft_time_limit = 10, time_limit = 20)]
fn split(text: &str) -> Vec<String> {
    let words = text.split(|char: char| !char.is_alphanumeric() && char != '\'');
    words.map(|word| word.trim_matches('\'').to_lowercase()).filter(|word| !word.is_empty()).collect()
}

taskhost::plugin!(split);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_letters_and_digits_in_lower_case() {
        assert_eq!(split("Don't  PANIC, 42 'Größen'!"), ["don't", "panic", "42", "größen"]);
        assert_eq!(split(" … "), [""; 0]);
    }
}
