"""Text files, one line an output, and the encoder that every format of lines shares.

The one rule: a chunk is encoded at once; only when that fails is each output looked at alone, to name the guilty.
"""

import codecs
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from batchwright.model.errors import BatchwrightError, TargetError
from batchwright.ports import Writer
from batchwright.writers.rows import no_row
from batchwright.writers.staged_files import StagedFile

Out = TypeVar("Out")


def text_file(path: str | os.PathLike[str], *, encoding: str = "utf-8") -> Writer[str]:
    r"""Write each output as one line, ended by `\n`. Exactly once; the file appears when the step is complete.

    An output that is no text, holds a line end (`\n` or `\r`) or cannot be encoded is that item's failure. An existing
    file is replaced and its mode kept; a symbolic link is followed. Raises TargetError for an unknown encoding.
    """
    check_encoding(encoding)
    form = f"text {codecs.lookup(encoding).name}"
    return StagedFile(os.fspath(path), "text", lambda: LineEncoder(form, encoding, "\n".join, _line_of))


class LineEncoder(Generic[Out]):
    """Outputs as lines. `join` turns a list of outputs into a text of lines, `single` one output into its line."""

    def __init__(
        self, form: str, encoding: str, join: Callable[[Sequence[Out]], str], single: Callable[[Out], str]
    ) -> None:
        """Begin with an empty chunk."""
        self.form = form
        self._encoding = ByteEncoding(encoding)
        self._join = join
        self._single = single
        self._parts: list[bytes] = []

    def add(self, outputs: Sequence[Out]) -> Mapping[int, BaseException]:
        """Encode all outputs at once, or, if that fails, one by one."""
        if not outputs:
            return {}
        try:
            lines = self._join(outputs)
            if lines.count("\n") == len(outputs) - 1 and "\r" not in lines:
                self._parts.append(self._encoding.encode(lines + "\n"))
                return {}
        except Exception as error:  # noqa: BLE001 - asked again below, output by output
            raise_unless_data(error)
        kept, errors = one_by_one(outputs, lambda output: self._encoding.encode(self._single(output) + "\n"))
        self._parts.extend(kept)
        return errors

    def take(self) -> bytes:
        """The chunk's lines."""
        chunk = b"".join(self._parts)
        self._parts.clear()
        return chunk

    def drop(self) -> None:
        """Forget the chunk's lines."""
        self._parts.clear()

    def head(self) -> bytes:
        """The byte order mark, for encodings that have one."""
        return self._encoding.mark

    def state(self) -> Mapping[str, Any]:
        """Nothing: lines do not depend on each other."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Nothing to restore."""


class ByteEncoding:
    """An encoding whose byte order mark stands at the start of the file only, not at that of every chunk."""

    def __init__(self, encoding: str) -> None:
        """Find out whether there is a mark."""
        self._name = encoding
        self.mark: bytes = "".encode(encoding)

    def encode(self, text: str) -> bytes:
        """The text without a mark. Raises UnicodeEncodeError."""
        data = text.encode(self._name)
        return data[len(self.mark) :] if self.mark else data


def check_encoding(encoding: str) -> None:
    """Raise TargetError for an encoding that Python does not know."""
    try:
        "".encode(encoding)
    except LookupError as error:
        raise TargetError(f"there is no text encoding {encoding!r}", "", 'write encoding="utf-8"') from error


def one_by_one(outputs: Sequence[Out], encode: Callable[[Out], Any]) -> tuple[list[Any], dict[int, BaseException]]:
    """Each output encoded alone, and the errors of those that could not be, by index."""
    kept, errors = [], dict[int, BaseException]()
    for index, output in enumerate(outputs):
        try:
            kept.append(encode(output))
        except Exception as error:  # noqa: BLE001 - whatever an output's own methods raise is its failure
            raise_unless_data(error)
            errors[index] = error
    return kept, errors


def raise_unless_data(error: Exception) -> None:
    """Raise an error again that no single output is guilty of: lack of memory, or a refusal of ours."""
    if isinstance(error, MemoryError | BatchwrightError):
        raise error


def _line_of(output: str) -> str:
    if output is None:
        raise no_row(output)
    if not isinstance(output, str):
        raise TypeError(f"a text file takes text, got {type(output).__name__}; convert it in the processor")
    if "\n" in output or "\r" in output:
        raise ValueError("the text holds a line end, and each output is one line; replace it in the processor")
    return output
