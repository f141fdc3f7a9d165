"""Files of lines: whole after a kill, a full disk and a second writer."""

from __future__ import annotations

import logging
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


def parse(line: bytes) -> tuple[bytes, int | None] | None:
    """``KEY=NUMBER``, ``KEY=`` to forget one, ``#`` for what is of no interest."""
    if line.startswith(b"#"):
        return None
    key, _, number = line.strip().partition(b"=")
    return key, int(number) if number else None


def test_the_last_line_of_a_key_counts(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("deepscan"), "propagate", True)
    path = tmp_path / "lines"
    with LineFile(path, parse) as file:
        for line, key in ((b"a=1\n", b"a"), (b"b=2\n", b"b"), (b"a=3\n", b"a")):
            file.append_line(line, key, int(line[2:3]))
        file.append_line(b"#\n")
        assert path.read_bytes() == b"a=1\nb=2\na=3\n#\n"  # before it is closed
        assert file.records() == {b"a": 3, b"b": 2}
    path.write_bytes(path.read_bytes() + b"c=damage\nb=\n")
    for writable in (False, True):
        with LineFile(path, parse, writable=writable) as file:
            assert (file.records(), len(file), file.n_lines) == ({b"a": 3}, 1, 6)
            assert (file.get(b"a"), file.get(b"b"), file.line(b"a")) == (3, None, b"a=3\n")
        assert "1 damaged lines" in caplog.text
        caplog.clear()


@pytest.mark.parametrize("cut", [b"", b"f", b"a=4", b"x" * 3_000_000])
@pytest.mark.parametrize("whole", [b"", b"a=1\n", b"#" * 2_000_000 + b"\n"])
def test_a_line_that_was_cut_off_is_dropped(tmp_path, whole, cut):
    path = tmp_path / "lines"
    path.write_bytes(whole + cut)
    with LineFile(path, parse, writable=False) as file:
        assert path.read_bytes() == whole + cut  # another process is at it
        assert file.get(b"a") == (1 if b"=" in whole else None)
    with LineFile(path, parse) as file:
        assert path.read_bytes() == whole
        file.append_line(b"a=5\n", b"a", 5)
        assert file.line(b"a") == b"a=5\n"
    assert path.read_bytes() == whole + b"a=5\n"


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
        file.append_line(b"one\n")
        with monkeypatch.context() as patched:
            patched.setattr("os.write", some)
            with pytest.raises(OutputError if stop is full_disk else stop) as error:
                file.append_line(b"x" * 80 + b"\n")
        assert path.read_bytes() == b"one\n"
        file.append_line(b"two\n")  # room was made
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
        "    file.append_line(b'x' * 70 + b'\\n')\n"
        "    try: file.append_line(b'y' * 70 + b'\\n')\n"
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
        file.append_line(b"one\n", "one", 1)
        assert file.line("one") == b"one\n"  # reading must not give the lock up
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
        file.append_line(b"one\n", "one", 1)
        assert (file.get("one"), file.n_lines) == (1, 0)


def test_stdout_stays_open(capfd):
    with LineFile(None) as file:
        file.append_line(b"caf\xc3\xa9\n")
    print("after", flush=True)  # noqa: T201 - stdout is what is tested
    assert capfd.readouterr().out == "café\nafter\n"
