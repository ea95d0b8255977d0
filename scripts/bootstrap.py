"""Put uv into a virtual environment with nothing but the standard library.

Called by setup.sh when uv is not on PATH: `python bootstrap.py .venv`. It prefers venv and pip, which follow the user's pip
configuration; a Python without them (Debian's, before `apt install python3-venv`) gets the wheel from the index directly.
"""

import hashlib
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import urllib.request
import zipfile
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from urllib.parse import urljoin

INDEX = "https://pypi.org/simple/uv/"
TIMEOUT_S = 60


def main(environment: Path) -> int:
    """Leave an executable `bin/uv` in the environment, or explain what is missing."""
    if with_pip(environment):
        return 0
    try:
        from_index(environment)
    except (OSError, LookupError, ValueError, subprocess.SubprocessError) as error:
        print(
            f"\nCould not fetch uv: {error}.\n"
            "Either install it yourself (https://docs.astral.sh/uv/), or give this Python pip and venv\n"
            "(Debian, Ubuntu: apt install python3-venv), and check that pypi.org or your mirror can be reached.",
            file=sys.stderr,
        )
        return 1
    return 0


def with_pip(environment: Path) -> bool:
    """Create the environment with venv and install uv with its pip; false if this Python cannot."""
    try:
        import ensurepip  # noqa: F401 - its absence is the question
        import venv  # noqa: F401
    except ImportError:
        return False
    python = environment / "bin" / "python"
    commands = [
        [sys.executable, "-m", "venv", str(environment)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "uv>=0.9"],
    ]
    return all(subprocess.run(command, check=False).returncode == 0 for command in commands)


class Links(HTMLParser):
    """The files of an index page, as the simple repository API writes them."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the addresses of files that were not withdrawn."""
        found = dict(attrs)
        if tag == "a" and found.get("href") and "data-yanked" not in found:
            self.urls.append(urljoin(INDEX, str(found["href"])))


def from_index(environment: Path) -> None:
    """Take uv's own binary out of its newest wheel for this platform, after checking the wheel's digest."""
    links = Links()
    links.feed(fetch(INDEX).decode())
    url, _, digest = newest_wheel(links.urls).partition("#sha256=")
    content = fetch(url)
    if hashlib.sha256(content).hexdigest() != digest:
        raise ValueError(f"the digest of {url} is wrong")
    with zipfile.ZipFile(BytesIO(content)) as wheel:
        member = next(name for name in wheel.namelist() if name.endswith("/scripts/uv"))
        binary = wheel.read(member)
    with tempfile.TemporaryDirectory() as scratch:
        uv = Path(scratch) / "uv"
        uv.write_bytes(binary)
        uv.chmod(0o755)
        create = [str(uv), "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(environment)]
        subprocess.run(create, check=True)
        shutil.copy2(uv, environment / "bin" / "uv")


def fetch(url: str) -> bytes:
    """Return what is at an address of the index."""
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
        content: bytes = answer.read()
    return content


def newest_wheel(urls: list[str]) -> str:
    """Choose the newest release's wheel that runs here."""
    machine = platform.machine().lower()
    if sys.platform == "darwin":
        system = "macosx"
    else:
        system = "musllinux" if "musl" in str(sysconfig.get_config_var("SOABI")) else "manylinux"
    found = []
    for url in urls:
        name = url.partition("#")[0].rpartition("/")[2]
        version = name.removeprefix("uv-").partition("-")[0]
        if name.endswith(f"{machine}.whl") and system in name and version.replace(".", "").isdigit():
            found.append((tuple(map(int, version.split("."))), url))
    if not found:
        raise LookupError(f"the index has no uv for {sys.platform} on {machine}")
    return max(found)[1]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
