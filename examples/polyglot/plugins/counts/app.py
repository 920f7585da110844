"""Counts words."""

from collections import Counter

from taskhost import task


@task(name="counts.most", time_limit=20)
def most(words: list[str], n: int = 10) -> list:
    """The words of more than three letters that are there most often, each with how often."""
    counted = Counter(word for word in words if len(word) > 3)
    if not counted:
        raise ValueError("no words to count")
    # Of two that are there as often the first in the alphabet comes first, so that the same text gives the same report.
    ranked = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    return [[word, count] for word, count in ranked[:n]]
