"""What scripts/package made, in dist/: names, versions, contents, and the library's needs."""

import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest
import redis
from conftest import ROOT

DIST = ROOT / "dist"
CARGO = (ROOT / "Cargo.toml").read_text()
VERSION = re.search(r'^version = "(.*)"$', CARGO, re.M)[1]
LIBRARY = f"mlserve-{VERSION}-linux-gnu-x86_64"
GLIBC = (2, 28)


def file(name):
    path = DIST / name
    if not path.is_file():
        pytest.fail(f"there is no dist/{name}: run scripts/package first")
    return path


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True, errors="replace").stdout


# --- versions -------------------------------------------------------------------

VERSIONED = {
    "Cargo.lock": (f'name = "mlserve"\nversion = "{VERSION}"', 'name = "mlserve"\nversion = "7.7.7"'),
    "src/lib.rs": ("    version: 1", "    version: 7"),
    "clients/python/pyproject.toml": (f'\nversion = "{VERSION}"', '\nversion = "7.7.7"'),
    "packaging/python-module/pyproject.toml": (f'\nversion = "{VERSION}"', '\nversion = "7.7.7"'),
}


def version_of(tree):
    command = [sys.executable, str(tree / "packaging/facts.py"), "version"]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture
def copy(tmp_path):
    """All files that name the version, to be changed."""
    for name in ["Cargo.toml", "packaging/facts.py", *VERSIONED]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_all_files_have_one_version():
    said = version_of(ROOT)
    assert (said.stdout, said.stderr) == (f"{VERSION}\n", "")


@pytest.mark.parametrize("name", VERSIONED)
def test_a_file_of_another_version_is_named(name, copy):
    here, other = VERSIONED[name]
    text = (copy / name).read_text()
    assert text.count(here) == 1
    (copy / name).write_text(text.replace(here, other))
    said = version_of(copy)
    assert said.returncode == 1 and f"{name} says 7" in said.stderr


def test_the_module_that_the_python_package_wants_is_of_its_version(copy):
    project = copy / "clients/python/pyproject.toml"
    project.write_text(project.read_text().replace(f"-module=={VERSION}", "-module==7.7.7"))
    said = version_of(copy)
    assert said.returncode == 1 and "the module says 7.7.7" in said.stderr


def test_a_new_version_is_asked_of_all(copy):
    cargo = copy / "Cargo.toml"
    cargo.write_text(cargo.read_text().replace(f'version = "{VERSION}"', 'version = "1.12.3-rc.1"', 1))
    said = version_of(copy)
    assert "src/lib.rs says" in said.stderr and "not 11203" in said.stderr
    assert "clients/python/pyproject.toml says" in said.stderr and "not 1.12.3rc1" in said.stderr


# --- the library ----------------------------------------------------------------


def test_the_library_is_small_and_stripped():
    library = file(f"{LIBRARY}.so")
    assert library.stat().st_size <= 3_000_000
    sections = re.findall(r"^ +\d+ (\S+)", run("objdump", "-h", str(library)), re.M)
    assert ".text" in sections and ".gnu_debuglink" in sections
    assert not [name for name in sections if name.startswith((".debug", ".zdebug", ".symtab"))]


def test_its_debug_information_is_beside_it():
    debug = file(f"{LIBRARY}.so.debug")
    assert ".debug_line" in run("objdump", "-h", str(debug))
    named = run("readelf", "--string-dump=.gnu_debuglink", str(file(f"{LIBRARY}.so")))
    assert debug.name in named


def test_it_wants_no_newer_glibc_and_no_library_that_is_not_everywhere():
    library = str(file(f"{LIBRARY}.so"))
    wanted = set(re.findall(r"\bGLIBC_([\d.]+)", run("objdump", "-T", library)))
    versions = {tuple(map(int, version.split("."))) for version in wanted}
    assert versions and max(versions) <= GLIBC, wanted
    needed = set(re.findall(r"NEEDED +(\S+)", run("objdump", "-p", library)))
    libc = {"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "ld-linux-x86-64.so.2"}
    assert needed and needed <= libc | {"libgcc_s.so.1"}


def test_it_unwinds_as_the_system_does():
    """Zig's own unwinder ends a Redis whose allocator aligns to 8: see packaging/libgcc_s.c."""
    library = str(file(f"{LIBRARY}.so"))
    assert "libgcc_s.so.1" in run("objdump", "-p", library)
    assert re.search(r"\*UND\*.* _Unwind_RaiseException$", run("objdump", "-T", library), re.M)


def test_it_is_loaded_as_the_version_that_it_is(start_server):
    port = start_server(f"loadmodule {file(f'{LIBRARY}.so')}\nsave ''\n")
    [module] = redis.Redis(port=port, protocol=2).execute_command("MODULE LIST")
    module = dict(zip(module[::2], module[1::2])) if isinstance(module, list) else module
    major, minor, patch = map(int, VERSION.split("-")[0].split("."))
    assert module[b"name"] == b"ml" and module[b"ver"] == major * 10_000 + minor * 100 + patch


# --- what it is packed into -----------------------------------------------------


def test_the_sums_are_of_all_files():
    sums = dict(reversed(line.split("  ")) for line in file("SHA256SUMS").read_text().splitlines())
    assert sums == {
        path.name: sha256(path.read_bytes()) for path in DIST.iterdir() if path.name != "SHA256SUMS"
    }
    python = VERSION.replace("-", "")
    assert set(sums) >= {
        f"{LIBRARY}.so",
        f"{LIBRARY}.so.debug",
        f"{LIBRARY}.tar.gz",
        f"mlserve-{VERSION}.cdx.json",
        f"redis_mlserve-{python}-py3-none-any.whl",
        f"redis_mlserve-{python}.tar.gz",
        f"redis_mlserve_module-{python}-py3-none-manylinux_2_28_x86_64.whl",
    }
    assert [name for name in sums if re.fullmatch(r"mlserve_.*_amd64\.deb", name)]
    assert [name for name in sums if re.fullmatch(r"mlserve-.*\.x86_64\.rpm", name)]


def settings(text):
    return re.findall(r"^#(ml\.\S+ \S+)$", text, re.M)


def check_contents(read, library):
    """The same files wherever it is packed: `read` gives one by its last name."""
    assert sha256(read("mlserve.so")) == sha256(file(library).read_bytes())
    notices = read("THIRD-PARTY-LICENSES").decode()
    for crate in ["redis-module", "serde_json", "xxhash-rust", "zmij"]:
        assert re.search(rf"^  {crate} \d.*: ", notices, re.M)
    assert "Redistribution and use in source and binary forms" in notices
    assert "proptest" not in notices and "bindgen" not in notices
    assert b"\nloadmodule /usr/lib/mlserve/mlserve.so\n" in read("load.conf")
    example = (ROOT / "redis.conf.example").read_text()
    assert settings(read("mlserve.conf").decode()) == re.findall(r"^(ml\.\S+ \S+)$", example, re.M)


def members(archive):
    return {member.name.split("/")[-1]: member for member in archive.getmembers() if member.isfile()}


def test_the_tarball():
    with tarfile.open(file(f"{LIBRARY}.tar.gz")) as archive:
        names = members(archive)
        assert {name.split("/")[0] for name in archive.getnames()} == {LIBRARY}
        assert names["mlserve.so"].mode == 0o755
        assert {"LICENSE", "redis.conf.example"} <= set(names)
        check_contents(lambda name: archive.extractfile(names[name]).read(), f"{LIBRARY}.so")


def ar_members(data):
    """Of an ar archive, what a .deb is."""
    assert data[:8] == b"!<arch>\n"
    at, found = 8, {}
    while at < len(data):
        name, size = data[at : at + 16].decode().strip().rstrip("/"), int(data[at + 48 : at + 58])
        found[name] = data[at + 60 : at + 60 + size]
        at += 60 + size + size % 2
    return found


def test_the_deb():
    [deb] = DIST.glob("mlserve_*_amd64.deb")
    parts = ar_members(deb.read_bytes())
    with tarfile.open(fileobj=io.BytesIO(parts["control.tar.gz"])) as archive:
        control = archive.extractfile("./control").read().decode()
        conffiles = archive.extractfile("./conffiles").read().decode().split()
    assert re.search(rf"^Version: {re.escape(VERSION.replace('-', '~'))}-1$", control, re.M)
    assert "Depends: libc6 (>= 2.28), libgcc-s1 | libgcc1\n" in control
    assert conffiles == ["/etc/mlserve/mlserve.conf"]
    with tarfile.open(fileobj=io.BytesIO(parts["data.tar.gz"])) as archive:
        names = members(archive)
        check_contents(lambda name: archive.extractfile(names[name]).read(), f"{LIBRARY}.so")
        links = {member.name: member.linkname for member in archive.getmembers() if member.issym()}
    assert links == {
        f"./usr/lib/{server}/modules/mlserve.so": "../../mlserve/mlserve.so"
        for server in ["redis", "valkey"]
    }


def test_the_wheels():
    [module] = DIST.glob("redis_mlserve_module-*x86_64.whl")
    with zipfile.ZipFile(module) as wheel:
        [library] = [info for info in wheel.infolist() if info.filename.endswith(".so")]
        assert library.filename == "mlserve_module/mlserve.so" and library.external_attr >> 16 & 0o111
        assert sha256(wheel.read(library)) == sha256(file(f"{LIBRARY}.so").read_bytes())
        assert any(name.endswith("licenses/THIRD-PARTY-LICENSES") for name in wheel.namelist())
    [client] = DIST.glob("redis_mlserve-*.whl")
    with zipfile.ZipFile(client) as wheel:
        assert {"mlserve/__init__.py", "mlserve/py.typed", "mlserve/testing.py"} <= set(wheel.namelist())
        [metadata] = [name for name in wheel.namelist() if name.endswith("/METADATA")]
        assert "Requires-Dist: redis-mlserve-module==" in wheel.read(metadata).decode()


def test_the_python_package_has_the_licence_of_the_whole():
    assert (ROOT / "clients/python/LICENSE").read_text() == (ROOT / "LICENSE").read_text()


def test_the_bill_of_materials_names_what_is_linked_in():
    bill = json.loads(file(f"mlserve-{VERSION}.cdx.json").read_text())
    assert bill["bomFormat"] == "CycloneDX" and bill["metadata"]["component"]["version"] == VERSION
    named = {component["name"] for component in bill["components"]}
    dependencies = re.search(r"^\[dependencies\]\n((?:.+\n)+)", CARGO, re.M)[1]
    wanted = set(re.findall(r"^([\w-]+) = ", dependencies, re.M))
    assert "redis-module" in wanted and wanted <= named
    assert not named & {"proptest", "tempfile", "bindgen", "cc"}
    for component in bill["components"]:
        assert component["licenses"][0]["expression"] and len(component["hashes"][0]["content"]) == 64
    [edges] = bill["dependencies"]
    assert sorted(edges["dependsOn"]) == sorted(component["bom-ref"] for component in bill["components"])
