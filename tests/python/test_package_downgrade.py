"""Data of a newer version is refused, and nothing is harmed.

The library under test is the older one of what is to come; where MLSERVE_OLD_MODULE
names an older one, that is tried, too. The newer data is their own, with a version
planted in it that there is not.
"""

import os
from pathlib import Path

import pytest
import redis
import upgrade

OLD = os.environ.get("MLSERVE_OLD_MODULE")
CRC64 = 0x95AC9329AC4BC9B5  # Jones's polynomial, reflected


def crc64(data):
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (CRC64 if crc & 1 else 0)
    return crc


def with_version(payload, version):
    """A DUMP whose payload says another version of its encoding: its first byte.

    Before it stand the byte of the type, the nine of its name, an opcode, and the
    length of what follows in one, two or five bytes.
    """
    assert payload[:2] == b"\x07\x81" and payload[10] == 5, "a value of a module"
    length = {0: 1, 1: 2, 2: 5}[payload[11] >> 6]
    at = 11 + length
    return signed(payload[:at] + bytes([version]) + payload[at + 1 : -10], payload[-10:-8])


def with_type_version(payload):
    """A DUMP of a type that says a newer version of its own: the name's last ten bits."""
    name = int.from_bytes(payload[2:10], "big")
    assert name & 1023 < 1023
    return signed(payload[:2] + (name + 1).to_bytes(8, "big") + payload[10:-10], payload[-10:-8])


def signed(body, rdb_version):
    body += rdb_version
    return body + crc64(body).to_bytes(8, "little")


KEYS = ["limit:fixed", "limit:sliding", "limit:bucket", "permit", "cached", "row", "many:1"]


@pytest.fixture(scope="module", params=["this", *(["old"] if OLD else [])])
def older(request, module, tmp_path_factory):
    """A server of an older library, and the file it saved."""
    library = module if request.param == "this" else Path(OLD).resolve()
    directory = tmp_path_factory.mktemp("older")
    server = upgrade.Server(library, directory)
    try:
        assert server.ready(), server.log.read_text()
        server.library = library
        server.known = upgrade.write(server.client)
        server.client.save()
        server.rdb = (directory / "dump.rdb").read_bytes()
        yield server
    finally:
        server.end()


@pytest.mark.parametrize("key", KEYS)
def test_a_newer_payload_is_refused_and_changes_nothing(key, older):
    client = older.client
    payload = client.dump(key)
    assert signed(payload[:-10], payload[-10:-8]) == payload, "the checksum is computed rightly"
    before = {name: client.dump(name) for name in client.scan_iter()}
    assert before.keys() >= {name.encode() for name in KEYS}
    for newer in [with_version(payload, 200), with_type_version(payload)]:
        for target in [key, "new"]:
            with pytest.raises(redis.ResponseError, match="Bad data format"):
                client.restore(target, 0, newer, replace=True)
    assert {name: client.dump(name) for name in client.scan_iter()} == before


@pytest.mark.parametrize("key", KEYS)
def test_a_file_with_a_newer_payload_is_refused_and_left_alone(key, older, start, tmp_path):
    payload = older.client.dump(key)
    value = payload[1:-10]
    assert older.rdb.count(value) == 1
    newer = older.rdb.replace(value, with_version(payload, 200)[1:-10])[:-8] + bytes(8)  # no checksum
    (tmp_path / "dump.rdb").write_bytes(newer)
    server = start(older.library, tmp_path)
    assert not server.ready()
    assert "The RDB file contains module data for the module type" in server.log.read_text()
    assert (tmp_path / "dump.rdb").read_bytes() == newer


def test_the_file_that_it_saved_loads(older, start, tmp_path):
    (tmp_path / "dump.rdb").write_bytes(older.rdb)
    server = start(older.library, tmp_path)
    assert server.ready(), server.log.read_text()
    upgrade.check(server.client, older.known)
