"""Sets of files: outputs distributed over the files of one folder, which is published as one.

The one rule: a name never leaves the folder. One that would, or that the set needs for itself, is a failure of the
output that asked for it.
"""

import os
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from batchwright.model.errors import DeclarationError, TargetError
from batchwright.model.guarantee import Guarantee
from batchwright.model.publication import Publication
from batchwright.ports import Scope, Sink, Writer
from batchwright.writers.encoders import Encoder
from batchwright.writers.manifests import MANIFEST, require_replaceable
from batchwright.writers.stage_folders import StageFolder
from batchwright.writers.staged_files import StagedFile, StagedSink
from batchwright.writers.text_files import one_by_one

Out = TypeVar("Out")
Out_contra = TypeVar("Out_contra", contravariant=True)

MOST_FILES = 10_000

_NAME_BYTES = 255


def file_set(
    folder: str | os.PathLike[str],
    *,
    file: str | Callable[[Out], str],
    form: Callable[[str], Writer[Out]],
    most_files: int = MOST_FILES,
) -> Writer[Out]:
    """Distribute outputs over files in one folder. Exactly once; the folder appears, whole, when the step is complete.

    `file` says which file an output goes to: a function, or a name with fields of the output in it, as in
    `"{region}.csv"`. `form` says what the files are: `csv_file`, `text_file`, `json_lines_file`, or one of them with
    its options, as in `partial(csv_file, delimiter=";")`. With the files comes `manifest.json`: their names, sizes and
    SHA-256. A folder that an earlier file set has filled is replaced in one step: nobody ever sees a part of either.

    An output whose name is empty, hidden, has a `/` in it or is no file name is that item's failure. More than
    `most_files` stop the step. Raises DeclarationError and TargetError for what cannot be meant.
    """
    one = form(os.path.join(os.fspath(folder), "file"))  # noqa: PTH118 - a text, as the form's user would give it
    if not isinstance(one, StagedFile):
        raise DeclarationError(
            "file_set: form must be csv_file, text_file or json_lines_file", f"it gave {one!r}", "write form=csv_file"
        )
    if isinstance(file, str):
        _check_template(file)
    elif not callable(file):
        raise DeclarationError("file_set: file must be a name or a function", f"got {file!r}", 'file="{region}.csv"')
    if isinstance(most_files, bool) or not isinstance(most_files, int) or most_files < 1:
        raise DeclarationError("file_set: most_files must be at least 1", f"got {most_files!r}")
    if not Path(os.path.realpath(folder)).name:
        raise TargetError(f"{folder} cannot be a file set", "it is the root", "name a folder in it")
    return FileSet(os.fspath(folder), file, one, most_files)


@dataclass(frozen=True)
class FileSet(Generic[Out_contra]):
    """A folder of files as the target of a step. `form` is what each of them would be, were it written alone."""

    path: str
    file: str | Callable[[Any], str]
    form: StagedFile[Out_contra]
    most_files: int
    guarantee: Guarantee = field(default=Guarantee.EXACTLY_ONCE, init=False)

    @property
    def replaces_target(self) -> str:
        """The folder that is replaced in the end, behind all links: no two steps of a job may replace one."""
        return os.path.realpath(self.path)

    @property
    def address(self) -> str:
        """What the files hold, and the folder's absolute path."""
        return f"{self.form.word} files:{os.path.abspath(self.path)}"  # noqa: PTH100 - without following links

    def check(self) -> None:
        """Raise TargetError if the folder cannot become a file set. Writes nothing."""
        require_replaceable(Path(self.path))

    def open(self, scope: Scope) -> Sink[Out_contra]:
        """A sink that writes to a stage beside the folder."""
        stage = StageFolder(Path(self.path), scope.key)
        return StagedSink(scope, SetEncoder(self, stage), stage)

    def publishing(self, publication: Publication) -> Writer[Out_contra]:
        """The same writer: a file set appears whole or not at all anyway."""
        self.form.publishing(publication)
        return self


class SetEncoder(Generic[Out_contra]):
    """One encoder for each file. What it gives is the journal: the files are written when it is taken."""

    def __init__(self, files: FileSet[Out_contra], stage: StageFolder) -> None:
        """Begin with no file."""
        self._set = files
        self._stage = stage
        self._name_of = _name_function(files.file)
        self._encoders: dict[str, Encoder[Out_contra]] = {}
        self._touched: dict[str, None] = {}

    @property
    def form(self) -> str:
        """That of a file, and how files are named, as far as words tell."""
        named = f"'{self._set.file}'" if isinstance(self._set.file, str) else "a function"
        return f"files of {self._set.form.encoder().form}, named by {named}"

    def add(self, outputs: Sequence[Out_contra]) -> Mapping[int, BaseException]:
        """Encode each output for its file. Raises TargetError for one file too many."""
        indexes: dict[str, list[int]] = {}
        _, errors = one_by_one(
            range(len(outputs)), lambda index: indexes.setdefault(self._checked(outputs[index]), []).append(index)
        )
        for name, chosen in indexes.items():
            refused = self._encoder(name).add([outputs[index] for index in chosen])
            errors.update({chosen[index]: error for index, error in refused.items()})
        return errors

    def take(self) -> bytes:
        """Write the chunk to its files; the lines about it."""
        lines = []
        for name in self._touched:
            encoder = self._encoders[name]
            data = encoder.take()
            if data:
                new = name not in self._stage.parts
                lines.append(self._stage.add_to(name, encoder.head() + data if new else data, encoder.state()))
        self._forget()
        return b"".join(lines)

    def drop(self) -> None:
        """Forget the chunk, and the files that only it had."""
        for name in self._touched:
            self._encoders[name].drop()
        self._forget()

    def head(self) -> bytes:
        """Nothing: a set may be empty."""
        return b""

    def state(self) -> Mapping[str, Any]:
        """Nothing: what encoders have to remember stands in the journal."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Begin anew: from the journal, or, without a state, with no file."""
        self._encoders.clear()
        self._touched.clear()
        for name, part in self._stage.parts.items() if state else ():
            self._encoder(name).restore(part.state)
        self._touched.clear()

    def _checked(self, output: Out_contra) -> str:
        name = self._name_of(output)
        if name not in self._encoders:
            check_name(name)
        return name

    def _encoder(self, name: str) -> Encoder[Out_contra]:
        if name not in self._encoders:
            if len(self._encoders) >= self._set.most_files:
                raise TargetError(
                    f"{self._set.path} would have more than {self._set.most_files:,} files",
                    f"one more is {name!r}",
                    "let file= give fewer names, or raise most_files=",
                )
            self._encoders[name] = self._set.form.encoder()
        self._touched[name] = None
        return self._encoders[name]

    def _forget(self) -> None:
        for name in self._touched:
            if name not in self._stage.parts:
                del self._encoders[name]
        self._touched.clear()


def check_name(name: object) -> None:
    """Raise ValueError or TypeError for what cannot be the name of a file in a set."""
    if not isinstance(name, str):
        raise TypeError(f"the name of a file must be a text, got {type(name).__name__}")
    wrong = (
        ("is empty", not name),
        ("has a '/' in it: a file set has no folders inside", "/" in name),
        ("begins with '.': hidden names are not for outputs", name.startswith(".")),
        ("is the set's own", name.casefold() == MANIFEST),
        ("has a control character in it", any(ord(character) < 32 or character == "\x7f" for character in name)),  # noqa: PLR2004 - ASCII
    )
    for why, found in wrong:
        if found:
            raise ValueError(f"the file name {name!r} {why}")
    if len(os.fsencode(name)) > _NAME_BYTES:
        raise ValueError(f"the file name {name[:20]!r}… is longer than {_NAME_BYTES} bytes")


def _check_template(template: str) -> None:
    try:
        pieces = list(string.Formatter().parse(template))
        check_name("".join(f"{text}{_checked_field(name, spec)}" for text, name, spec, _ in pieces))
    except ValueError as error:
        raise DeclarationError(
            f"file_set: file={template!r} cannot name files", str(error), 'write a name with fields, as "{region}.csv"'
        ) from error


def _checked_field(name: str | None, spec: str | None) -> str:
    """What stands for a field. Raises ValueError for what is more than one: an index, an attribute, a nested field."""
    if name is None:
        return ""
    if not name.isidentifier() or "{" in (spec or ""):
        raise ValueError(f"{{{name}}} is not the name of a field")
    return "x"


def _name_function(file: str | Callable[[Any], str]) -> Callable[[Any], str]:
    if not isinstance(file, str):
        return file
    fields = [name for _, name, _, _ in string.Formatter().parse(file) if name is not None]

    def name_of(output: Any) -> str:
        values = {name: _value(output, name) for name in fields}
        return file.format_map(values)

    return name_of


def _value(output: Any, name: str) -> Any:
    value = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
    if value is None:
        raise ValueError(f"the output has no '{name}', which the name of its file is made of")
    return value
