"""The code blocks of a page of the documents, run as they stand.

But for the server's address: 127.0.0.1:6379 there is a private server's here.
"""

import re
import shlex
import subprocess

from conftest import ROOT

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)


class Block:
    """A block, with the line of the page that it begins on, for tracebacks."""

    def __init__(self, page, language, line, text):
        self.page = page
        self.language = language
        self.line = line
        self.text = text


def blocks(page):
    """All blocks of a page."""
    text = (ROOT / page).read_text()
    return [
        Block(page, found[1], text.count("\n", 0, found.start(2)), found[2])
        for found in BLOCK.finditer(text)
    ]


def sections(page):
    """The blocks of each section, by its title."""
    lines = (ROOT / page).read_text().splitlines()
    titles = {number: line[3:] for number, line in enumerate(lines) if line.startswith("## ")}
    found = {title: [] for title in titles.values()}
    for block in blocks(page):
        before = [title for number, title in titles.items() if number < block.line]
        found[before[-1]].append(block)
    return {title: some for title, some in found.items() if some}


def run(some, port, written=6379):
    """Runs blocks in order, against the server on a port; what the Python has defined."""
    names = {}
    for block in some:
        text = block.text.replace(f"127.0.0.1:{written}", f"127.0.0.1:{port}")
        if block.language == "python":
            code = compile("\n" * block.line + text, str(ROOT / block.page), "exec")
            exec(code, names)
        elif block.language == "redis":
            typed(text, port)
        else:
            assert block.language == "sh", f"{block.page}: a block of {block.language!r}"
            subprocess.run(["bash", "-euo", "pipefail", "-c", text], check=True, timeout=60)
    return names


def typed(text, port):
    """Types what is behind `>` into redis-cli, and holds the answers to those that are there."""
    for command, expected in re.findall(r"^> (.*)\n((?:(?!> ).*\n)*)", text, re.M):
        answer = subprocess.run(
            ["redis-cli", "--no-raw", "-p", str(port), *shlex.split(command)],
            capture_output=True, text=True, check=True, timeout=60).stdout
        pattern = re.escape(expected.strip()).replace(r"\.\.\.", ".*")
        assert expected and re.fullmatch(pattern, answer.strip()), f"> {command}\n{answer}"
