"""What a guest boots: the kernel of a Debian package, unpacked and not installed, and an initramfs.

The package is kept below PYDPDK_CACHE, else $XDG_CACHE_HOME/pydpdk, else ~/.cache/pydpdk. The
initramfs is the kernel's cpio format "newc" (Documentation/driver-api/early-userspace/
buffer-format.rst): busybox, the init script, and the modules in an order that insmod can follow.
"""

from __future__ import annotations

import fcntl
import lzma
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "linux-image-amd64"  # the cloud kernel has no 9p
NET_MODULES = ("e1000", "e1000e", "virtio_net", "vmxnet3")
MODULES = (
    *("virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay"),
    *("vfio_iommu_type1", "vfio-pci", "uio_pci_generic"),
)
INIT = Path(__file__).with_name("vm_init.sh")
DIRECTORY, FILE, DEVICE = 0o040755, 0o100755, 0o020600


class Missing(RuntimeError):
    """This host lacks what a virtual machine needs; the message has the command that mends it."""


@dataclass(frozen=True)
class Kernel:
    """An unpacked kernel package."""

    image: Path
    modules: Path  # lib/modules/VERSION or usr/lib/modules/VERSION

    @property
    def version(self) -> str:
        return self.modules.name


def cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("PYDPDK_CACHE") or Path(base, "pydpdk"))


def program(name: str, package: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise Missing(f"{name} (apt-get install {package})")
    return path


def kernel() -> Kernel:
    """The newest kernel in the cache; without one, Debian's current one is fetched into it."""
    folder = cache() / "kernel"
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / ".lock"):
        return _cached(folder) or _fetch(folder)


def _cached(folder: Path) -> Kernel | None:
    images = sorted(folder.glob("linux-image-*/boot/vmlinuz-*"), key=_version)
    if not images:
        return None
    version = images[-1].name.removeprefix("vmlinuz-")
    tree = images[-1].parent.parent
    merged = tree / "usr/lib/modules" / version  # from Debian 13 on
    return Kernel(images[-1], merged if merged.is_dir() else tree / "lib/modules" / version)


def _version(path: Path) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", path.name)]


def _fetch(folder: Path) -> Kernel:
    name = _package()
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as work:
        _tool("apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", name, cwd=work)
        (package,) = Path(work).glob("*.deb")
        _tool("dpkg-deb", "-x", str(package), f"{work}/tree")
        Path(work, "tree").rename(folder / name)
    found = _cached(folder)
    assert found is not None
    return found


def _package() -> str:
    """Name of the package that PACKAGE stands for today."""
    depends = _tool("apt-cache", "depends", PACKAGE)
    names = re.findall(r"Depends: (linux-image-\S+)", depends)
    if not names:
        raise Missing(f"package {PACKAGE} in apt's lists (apt-get update)")
    return str(names[0])


def _tool(*command: str, cwd: str | None = None) -> str:
    """stdout of a command of dpkg or apt. Missing when it fails."""
    program(command[0], "apt dpkg")
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        why = (done.stderr or done.stdout).strip()[-400:]
        raise Missing(f"the guest's kernel: {' '.join(command)}: {why} (apt-get update)")
    return done.stdout


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time fetches; the lock goes with the file descriptor."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


# --- initramfs ---


def module_files(kernel: Kernel, names: Iterable[str]) -> list[Path]:
    """Files of modules and all that they depend on, each after what it needs.

    A name that this kernel has built in has no file and is left out.
    """
    files = {module_name(path): path for path in kernel.modules.rglob("*.ko*")}
    order: dict[str, Path] = {}

    def add(name: str) -> None:
        path = files.get(_plain(name))
        if path is None or _plain(name) in order:
            return
        for needed in _depends(path):
            add(needed)
        order[_plain(name)] = path

    for name in names:
        add(name)
    return list(order.values())


def module_name(path: Path) -> str:
    return _plain(path.name.partition(".")[0])


def _plain(name: str) -> str:
    return name.replace("-", "_")


def _content(module: Path) -> bytes:
    """Unpacked: Debian 13 compresses them, and busybox's insmod wants them plain."""
    data = module.read_bytes()
    return lzma.decompress(data) if module.suffix == ".xz" else data


def _depends(module: Path) -> list[str]:
    """From the module's own .modinfo: no depmod has run over an unpacked package."""
    found = re.search(rb"\0depends=([^\0]*)\0", _content(module))
    return found[1].decode().split(",") if found and found[1] else []


def _entry(name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> bytes:
    fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08X" % value for value in fields) + name.encode() + b"\0"
    return _padded(head) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def initramfs(kernel: Kernel, modules: Iterable[str]) -> bytes:
    """busybox as every program, INIT as /init, the modules as /modules/NN-NAME.ko."""
    busybox = Path(program("busybox", "busybox-static")).read_bytes()
    folders = ("bin", "dev", "proc", "sys", "run", "host", "ram", "new", "modules")
    parts = [_entry(name, DIRECTORY) for name in folders]
    parts.append(_entry("dev/console", DEVICE, device=(5, 1)))
    parts.append(_entry("bin/busybox", FILE, busybox))
    parts.append(_entry("init", FILE, INIT.read_bytes()))
    for i, path in enumerate(module_files(kernel, modules)):
        parts.append(_entry(f"modules/{i:02}-{module_name(path)}.ko", FILE, _content(path)))
    parts.append(_entry("TRAILER!!!", 0))
    return b"".join(parts)
