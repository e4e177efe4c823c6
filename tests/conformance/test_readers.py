"""Every reader of files and iterables proves the public suite."""

import json
from collections import UserList
from itertools import pairwise
from pathlib import Path
from typing import Any

from batchwright.ports import Reader
from batchwright.readers.csv_files import CsvRows
from batchwright.readers.csv_records import CsvDialect
from batchwright.readers.file_listings import files
from batchwright.readers.file_series import FileSeries
from batchwright.readers.iterables import iterable_reader
from batchwright.readers.json_lines import json_reader
from batchwright.readers.line_files import LineFile
from batchwright.readers.text_files import text_reader
from batchwright.testing.reader_suite import ReaderSuite

COUNT = 40
BLOCK_BYTES = 64


class FileSuite(ReaderSuite):
    content: bytes
    encoding = "utf-8"

    def file(self, folder: Path) -> LineFile:
        path = folder / "input"
        if not path.exists():
            path.write_bytes(self.content)
        return LineFile(str(path), self.encoding, BLOCK_BYTES)

    def spoil(self, folder: Path) -> bool:
        with (folder / "input").open("r+b") as file:
            file.write(b"X")
        return True


class TestTextLines(FileSuite):
    content = "".join(f"line {n}\r\n" for n in range(COUNT)).encode()

    def reader(self, folder: Path) -> Reader[Any]:
        return text_reader(self.file(folder))

    def expected(self) -> list[Any]:
        return [f"line {n}" for n in range(COUNT)]


class TestTextLinesInUtf16(TestTextLines):
    content = "".join(f"line {n}\n" for n in range(COUNT)).encode("utf-16")
    encoding = "utf-16"


class TestTextLinesWithUndecodableOnes(TestTextLines):
    content = b"".join(b"line %d\n" % n if n % 7 else b"\xff\n" for n in range(COUNT))

    def expected(self) -> list[Any]:
        return [f"line {n}" for n in range(COUNT) if n % 7]

    def expected_bad(self) -> list[int]:
        return list(range(0, COUNT, 7))


class TestCsvRows(FileSuite):
    content = ("id,name\n" + "".join(f'{n},"name {n}"\n' for n in range(COUNT))).encode()

    def reader(self, folder: Path) -> Reader[Any]:
        return CsvRows(self.file(folder), CsvDialect(), None, None)

    def expected(self) -> list[Any]:
        return [{"id": str(n), "name": f"name {n}"} for n in range(COUNT)]


class TestCsvRowsOverSeveralLines(TestCsvRows):
    content = ("\ufeffid,name\r\n\r\n" + "".join(f'{n},"name\r\n{n}"\r\n\r\n' for n in range(COUNT))).encode()

    def expected(self) -> list[Any]:
        return [{"id": str(n), "name": f"name\r\n{n}"} for n in range(COUNT)]


BAD = {3: 'x,y,"z', 8: "1,2,3", 9: "1", 20: '"a"b,c', 39: '"'}


class TestCsvRowsWithBadOnes(TestCsvRows):
    content = "\n".join(["id,name", *map(BAD.get, range(COUNT), (f"{n},name {n}" for n in range(COUNT)))]).encode()

    def expected(self) -> list[Any]:
        return [{"id": str(n), "name": f"name {n}"} for n in range(COUNT) if n not in BAD]

    def expected_bad(self) -> list[int]:
        return sorted(BAD)


class TestCsvRowsWithADeclaredHeader(TestCsvRows):
    content = "".join(f"{n};name {n}\n" for n in range(COUNT)).encode("utf-16-be")
    encoding = "utf-16-be"

    def reader(self, folder: Path) -> Reader[Any]:
        return CsvRows(self.file(folder), CsvDialect(";"), ("id", "name"), None)


class TestJsonLines(FileSuite):
    content = "".join(json.dumps({"n": n}) + "\n" for n in range(COUNT)).encode()

    def reader(self, folder: Path) -> Reader[Any]:
        return json_reader(self.file(folder))

    def expected(self) -> list[Any]:
        return [{"n": n} for n in range(COUNT)]


class TestJsonLinesWithBadOnes(TestJsonLines):
    content = "".join('{"n": NaN}\n\n' if n == 5 else f'{{"n": {n}}}\n' for n in range(COUNT)).encode()

    def expected(self) -> list[Any]:
        return [{"n": n} for n in range(COUNT) if n != 5]

    def expected_bad(self) -> list[int]:
        return [5]


class SeveralSuite(ReaderSuite):
    """Lines in files of very different lengths, some of them empty."""

    cuts = (0, 1, 1, 25, 40)
    empty = ("a", "bb", "z")

    def one(self, path: str) -> Any:
        return text_reader(LineFile(path, "utf-8", BLOCK_BYTES))

    def text(self, numbers: range) -> str:
        return "".join(f"line {n}\n" for n in numbers)

    def reader(self, folder: Path) -> Reader[Any]:
        where = folder / "in"
        if not where.exists():
            where.mkdir()
            for number, (start, stop) in enumerate(pairwise(self.cuts)):
                (where / f"{number}.txt").write_text(self.text(range(start, stop)))
            for name in self.empty:
                (where / f"{name}.txt").write_text("")
        listed = files(where / "*.txt")
        return FileSeries(listed, self.one(listed.patterns[0]))

    def expected(self) -> list[Any]:
        return [f"line {n}" for n in range(COUNT)]

    def spoil(self, folder: Path) -> bool:
        with (folder / "in" / "0.txt").open("r+b") as file:
            file.write(b"X")
        return True


class TestLinesOfSeveralFiles(SeveralSuite):
    pass


class TestLinesOfASingleOne(SeveralSuite):
    cuts, empty = (0, 40), ()


class TestCsvRowsOfSeveralFiles(SeveralSuite):
    def one(self, path: str) -> Any:
        return CsvRows(LineFile(path, "utf-8", BLOCK_BYTES), CsvDialect(), None, None)

    def text(self, numbers: range) -> str:
        """The second file is a header line only."""
        return "id,name\n" + "".join(f'{n},"name\n{n}"\n\n' for n in numbers)

    def expected(self) -> list[Any]:
        return [{"id": str(n), "name": f"name\n{n}"} for n in range(COUNT)]


class TestJsonLinesOfSeveralFiles(SeveralSuite):
    def one(self, path: str) -> Any:
        return json_reader(LineFile(path, "utf-8", BLOCK_BYTES))

    def text(self, numbers: range) -> str:
        return "\n\n" + "".join('{"n": NaN}\n' if n == 5 else f'{{"n": {n}}}\n\n' for n in numbers)

    def expected(self) -> list[Any]:
        return [{"n": n} for n in range(COUNT) if n != 5]

    def expected_bad(self) -> list[int]:
        return [5]


class IterableSuite(ReaderSuite):
    def source(self) -> Any:
        raise NotImplementedError

    def reader(self, folder: Path) -> Reader[Any]:
        return iterable_reader(self.source(), 9)

    def expected(self) -> list[Any]:
        return list(range(COUNT))


class TestList(IterableSuite):
    def source(self) -> Any:
        return list(range(COUNT))


class TestRange(IterableSuite):
    def source(self) -> Any:
        return range(COUNT)


class TestOtherSequence(IterableSuite):
    def source(self) -> Any:
        return UserList(range(COUNT))


class TestDict(IterableSuite):
    def source(self) -> Any:
        return dict.fromkeys(range(COUNT))


class TestGeneratorFunction(IterableSuite):
    def source(self) -> Any:
        def numbers() -> Any:
            yield from range(COUNT)

        return numbers
