"""How the client of the Python package connects: TLS, sockets of the file system, users."""

import subprocess

import mlserve
import pytest
import redis
from conftest import free_port
from test_client_matrix import Caller

SECRET = "p@ss:wörd/%"
ENCODED = "p%40ss%3Aw%C3%B6rd%2F%25"


def openssl(directory, *arguments):
    subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True, timeout=60)


def certified(directory, name, subject):
    """A key and a certificate by the CA in the directory."""
    openssl(directory, "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}",
            "-keyout", f"{name}.key", "-out", f"{name}.csr")  # fmt: skip
    (directory / f"{name}.ext").write_text(f"subjectAltName={subject}\n")
    openssl(directory, "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key",
            "-CAcreateserial", "-days", "2", "-extfile", f"{name}.ext", "-out", f"{name}.crt")  # fmt: skip


def authority(directory):
    """Makes a CA of one's own."""
    directory.mkdir()
    openssl(directory, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            "-subj", "/CN=a CA of the tests", "-keyout", "ca.key", "-out", "ca.crt")  # fmt: skip
    return directory


class Place:
    """A server that is reached in three ways."""

    def __init__(self, start_server, module, directory):
        self.keys = authority(directory / "keys")
        self.others = authority(directory / "others")
        certified(self.keys, "server", "IP:127.0.0.1")
        certified(self.keys, "client", "DNS:client")
        certified(self.keys, "elsewhere", "DNS:elsewhere")
        self.tls_port = free_port()
        self.socket = directory / "redis.sock"
        # Debian's server is built with TLS.
        self.port = start_server(
            f"loadmodule {module}\nsave ''\nunixsocket {self.socket}\n"
            f"tls-port {self.tls_port}\ntls-ca-cert-file {self.keys}/ca.crt\n"
            f"tls-cert-file {self.keys}/server.crt\ntls-key-file {self.keys}/server.key\n"
            "tls-auth-clients optional\n"
        )
        self.admin = redis.Redis(port=self.port)
        rights = ["~user:*", "+@connection", "+ml.ratelimit", "+ml.limitinfo"]
        self.admin.acl_setuser("app", enabled=True, passwords=[f"+{SECRET}"], reset=True)
        self.admin.execute_command("ACL", "SETUSER", "app", *rights)

    def tls(self, authority, scheme="rediss", user="", **options):
        url = f"{scheme}://{user}127.0.0.1:{self.tls_port}?ssl_ca_certs={authority}/ca.crt"
        return url + "".join(f"&{name}={value}" for name, value in options.items())

    def certified_as(self, name):
        """Has the server show another certificate."""
        self.admin.execute_command(
            "CONFIG", "SET", "tls-cert-file", f"{self.keys}/{name}.crt",
            "tls-key-file", f"{self.keys}/{name}.key")  # fmt: skip


@pytest.fixture(scope="module")
def at(start_server, module, tmp_path_factory):
    place = Place(start_server, module, tmp_path_factory.mktemp("at"))
    yield place
    place.admin.close()


@pytest.fixture(params=[(*spoken, asynchronous) for spoken in (("redis", 3), ("valkey", 2))
                        for asynchronous in (False, True)],
                ids=lambda one: f"{one[0]}-resp{one[1]}-{'asyncio' if one[2] else 'threads'}")  # fmt: skip
def by(request, at):
    """Makes a client of a URL, in each way that there is."""
    at.admin.flushall()
    made = []

    def make(url, timeout=5):
        made.append(Caller(url, *request.param, timeout=timeout))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_tls_by_a_ca_of_ones_own(at, by):
    ml = by(at.tls(at.keys))
    assert ml.ratelimit("user:1", 5, 60).remaining == 4
    # Large answers come in several records.
    ml.cacheset("pred:1", "v1", b"x" * 300_000, ttl=60)
    assert ml.cacheget("pred:1", "v1") == b"x" * 300_000
    assert by(at.tls(at.keys, "valkeys")).ratelimit("user:1", 5, 60).remaining == 3
    own = {"ssl_certfile": f"{at.keys}/client.crt", "ssl_keyfile": f"{at.keys}/client.key"}
    assert by(at.tls(at.keys, **own)).ratelimit("user:1", 5, 60).remaining == 2
    assert by(at.tls(at.keys, user=f"app:{ENCODED}@")).ratelimit("user:1", 5, 60).remaining == 1


def test_tls_refuses_whom_it_does_not_know(at, by):
    for url in (
        at.tls(at.others),
        f"rediss://127.0.0.1:{at.tls_port}",
        f"rediss://127.0.0.1:{at.port}?ssl_ca_certs={at.keys}/ca.crt",  # No TLS there.
        f"redis://127.0.0.1:{at.tls_port}",
    ):
        with pytest.raises(mlserve.Unavailable) as raised:
            by(url, timeout=0.5).ratelimit("user:1", 5, 60)
        assert not raised.value.sent, url
    at.certified_as("elsewhere")
    try:
        with pytest.raises(mlserve.Unavailable):
            by(at.tls(at.keys, ssl_check_hostname="true")).ratelimit("user:1", 5, 60)
    finally:
        at.certified_as("server")
    assert at.admin.execute_command("ML.LIMITINFO", "user:1") is None


def test_a_socket_of_the_file_system(at, by):
    ml = by(f"unix://{at.socket}")
    assert ml.ratelimit("user:1", 5, 60).remaining == 4
    assert by(f"unix://app:{ENCODED}@{at.socket}").ratelimit("user:1", 5, 60).remaining == 3
    assert by(f"unix://{at.socket}?db=3").limitinfo("user:1") is None
    with pytest.raises(mlserve.Unavailable, match="none.sock"):
        by(f"unix://{at.socket.parent}/none.sock").limitinfo("user:1")


def test_users_and_what_they_may_do(at, by):
    address = f"127.0.0.1:{at.port}"
    ml = by(f"redis://app:{ENCODED}@{address}")
    assert ml.ratelimit("user:1", 5, 60).remaining == 4
    for call, named in (
        (lambda: ml.ratelimit("other", 5, 60), "keys"),
        (lambda: ml.cacheget("user:1", "v"), "(?i)ml.cacheget"),
    ):
        with pytest.raises(mlserve.ResponseError, match=named) as raised:
            call()
        assert raised.value.code == "NOPERM"
    for user in ("app:wrong@", "nobody:wrong@"):
        with pytest.raises(mlserve.ResponseError) as raised:
            by(f"redis://{user}{address}").ratelimit("user:1", 5, 60)
        assert raised.value.code == "WRONGPASS"
    at.admin.config_set("requirepass", "needed")
    try:
        with pytest.raises(mlserve.ResponseError) as raised:
            by(f"redis://{address}").ratelimit("user:1", 5, 60)
        assert raised.value.code == "NOAUTH"
        assert by(f"redis://:needed@{address}").ratelimit("user:1", 5, 60).remaining == 3
    finally:
        at.admin.config_set("requirepass", "")
