"""Conversations, as requests of language models have them, for adapters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["question_of"]

TEXTS = ("text", "input_text")
"""What blocks of text are called."""


def question_of(messages: Sequence[Mapping[str, Any]]) -> tuple[str, Any] | None:
    """The question that a conversation ends with, and all else: what it is asked in.

    Messages have a `role` and a `content`, of text or of blocks. What was said before, and
    what stands beside the text, such as a picture, must be the very same for an answer to
    be the same; so it is no part of what is compared. Where a user did not speak last, or
    said nothing, there is no question: None.
    """
    if not messages or messages[-1].get("role") != "user":
        return None
    *before, last = messages
    rest = {name: value for name, value in last.items() if name != "content"}
    content = last.get("content") or ""
    if isinstance(content, str):
        text, beside = content, []
    else:
        text = "\n".join(block["text"] for block in content if block.get("type") in TEXTS)
        beside = [block for block in content if block.get("type") not in TEXTS]
    return (text, (before, rest, beside)) if text.strip() else None
