"""How a text file's bytes become lines: its codec, its byte order mark, the bytes of its line ends.

The one rule: a line ends at LF, CR LF or CR and nowhere else, whatever Unicode thinks of other characters.
"""

import codecs
import io
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from batchwright.model.errors import SourceError


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines with their ends. Where one could not be decoded, `errors` has its index and `raws` has all the bytes."""

    texts: Sequence[str]
    errors: Mapping[int, UnicodeDecodeError] = field(default_factory=dict)
    raws: Sequence[bytes] = ()


@dataclass(frozen=True, slots=True)
class TextEncoding:
    """One file's encoding: `start` is the byte after its byte order mark; `lf` and `cr` are as long as each other."""

    codec: str
    start: int
    lf: bytes
    cr: bytes

    @property
    def width(self) -> int:
        """The number of bytes of a line end, to which line ends are aligned."""
        return len(self.lf)

    def last_line_end(self, data: bytes) -> int:
        """Where the last certain line end stops, 0 if there is none. A CR in the last place may be half a CR LF."""
        found = self._rfind(data, self.lf, 0, len(data))
        end = 0 if found < 0 else found + self.width
        last_unit = (len(data) // self.width - 1) * self.width
        found = self._rfind(data, self.cr, end, max(last_unit, end))
        return end if found < 0 else found + self.width

    def first_line_end(self, data: bytes) -> int:
        """Where the first certain line end stops, 0 if there is none."""
        last_unit = (len(data) // self.width - 1) * self.width
        for found in re.finditer(self._line_end, data):
            if found.start() % self.width == 0:
                uncertain = found.start() == last_unit and found[0] == self.cr
                return 0 if uncertain else found.end()
        return 0

    def split_lines(self, data: bytes) -> list[bytes]:
        """The lines with their ends."""
        if self.lf == b"\n":
            return data.splitlines(keepends=True)
        ends = [found.end() for found in re.finditer(self._line_end, data) if found.start() % self.width == 0]
        lines = [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]
        return lines if lines[-1] else lines[:-1]

    def decode_lines(self, data: bytes) -> Lines:
        """The lines as text; in one that cannot be decoded, marks of replacement stand for what is wrong."""
        try:
            return Lines(io.StringIO(data.decode(self.codec), newline="").readlines())
        except UnicodeDecodeError:
            return self._decode_each(self.split_lines(data))

    def _decode_each(self, raws: Sequence[bytes]) -> Lines:
        texts, errors = [], {}
        for index, raw in enumerate(raws):
            try:
                texts.append(raw.decode(self.codec))
            except UnicodeDecodeError as error:
                # Its traceback would hold these lines, and they the error, until the garbage collector comes.
                errors[index] = error.with_traceback(None)
                error.add_note(f"if the file is not {self.codec}, write encoding=…")
                texts.append(raw.decode(self.codec, "replace"))
        return Lines(texts, errors, raws)

    def _rfind(self, data: bytes, unit: bytes, start: int, stop: int) -> int:
        at = data.rfind(unit, start, stop)
        while at >= 0 and at % self.width:
            at = data.rfind(unit, start, at + self.width - 1)
        return at

    @property
    def _line_end(self) -> bytes:
        return b"|".join(re.escape(end) for end in (self.cr + self.lf, self.lf, self.cr))


def without_line_end(text: str) -> str:
    """The line without the LF, CR LF or CR at its end."""
    return text.removesuffix("\n").removesuffix("\r")


def plain_lines(text: str) -> list[str]:
    """The lines without their ends."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return lines


def check_encoding(name: str) -> None:
    """Raise SourceError for an encoding that Python does not know or whose files cannot be cut into lines."""
    try:
        codec = codecs.lookup(name).name
    except (LookupError, TypeError, ValueError):
        raise SourceError(f"the encoding {name!r} is unknown", "", "write utf-8, utf-16, latin-1, cp1252 …") from None
    if codec in _WITHOUT_LINES or not _has_lines(codec):
        raise SourceError(
            f"a file in the encoding {name!r} cannot be cut into lines", "", "convert it to UTF-8 before it is read"
        )


def find_encoding(path: str, name: str, head: bytes) -> TextEncoding:
    """The encoding of a file that begins with `head`. UTF-16 or UTF-32 without a mark is in this machine's order.

    Raises SourceError if the mark at the start belongs to another encoding.
    """
    codec = codecs.lookup(name).name
    for mark, marked in _MARKS.get(codec, ()):
        if head.startswith(mark):
            return _encoding(marked, len(mark))
    foreign = next((marked for mark, marked in _FOREIGN_MARKS if head.startswith(mark)), None)
    if foreign is not None and codec in _MARK_IS_FOREIGN_TO:
        raise SourceError(
            f"'{path}' is not in the encoding {name!r}",
            f"it begins with the byte order mark of {foreign}",
            f"write encoding={foreign!r}",
        )
    return _encoding(_UNMARKED.get(codec, codec), 0)


def _encoding(codec: str, start: int) -> TextEncoding:
    return TextEncoding(codec, start, "\n".encode(codec), "\r".encode(codec))


def _has_lines(codec: str) -> bool:
    codec = _UNMARKED.get(codec, codec)
    try:
        letter, lf, cr = (text.encode(codec) for text in ("a", "\n", "\r"))
        whole = "a\ra\n".encode(codec)
    except (LookupError, ValueError):
        return False
    return whole == letter + cr + letter + lf and len(letter) == len(lf) == len(cr)


_ORDER = "le" if sys.byteorder == "little" else "be"

_UNMARKED = {"utf-8-sig": "utf-8", "utf-16": f"utf-16-{_ORDER}", "utf-32": f"utf-32-{_ORDER}"}

_MARKS = {
    "utf-8": ((codecs.BOM_UTF8, "utf-8"),),
    "utf-8-sig": ((codecs.BOM_UTF8, "utf-8"),),
    "utf-16": ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")),
    "utf-16-le": ((codecs.BOM_UTF16_LE, "utf-16-le"),),
    "utf-16-be": ((codecs.BOM_UTF16_BE, "utf-16-be"),),
    "utf-32": ((codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be")),
    "utf-32-le": ((codecs.BOM_UTF32_LE, "utf-32-le"),),
    "utf-32-be": ((codecs.BOM_UTF32_BE, "utf-32-be"),),
}

# The mark of UTF-32 begins with that of UTF-16, so it comes first.
_FOREIGN_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8"),
)

# In other encodings these bytes may be letters of a real text.
_MARK_IS_FOREIGN_TO = frozenset({"utf-8", "utf-8-sig", "ascii", "iso8859-1", "iso8859-15", "cp1252"})

# In these, other bytes than those of a line end can stand for one.
_WITHOUT_LINES = frozenset(
    {"utf-7", "idna", "unicode-escape", "unicode_escape", "raw-unicode-escape", "raw_unicode_escape"}
)
