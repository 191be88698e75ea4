"""What the packages say of themselves, from the one place where it stands.

    python packaging/facts.py version              the version, once all files agree on it
    python packaging/facts.py settings             /etc/mlserve/mlserve.conf
    python packaging/facts.py notices TRIPLE       licences of what is linked into the library
    python packaging/facts.py bill TRIPLE VERSION  the bill of materials, as CycloneDX

The version is Cargo.toml's. The settings are redis.conf.example's, each commented
out with its default. What is linked in is what cargo says it builds the library
from, for a target triple; a line of NOTICES_ALSO, "name: licence=file", adds what
the toolchain links into it.
"""

import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LICENCE = re.compile(r"(LICEN[CS]E|COPYING|COPYRIGHT|NOTICE|UNLICENSE)([-._].*)?", re.IGNORECASE)


def found(pattern: str, file: str) -> str:
    """The one place in a file where the pattern fits."""
    places = re.findall(pattern, (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
    if len(places) != 1:
        sys.exit(f"error: {file}: {len(places)} places with a version instead of one")
    return str(places[0])


def python_version(version: str) -> str:
    """A version of Cargo's as Python spells it: 1.2.0-rc.1 is 1.2.0rc1."""
    return re.sub(
        r"-(alpha|beta|rc)\.?",
        lambda m: {"alpha": "a", "beta": "b"}.get(m[1], m[1]),
        version,
    )


def server_version(version: str) -> str:
    """A version as the servers show it for a module: 1.2.3 is 10203."""
    major, minor, patch = (int(part) for part in version.split("-")[0].split("."))
    return str(major * 10_000 + minor * 100 + patch)


def versions() -> Iterator[tuple[str, str, str]]:
    """Each file that names the version: what it says, and what it should."""
    version = cargo_version()
    python = python_version(version)
    lock = found(r'^name = "mlserve"\nversion = "(.*)"$', "Cargo.lock")
    yield "Cargo.lock", lock, version
    yield (
        "src/lib.rs",
        found(r"^    version: (\d+),$", "src/lib.rs"),
        server_version(version),
    )
    for project in ["clients/python", "packaging/python-module"]:
        file = f"{project}/pyproject.toml"
        yield file, found(r'^version = "(.*)"$', file), python
    file = "clients/python/pyproject.toml"
    yield f"{file}: the module", found(r'"redis-mlserve-module==([^";]+)', file), python


def cargo_version() -> str:
    """Read the version that counts."""
    return found(r'^version = "(.*)"$', "Cargo.toml")


def version() -> str:
    """Answer the version, or end with what disagrees."""
    wrong = [f"{file} says {said}, not {due}" for file, said, due in versions() if said != due]
    if wrong:
        sys.exit(f"error: Cargo.toml has version {cargo_version()}; " + "; ".join(wrong))
    return cargo_version()


def settings() -> str:
    """Write the settings that the packages install."""
    example = (ROOT / "redis.conf.example").read_text(encoding="utf-8")
    # A comment, and the settings that it is on.
    pattern = r"^((?:#(?! ---).*\n)+)((?:ml\.\S+ \S+\n)+)"
    blocks = re.findall(pattern, example, re.MULTILINE)
    return (
        "# Settings of mlserve, read by /usr/share/mlserve/load.conf once that is included\n"
        "# from redis.conf or valkey.conf. Each stands here with its default; take the # off\n"
        "# to change it. For those of the server see /usr/share/doc/mlserve/redis.conf.example.\n"
        + "".join(f"\n{comment}{lines.replace('ml.', '#ml.')}" for comment, lines in blocks)
    )


def linked(triple: str) -> list[dict[str, Any]]:
    """The crates that the library is linked from, itself left out."""
    command = [
        "cargo",
        "metadata",
        "--format-version=1",
        "--locked",
        f"--filter-platform={triple}",
    ]
    out = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout  # noqa: S603
    metadata = json.loads(out)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    root = metadata["resolve"]["root"]
    seen, todo = {root}, [root]
    while todo:
        for dependency in nodes[todo.pop()]["deps"]:
            name = dependency["pkg"]
            # Neither what only builds or tests it, nor macros, end up in it.
            linked_in = any(kind["kind"] is None for kind in dependency["dep_kinds"])
            macro = any("proc-macro" in target["kind"] for target in packages[name]["targets"])
            if linked_in and not macro and name not in seen:
                seen.add(name)
                todo.append(name)
    seen.discard(root)
    return sorted((packages[name] for name in seen), key=lambda p: (p["name"], p["version"]))


def notices(triple: str) -> str:
    """Names, licences and their texts; a text that many share stands once."""
    texts: dict[str, list[str]] = {}
    table = []
    without = []
    for crate in linked(triple):
        name = f"{crate['name']} {crate['version']}"
        table.append(f"  {name}: {crate['license']}")
        files = sorted(
            file
            for file in Path(crate["manifest_path"]).parent.iterdir()
            if file.is_file() and LICENCE.fullmatch(file.name)
        )
        for file in files:
            text = file.read_text(encoding="utf-8").strip()
            texts.setdefault(text, []).append(name)
        if not files:
            without.append(f"{name} ({crate['license']})")
    for entry in filter(None, os.environ.get("NOTICES_ALSO", "").splitlines()):
        # "name: licence=file"; some toolchains come without the file.
        name, _, place = entry.partition("=")
        table.append(f"  {name}")
        if Path(place).is_file():
            texts.setdefault(Path(place).read_text(encoding="utf-8").strip(), []).append(name)
        else:
            without.append(name)
    parts = ["What is linked into the library of mlserve, and under which licences:\n"]
    parts.append("\n".join(table) + "\n")
    if without:
        parts.append("Packaged without a text of their licence: " + ", ".join(without) + ".\n")
    line = "-" * 78
    parts += [f"{line}\n{', '.join(names)}\n{line}\n\n{text}\n" for text, names in texts.items()]
    return "\n".join(parts)


def bill(triple: str, version: str) -> str:
    """Write the bill of materials."""
    lock = (ROOT / "Cargo.lock").read_text(encoding="utf-8")
    checksums = {
        (name, version): checksum
        for name, version, checksum in re.findall(
            r'^name = "(.*)"\nversion = "(.*)"\nsource = .*\nchecksum = "(.*)"$',
            lock,
            re.MULTILINE,
        )
    }

    def component(crate: dict[str, Any]) -> dict[str, Any]:
        purl = f"pkg:cargo/{crate['name']}@{crate['version']}"
        return {
            "type": "library",
            "bom-ref": purl,
            "name": crate["name"],
            "version": crate["version"],
            # Cargo's older spelling of "or" is no SPDX expression.
            "licenses": [{"expression": crate["license"].replace("/", " OR ")}],
            "hashes": [
                {
                    "alg": "SHA-256",
                    "content": checksums[crate["name"], crate["version"]],
                }
            ],
            "purl": purl,
        }

    crates = [component(crate) for crate in linked(triple)]
    itself = f"pkg:generic/mlserve@{version}"
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        # The same for the same contents, so that a build can be repeated.
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, itself + lock)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "library",
                "bom-ref": itself,
                "name": "mlserve",
                "version": version,
                "licenses": [{"expression": "MIT"}],
            }
        },
        "components": crates,
        "dependencies": [{"ref": itself, "dependsOn": [crate["purl"] for crate in crates]}],
    }
    return json.dumps(document, indent=2) + "\n"


def main() -> None:
    """Run the task that is named."""
    tasks: dict[str, Callable[..., str]] = {
        "version": lambda: version() + "\n",
        "settings": settings,
        "notices": notices,
        "bill": bill,
    }
    if len(sys.argv) < 2 or sys.argv[1] not in tasks:
        sys.exit(__doc__)
    sys.stdout.write(tasks[sys.argv[1]](*sys.argv[2:]))


if __name__ == "__main__":
    main()
