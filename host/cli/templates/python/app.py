"""Tasks of the plugin {{name}}."""

from taskhost import Context, Retry, task


@task(name="{{name}}.add", time_limit=30)
def add(x: float, y: float) -> float:
    """Adds two numbers."""
    return x + y


@task(name="{{name}}.letters", max_retries=3)
def letters(context: Context, words: list[str]) -> int:
    """Counts the letters of words, and says after each how far it is."""
    if not words:
        raise Retry(countdown=1, cause=ValueError("no words"))
    count = 0
    for current, word in enumerate(words, 1):
        count += len(word)
        context.progress(current, len(words))
    return count
