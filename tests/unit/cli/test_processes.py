"""The program as a process: signals, pipes, closed and full streams, terminals, colours."""

import os
import pty
import subprocess
import sys

import pytest

SALES = ("run", "jobs.py:sales", "--day", "2026-11-22")
PROGRAM = [sys.executable, "-c", "import sys; from batchwright.cli import main; sys.exit(main())"]


PRESS = "stopping at the end of this chunk; press Ctrl-C again to stop at once"
IN_TIME = "stopping at the end of this chunk, in 25 seconds at the latest: stopped by "


@pytest.mark.parametrize(
    ("name", "code", "notice"),
    [("SIGINT", 130, PRESS), ("SIGTERM", 143, f"{IN_TIME}SIGTERM"), ("SIGHUP", 129, f"{IN_TIME}SIGHUP")],
)
def test_one_signal_stops_the_run_at_the_end_of_its_chunk(shop, name, code, notice):
    ended = shop.spawn("run", "jobs.py:signalled", "--name", name)
    assert ended.code == code
    assert [line for line in ended.err.splitlines() if "stopping" in line] == [notice]
    assert "signalled: stopped (run 1)" in ended.err
    assert "read 5 = written 5" in ended.err
    assert ended.err.splitlines()[-1] == "next: batchwright resume 1"
    assert "Traceback" not in ended.err


def test_a_second_signal_stops_it_at_once(shop):
    ended = shop.spawn("run", "jobs.py:signalled", "--signals", "2")
    assert ended.code == 130
    assert ended.err.splitlines()[-1] == ("stopped at once: what was committed stays; go on with: batchwright resume 1")
    assert "Traceback" not in ended.err
    again = shop.spawn("run", "jobs.py:signalled", "--signals", "0")
    assert again.code == 0


def test_a_reader_that_has_seen_enough_ends_a_listing_quietly(shop):
    shop.call(*SALES, "--n", "5000")
    read, write = os.pipe()
    os.close(read)
    ended = shop.spawn("failures", "--format", "csv", stdout=write)
    os.close(write)
    assert (ended.code, ended.err) == (0, "")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_behind_standard_output_is_an_error_of_one_line(shop, unbuffered):
    shop.call(*SALES)
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        ended = shop.spawn("failures", "--format", "csv", stdout=full, environment={"PYTHONUNBUFFERED": unbuffered})
    assert (ended.code, ended.err) == (1, "error: cannot write to standard output; No space left on device\n")


@pytest.mark.parametrize("device", ["/dev/full", "pipe"])
def test_streams_that_fail_change_nothing_about_a_run(shop, device):
    if device == "pipe":
        read, stream = os.pipe()
        os.close(read)
    else:
        stream = os.open(device, os.O_WRONLY)
    ended = shop.spawn(*SALES, "--json", stdout=stream, stderr=stream)
    os.close(stream)
    assert ended.code == 3
    assert shop.call("status", "--json").document["runs"][0]["counts"]["written"] == 18


def test_closed_streams_change_nothing_about_a_run(shop):
    command = " ".join(f"'{word}'" for word in (*PROGRAM, *SALES, "--json"))
    ended = subprocess.run(f"{command} <&- >&- 2>&-", shell=True, cwd=shop.folder, check=False)  # noqa: S602 - our own text
    assert ended.returncode == 3
    assert shop.call("status", "--json").document["runs"][0]["counts"]["written"] == 18


def test_a_terminal_without_unicode_is_no_reason_to_fail(shop):
    ended = shop.spawn("explain", "jobs.py:again", environment={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert ended.code == 0


def test_there_are_no_colours_on_a_pipe_unless_forced(shop):
    shop.call(*SALES)
    assert "\x1b" not in shop.spawn("status").out
    assert "\x1b[33mCOMPLETED_WITH_FAILURES" in shop.spawn("status", environment={"FORCE_COLOR": "1"}).out
    assert "\x1b" not in shop.spawn("status", environment={"FORCE_COLOR": "1", "NO_COLOR": "1"}).out
    assert "\x1b[1;31merror:" in shop.spawn("show", "9", environment={"FORCE_COLOR": "1"}).err


def on_terminal(shop, *arguments: str, **environment: str) -> tuple[int, str]:
    """The exit code, and what a terminal got on its two streams."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [*PROGRAM, *arguments], cwd=shop.folder, stdout=theirs, stderr=theirs, env={**os.environ, **environment}
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            part = os.read(ours, 65_536)
        except OSError:  # the other side is closed
            break
        if not part:
            break
        seen += part
    os.close(ours)
    return child.wait(60), seen.decode()


def test_a_terminal_gets_a_live_display_and_its_cursor_back(shop):
    code, seen = on_terminal(shop, *SALES, TERM="xterm", COLUMNS="100")
    assert code == 3
    assert "\x1b[?25l" in seen
    assert seen.rindex("\x1b[?25h") > seen.rindex("\x1b[?25l")
    assert "read 20 = written 18 + filtered 0 + failed 2" in seen


def test_a_second_signal_gives_the_cursor_back_too(shop):
    code, seen = on_terminal(shop, "run", "jobs.py:signalled", "--signals", "2", TERM="xterm", COLUMNS="100")
    assert code == 130
    assert seen.rfind("\x1b[?25h") >= seen.rfind("\x1b[?25l")


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"TERM": "xterm", "NO_COLOR": "1"}])
def test_a_dumb_terminal_and_no_color_get_no_colours(shop, environment):
    _, seen = on_terminal(shop, *SALES, **environment)
    assert "\x1b[3" not in seen
    assert "\x1b[9" not in seen
    if environment["TERM"] == "dumb":
        assert "\x1b" not in seen


def test_what_comes_from_data_cannot_command_the_terminal(shop):
    shop.call(*SALES)
    for arguments in (("failures", "--all"), ("failures",), ("failures", "--format", "csv"), ("show",)):
        _, seen = on_terminal(shop, *arguments, TERM="xterm", COLUMNS="200", NO_COLOR="1")
        assert "\x1b" not in seen
        assert "[red]" in seen


def test_our_own_bug_is_exit_code_70_with_its_traceback(shop):
    broken = (
        "import sys; import batchwright.cli.status as status; status._write = None; "
        "from batchwright.cli import main; sys.exit(main(['status']))"
    )
    shop.call(*SALES)
    ended = subprocess.run([sys.executable, "-c", broken], cwd=shop.folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 70
    assert "Traceback" in ended.stderr
    assert "this is a bug in batchwright; TypeError" in ended.stderr
    assert "please report it" in ended.stderr


def test_help_is_quick_to_load(shop):
    loaded = (
        "import sys; from batchwright.cli import main; main(['--help']); print(*sorted(sys.modules), file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert not {"rich", "psutil", "sqlite3", "asyncio"}.intersection(ended.stderr.split())
