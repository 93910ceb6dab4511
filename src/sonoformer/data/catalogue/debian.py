"""Data that Debian packages hold, fetched by apt and unpacked without root and without installing.

`apt-get download` checks the package against the archive's signatures; `dpkg-deb -x` only unpacks.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from sonoformer.data.catalogue.cache import Progress, cache_folder, quiet, whole_folder
from sonoformer.data.catalogue.unpack import free_space
from sonoformer.errors import UserError


@dataclass(frozen=True)
class Package:
    """A Debian package that holds recordings."""

    name: str
    version: str
    """the version that the clip counts were taken from (Debian 12, bookworm)"""
    megabytes: int
    """size of the .deb"""
    licence: str


PACKAGES = {
    package.name: package
    for package in (
        Package("festvox-ru", "0.5+dfsg-6", 179, "BSD-like"),
        Package("fillets-ng-data", "1.0.1-1.1", 71, "GPL-2"),
        Package("fillets-ng-data-cs", "1.0.1-1.1", 39, "GPL-2"),
        Package("fillets-ng-data-nl", "1.0.1-1.1", 33, "GPL-2"),
        Package("tuxpaint-stamps-default", "2022.06.04-1", 161, "GPL-2"),
        Package("flight-of-the-amazon-queen", "1.0.0-9", 35, "own free licence, readme kept"),
        Package("klettres-data", "4:22.12.3-1", 40, "GPL-2+"),
        Package("ktuberling-data", "4:22.12.3-1", 47, "GPL-2+"),
        Package("gcin-voice", "0~20170223-3", 8, "GPL-3 or LGPL-3 (man), CC-BY-3 (woman)"),
        Package("hydrogen-drumkits", "2017.09.19~dfsg-1", 143, "GPL-2+, CC-BY(-SA)-3.0 by kit"),
        Package("fluid-soundfont-gm", "3.1-5.3", 120, "MIT"),
        Package("minuet-data", "22.12.3-1", 27, "GPL-2+, GeneralUser GS licence"),
        Package("freepats", "20060219-4", 25, "GPL-2+ with exception"),
        Package("hedgewars-data", "1.0.2-6", 145, "GFDL-1.3 (sounds)"),
        Package("qabcs-data", "1.0.2-6", 34, "GPL-3+"),
        Package("sonic-pi-samples", "3.2.2~repack-8", 22, "CC0 mostly"),
        Package("wesnoth-1.16-data", "1:1.16.9-1", 146, "GPL-2+"),
        Package("scratch", "1.4.0.6~dfsg1-6.1", 26, "CC-BY-SA-3.0"),
        Package(
            *("asterisk-prompt-it-menardi-wav", "1:1.4.22+mm20110907-3.1", 19),
            licence="CC-BY-SA-3.0-IT, asks for visible attribution",
        ),
        Package("wesnoth-1.16-music", "1:1.16.9-1", 153, "GPL-2+"),
        Package("ufoai-music", "2.5-2", 210, "GPL-2+, CC-BY(-SA)-3.0 by track"),
        Package("warzone2100-music", "4.3.3-3", 86, "GPL-2+, CC0 by track"),
        Package("nexuiz-music", "2.5.2-12", 84, "GPL-2+"),
        Package("hyperrogue-music", "12.0q-1", 64, "CC-BY-SA-3.0, CC-BY-SA-4.0, CC0 by track"),
        Package("planetblupi-music-ogg", "1.14.2-3", 60, "GPL-3+"),
        Package("singularity-music", "007-2", 52, "CC-BY-SA-3.0"),
        Package("drascula-music", "1.0+ds4-2", 36, "own free licence, readme kept"),
    )
}


def package_folder(name: str, progress: Progress = quiet) -> Path:
    """Folder of an unpacked package, fetched and unpacked on first use.

    Raises:
        UserError: apt or dpkg is missing, or apt does not know or cannot reach the package.
    """
    package = PACKAGES[name]
    unpacked = sorted((cache_folder() / "packages").glob(f"{name}_*"))
    if unpacked:
        return unpacked[-1]
    free_space(cache_folder(), 4_000_000 * package.megabytes)  # the .deb and what comes out
    archive = _downloaded(name) or _download(package, progress)
    progress(f"unpacking {name}", 0, None)
    version = unquote(archive.name.split("_")[1])
    target = cache_folder() / "packages" / f"{name}_{version.replace(':', '-')}"
    with whole_folder(target) as folder:
        _run(["dpkg-deb", "-x", str(archive), str(folder)], f"{archive}: cannot be unpacked")
    return target


def version_of(folder: Path) -> str:
    """The version that an unpacked package's folder is named after."""
    return folder.name.split("_", 1)[1]


def _downloaded(name: str) -> Path | None:
    found = sorted((cache_folder() / "deb").glob(f"{name}_*.deb"))
    return found[-1] if found else None


def _download(package: Package, progress: Progress) -> Path:
    folder = cache_folder() / "deb"
    folder.mkdir(parents=True, exist_ok=True)
    progress(f"apt-get download {package.name} ({package.megabytes} MB)", 0, None)
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise UserError(
            f"{package.name}: this system has no apt-get and dpkg-deb; download the package from "
            f"https://packages.debian.org/bookworm/{package.name} into {folder}, or use another set"
        )
    # The version that was measured if the archive still has it, else the one that it has now.
    for wanted in (f"{package.name}={package.version}", package.name):
        done = subprocess.run(
            ["apt-get", "-q", "download", wanted], cwd=folder, capture_output=True, text=True
        )
        found = _downloaded(package.name)
        if done.returncode == 0 and found is not None:
            return found
    raise UserError(
        f"{package.name}: apt-get cannot download it ({_reason(done.stderr)}); "
        f"run `apt-get update` as root and try again, or put the .deb into {folder}, "
        "or use another set"
    )


def _run(command: list[str], failure: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise UserError(f"{failure} ({_reason(done.stderr)})")


def _reason(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("E:")]
    return (errors or lines or ["no reason given"])[0].removeprefix("E: ")
