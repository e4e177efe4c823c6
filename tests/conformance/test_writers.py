"""The public suite, run against every writer."""

import csv
import json
from operator import itemgetter
from pathlib import Path
from typing import Any

from batchwright.model.block import Position
from batchwright.model.checkpoint import Checkpoint
from batchwright.ports import Scope, Writer
from batchwright.testing.fake_clock import FakeClock
from batchwright.testing.memory_store import MemoryStore
from batchwright.testing.sink_driver import KEY
from batchwright.testing.writer_suite import WriterSuite
from batchwright.writers import csv_file, each, file_set, json_lines_file, text_file
from batchwright.writers.functions import function_writer


class FileSuite(WriterSuite):
    """A writer of one file named `out` in a folder that does not exist yet."""

    def published(self, folder: Path) -> object:
        return path_in(folder).read_bytes()


class TestTextFile(FileSuite):
    def writer(self, folder: Path) -> Writer[Any]:
        return text_file(path_in(folder))

    def outputs(self, count: int) -> list[Any]:
        return [f"line {number} ä\u2028" for number in range(count)]

    def bad_output(self) -> Any:
        return "two\nlines"

    def misfits(self) -> list[Any]:
        return [None, 7, {"id": 1}]

    def read_back(self, folder: Path) -> list[Any]:
        return text_of(folder).split("\n")[:-1]


class TestTextFileInUtf16(TestTextFile):
    def writer(self, folder: Path) -> Writer[Any]:
        return text_file(path_in(folder), encoding="utf-16")

    def read_back(self, folder: Path) -> list[Any]:
        return text_of(folder, "utf-16").split("\n")[:-1]


class TestJsonLinesFile(FileSuite):
    def writer(self, folder: Path) -> Writer[Any]:
        return json_lines_file(path_in(folder))

    def outputs(self, count: int) -> list[Any]:
        return [{"name": f"ä\n{number}", "id": number, "parts": [None, 1.5]} for number in range(count)]

    def bad_output(self) -> Any:
        return {"id": float("nan")}

    def read_back(self, folder: Path) -> list[Any]:
        return [json.loads(line) for line in text_of(folder).split("\n")[:-1]]


class TestCsvFile(FileSuite):
    def writer(self, folder: Path) -> Writer[Any]:
        return csv_file(path_in(folder))

    def outputs(self, count: int) -> list[Any]:
        return [{"id": str(number), "name": f'a "quoted",\r\n{number}'} for number in range(count)]

    def bad_output(self) -> Any:
        return {"id": "1", "name": b"bytes"}

    def misfits(self) -> list[Any]:
        return [None, 7, {}, ("1",), {1: 2}]

    def read_back(self, folder: Path) -> list[Any]:
        path = path_in(folder)
        if not path.exists():
            return []
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))


class TestCsvFileOfTuplesWithDeclaredColumns(TestCsvFile):
    def writer(self, folder: Path) -> Writer[Any]:
        return csv_file(path_in(folder), columns=["id", "name"], delimiter=";", encoding="utf-8-sig")

    def outputs(self, count: int) -> list[Any]:
        return [(str(number), "") for number in range(count)]

    def bad_output(self) -> Any:
        return ("too", "many", "values")

    def read_back(self, folder: Path) -> list[Any]:
        path = path_in(folder)
        if not path.exists():
            return []
        with path.open(encoding="utf-8-sig", newline="") as file:
            header, *rows = csv.reader(file, delimiter=";")
        assert header == ["id", "name"]
        return [tuple(row) for row in rows]


class TestFileSet(WriterSuite):
    """Three files of documents, in a folder that does not exist yet."""

    def writer(self, folder: Path) -> Writer[Any]:
        return file_set(path_in(folder), file="{part}.jsonl", form=json_lines_file)

    def outputs(self, count: int) -> list[Any]:
        return [{"part": f"ä {number % 3}", "id": number} for number in range(count)]

    def bad_output(self) -> Any:
        return {"part": "../ä", "id": 1}

    def misfits(self) -> list[Any]:
        return [None, 7, {}]

    def read_back(self, folder: Path) -> list[Any]:
        texts = [path.read_text() for path in sorted(path_in(folder).glob("*.jsonl"))]
        return sorted((json.loads(line) for text in texts for line in text.splitlines()), key=itemgetter("id"))

    def published(self, folder: Path) -> object:
        # The set that was replaced stays until the next run writes there.
        assert {path.name for path in path_in(folder).parent.iterdir()} - {".out.replaced"} == {"out"}
        return {path.name: (path.read_bytes(), path.stat().st_mode) for path in path_in(folder).iterdir()}


class TestFileSetInThePlaceOfAnother(TestFileSet):
    """CSV files, each with its header, where an earlier set was."""

    def writer(self, folder: Path) -> Writer[Any]:
        if folder.is_dir() and not any(folder.iterdir()):
            self._old(folder)
        return file_set(path_in(folder), file=lambda row: f"{int(row['id']) % 2}.csv", form=csv_file)

    def outputs(self, count: int) -> list[Any]:
        return [{"id": str(number), "name": f'a "quoted",\r\n{number}'} for number in range(count)]

    def bad_output(self) -> Any:
        return {"id": "1", "name": b"bytes"}

    def misfits(self) -> list[Any]:
        return [None, 7, {}, ("1",), {1: 2}]

    def read_back(self, folder: Path) -> list[Any]:
        rows = []
        for path in path_in(folder).glob("[01].csv"):
            with path.open(encoding="utf-8", newline="") as file:
                rows += list(csv.DictReader(file))
        return sorted(rows, key=lambda row: int(row["id"]))

    def test_nothing_is_created_before_the_first_write(self, tmp_path: Path) -> None:
        driver = self._driver(tmp_path)
        writer = self.writer(driver.folder)
        before = sorted(driver.folder.rglob("*"))
        writer.check()  # type: ignore[attr-defined] - it has one
        sink = driver.open()
        assert sink.recall() is None
        sink.close()
        assert sorted(driver.folder.rglob("*")) == before

    def _old(self, folder: Path) -> None:
        old = file_set(path_in(folder), file="old {id}.csv", form=csv_file)
        sink = old.open(Scope(KEY, MemoryStore(), FakeClock()))
        sink.recall()
        sink.write([{"id": "7", "name": "old"}])
        sink.commit(Checkpoint(Position(1)), ())
        sink.finish(Checkpoint(Position(1)))
        sink.close()


class TestEach(WriterSuite):
    def writer(self, folder: Path) -> Writer[Any]:
        def append(output: int) -> None:
            if output < 0:
                raise ValueError("negative")
            with (folder / "calls").open("a") as file:
                file.write(f"{output}\n")

        return each(append)

    def outputs(self, count: int) -> list[Any]:
        return list(range(count))

    def bad_output(self) -> Any:
        return -1

    def read_back(self, folder: Path) -> list[Any]:
        path = folder / "calls"
        return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


class TestFunction(TestEach):
    def writer(self, folder: Path) -> Writer[Any]:
        def append(outputs: list[int]) -> None:
            with (folder / "calls").open("a") as file:
                file.writelines(f"{output}\n" for output in outputs)

        return function_writer(append)

    def bad_output(self) -> None:
        return None


def path_in(folder: Path) -> Path:
    return folder / "new" / "out"


def text_of(folder: Path, encoding: str = "utf-8") -> str:
    path = path_in(folder)
    return path.read_bytes().decode(encoding) if path.exists() else ""
