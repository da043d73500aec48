"""A parser for the almost-JSON that language models write.

The kept library `json-repair` was tried first: it reads the set
`{"a", "b",}` as one string, so that features are lost without a word. This parser knows only what a feature tree needs:
containers, strings and `key: value`. It never evaluates anything, keeps repeated keys, uses its own stack instead of
recursion, and looks at each character a bounded number of times, so that no input makes it hang.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

from diffex_dagster.errors import CorpusError

MAX_CHARACTERS = 2_000_000  # far above any answer; a bound keeps a run-away server from filling memory
MAX_DEPTH = 64  # far above any tree of attributes

_CLOSERS = {"{": "}", "[": "]", "(": ")"}
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "`": "`", "«": "»"}
_BARE_END = set('{}[](),:;\n"')
_SPACE = re.compile(r"[\s\ufeff]*")
_COMMENT = re.compile(r"//[^\n]*|/\*.*?(?:\*/|\Z)|#[^\n]*", re.DOTALL)
_AFTER_COMMA = re.compile(r",\s{0,10}\Z")
_GOES_ON = re.compile(r"\s{0,100},\s{0,100}\"[^\"\n]{1,100}\"\s{0,100}:")
_ELLIPSIS = re.compile(r"^(\.{2,}|…|etc\.?|and so on\.?)$", re.IGNORECASE)


@dataclass
class Box:
    """A container: `items` are values without a key (strings or boxes), `pairs` keep their order and repeats.

    `order` holds ("item", i) or ("pair", i), so that both can be walked as written. `whole` is False where the text
    ended inside the container.
    """

    items: list[Value] = field(default_factory=list)
    pairs: list[tuple[str, Value]] = field(default_factory=list)
    order: list[tuple[str, int]] = field(default_factory=list)
    whole: bool = True

    def add(self, key: str | None, value: Value) -> None:
        """Append a value, with the key that stood before it if there was one."""
        if key is None:
            self.order.append(("item", len(self.items)))
            self.items.append(value)
        else:
            self.order.append(("pair", len(self.pairs)))
            self.pairs.append((key, value))


Value = str | int | float | bool | None | Box


def parse_boxes(text: str) -> list[Box]:
    """Every outermost `{...}` or `[...]` of a text, in order; prose between them is skipped.

    Raises:
        CorpusError: the text is too long or nested too deeply.
    """
    if len(text) > MAX_CHARACTERS:
        raise CorpusError(
            f"The answer has {len(text)} characters, more than the {MAX_CHARACTERS} a corpus may have: ask for fewer "
            "attributes."
        )
    boxes, at = [], 0
    while (start := _next_opener(text, at)) is not None:
        box, at = _Parser(text, start).parse()
        boxes.append(box)
    return boxes


def _next_opener(text: str, at: int) -> int | None:
    found = re.compile(r"[{\[]").search(text, at)
    return found.start() if found else None


class _Parser:
    def __init__(self, text: str, start: int) -> None:
        self.text = text
        self.at = start

    def parse(self) -> tuple[Box, int]:
        """The box that opens at the current position, and where it ends."""
        root = Box()
        stack: list[tuple[Box, str, str | None]] = [(root, _CLOSERS[self.text[self.at]], None)]
        self.at += 1
        key: str | None = None  # a key that still waits for its value
        pending: str | None = None  # a string that may turn out to be a key
        pending_quoted = False

        def settle() -> None:
            nonlocal pending, key
            if pending is not None:
                value = pending if pending_quoted else _scalar(pending)
                if key is not None or not (isinstance(value, str) and _ELLIPSIS.match(value)):
                    stack[-1][0].add(key, value)
                key = pending = None

        while stack:
            self._skip()
            if self.at >= len(self.text):  # truncated: what is whole stays, a half-written string was never kept
                if pending is not None:
                    settle()
                elif key is not None:
                    stack[-1][0].add(None, key)
                for box, _, _ in stack:
                    box.whole = False
                while len(stack) > 1:
                    self._close(stack)
                break
            char = self.text[self.at]
            if char in _CLOSERS:
                if pending is not None:  # `"Hat" {` or `Hat [`: a missing colon
                    if key is None:
                        key, pending = pending, None
                    else:
                        settle()
                if len(stack) >= MAX_DEPTH:
                    raise CorpusError(
                        f"The answer nests more than {MAX_DEPTH} levels: a corpus has two or three, ask again."
                    )
                stack.append((Box(), _CLOSERS[char], key))
                key = None
                self.at += 1
            elif char in "}])":
                settle()
                if key is not None:  # a key without a value is a name
                    stack[-1][0].add(None, key)
                    key = None
                self._close_to(stack, char)
                self.at += 1
            elif char in ",;" or char == "\n":
                settle()
                if char != "\n" and key is not None:
                    stack[-1][0].add(None, key)
                    key = None
                self.at += 1
            elif char == ":" or self.text.startswith("=>", self.at):
                if pending is not None and key is None:
                    key, pending = pending, None
                self.at += 1 if char == ":" else 2
            else:
                string, quoted = self._string()
                if string is None:
                    continue
                settle()  # two strings with no comma between them are two values
                pending, pending_quoted = string, quoted
        return root, self.at

    def _skip(self) -> None:
        while True:
            match = _SPACE.match(self.text, self.at)
            self.at = match.end() if match else self.at
            comment = _COMMENT.match(self.text, self.at)
            if comment is None:
                return
            self.at = comment.end()

    @staticmethod
    def _close(stack: list[tuple[Box, str, str | None]]) -> None:
        box, _, key = stack.pop()
        if stack:
            stack[-1][0].add(key, box)

    def _close_to(self, stack: list[tuple[Box, str, str | None]], char: str) -> None:
        """Close the innermost container that `char` fits; a closer of the wrong kind closes the innermost one."""
        depth = next((i for i in range(len(stack) - 1, -1, -1) if stack[i][1] == char), None)
        # `{"Hat": ["cap", "beanie"}`: the brace closes the list and the object. The outermost box closes only by its
        # own kind, since a stray closer inside must not cut off the groups after it.
        if depth is None:
            if len(stack) > 1:
                self._close(stack)
            return
        if depth == 0 and _GOES_ON.match(self.text, self.at + 1):  # one closer too many, with groups after it
            depth = 1
        while len(stack) > depth:
            self._close(stack)

    def _string(self) -> tuple[str | None, bool]:
        """The string at the current position (None: cut off by the end of the text), and whether it was quoted."""
        opener = self.text[self.at]
        if opener in _QUOTES:
            return self._quoted(_QUOTES[opener]), True
        start = self.at
        while self.at < len(self.text) and self.text[self.at] not in _BARE_END:
            self.at += 1
        if self.at >= len(self.text):
            return None, False
        if self.at == start:  # a character that fits nowhere
            self.at += 1
            return None, False
        return self.text[start : self.at].strip(), False

    def _quoted(self, closer: str) -> str | None:
        start = self.at + 1
        at = start
        while at < len(self.text):
            char = self.text[at]
            if char == "\\":
                at += 2
            elif char == closer and self._closes(at):
                self.at = at + 1
                return _unescape(self.text[start:at])
            elif char == closer and _AFTER_COMMA.search(self.text, max(start, at - 20), at):
                # `"cap, "beanie"`: the quote before the comma was forgotten, this one opens the next string
                self.at = at
                return _unescape(self.text[start:at]).rstrip().rstrip(",").rstrip()
            elif char == "\n":
                match = _SPACE.match(self.text, at)
                after = match.end() if match else at + 1
                if after < len(self.text) and self.text[after] in "\"'“‘{[}])":
                    # the closing quote was forgotten: the next line starts something new or closes a container
                    self.at = at
                    return _unescape(self.text[start:at]).rstrip().rstrip(",").rstrip("\"'") or None
                at = after
            else:
                at += 1
        self.at = len(self.text)
        return None

    def _closes(self, at: int) -> bool:
        """A quote ends a string only before something structural: `'the child's hat'` and `"12" ruler"` are one."""
        match = _SPACE.match(self.text, at + 1)
        after = match.end() if match else at + 1
        if after >= len(self.text) or "\n" in self.text[at + 1 : after]:
            return True
        following = self.text[after]
        if following in ",:;}])" or self.text.startswith(("=>", "//", "/*"), after):
            return True
        # `"a" "b"` and `"a" [`: a missing comma or colon
        return after > at + 1 and (following in "\"'“‘{[" or following == "#")


def _unescape(body: str) -> str:
    if "\\" not in body:
        return body
    try:
        return str(json.loads('"' + re.sub(r'(?<!\\)((?:\\\\)*)"', r'\1\\"', body).replace("\n", " ") + '"'))
    except ValueError:
        return re.sub(r"\\(.)", r"\1", body, flags=re.DOTALL)


def _scalar(word: str) -> Value:
    lowered = word.lower()
    if lowered in ("true", "false"):
        return lowered == "true"
    if lowered in ("null", "none"):
        return None
    if re.fullmatch(r"-?\d{1,9}", word):
        return int(word)
    if re.fullmatch(r"-?\d{1,9}\.\d{1,9}", word):
        return float(word)
    return word
