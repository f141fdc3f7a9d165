"""Files of lines: whole after a kill, a full disk and a second writer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deepscan.append_log import LineFile
from deepscan.errors import OutputError

posix = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX system")


def full_disk(*_arguments):
    raise OSError(28, os.strerror(28))


def test_lines_are_added_and_found_again(tmp_path):
    path = tmp_path / "lines"
    with LineFile(path) as file:
        places = [file.append(line) for line in (b"one\n", b"\n", b"three\n")]
        assert path.read_bytes() == b"one\n\nthree\n"  # before it is closed
    assert places == [0, 4, 5]
    with LineFile(path) as file:
        assert list(file.lines()) == [(0, b"one\n"), (4, b"\n"), (5, b"three\n")]
        assert file.append(b"four\n") == 11
        assert [file.line_at(place) for place in (5, 0, 11)] == [b"three\n", b"one\n", b"four\n"]
        assert file.append(b"five\n") == 16
    assert path.read_bytes() == b"one\n\nthree\nfour\nfive\n"


@pytest.mark.parametrize("cut", [b"", b"f", b"four", b"x" * 3_000_000])
@pytest.mark.parametrize("whole", [b"", b"one\n", b"one\n\nthree\n", b"y" * 2_000_000 + b"\n"])
def test_a_line_that_was_cut_off_is_dropped(tmp_path, whole, cut):
    path = tmp_path / "lines"
    path.write_bytes(whole + cut)
    with LineFile(path) as file:
        assert b"".join(line for _, line in file.lines()) == whole + cut
        assert path.stat().st_size == len(whole + cut)  # not before it is asked for
        file.drop_cut_line()
        assert path.read_bytes() == whole
        file.append(b"next\n")
    assert path.read_bytes() == whole + b"next\n"


@pytest.mark.parametrize("stop", [full_disk, KeyboardInterrupt])
def test_a_line_that_cannot_be_written_leaves_no_part(tmp_path, monkeypatch, stop):
    path = tmp_path / "lines"
    write = os.write

    def some(handle, data):
        if len(data) > 50:
            return write(handle, data[:10])
        if stop is full_disk:
            full_disk()
        raise stop

    with LineFile(path) as file:
        file.append(b"one\n")
        with monkeypatch.context() as patched:
            patched.setattr("deepscan.append_log.os.write", some)
            with pytest.raises(OutputError if stop is full_disk else stop) as error:
                file.append(b"x" * 80 + b"\n")
        assert path.read_bytes() == b"one\n"
        file.append(b"two\n")  # room was made
    assert path.read_bytes() == b"one\ntwo\n"
    if stop is full_disk:
        assert "the disk is full. Make room and run the same command again" in str(error.value)


@posix
def test_a_full_disk_of_the_system(tmp_path):
    """Where the system itself takes a part of a line and refuses the rest."""
    code = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from deepscan.errors import OutputError\n"
        "from deepscan.append_log import LineFile\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "with LineFile(Path(sys.argv[1])) as file:\n"
        "    file.append(b'x' * 70 + b'\\n')\n"
        "    try: file.append(b'y' * 70 + b'\\n')\n"
        "    except OutputError as error: print(error)\n"
    )
    path = tmp_path / "lines"
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.startswith(f"{path} cannot be written: ")
    assert path.read_bytes() == b"x" * 70 + b"\n"


@posix
def test_a_second_writer_is_refused(tmp_path):
    path = tmp_path / "lines"
    code = (
        "import sys\nfrom pathlib import Path\nfrom deepscan.append_log import LineFile\n"
        "try: LineFile(Path(sys.argv[1])).close()\nexcept Exception as error: print(error)\n"
    )

    def other() -> str:
        done = subprocess.run(
            [sys.executable, "-c", code, path], capture_output=True, text=True, check=True, timeout=60
        )
        return done.stdout

    with LineFile(path) as file:
        file.append(b"one\n")
        assert [line for _, line in file.lines()] == [b"one\n"]  # reading must not give the lock up
        assert file.line_at(0) == b"one\n"
        assert "another run is writing to it" in other()
    assert other() == ""


def test_places_that_cannot_be_written(tmp_path):
    for path in (tmp_path, tmp_path / "missing" / "lines"):
        with pytest.raises(OutputError, match="cannot be written") as error:
            LineFile(path)
        assert str(path) in str(error.value)


@posix
def test_a_device_only_takes_lines():
    with LineFile(Path("/dev/null")) as file:
        assert not file.regular
        assert list(file.lines()) == []
        file.drop_cut_line()
        assert file.append(b"one\n") == 0


def test_stdout_stays_open(capfd):
    with LineFile(None) as file:
        file.append(b"caf\xc3\xa9\n")
        assert list(file.lines()) == []
    print("after", flush=True)  # noqa: T201 - stdout is what is tested
    assert capfd.readouterr().out == "café\nafter\n"
