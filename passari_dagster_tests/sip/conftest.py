"""What the tests of the packager share: a signing key, a directory to fill, and the independent judge."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from passari_dagster.sip.build import Signer, load_signer
from passari_dagster_tests.conftest import shared
from passari_dagster_tests.sip.content import certificate, private_pem


@pytest.fixture(scope="session")
def museum_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="session")
def pem(museum_key: rsa.RSAPrivateKey, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and certificate in one file."""
    path = tmp_path_factory.mktemp("key") / "sign.pem"
    path.write_bytes(private_pem(museum_key) + certificate(museum_key))
    return path


@pytest.fixture(scope="session")
def cert(pem: Path) -> Path:
    """The certificate alone, as the DPS has registered it."""
    path = pem.with_name("cert.pem")
    data = pem.read_text()
    path.write_text(data[data.index("-----BEGIN CERTIFICATE") :])
    return path


@pytest.fixture(scope="session")
def signer(pem: Path) -> Signer:
    return load_signer(pem)


@pytest.fixture
def sip(tmp_path: Path) -> Path:
    path = tmp_path / "sip"
    path.mkdir()
    return path


@pytest.fixture(scope="session")
def judge(cert: Path) -> Callable[[Path], list[str]]:
    """Violations that the independent judge finds in a package."""
    script = shared("judge/judge.py")
    # One place for all workers and runs: the judge compiles its rules once and renames them into place.
    cache = Path(tempfile.gettempdir()) / f"passari-judge-{os.getuid()}"
    cache.mkdir(exist_ok=True)

    def run(tar: Path) -> list[str]:
        result = subprocess.run(
            [sys.executable, str(script), str(tar), "--cert", str(cert)],
            capture_output=True,
            text=True,
            env={**os.environ, "JUDGE_CACHE": str(cache)},
            timeout=300,
            check=False,
        )
        lines = result.stdout.splitlines()
        assert lines[-1:] == [line for line in lines if line.startswith("judge: ")], result.stdout + result.stderr
        violations = [line for line in lines if line.startswith("VIOLATION")]
        assert (result.returncode == 0) == (not violations), result.stdout + result.stderr
        return violations

    return run
