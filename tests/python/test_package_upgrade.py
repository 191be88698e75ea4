"""An upgrade keeps the data, from the library that MLSERVE_OLD_MODULE names:

    MLSERVE_OLD_MODULE=old.so MLSERVE_MODULE=new.so pytest tests/python/test_package_upgrade.py

Collected only where it is set. tests/it/old_data.rs always tries what 3efdbb3 left
behind, the first commit whose data is promised to load.
"""

import hashlib
import os

import pytest
import upgrade

OLD = os.environ.get("MLSERVE_OLD_MODULE")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """What the old library knew, its RDB file, its DUMPs, and its AOF."""
    directory = tmp_path_factory.mktemp("old")
    server = upgrade.Server(OLD, directory, "--appendonly", "yes", "--rdbcompression", "yes")
    try:
        assert server.ready(), server.log.read_text()
        known = upgrade.write(server.client)
        server.client.save()
        rdb = (directory / "dump.rdb").read_bytes()
        dumps = upgrade.dumps(server.client)
    finally:
        server.end()
    return {"known": known, "dumps": dumps, "rdb": rdb, "aof": directory / "appendonlydir"}


def test_an_rdb_file_loads_and_so_does_what_is_saved_then(written, module, start, tmp_path):
    (tmp_path / "dump.rdb").write_bytes(written["rdb"])
    for again in [False, True]:
        server = start(module, tmp_path)
        assert server.ready(), server.log.read_text()
        # The versions in force are no key: they are in the file beside the keys.
        assert server.client.execute_command("ML.CACHEGET", "retired:key", "v1") is None
        assert server.client.exists("retired:key")
        server.client.save()
        if again:
            upgrade.check(server.client, written["known"])
        server.end()


def test_dumps_are_restored(written, module, start, tmp_path):
    server = start(module, tmp_path)
    assert server.ready(), server.log.read_text()
    upgrade.restore(server.client, written["dumps"])
    upgrade.check(server.client, written["known"])


def test_an_aof_loads_or_is_refused_by_name(written, module, start, tmp_path):
    """Its increments hold commands that a newer version may not have any more."""
    (tmp_path / "appendonlydir").symlink_to(written["aof"])
    before = files(written["aof"])
    server = start(module, tmp_path, "--appendonly", "yes")
    if server.ready():
        upgrade.check(server.client, written["known"])
    else:
        assert "unknown command 'ml." in server.log.read_text().lower()
        assert files(written["aof"]) == before


def files(directory):
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in directory.iterdir()}
