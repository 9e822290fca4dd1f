"""Archives as they come: cut, altered, hostile, or written by someone else's tool."""

from __future__ import annotations

import io
import re
import tarfile
from itertools import pairwise

import pytest

from hqclip.data.tar import BLOCK, MAX_PADDING, Damage, Member, is_safe, members, write_tar

CONTENTS = [
    (f"{number:032x}.{extension}", f"{number} {extension} ".encode() * size)
    for number in range(5)
    for extension, size in (("jpg", 100), ("txt", 1), ("json", 20))
]


def archive(contents: list[tuple[str, bytes]] = CONTENTS) -> bytes:
    file = io.BytesIO()
    write_tar(file, contents)
    return file.getvalue()


def read(data: bytes) -> list[Member]:
    return list(members(io.BytesIO(data), len(data)))


def contents_of(data: bytes) -> list[tuple[str, bytes]]:
    return [(m.name, data[m.offset : m.offset + m.size]) for m in read(data) if m.is_file]


def until_damage(data: bytes) -> tuple[list[str], str]:
    """What is read before the damage, and what is said about it."""
    names = []
    with pytest.raises(Damage) as damage:
        for member in members(io.BytesIO(data), len(data)):
            names.append(member.name)
    return names, str(damage.value)


def changed(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def by_tarfile(names: list[str], archive_format: int, **about: object) -> bytes:
    """An archive of small files as Python's own library writes it."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=archive_format) as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(name.encode())
            for key, value in about.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(name.encode()))
    return file.getvalue()


def odd_header(
    kind: bytes = b"0",
    name: bytes = b"odd.jpg",
    size: bytes = b"00000000000\0",
    magic: bytes = b"ustar\x0000",
    prefix: bytes = b"",
) -> bytes:
    """A header with a checksum that fits, whatever it says."""
    header = bytearray(BLOCK)
    header[: len(name)] = name
    header[124 : 124 + len(size)] = size
    header[156:157] = kind
    header[257:265] = magic
    header[345 : 345 + len(prefix)] = prefix
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def test_what_is_written_is_what_is_read():
    assert contents_of(archive()) == CONTENTS


def test_tarfile_reads_what_we_write():
    with tarfile.open(fileobj=io.BytesIO(archive())) as tar:
        assert [(info.name, tar.extractfile(info).read()) for info in tar] == CONTENTS  # type: ignore[union-attr]
        assert all(info.isreg() and info.mtime == 0 and info.mode == 0o644 for info in tar)


def test_the_same_files_give_the_same_bytes():
    assert archive() == archive()


def test_an_archive_of_nothing_is_whole():
    assert read(archive([])) == []


def test_empty_files_are_members():
    assert contents_of(archive([("a.txt", b""), ("b.txt", b"b")])) == [("a.txt", b""), ("b.txt", b"b")]


def test_a_name_that_would_be_cut_is_not_written():
    with pytest.raises(ValueError, match="too long"):
        archive([("é" * 51, b"")])
    assert contents_of(archive([("é" * 50, b"x")])) == [("é" * 50, b"x")]


@pytest.mark.parametrize("archive_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_archives_of_other_tools_are_read_with_their_long_names(archive_format: int):
    names = ["a.jpg", "folder/" * 12 + "b.jpg", "folder/" * 20 + "c.jpg", "d.jpg", "./e.jpg", "Öl.jpg"]
    if archive_format != tarfile.USTAR_FORMAT:
        names += ["x" * 150 + ".jpg", "./" + "y" * 150 + ".jpg", "z.jpg", "Größe" * 40 + ".jpg"]
    found = contents_of(by_tarfile(names, archive_format, mtime=1234567890.5, uname="someone"))
    assert [name for name, _ in found] == [name.removeprefix("./") for name in names]
    assert [data.decode() for _, data in found] == names


def test_an_extended_header_for_the_whole_archive_is_passed_over():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "by hand"}) as tar:
        tar.addfile(tarfile.TarInfo("a.txt"))
    assert [member.name for member in read(file.getvalue())] == ["a.txt"]


def test_extended_attributes_of_a_mac_do_not_end_the_reading():
    pax = {"LIBARCHIVE.xattr.com.apple.metadata": "A" * 3000}
    data = by_tarfile(["a.jpg", "b.jpg"], tarfile.PAX_FORMAT, pax_headers=pax)
    assert [member.name for member in read(data)] == ["a.jpg", "b.jpg"]


MIDDLE = read(archive())[6]  # the image of the third sample
HEADER = MIDDLE.offset - BLOCK
DAMAGES = {
    "cut between two samples": (lambda data: data[:HEADER], 6, f"cut at byte {HEADER}: the header of member 6"),
    "cut between image and text": (
        lambda data: data[: HEADER + 2 * BLOCK + BLOCK],
        7,
        rf"cut at byte {HEADER + 3 * BLOCK}: the header of member 7",
    ),
    "cut in a header": (lambda data: data[: HEADER + 100], 6, f"cut at byte {HEADER + 100}: the header of member 6"),
    "cut in the data": (
        lambda data: data[: MIDDLE.offset + 100],
        6,
        rf"cut at byte {MIDDLE.offset + 100}: member 6 \(0{{31}}2.jpg\) should go on to byte {MIDDLE.offset + 600}",
    ),
    "cut in the padding": (
        lambda data: data[: MIDDLE.offset + MIDDLE.size],
        7,
        f"cut at byte {MIDDLE.offset + MIDDLE.size}: the header of member 7",
    ),
    "no end": (lambda data: data[: -2 * BLOCK], 15, "the header of member 15 at byte [0-9]+ is missing"),
    "half an end": (lambda data: data[:-BLOCK], 15, "the end of the archive is missing after 15 members"),
    "a flipped bit in a name": (
        lambda data: changed(data, HEADER + 5, b"\x31"),
        6,
        f"the header of member 6 at byte {HEADER} is damaged",
    ),
    "a flipped bit in a size": (
        lambda data: changed(data, HEADER + 130, b"\x35"),
        6,
        f"the header of member 6 at byte {HEADER} is damaged",
    ),
    "a flipped bit in a checksum": (
        lambda data: changed(data, HEADER + 150, b"\x37"),
        6,
        f"the header of member 6 at byte {HEADER} is damaged",
    ),
    "a zeroed header": (
        lambda data: changed(data, HEADER, bytes(BLOCK)),
        6,
        f"the header of member 6 at byte {HEADER} is zeroed, but data follows",
    ),
    "two zeroed blocks, then data": (
        lambda data: changed(data, HEADER, bytes(2 * BLOCK)),
        6,
        f"member 6 at byte {HEADER} is zeroed, but data follows",
    ),
    "another archive behind the end": (lambda data: data + data, 15, "is zeroed, but data follows"),
    "nothing at all": (lambda data: b"", 0, "cut at byte 0: the header of member 0"),
    "a web page": (lambda data: b"<html>404</html>" * 100, 0, "the header of member 0 at byte 0 is damaged"),
    "compressed": (lambda data: b"\x1f\x8b\x08" + data, 0, "the header of member 0 at byte 0 is damaged"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_ends_the_reading_with_its_place(damage: str):
    damaged, whole, said = DAMAGES[damage]
    names, message = until_damage(damaged(archive()))
    assert names == [name for name, _ in CONTENTS[:whole]]
    assert re.search(said, message), message


def test_a_flipped_byte_in_an_image_is_not_the_archives_business():
    data = archive()
    assert read(changed(data, MIDDLE.offset + 50, b"\xff")) == read(data)


def test_every_place_at_which_an_archive_can_be_cut_is_noticed():
    data = archive(CONTENTS[:6])
    for length in range(0, len(data), 13):
        names, _ = until_damage(data[:length])
        assert names == [name for name, _ in CONTENTS[: len(names)]]


def test_padding_to_full_records_is_no_damage():
    assert contents_of(archive() + bytes(100 * BLOCK)) == CONTENTS


def test_a_hole_of_any_size_is_not_the_end():
    assert "data follows" in until_damage(archive() + bytes(256 * BLOCK) + archive())[1]
    assert "data follows" in until_damage(archive() + bytes(2 * MAX_PADDING) + archive())[1]


def test_a_tail_that_was_never_written_is_not_padding():
    names, message = until_damage(archive()[:HEADER] + bytes(2 * MAX_PADDING))
    assert len(names) == 6
    assert message == f"zeroed from byte {HEADER} on: {2 * MAX_PADDING} bytes after member 6 were never written"


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_named_but_are_no_files(kind: bytes):
    link = odd_header(kind, b"passwd.jpg")
    assert contents_of(link + archive()) == CONTENTS
    assert read(link + archive())[0] == Member("passwd.jpg", BLOCK, 0, is_file=False)
    for archive_format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        long = by_tarfile(["l" * 200], archive_format, type=kind, linkname="/x" * 90, size=0)
        assert [(member.name, member.is_file) for member in read(long)] == [("l" * 200, False)]


def test_the_times_of_gnu_tar_are_no_folder():
    """As `tar -G` writes them, in the place of the prefix of USTAR."""
    with_times = odd_header(magic=b"ustar  \0", prefix=b"15302757612\00015302757613")
    assert [member.name for member in read(with_times + archive([]))] == ["odd.jpg"]
    with_prefix = odd_header(prefix=b"folder")
    assert [member.name for member in read(with_prefix + archive([]))] == ["folder/odd.jpg"]


def test_the_name_of_an_archive_is_no_member():
    """As `tar -V` writes it, with no size at all."""
    assert contents_of(odd_header(b"V", b"my shard", size=bytes(12), magic=b"ustar  \0") + archive()) == CONTENTS


def test_folders_of_the_oldest_format_are_told_by_their_names():
    assert contents_of(odd_header(b"\0", b"folder/", magic=bytes(8)) + archive()) == CONTENTS


def test_folders_are_passed_over():
    folder = odd_header(b"5", b"folder/")
    assert contents_of(folder + archive()) == CONTENTS
    assert read(folder + archive([])) == []


@pytest.mark.parametrize(
    "name",
    ["../up.jpg", "a/../../up.jpg", "/etc/passwd.jpg", "a\\..\\b.jpg", "a\x1b[2J.jpg", "a\nb.jpg", "..", "x" * 1025],
)
def test_names_that_lead_elsewhere_or_cannot_be_shown_are_not_safe(name: str):
    assert not is_safe(name)


@pytest.mark.parametrize("name", ["a.jpg", "folder/a.jpg", "a..b.jpg", "Größe 2.jpg", "x" * 1024])
def test_ordinary_names_are_safe(name: str):
    assert is_safe(name)


def test_a_long_name_cannot_hide_where_it_leads():
    for archive_format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        data = by_tarfile(["../" * 60 + "up.jpg", "/" + "x" * 150, "./" * 2 + "../" * 60, "fine.jpg"], archive_format)
        assert [member.name for member in read(data) if is_safe(member.name)] == ["fine.jpg"]


def test_names_in_another_encoding_stay_apart():
    two = odd_header(name=b"caf\xe9.jpg") + odd_header(name=b"caf\xe8.jpg") + archive([])
    assert [member.name for member in read(two)] == ["caf\xe9.jpg", "caf\xe8.jpg"]


@pytest.mark.parametrize("kind", [b"x", b"g", b"L"])
def test_an_enormous_extended_header_is_refused_unread(kind: bytes):
    header = odd_header(kind, size=b"%011o\0" % (10 << 20))
    data = header + b"x" * (10 << 20) + archive()
    file = Counted(data)
    with pytest.raises(Damage, match=f"member 0 at byte {BLOCK} has an extended header of {10 << 20} bytes"):
        list(members(file, len(data)))
    assert file.taken == BLOCK


class Counted(io.BytesIO):
    """A file that knows how much of it was read."""

    taken = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.taken += len(data)
        return data


def test_only_headers_are_read():
    big = archive([(f"{number}.jpg", bytes(1 << 20)) for number in range(4)])
    file = Counted(big)
    assert len(list(members(file, len(big)))) == 4
    assert file.taken < 10 * BLOCK


@pytest.mark.parametrize(
    "size",
    [b"-0000000001\0", b"\xff" * 12, b"\x80" + bytes(10) + b"\x05", b"0x000000010\0", b"99999999999\0", bytes(12)],
)
def test_a_size_that_is_no_plain_number_is_damage(size: bytes):
    assert "member 0 at byte 0 has no plain size" in until_damage(odd_header(size=size) + archive())[1]


def test_a_size_beyond_the_end_is_damage_even_if_enormous():
    assert "should go on to byte" in until_damage(odd_header(size=b"77777777777\0") + archive())[1]


def test_offsets_say_where_the_bytes_lie():
    found = read(archive())
    assert all(first.offset + first.size <= second.offset - BLOCK for first, second in pairwise(found))
    assert [m.offset % BLOCK for m in found] == [0] * len(found)
