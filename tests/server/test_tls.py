"""The gateway's certificate: which versions of TLS, what is refused, and a change while it is in use."""

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from alphatier_server.errors import ServeError
from alphatier_server.process.tls import Certificate
from support.certificates import lock, self_signed


@asynccontextmanager
async def listening(certificate: Certificate) -> AsyncIterator[int]:
    """A server that greets every connection, on the port that is yielded."""

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=certificate.context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def name_shown(port: int, trusted: Path) -> str:
    """The common name of the certificate that a client gets who trusts this one."""
    context = ssl.create_default_context(cafile=str(trusted))
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    shown = writer.get_extra_info("peercert")
    assert await reader.read() == b"hello"
    writer.close()
    return str(shown["subject"][0][0][1])


async def test_a_changed_certificate_is_used_for_new_connections(tmp_path: Path) -> None:
    first, key = self_signed(tmp_path / "first", "first")
    second, second_key = self_signed(tmp_path / "second", "second")
    live, live_key = tmp_path / "cert.pem", tmp_path / "key.pem"
    shutil.copy(first, live)
    shutil.copy(key, live_key)
    certificate = Certificate(live, live_key)
    told: asyncio.Queue[str] = asyncio.Queue()
    watching = asyncio.create_task(certificate.watch(told.put_nowait, seconds=0.01))
    async with listening(certificate) as port:
        assert await name_shown(port, first) == "first"
        shutil.copy(second, tmp_path / "new")
        (tmp_path / "new").replace(live)  # for a moment it does not fit the key
        shutil.copy(second_key, live_key)
        async with asyncio.timeout(10):
            while "was read again" not in await told.get():
                pass
        assert await name_shown(port, second) == "second"
    watching.cancel()


async def test_a_certificate_that_does_not_fit_its_key_changes_nothing(tmp_path: Path) -> None:
    live, key = self_signed(tmp_path / "live", "live")
    other, _ = self_signed(tmp_path / "other", "other")
    good = shutil.copy(live, tmp_path / "good.pem")
    certificate = Certificate(live, key)
    told: list[str] = []
    async with listening(certificate) as port:
        shutil.copy(other, live)
        certificate.reload_and_announce(told.append)
        assert "cannot be used together" in told[0]
        assert "stays in use" in told[0]
        assert await name_shown(port, Path(good)) == "live"


async def test_versions_before_1_2_are_refused(tmp_path: Path) -> None:
    certificate = Certificate(*self_signed(tmp_path, "old"))
    assert certificate.context.minimum_version == ssl.TLSVersion.TLSv1_2
    old = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        only_tls_1_1(old)
    async with listening(certificate) as port:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", port, ssl=old)


def only_tls_1_1(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_1
    context.maximum_version = ssl.TLSVersion.TLSv1_1


def test_a_certificate_and_key_in_one_file_are_enough(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path, "both")
    both = tmp_path / "both.pem"
    both.write_text(certificate.read_text() + key.read_text())
    Certificate(both, None)


def test_a_key_with_a_password_is_refused_instead_of_asking_on_the_terminal(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path, "locked")
    with pytest.raises(ServeError, match="without a password"):
        Certificate(certificate, lock(key))


@pytest.mark.parametrize("missing", ["cert.pem", "key.pem"])
def test_a_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    certificate, key = self_signed(tmp_path, "half")
    (tmp_path / missing).unlink()
    with pytest.raises(ServeError, match=missing):
        Certificate(certificate, key)
