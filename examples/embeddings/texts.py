"""A corpus that every Python has: the paragraphs of its language reference, as `help()` shows it.

Some paragraphs are in several topics, as texts repeat in most corpora.
"""

from __future__ import annotations

from pydoc_data.topics import topics


def paragraphs() -> list[str]:
    """Return the paragraphs of all topics, in order."""
    texts = (text for topic in sorted(topics) for text in topics[topic].split("\n\n"))
    return [text.strip() for text in texts if text.strip()]
