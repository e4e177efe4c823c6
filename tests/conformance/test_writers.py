"""The public suite, run against every writer."""

import csv
import json
from pathlib import Path
from typing import Any

from batchwright.ports import Writer
from batchwright.testing.writer_suite import WriterSuite
from batchwright.writers import csv_file, each, json_lines_file, text_file
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
