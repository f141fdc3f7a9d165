"""What a file says of itself: read without decoding, bounded, and never more than it is."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
from types import SimpleNamespace

import av
import numpy as np
import pytest
from clips import moving_portrait, texture_frames, write_audio, write_video
from PIL import Image, PngImagePlugin

from deepscan.errors import MediaError
from deepscan.extract.file_facts.facts import file_facts, gops_of
from deepscan.extract.file_facts.image_facts import jpeg_quality
from deepscan.extract.file_facts.metadata import LONGEST_NAME, LONGEST_VALUE, MOST_TAGS
from deepscan.extract.file_facts.provenance import read_provenance

HOSTILE = "<script>alert(1)</script>"


def fact(facts, name):
    """The fact of that name; there is exactly one."""
    (match,) = [one for one in (*facts.facts, *facts.signs) if one.name == name]
    return match


def remuxed(path, out, tags, stream_tags=None):
    """A copy of the packets with other tags."""
    with av.open(str(path)) as source, av.open(str(out), "w", options={"movflags": "use_metadata_tags"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        target.metadata.update(tags)
        stream.metadata.update(stream_tags or {})
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return out


# Groups of pictures


def keys(*lengths):
    return [index == 0 for length in lengths for index in range(length)]


@pytest.mark.parametrize(
    ("lengths", "kind"),
    [
        ((), "none"),
        ((40,), "single"),
        ((1, 1, 1, 1), "every"),
        ((12, 12, 12, 5), "fixed"),
        ((12, 12, 12, 12, 30, 30, 30, 7), "mixed"),
        ((12, 12, 12, 30, 12, 12, 12, 7), "varied"),  # one keyframe at a cut, the same rhythm before and after
        ((12, 31, 7, 25, 12, 40), "varied"),
        ((12, 12, 30, 30, 9), "varied"),  # two in a row are no rhythm
    ],
)
def test_kinds_of_groups(lengths, kind):
    groups = gops_of(keys(*lengths))
    assert (groups.kind, groups.lengths) == (kind, lengths)


def test_packets_before_the_first_keyframe_belong_to_no_group():
    assert gops_of([False, False, *keys(3, 3)]).lengths == (3, 3)
    assert gops_of([False, False]).kind == "none"


def test_a_video_of_one_rhythm(tmp_path):
    path = write_video(tmp_path / "even.mp4", texture_frames(40, (64, 48)), gop=8, options={"sc_threshold": "0"})
    sign = fact(file_facts(path), "Keyframes")
    assert (sign.value, sign.noticed) == ("every 8 frames", False)


def test_joined_videos_are_noticed(tmp_path):
    parts = [
        write_video(
            tmp_path / f"{gop}.mp4", texture_frames(40, (64, 48)), gop=gop, options={"sc_threshold": "0", "bf": "0"}
        )
        for gop in (5, 10)
    ]
    joined, shift = tmp_path / "joined.mp4", 0
    with av.open(str(joined), "w") as target:
        stream = None
        for part in parts:
            with av.open(str(part)) as source:
                video = source.streams.video[0]
                stream = stream or target.add_stream_from_template(video)
                for packet in source.demux(video):
                    if packet.dts is not None:
                        packet.dts, packet.pts = packet.dts + shift, packet.pts + shift
                        packet.stream = stream
                        target.mux(packet)
                shift += video.duration
    sign = fact(file_facts(joined), "Keyframes")
    assert sign.noticed
    assert sign.value.startswith("mixed, 5 to 10 frames apart")
    assert "joined" in sign.meaning
    assert "Live streams" in sign.meaning


# Videos


def test_facts_of_a_video(face_clip):
    facts = file_facts(face_clip)
    assert facts.kind == "video"
    assert "H.264" in fact(facts, "Codec").value
    assert "profile High" in fact(facts, "Codec").value
    assert fact(facts, "Picture").value == "320 x 240 px, yuv420p"
    assert fact(facts, "Duration").value == "2.4 s"
    assert fact(facts, "Frame rate").value == "25 frames/s declared, 25 by the frames"
    assert fact(facts, "Frames").value == "60"
    assert "AAC" in fact(facts, "Sound").value
    assert fact(facts, "Size").value.endswith(" kB")
    assert "kbit/s" in fact(facts, "Bit rate").value
    assert all(one.meaning for one in (*facts.facts, *facts.signs))


def test_an_encoder_is_found_in_tags_and_in_the_stream(face_clip):
    sign = fact(file_facts(face_clip), "Programs")
    assert sign.noticed
    assert "Lavf" in sign.value
    assert "x264 - core" in sign.value
    assert "countless sites" in sign.meaning


def test_a_camera_is_named_or_missed(tmp_path, face_clip):
    without = fact(file_facts(face_clip), "Camera")
    assert (without.value, without.noticed) == ("no make or model", True)
    assert "messenger" in without.meaning
    tags = {"com.apple.quicktime.make": "Acme", "com.apple.quicktime.model": "Phone 3"}
    named = fact(file_facts(remuxed(face_clip, tmp_path / "named.mov", tags)), "Camera")
    assert (named.value, named.noticed) == ("Acme Phone 3", False)


def test_tags_are_shortened_counted_and_without_places(tmp_path, face_clip):
    tags = {f"key{n}": "v" * 1000 for n in range(100)} | {"n" * 200: "x", "comment": HOSTILE}
    tags = {"location": "+48.8583+002.2944/", "title": HOSTILE} | tags
    facts = file_facts(remuxed(face_clip, tmp_path / "tagged.mkv", tags))
    assert len(facts.tags) == MOST_TAGS
    assert facts.tags_left_out > 30
    assert max(len(tag.name) for tag in facts.tags) <= LONGEST_NAME
    assert max(len(tag.value) for tag in facts.tags) <= LONGEST_VALUE
    known = {tag.name.lower(): tag.value for tag in facts.tags}
    assert known["title"] == HOSTILE
    assert known["location"] == "a place is given; not shown, as reports are passed on"


def test_missing_frames_are_noticed(tmp_path):
    times = [0.04 * n for n in range(10)] + [1.5 + 0.04 * n for n in range(10)]
    path = write_video(tmp_path / "gap.mp4", texture_frames(20, (64, 48)), pts=times, options={"bf": "0"})
    sign = fact(file_facts(path), "Frame times")
    assert sign.noticed
    assert sign.value.startswith("1.14 s without a frame at 0.4 s")


def test_even_frames_are_not(no_face_clip):
    assert not fact(file_facts(no_face_clip), "Frame times").noticed


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".avi", ".webm", ".gif"])
def test_every_container(tmp_path, suffix):
    facts = file_facts(write_video(tmp_path / f"clip{suffix}", texture_frames(8, (64, 48))))
    assert fact(facts, "Frames").value == "8"
    assert len(facts.signs) == 4


def test_files_that_are_none(tmp_path):
    (tmp_path / "text.mp4").write_text("no video" * 100)
    for path in (tmp_path / "text.mp4", tmp_path / "gone.mp4", write_audio(tmp_path / "sound.mp4")):
        with pytest.raises(MediaError):
            file_facts(path)


def test_a_video_that_is_cut_off_has_facts(tmp_path):
    path = write_video(tmp_path / "whole.avi", moving_portrait(40, (160, 120)))
    cut = tmp_path / "cut.avi"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert 0 < int(fact(file_facts(cut), "Frames").value) < 40


# Images


def test_facts_of_a_photograph(tmp_path, portrait):
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0131] = "Acme\x00", "Phone 3", f"Adobe Photoshop 25 {HOSTILE}"
    exif.get_ifd(0x8769)[0x9003] = "2024:05:06 07:08:09"
    exif.get_ifd(0x8825)[2] = (48.0, 51.0, 29.6)
    path = tmp_path / "photo.jpg"
    Image.fromarray(portrait).save(path, quality=77, exif=exif)
    facts = file_facts(path)
    assert facts.kind == "image"
    assert fact(facts, "Camera").value == "Acme Phone 3"
    assert fact(facts, "Taken").value == "2024:05:06 07:08:09"
    assert fact(facts, "JPEG quality").value == "77 of 100"
    programs = fact(facts, "Programs")
    assert programs.noticed
    assert HOSTILE in programs.value
    assert "forgery" in programs.meaning
    values = {tag.name: tag.value for tag in facts.tags}
    assert values["GPSInfo"].startswith("a place is given")
    assert not any("51" in value or "29.6" in value for value in values.values())


@pytest.mark.parametrize("quality", [1, 30, 50, 75, 92, 100])
def test_jpeg_quality_is_that_it_was_saved_with(tmp_path, quality):
    path = tmp_path / "q.jpg"
    Image.new("RGB", (16, 16)).save(path, quality=quality)
    with Image.open(path) as image:
        assert jpeg_quality(image.quantization[0]) == (quality, True)


def test_tables_of_ones_own_are_a_guess():
    table = [min(255, value * 3 + 1) for value in range(1, 65)]
    assert jpeg_quality(table)[1] is False


def test_a_generated_picture_says_so(tmp_path):
    tags = PngImagePlugin.PngInfo()
    tags.add_text("parameters", "a face, Steps: 20")
    path = tmp_path / "made.png"
    Image.new("RGB", (16, 16)).save(path, pnginfo=tags)
    programs = fact(file_facts(path), "Programs")
    assert programs.noticed
    assert "neural network" in programs.meaning
    xmp = (
        b'<x:xmpmeta><rdf:li Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/x/trainedAlgorithmicMedia"/></x:xmpmeta>'
    )
    Image.new("RGB", (16, 16)).save(tmp_path / "made.webp", xmp=xmp)
    assert "trainedAlgorithmicMedia" in fact(file_facts(tmp_path / "made.webp"), "Programs").value


def test_a_plain_picture_has_no_tags(tmp_path):
    path = tmp_path / "plain.bmp"
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)
    facts = file_facts(path)
    assert facts.tags == ()
    assert {one.name for one in facts.signs} == {"Programs", "Camera"}
    assert not fact(facts, "Programs").noticed


def test_broken_exif_is_no_reason_to_say_nothing(tmp_path):
    path = tmp_path / "broken.jpg"
    Image.new("RGB", (16, 16)).save(path, exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff broken")
    assert fact(file_facts(path), "Format").value == "JPEG"


# Content Credentials


class FakeError(Exception):
    pass


def fake_reader(monkeypatch, answer):
    """A stand-in for the optional package; `answer` is the JSON, None, or an exception."""
    calls = []

    class Reader:
        @classmethod
        def try_create(cls, file, context):
            calls.append(context)
            if isinstance(answer, Exception):
                raise answer
            return None if answer is None else cls()

        def json(self):
            return json.dumps(answer)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

    module = SimpleNamespace(Reader=Reader, Context=SimpleNamespace(from_dict=lambda settings: settings))
    monkeypatch.setitem(sys.modules, "c2pa", module)
    return calls


def test_without_the_reader_it_is_not_looked_for(monkeypatch, portrait_image):
    monkeypatch.setitem(sys.modules, "c2pa", None)
    provenance = read_provenance(portrait_image)
    assert provenance.state == "not_looked_for"
    assert "deepscan-video[c2pa]" in provenance.meaning


def test_the_reader_may_fetch_nothing(monkeypatch, portrait_image):
    calls = fake_reader(monkeypatch, None)
    assert read_provenance(portrait_image).state == "absent"
    assert calls[0]["verify"] == {"remote_manifest_fetch": False, "ocsp_fetch": False}
    assert calls[0]["core"]["allowed_network_hosts"] == []


@pytest.mark.parametrize(
    ("validation", "state"), [("Valid", "valid"), ("Trusted", "trusted"), ("Invalid", "present"), (None, "present")]
)
def test_states_of_a_manifest(monkeypatch, portrait_image, validation, state):
    actions = [{"action": "c2pa.created", "digitalSourceType": "http://x/trainedAlgorithmicMedia"}] * 50
    manifest = {
        "title": HOSTILE * 100,
        "claim_generator_info": [{"name": "Maker", "version": "2"}],
        "signature_info": {"issuer": "Issuer", "time": "2024"},
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": actions}}, "no object"],
    }
    status = [{"code": "assertion.dataHash.mismatch"}, {"code": "signingCredential.untrusted"}, 7]
    answer = {
        "active_manifest": "a",
        "manifests": {"a": manifest},
        "validation_state": validation,
        "validation_status": status,
    }
    fake_reader(monkeypatch, answer)
    provenance = read_provenance(portrait_image)
    assert provenance.state == state
    assert "proof" in provenance.meaning
    assert dict(provenance.claims)["Written by"] == "Maker 2"
    assert ("Action", "c2pa.created (trainedAlgorithmicMedia)") in provenance.claims
    assert provenance.problems == ("assertion.dataHash.mismatch",)
    assert len(provenance.claims) <= 12
    assert max(len(value) for _, value in provenance.claims) <= 200


@pytest.mark.parametrize("answer", [[], {"manifests": []}, {"active_manifest": 3, "manifests": {"3": []}}, "text"])
def test_odd_answers_of_the_reader(monkeypatch, portrait_image, answer):
    fake_reader(monkeypatch, answer)
    assert read_provenance(portrait_image).state in ("present", "unreadable")


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (FakeError("Remote: must fetch remote manifests from url http://x.example/m"), "elsewhere"),
        (FakeError("Io: broken"), "unreadable"),
        (type("_C2paNotSupported", (Exception,), {})("type is unsupported"), "absent"),
        (type("_C2paManifestNotFound", (Exception,), {})("none"), "absent"),
    ],
)
def test_errors_of_the_reader_are_states(monkeypatch, portrait_image, error, state):
    fake_reader(monkeypatch, error)
    assert read_provenance(portrait_image).state == state


def test_with_the_real_reader(tmp_path, portrait_image):
    """Signed with a certificate of our own, changed after signing, and not signed."""
    c2pa = pytest.importorskip("c2pa", reason="c2pa-python is not installed")
    pytest.importorskip("cryptography", reason="cryptography is not installed")
    signed = tmp_path / "signed.jpg"
    _sign(c2pa, portrait_image, signed)
    assert read_provenance(portrait_image).state == "absent"
    provenance = read_provenance(signed)
    assert provenance.state == "valid"
    assert dict(provenance.claims)["Title"] == HOSTILE
    data = bytearray(signed.read_bytes())
    data[-2000] ^= 1
    changed = tmp_path / "changed.jpg"
    changed.write_bytes(data)
    provenance = read_provenance(changed)
    assert provenance.state == "present"
    assert provenance.problems == ("assertion.dataHash.mismatch",)


def _sign(c2pa, source, out):
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    now = datetime.datetime.now(datetime.UTC)
    keys_of = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("root", "leaf")}
    chain = b""
    for name in ("leaf", "root"):
        subject, issuer = (
            x509.Name([x509.NameAttribute(kind, n) for kind in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME)])
            for n in (name, "root")
        )
        root = name == "root"
        usage = dict.fromkeys(("content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
                               "encipher_only", "decipher_only"), False)  # fmt: skip
        usage |= {"digital_signature": not root, "key_cert_sign": root, "crl_sign": root}
        made = (
            x509.CertificateBuilder().subject_name(subject).issuer_name(issuer)
            .public_key(keys_of[name].public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(1)).not_valid_after(now + datetime.timedelta(9))
            .add_extension(x509.BasicConstraints(root, None), True).add_extension(x509.KeyUsage(**usage), True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(keys_of["root"].public_key()), False)
        )  # fmt: skip
        if not root:
            made = made.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False)
        chain += made.sign(keys_of["root"], hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    key = keys_of["leaf"].private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    signer = c2pa.Signer.from_info(c2pa.C2paSignerInfo(b"es256", chain, key, None))
    action = {"action": "c2pa.created", "digitalSourceType": "http://c2pa.org/digitalsourcetype/empty"}
    claim = {"title": HOSTILE, "claim_generator_info": [{"name": "test", "version": "1"}],
             "assertions": [{"label": "c2pa.actions", "data": {"actions": [action]}}]}  # fmt: skip
    context = c2pa.Context.from_dict({"verify": {"verify_after_sign": False}})
    with source.open("rb") as source_file, out.open("w+b") as target:
        c2pa.Builder(json.dumps(claim), context=context).sign(signer, "image/jpeg", source_file, target)


def test_facts_need_no_torch():
    code = "import sys, deepscan.extract.file_facts.facts, deepscan.report.html; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
