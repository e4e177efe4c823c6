"""What every writer must prove. Subclass `WriterSuite` in a test module and give it a writer.

    class TestMyWriter(WriterSuite):
        def writer(self, folder): return my_writer(folder / "target")
        def outputs(self, count): return [f"output {number}" for number in range(count)]
        def read_back(self, folder): return read_my_target(folder / "target")

The one rule: sinks are driven as the engine drives them, and crash at every moment of a run. All that the writer keeps
must lie in the folder or in the scope's store.
"""

from collections import Counter
from pathlib import Path
from typing import Any

from batchwright.model.errors import ItemsFailed
from batchwright.model.guarantee import Fault, Guarantee
from batchwright.ports import Checks, Sink, Writer
from batchwright.testing.sink_driver import Moment, SinkDriver

ITEMS = 10


class WriterSuite:
    """Tests of one writer. Those that need a guarantee stronger than the writer's pass without doing anything."""

    def writer(self, folder: Path) -> Writer[Any]:
        """The writer, with its target in this folder, which is there; equal whenever it is made for the same one."""
        raise NotImplementedError

    def outputs(self, count: int) -> list[Any]:
        """So many outputs, all different, that come back equal."""
        raise NotImplementedError

    def read_back(self, folder: Path) -> list[Any]:
        """The outputs in the target, in the order in which they are stored; none if there is no target."""
        raise NotImplementedError

    def bad_output(self) -> Any | None:
        """An output that the writer refuses without refusing those beside it; None if there is no such thing."""
        return None

    def misfits(self) -> list[Any]:
        """Outputs that are none for this writer, such as None where it takes rows; each is refused alone."""
        return []

    def published(self, folder: Path) -> object:
        """The target as it has to be equal after any run: for a file, its bytes."""
        return self.read_back(folder)

    def test_nothing_is_created_before_the_first_write(self, tmp_path: Path) -> None:
        """Opening, checking and recalling leave no trace."""
        driver = self._driver(tmp_path)
        writer = self.writer(driver.folder)
        if isinstance(writer, Checks):
            writer.check()
        sink = driver.open()
        assert sink.recall() is None
        assert list(sink.failures()) == []
        sink.close()
        assert list(driver.folder.rglob("*")) == []

    def test_the_address_stays_equal_from_run_to_run(self, tmp_path: Path) -> None:
        """A restart compares it."""
        first, second = self.writer(tmp_path), self.writer(tmp_path)
        assert first.address == second.address
        assert first.address.isprintable()

    def test_every_error_is_classified(self, tmp_path: Path) -> None:
        """The engine asks about whatever was raised."""
        driver = self._driver(tmp_path)
        sink = driver.open()
        sink.recall()
        for error in (OSError("disk"), RuntimeError("bug"), ValueError("value"), TypeError("type")):
            assert sink.classify(error) in Fault
        sink.close()

    def test_every_output_is_there_once_whatever_the_chunk_size(self, tmp_path: Path) -> None:
        """The published result does not show where chunks were cut."""
        results = []
        for chunk_size in (1, 2, 3, ITEMS, 100):
            driver = self._driver(tmp_path / str(chunk_size))
            driver.run(chunk_size)
            assert self.read_back(driver.folder) == driver.expected()
            results.append(self.published(driver.folder))
        assert all(result == results[0] for result in results)

    def test_a_crash_at_any_moment_loses_nothing_and_repeats_nothing(self, tmp_path: Path) -> None:
        """From everything that a crash can leave, the next run ends as one without a crash."""
        for checkpoint_seconds in (0.0, 1.0):
            driver, undisturbed = self._recorded(tmp_path, checkpoint_seconds)
            for moment in list(driver.moments):
                driver.crash(moment)
                driver.run(2)
                self._assert_whole(driver, undisturbed, moment)

    def test_a_crash_while_recovering_from_a_crash_is_recovered_from(self, tmp_path: Path) -> None:
        """Two crashes in a row, the second at any moment of the run that goes on after the first."""
        driver, undisturbed = self._recorded(tmp_path, 0.0)
        for first in list(driver.moments)[::4]:
            driver.crash(first)
            driver.moments.clear()
            driver.run(4)
            for second in list(driver.moments)[::2]:
                driver.crash(second)
                driver.run(3)
                self._assert_whole(driver, undisturbed, second, crashes=2)

    def test_what_is_rolled_back_leaves_no_trace(self, tmp_path: Path) -> None:
        """A chunk may be written again after it was rolled back, in other parts."""
        driver = self._driver(tmp_path)
        if not self._undoes(driver):
            return
        sink = driver.open()
        sink.recall()
        sink.write(driver.outputs[:3])
        sink.rollback()
        sink.rollback()
        driver.write_chunk(sink, 0, 5)
        sink.write(driver.outputs[5:8])
        sink.write(driver.outputs[8:9])
        sink.rollback()
        driver.write_chunk(sink, 5, ITEMS)
        sink.finish(driver.checkpoint(ITEMS))
        sink.close()
        assert self.read_back(driver.folder) == driver.expected()

    def test_closing_undoes_what_is_not_committed(self, tmp_path: Path) -> None:
        """And keeps what is."""
        driver = self._driver(tmp_path)
        if not self._undoes(driver):
            return
        sink = driver.open()
        sink.recall()
        driver.write_chunk(sink, 0, 4)
        sink.write(driver.outputs[4:6])
        sink.close()
        sink = driver.open()
        checkpoint = driver.recall(sink)
        sink.close()
        assert checkpoint is not None
        assert checkpoint.position.ordinal == 4
        driver.run(3)
        assert self.read_back(driver.folder) == driver.expected()

    def test_a_checkpoint_comes_back_as_it_was_given(self, tmp_path: Path) -> None:
        """Position, counts and failures; its state is the sink's own."""
        driver = self._driver(tmp_path)
        sink = driver.open()
        sink.recall()
        driver.write_chunk(sink, 0, 8)
        sink.close()
        sink = driver.open()
        checkpoint = sink.recall()
        assert checkpoint is not None
        given = driver.checkpoint(8)
        assert (checkpoint.position, checkpoint.counts, checkpoint.finished) == (given.position, given.counts, False)
        assert list(sink.failures()) == driver.failures(0, 8)
        sink.close()

    def test_chunks_without_outputs_are_committed_too(self, tmp_path: Path) -> None:
        """Their items were filtered or failed; the checkpoint moves on all the same."""
        driver = self._driver(tmp_path)
        sink = driver.open()
        sink.recall()
        driver.remember(sink, 0, 3)
        sink.commit(driver.checkpoint(3, outputs=0), ())
        sink.commit(driver.checkpoint(4, outputs=0), driver.failures(3, 4))
        sink.close()
        sink = driver.open()
        checkpoint = driver.recall(sink)
        assert checkpoint is not None
        assert checkpoint.position.ordinal == 4
        sink.finish(checkpoint)
        sink.close()
        assert self.read_back(driver.folder) == []

    def test_a_refused_output_fails_alone(self, tmp_path: Path) -> None:
        """Its neighbours are written, and it is named by its index."""
        driver = self._driver(tmp_path)
        bad = self.bad_output()
        if bad is None:
            return
        first, second = driver.outputs[:2]
        sink = driver.open()
        sink.recall()
        self._write_refused(sink, [first, bad, second], refused=1)
        sink.commit(driver.checkpoint(3, outputs=2), ())
        self._write_refused(sink, [bad], refused=0)
        sink.commit(driver.checkpoint(5, outputs=2), driver.failures(3, 5))
        sink.finish(driver.checkpoint(5, outputs=2))
        sink.close()
        assert self.read_back(driver.folder) == [first, second]

    def test_an_output_that_is_none_fails_alone(self, tmp_path: Path) -> None:
        """Wherever it comes: first of all, among others, or as the only one of its chunk."""
        for number, odd in enumerate(self.misfits()):
            driver = self._driver(tmp_path / str(number))
            first, second, third = driver.outputs[:3]
            sink = driver.open()
            sink.recall()
            self._write_refused(sink, [odd], refused=0)
            sink.commit(driver.checkpoint(1, outputs=0), ())
            self._write_refused(sink, [odd, first, second], refused=0)
            sink.commit(driver.checkpoint(4, outputs=2), driver.failures(1, 4))
            self._write_refused(sink, [third, odd], refused=1)
            sink.commit(driver.checkpoint(6, outputs=3), ())
            sink.finish(driver.checkpoint(6, outputs=3))
            sink.close()
            assert self.read_back(driver.folder) == [first, second, third]

    def test_finishing_twice_is_the_same_as_once(self, tmp_path: Path) -> None:
        """A crash may come between finishing and knowing it."""
        driver = self._driver(tmp_path)
        sink = driver.open()
        sink.recall()
        driver.write_chunk(sink, 0, ITEMS)
        sink.finish(driver.checkpoint(ITEMS))
        sink.finish(driver.checkpoint(ITEMS))
        sink.close()
        result = self.published(driver.folder)
        self._assert_finished(driver)
        driver.run(3)
        assert self.published(driver.folder) == result
        assert self.read_back(driver.folder) == driver.expected()

    def test_a_step_without_items_can_be_finished(self, tmp_path: Path) -> None:
        """An empty input is no error."""
        driver = self._driver(tmp_path, items=0)
        driver.run(3)
        self._assert_finished(driver)
        assert self.read_back(driver.folder) == []

    def test_a_second_sink_cannot_corrupt_what_the_first_writes(self, tmp_path: Path) -> None:
        """Either it is refused, or the first one is from then on."""
        for looks_early in (True, False):
            driver = self._driver(tmp_path / str(looks_early))
            if self.writer(driver.folder).guarantee is Guarantee.AT_LEAST_ONCE:
                return
            first, second = driver.open(), driver.open()
            first.recall()
            if looks_early:
                second.recall()
            driver.write_chunk(first, 0, 3)
            results = [
                self._commits(driver, second, 0 if looks_early else None),
                self._commits(driver, first, 3),
            ]
            second.close()
            first.close()
            assert results != [True, True], "both sinks have committed the same chunk"
            driver.run(4)
            assert self.read_back(driver.folder) == driver.expected()

    def _driver(self, folder: Path, *, items: int = ITEMS, checkpoint_seconds: float = 0.0) -> SinkDriver:
        folder = folder / "target"
        folder.mkdir(parents=True)
        return SinkDriver(self.writer, self.outputs(items), folder, checkpoint_seconds=checkpoint_seconds)

    def _recorded(self, folder: Path, checkpoint_seconds: float) -> tuple[SinkDriver, object]:
        driver = self._driver(folder / str(checkpoint_seconds), checkpoint_seconds=checkpoint_seconds)
        driver.run(3)
        assert len(driver.moments) >= ITEMS
        return driver, self.published(driver.folder)

    def _assert_whole(self, driver: SinkDriver, undisturbed: object, moment: Moment, crashes: int = 1) -> None:
        found, crash = self.read_back(driver.folder), f"after a crash at: {moment.name}"
        if self.writer(driver.folder).guarantee is not Guarantee.AT_LEAST_ONCE:
            assert found == driver.expected(), crash
            assert self.published(driver.folder) == undisturbed, crash
            return
        counts = Counter(map(repr, found))
        assert counts.keys() == set(map(repr, driver.expected())), crash
        assert max(counts.values()) <= 1 + crashes, crash
        if crashes == 1:
            before = {repr(output) for output in driver.outputs[: driver.recalled]}
            assert all(counts[output] <= 1 for output in before), f"{crash}: repeated what was committed before it"

    def _assert_finished(self, driver: SinkDriver) -> None:
        sink = driver.open()
        checkpoint = driver.recall(sink)
        sink.close()
        assert checkpoint is not None
        assert checkpoint.finished

    def _undoes(self, driver: SinkDriver) -> bool:
        return self.writer(driver.folder).guarantee is Guarantee.EXACTLY_ONCE

    def _write_refused(self, sink: Sink[Any], outputs: list[Any], refused: int) -> None:
        """Write as the engine does: by the sink's word, or, if it cannot tell which output is bad, without that."""
        start = 0
        seen: list[int] = []
        while start < len(outputs):
            try:
                sink.write(outputs[start:])
            except ItemsFailed as answer:
                seen.extend(start + index for index in answer.errors)
                start = len(outputs) if answer.attempted is None else start + answer.attempted
            except Exception as error:
                if sink.classify(error) is not Fault.REFUSED:
                    raise
                sink.rollback()
                seen.append(refused)
                start = 0
                outputs = [output for index, output in enumerate(outputs) if index != refused]
            else:
                break
        assert seen == [refused]

    def _commits(self, driver: SinkDriver, sink: Sink[Any], start: int | None) -> bool:
        try:
            if start is None:
                driver.recall(sink)
                start = driver.recalled
            driver.write_chunk(sink, start, start + 3)
        except Exception:  # noqa: BLE001 - any refusal will do
            sink.rollback()
            return False
        return True
