"""The process that decodes: the same frames, and what its crash, its silence and its lies cost."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import av
import clips
import numpy as np
import odd_decoder
import pytest
from PIL import Image

from deepscan.config import MediaLimits
from deepscan.errors import DeepscanError, MediaError
from deepscan.extract.file_facts import facts
from deepscan.extract.isolation import client
from deepscan.extract.isolation.client import IsolationLimits, probe, sample_frames
from deepscan.extract.isolation.pool import MAX_IDLE, decoders
from deepscan.extract.isolation.shared_memory import SharedArea
from deepscan.extract.video import frames as video

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture(autouse=True)
def own_processes():
    """Every test starts its own, and leaves none."""
    decoders.end()
    yield
    decoders.end()


def serving(monkeypatch, body):
    """Every request is answered by ``body``, which knows ``request``, ``link`` and ``slots``."""
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    odd_decoder.use(monkeypatch, f"def serve(request, link, slots):\n{lines}\ndecoder_worker.serve = serve\n")


def instead_of_frames(monkeypatch, body):
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    code = "from deepscan.extract.video import container, frames\n"
    odd_decoder.use(monkeypatch, f"{code}def given(*_, **__):\n{lines}\nframes.sample_frames = given\n")


def idle_pid():
    (process,) = decoders.idle
    return process.pid


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"


def ends(pid, within_s=10.0):
    until = time.monotonic() + within_s
    while is_alive(pid) and time.monotonic() < until:
        time.sleep(0.02)
    return not is_alive(pid)


def refused(path, isolation_limits=client.DEFAULT_ISOLATION, n=4):
    with pytest.raises(MediaError) as caught:
        list(sample_frames(path, n, isolation=isolation_limits))
    text = str(caught.value)
    assert text.startswith(f"{path.name}: ")
    assert "\n" not in text
    assert caught.value.hint
    return caught.value


# The same as without


@pytest.fixture(params=["clip", "gif", "still", "turned"])
def media(request, tmp_path, face_clip, portrait_image):
    if request.param == "clip":
        return face_clip
    if request.param == "still":
        return portrait_image
    if request.param == "gif":
        return clips.write_video(tmp_path / "clip.gif", clips.numbered_frames(9), 10)
    return clips.write_video(tmp_path / "turned.mp4", [clips.quadrants()] * 5, rotation=90)


def test_frames_and_facts_are_the_same(media):
    assert probe(media) == video.probe(media) == probe(media, isolation=None)
    there, here = list(sample_frames(media, 12)), list(video.sample_frames(media, 12))
    assert [(f.index, f.time_s, f.sought) for f in there] == [(f.index, f.time_s, f.sought) for f in here]
    for theirs, ours in zip(there, here, strict=True):
        assert np.array_equal(theirs.image, ours.image)
        assert theirs.image.flags.c_contiguous
        assert theirs.image.flags.owndata


def test_what_a_file_says_of_itself_is_the_same(media):
    assert client.file_facts(media) == facts.file_facts(media) == client.file_facts(media, isolation=None)


def test_facts_may_be_long(tmp_path, face_clip):
    """More than a line of the answers holds."""
    path = tmp_path / "tagged.mkv"
    with av.open(str(face_clip)) as source, av.open(str(path), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        target.metadata.update({f"key{n}": "\u65e5" * 1000 for n in range(100)})
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                target.mux(packet)
    result = client.file_facts(path)
    assert result == facts.file_facts(path)
    assert len(json.dumps([tag.value for tag in result.tags])) > 1 << 16


@pytest.mark.parametrize(
    "line",
    [
        "link.send(facts=['{}', True])",
        "link.send(facts=['{', True])",
        "link.send(facts=['[]', 1])",
        "link.send(facts=None)",
        "for i in range(200): link.send(facts=['x' * 10000, False])",
        "link.send(probe=['video', 2, 2, 1.0, 1, 0])",
    ],
    ids=["none", "no json", "no truth", "nothing", "endless", "something else"],
)
def test_lies_about_what_a_file_says_end_it(face_clip, monkeypatch, line):
    serving(monkeypatch, line)
    with pytest.raises(MediaError) as caught:
        client.file_facts(face_clip)
    assert caught.value.reason == "decoder_crashed"


def test_one_process_serves_files_one_after_the_other(face_clip, portrait_image):
    before = decoders.n_started
    for path in (face_clip, portrait_image, face_clip):
        probe(path)
        assert len(list(sample_frames(path, 3))) == (1 if path == portrait_image else 3)
    assert decoders.n_started == before + 1


def test_frames_may_be_of_any_size_and_are_not_written_over(tmp_path):
    sizes = [(64, 48), (640, 480), (32, 32), (1920, 1080)]
    kept = []
    for number, size in enumerate(sizes):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", size, (number * 50, 10, 20)).save(path)
        kept += sample_frames(path, 1)
    for number, (frame, size) in enumerate(zip(kept, sizes, strict=True)):
        assert frame.image.shape == (size[1], size[0], 3)
        assert (frame.image == (number * 50, 10, 20)).all()


def test_errors_are_the_same(tmp_path, face_clip):
    noise = tmp_path / "noise.mp4"
    noise.write_bytes(bytes(range(256)) * 20)
    sound = clips.write_audio(tmp_path / "voice.mp4")
    small = MediaLimits(max_pixels=100)
    for path, limits in [
        (noise, MediaLimits()),
        (sound, MediaLimits()),
        (face_clip, small),
        (tmp_path / "nothing.mp4", MediaLimits()),
        (tmp_path, MediaLimits()),
    ]:
        warnings_logged = []
        for module in (video, client):
            for look in (module.probe, lambda p, lim, m=module: next(m.sample_frames(p, 4, lim))):
                with pytest.raises(MediaError) as caught:
                    look(path, limits)
                warnings_logged.append((str(caught.value), caught.value.reason))
        assert len(set(warnings_logged)) == 1


def test_no_file_needs_no_process(tmp_path):
    before = decoders.n_started
    with pytest.raises(MediaError, match="not found"):
        probe(tmp_path / "nothing.mp4")
    assert decoders.n_started == before


def test_warnings_come_through(tmp_path, caplog):
    whole = clips.write_video(
        tmp_path / "whole.mp4",
        clips.texture_frames(60),
        container_options={"movflags": "frag_keyframe+empty_moov+default_base_moof"},
        gop=10,
    )
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    heard = {}
    for module in (video, client):
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="deepscan"):
            with contextlib.suppress(MediaError):
                list(module.sample_frames(path, 30))
            heard[module] = [(r.name, r.levelname, r.getMessage()) for r in caplog.records]
    assert heard[video] == heard[client]


@pytest.mark.parametrize("name", ["видео 映像 😀.mp4", "line\nend.mp4", "100%s {0}.mp4"])
def test_any_file_name_and_relative_paths(tmp_path, monkeypatch, face_clip, name):
    (tmp_path / name).write_bytes(face_clip.read_bytes())
    monkeypatch.chdir(tmp_path)
    assert len(list(sample_frames(Path(name), 3))) == 3
    assert probe(Path(name)).path == Path(name)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems want text")
def test_a_name_that_is_no_text(tmp_path, face_clip):
    path = tmp_path / os.fsdecode(b"caf\xe9.mp4")
    path.write_bytes(face_clip.read_bytes())
    assert probe(path).n_frames == 60


@pytest.mark.parametrize("n", [0, -1])
def test_number_of_frames_is_checked_at_once(face_clip, n):
    with pytest.raises(ValueError, match="n_frames"):
        sample_frames(face_clip, n)


def test_limits_that_cannot_be():
    for wrong in ({"stall_s": 0}, {"total_s": -1.0}, {"memory_bytes": 0}, {"files_per_process": 0}):
        with pytest.raises(ValueError, match="Supported"):
            IsolationLimits(**wrong)


# Its life


def test_who_stops_early_leaves_it_usable(face_clip):
    probe(face_clip)
    pid = idle_pid()
    for n_taken in (1, 5):
        frames = sample_frames(face_clip, 60)
        for _ in range(n_taken):
            next(frames)
        frames.close()
        assert idle_pid() == pid
    assert len(list(sample_frames(face_clip, 60))) == 60
    assert idle_pid() == pid


def test_frames_that_are_never_asked_for_start_nothing(face_clip):
    before = decoders.n_started
    sample_frames(face_clip, 3)
    assert decoders.n_started == before


def test_threads_have_one_each(face_clip):
    taken, meet = {}, threading.Barrier(3)

    def work(number):
        frames = sample_frames(face_clip, 20)
        first = next(frames)
        meet.wait()
        taken[number] = [first.image.sum(), *(f.image.sum() for f in frames)]

    before = decoders.n_started
    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert taken[0] == taken[1] == taken[2]
    assert len(taken[0]) == 20
    assert decoders.n_started == before + 3
    assert len(decoders.idle) == MAX_IDLE


def test_it_is_replaced_after_so_many_files(face_clip):
    limits, pids = IsolationLimits(files_per_process=2), []
    for _ in range(4):
        frames = sample_frames(face_clip, 1, isolation=limits)
        next(frames)
        pids.append(max(decoders.processes, key=lambda p: p.pid).pid)
        frames.close()
    assert pids[0] == pids[1] != pids[2] == pids[3]
    assert ends(pids[0])


@linux
def test_it_holds_no_network_and_ends_with_the_program(face_clip):
    probe(face_clip)
    pid = idle_pid()
    maps = Path(f"/proc/{pid}/maps").read_text()
    assert "libavcodec" in maps
    assert not any(name in maps for name in ("torch", "openvino", "cv2"))
    limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
    soft = {line[:25].strip(): line[26:46].strip() for line in limits}
    assert (soft["Max core file size"], soft["Max file size"]) == ("0", "0")
    assert client.DEFAULT_ISOLATION.memory_bytes < int(soft["Max address space"])
    decoders.end()
    assert not is_alive(pid)


_PROGRAM = """
import os, signal, sys
from pathlib import Path
from deepscan.extract.isolation.client import sample_frames
from deepscan.extract.isolation.pool import decoders
frames = sample_frames(Path(sys.argv[1]), 20)
next(frames)
print([p.pid for p in decoders.processes][0], flush=True)
{end}
"""


@linux
@pytest.mark.parametrize(
    "end", ["os.kill(os.getpid(), signal.SIGKILL)", "os._exit(3)", "raise SystemExit", "raise KeyboardInterrupt"]
)
def test_no_orphans_and_nothing_is_said_of_leaks(face_clip, end):
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", _PROGRAM.format(end=end), str(face_clip)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ends(int(run.stdout))
    assert "leak" not in run.stderr
    assert "KeyboardInterrupt" in run.stderr or not run.stderr


@linux
def test_an_orphan_ends_though_its_decoder_is_busy(face_clip, tmp_path):
    """The parent dies by a signal while the child is deep in a file; the child tells so by a folder."""
    busy = str(tmp_path / "busy")
    odd = (
        "import os, time; from deepscan.extract.video import frames\n"
        f"frames.sample_frames = lambda *_, **__: (os.mkdir({busy!r}), time.sleep(600))"
    )
    code = (
        "import threading, time\n"
        "from deepscan.extract.isolation import decoder_process\n"
        f"decoder_process.TARGET = {odd_decoder.TARGET!r}\n"
        "def end():\n"
        f"    while not os.path.exists({busy!r}): time.sleep(0.01)\n"
        "    print([p.pid for p in decoders.processes][0], flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "threading.Thread(target=end).start()\n"
    )
    program = _PROGRAM.replace("frames =", code + "frames =", 1).replace("{end}", "")
    environment = {
        **os.environ,
        odd_decoder.CODE_VARIABLE: odd,
        "PYTHONPATH": os.pathsep.join([str(Path(odd_decoder.__file__).parent), *(path for path in sys.path if path)]),
    }
    run = subprocess.run(
        [sys.executable, "-c", program, str(face_clip)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == -signal.SIGKILL
    assert ends(int(run.stdout))


@linux
def test_interrupts_are_not_its_matter(face_clip):
    probe(face_clip)
    pid = idle_pid()
    assert os.getsid(pid) != os.getsid(0)
    os.kill(pid, signal.SIGINT)
    assert probe(face_clip).n_frames == 60
    assert idle_pid() == pid


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_has_its_own(face_clip):
    frames = sample_frames(face_clip, 10)
    first = next(frames)
    pid = os.fork()
    if not pid:
        code = 1
        try:
            if decoders.processes:
                os._exit(2)
            frames.close()
            code = 0 if len(list(sample_frames(face_clip, 10))) == 10 else 3
            decoders.end()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    rest = list(frames)
    assert len(rest) == 9
    assert rest[0].index == first.index + 1


def test_it_cannot_be_started(face_clip, monkeypatch):
    odd_decoder.use(monkeypatch, "raise SystemExit(7)")
    with pytest.raises(DeepscanError, match="cannot be started: it ended by itself with exit code 7") as caught:
        probe(face_clip)
    assert caught.value.reason == "no_decoder"
    monkeypatch.setattr(sys, "executable", str(face_clip))
    with pytest.raises(DeepscanError, match="cannot be started"):
        probe(face_clip)


# What it may do to itself


def test_a_crash_is_an_error_of_its_file(face_clip, portrait_image, monkeypatch):
    with monkeypatch.context() as patch:
        instead_of_frames(patch, "import ctypes\nctypes.string_at(0)")
        error = refused(face_clip)
    assert error.reason == "decoder_crashed"
    assert "decoder was ended by SIGSEGV" in str(error) or sys.platform == "win32"
    assert len(list(sample_frames(portrait_image, 1))) == 1


def test_a_crash_that_earlier_files_may_have_caused_is_tried_again(face_clip):
    whole = [f.image.sum() for f in sample_frames(face_clip, 60)]
    frames = sample_frames(face_clip, 60)
    taken = [next(frames).image.sum() for _ in range(3)]
    (process,) = decoders.processes
    os.kill(process.pid, signal.SIGTERM)
    assert taken + [f.image.sum() for f in frames] == whole


def test_a_crash_of_a_fresh_one_is_the_files(face_clip):
    frames = sample_frames(face_clip, 60)
    next(frames)
    (process,) = decoders.processes
    os.kill(process.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
    with pytest.raises(MediaError) as caught:
        list(frames)
    assert caught.value.reason == "decoder_crashed"


def test_what_hangs_is_given_up(face_clip, monkeypatch):
    instead_of_frames(monkeypatch, "import time\ntime.sleep(600)")
    start = time.monotonic()
    error = refused(face_clip, IsolationLimits(stall_s=0.5))
    assert (error.reason, "for 0.5 s" in str(error)) == ("timeout", True)
    assert time.monotonic() - start < 10


def test_what_is_slow_but_gets_on_is_not(face_clip, monkeypatch):
    body = (
        "import time\nfor _ in range(9):\n    time.sleep(0.3)\n    container.on_packet.get()()\nreturn (x for x in ())"
    )
    instead_of_frames(monkeypatch, body)
    assert list(sample_frames(face_clip, 4, isolation=IsolationLimits(stall_s=2.0))) == []
    error = refused(face_clip, IsolationLimits(stall_s=60, total_s=1.0))
    assert error.reason == "timeout"


def test_who_takes_long_over_a_frame_is_not_blamed_on_the_decoder(face_clip):
    limits, n = IsolationLimits(stall_s=1.0, total_s=8.0), 0
    for _ in sample_frames(face_clip, 2, isolation=limits):
        time.sleep(1.3)
        n += 1
    assert n == 2


@linux
def test_memory_is_limited(tmp_path, portrait_image):
    path = tmp_path / "large.png"
    Image.new("RGB", (6000, 6000)).save(path)
    error = refused(path, IsolationLimits(memory_bytes=64 * 2**20))
    assert (error.reason, "0.1 GiB" in str(error)) == ("out_of_memory", True)
    assert len(list(sample_frames(path, 1))) == 1
    assert len(list(sample_frames(portrait_image, 1))) == 1


@linux
def test_memory_of_a_video_is_limited(tmp_path):
    path = clips.write_video(tmp_path / "large.mp4", [np.zeros((2160, 3840, 3), np.uint8)] * 8, codec="mpeg4")
    assert refused(path, IsolationLimits(memory_bytes=96 * 2**20)).reason == "out_of_memory"


def test_a_defect_is_told_as_one(face_clip, monkeypatch):
    instead_of_frames(monkeypatch, "raise KeyError('x' * 5000)")
    error = refused(face_clip)
    assert error.reason == "internal"
    assert "unexpected KeyError" in str(error)
    assert len(str(error)) < 600


@linux
def test_it_writes_no_files(face_clip, tmp_path, monkeypatch):
    target = tmp_path / "written"
    instead_of_frames(monkeypatch, f"open({str(target)!r}, 'wb', 0).write(b'x')")
    assert "unexpected OSError" in str(refused(face_clip))
    assert not target.stat().st_size


def test_what_libraries_print_is_no_answer(face_clip, monkeypatch, capfd):
    instead_of_frames(monkeypatch, "import os\nos.write(1, b'{}\\n')\nos.write(2, b'noise')\nreturn (x for x in ())")
    assert list(sample_frames(face_clip, 4)) == []
    assert capfd.readouterr() == ("", "")


# What it may say

_GROW = "link.send(need=300); link.parent.receive()"
_LIES = {
    "no json": "link.parent.send(b'frames\\n')",
    "deep json": "link.parent.send(b'[' * 60000 + b'\\n')",
    "no message": "link.parent.send(b'[1]\\n')",
    "an endless line": "link.parent.send(b'x' * 200000)",
    "a frame before there is room": "link.send(frame=[0, 2, 2, 0.0, 0, False])",
    "another slot": f"{_GROW}; link.send(frame=[4, 2, 2, 0.0, 0, False])",
    "a slot below": f"{_GROW}; link.send(frame=[-1, 2, 2, 0.0, 0, False])",
    "out of the slot": f"{_GROW}; link.send(frame=[0, 2, 2000000, 0.0, 0, False])",
    "nothing": f"{_GROW}; link.send(frame=[0, 0, 2, 0.0, 0, False])",
    "less than nothing": f"{_GROW}; link.send(frame=[0, -5, -2, 0.0, 0, False])",
    "no time": f"{_GROW}; link.send(frame=[0, 2, 2, float('nan'), 0, False])",
    "another index": f"{_GROW}; link.send(frame=[0, 2, 2, 0.0, 1, False])",
    "more than was asked for": f"{_GROW}\nfor i in range(9): link.send(frame=[0, 2, 2, 0.0, i, False])",
    "text": f"{_GROW}; link.send(frame=['0', 2, 2, 0.0, 0, False])",
    "truth": f"{_GROW}; link.send(frame=[0, True, 2, 0.0, 0, False])",
    "too few": f"{_GROW}; link.send(frame=[0, 2])",
    "too large": "link.send(need=2**40)",
    "no size": "link.send(need='much')",
    "facts instead": "link.send(probe=['video', 2, 2, 1.0, 1, 0])",
    "an error of other parts": "link.send(error=['a', 'b'], tired=False)",
    "an error of other types": "link.send(error=['a', 'b', 'c', 4], tired=False)",
    "a reason that is none": "link.send(error=['a', 'b', 'c', 'No Reason!'], tired=False)",
    "an endless error": "link.send(error=['a' * 9000, 'b', 'c', 'reason'], tired=False)",
    "a failure of another type": "link.send(failed=3, tired=False)",
    "an unknown word": "link.send(hello=1)",
    "a log of another type": "link.send(log=['x', 1])",
    "lengths below nothing": "link.send(coverage=[1.0, -1.0, 0.0])",
}


@pytest.mark.parametrize("lie", _LIES.values(), ids=_LIES.keys())
def test_lies_end_it(face_clip, monkeypatch, lie):
    serving(monkeypatch, lie)
    assert refused(face_clip).reason == "decoder_crashed"
    assert not decoders.idle


@pytest.mark.parametrize(
    "line",
    [
        "['song', 2, 2, 1.0, 1, 0]",
        "['video', 9**9, 9**9, 1.0, 1, 0]",
        "['video', 2, 2, float('inf'), 1, 0]",
        "['video', 2, 2, 1.0, 1, -1]",
        "None",
        "[]",
    ],
)
def test_lies_about_a_file_end_it(face_clip, monkeypatch, line):
    serving(monkeypatch, f"link.send(probe={line})")
    with pytest.raises(MediaError) as caught:
        probe(face_clip)
    assert caught.value.reason == "decoder_crashed"


def test_what_it_logs_stays_one_line_and_no_error(face_clip, monkeypatch, caplog):
    serving(monkeypatch, "link.send(log=[50, 'a\\n' * 9000 + '\\x1b[2J'])")
    assert list(sample_frames(face_clip, 2)) == []
    (record,) = [r for r in caplog.records if r.name.startswith("deepscan")]
    assert record.levelno == logging.WARNING
    assert "\n" not in record.getMessage()
    assert len(record.getMessage()) <= 300


@linux
def test_it_cannot_take_the_memory_away_under_us():
    """The other process has the same descriptor."""
    area = SharedArea()
    area.resize(4096)
    with pytest.raises(PermissionError):
        os.ftruncate(area.handle, 0)
    assert area.array(0, (16, 16)).sum() == 0
    area.close()
