"""What comes under the name of a shard: packed tars are unpacked, and what is no tar is called what it is."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from hqclip.data.tar import Damage, write_tar
from hqclip.data.unpack import unpack


def zstd(data: bytes) -> bytes:
    return bytes(pa.Codec("zstd").compress(data, asbytes=True))


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstd,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}


@pytest.fixture
def tar() -> bytes:
    file = io.BytesIO()
    write_tar(file, [(f"{n}.jpg", bytes(range(256)) * 20) for n in range(100)])
    return file.getvalue()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shard.tar"


def test_a_plain_tar_stays_as_it_is(tar: bytes, path: Path):
    path.write_bytes(tar)
    assert not unpack(path)
    assert path.read_bytes() == tar


@pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)
def test_a_packed_tar_is_unpacked_where_it_lies(tar: bytes, path: Path, pack: Callable[[bytes], bytes]):
    path.write_bytes(pack(tar))
    assert unpack(path)
    assert path.read_bytes() == tar
    assert [one.name for one in path.parent.iterdir()] == ["shard.tar"]


def test_what_is_packed_twice_or_in_pieces_is_unpacked(tar: bytes, path: Path):
    for packed in (gzip.compress(gzip.compress(tar)), gzip.compress(tar[:5000]) + gzip.compress(tar[5000:])):
        path.write_bytes(packed)
        assert unpack(path)
        assert path.read_bytes() == tar


@pytest.mark.parametrize(("kind", "pack"), PACKERS.items())
def test_what_is_packed_and_damaged_is_named(tar: bytes, path: Path, kind: str, pack: Callable[[bytes], bytes]):
    packed = pack(tar)
    middle = len(packed) // 2
    for damaged in (packed[:middle], packed[:middle] + bytes(200) + packed[middle + 200 :]):
        path.write_bytes(damaged)
        with pytest.raises(Damage, match=f"{kind} that is cut or damaged"):
            unpack(path)


def test_a_bomb_is_given_up(path: Path):
    path.write_bytes(gzip.compress(bytes(200 << 20), 6))
    with pytest.raises(Damage, match="gzip that unpacks to more than 100 times its size"):
        unpack(path)
    path.write_bytes(gzip.compress(gzip.compress(gzip.compress(b"x"))))
    with pytest.raises(Damage, match="compressed more than 3 times over"):
        unpack(path)


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("1.jpg", b"x")
    return file.getvalue()


PAGE = "<!DOCTYPE html>\n<html><head><title>403\n Forbidden\x1b[31m</title></head></html>"
ERROR = "<?xml version='1.0' encoding='UTF-8'?><Error><Code>AccessDenied</Code><Message>no</Message></Error>"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 12345\n"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (POINTER.encode(), r"a Git LFS pointer, .* run `git lfs pull`"),
        (PAGE.encode(), r"a web page \(403 Forbidden \[31m\): "),
        (b"\xef\xbb\xbf  <HTML><body>Sign in" + b" " * 6000, "a web page: its address asks for a login"),
        (ERROR.encode(), r"an XML document \(AccessDenied\): what a bucket answers"),
        (b"<Error><Code>NoSuchKey</Code></Error>", r"an XML document \(NoSuchKey\)"),
        (b'{"error": {"code": 401, "message": "\x1b[2J"}}', r'a JSON document \(\{"error": \{"code": 401,'),
        (zipped(), "a zip archive: pack the files into a tar"),
        (b"PAR1" + bytes(100), "a Parquet file"),
        (gzip.compress(PAGE.encode()), r"a web page \(403"),
    ],
    ids=["pointer", "page", "page with a mark", "xml", "error", "json", "zip", "parquet", "packed page"],
)
def test_what_is_no_tar_is_called_what_it_is(path: Path, data: bytes, said: str):
    path.write_bytes(data)
    with pytest.raises(Damage, match=said) as damage:
        unpack(path)
    assert str(damage.value).isprintable()


@pytest.mark.parametrize("name", ["{}.jpg", "<html>.jpg", "[1].jpg", "PK.jpg", "BZ.jpg"])
@pytest.mark.parametrize("magic", [b"ustar\x0000", bytes(8)], ids=["ustar", "v7"])
def test_a_tar_is_not_taken_for_something_else_by_its_first_name(path: Path, name: str, magic: bytes):
    file = io.BytesIO()
    write_tar(file, [(name, b"x")])
    data = file.getvalue()
    path.write_bytes(data[:257] + magic + data[265:])
    assert not unpack(path)


@pytest.mark.parametrize("data", [b"", b"\x00" * 2048, b"neither this nor that" * 100])
def test_what_nobody_knows_is_left_to_the_reader_of_tars(path: Path, data: bytes):
    path.write_bytes(data)
    assert not unpack(path)
