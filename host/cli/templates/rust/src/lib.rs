//! Tasks of the plugin {{name}}.

use taskhost::{Context, Retry, TaskError, task};

/// Adds two numbers.
#[task(name = "{{name}}.add", time_limit = 30)]
fn add(x: i64, y: i64) -> i64 {
    x + y
}

/// Counts the letters of words, and says after each how far it is. Without words it asks to be run again.
#[task(name = "{{name}}.letters", max_retries = 3)]
fn letters(context: &Context, words: Vec<String>) -> Result<usize, TaskError> {
    if words.is_empty() {
        return Err(Retry::new().countdown(1.0).cause(TaskError::new("ValueError", "no words")).into());
    }
    let total = words.len() as u64;
    let mut letters = 0;
    for (word, current) in words.iter().zip(1..) {
        letters += word.chars().count();
        context.progress(current, total);
    }
    Ok(letters)
}

taskhost::plugin!(add, letters);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_added() {
        assert_eq!(add(2, 2), 4);
    }

    #[test]
    fn letters_of_all_words_count() {
        let context = Context::new("some-id", "{{name}}.letters", 0);
        assert_eq!(letters(&context, vec!["four".to_owned(), "три".to_owned()]).unwrap(), 7);
    }
}
