"""podman, buildah and runc, with images from scratch and storage of the test's own."""

import json
import os
import shutil
import subprocess

import rig

CONFIGURATION = """\
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[containers]
# The defaults ask for more than a container that runs tests may have.
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
"""


class Containers:
    def __init__(self, place):
        self.place = place
        self.pods = []
        self.binary = None
        (place / "containers.conf").write_text(CONFIGURATION)
        self.storage = ["--root", str(place / "storage"), "--runroot", str(place / "storage-run"),
                        "--storage-driver", self.driver(place)]
        self.environment = {**os.environ, "CONTAINERS_CONF": str(place / "containers.conf"),
                            "XDG_RUNTIME_DIR": str(place), "TMPDIR": str(place)}

    @staticmethod
    def driver(place):
        """overlay where the kernel and the directory's file system take it: the other copies every layer."""
        lower, upper, work, merged = (place / f"try-{name}" for name in ("lower", "upper", "work", "merged"))
        for path in (lower, upper, work, merged):
            path.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "overlay", "overlay", "-o", f"lowerdir={lower},upperdir={upper},workdir={work}", merged],
            capture_output=True)
        if mounted.returncode == 0:
            subprocess.run(["umount", merged], check=True, capture_output=True)
        return "overlay" if mounted.returncode == 0 else "vfs"

    def command(self, tool, *arguments, check=True, timeout=None):
        result = subprocess.run(
            [rig.tool(tool), *self.storage, *map(str, arguments)], capture_output=True, text=True,
            env=self.environment, timeout=timeout or 2 * rig.DEADLINE)
        if check and result.returncode != 0:
            raise AssertionError(f"{tool} {' '.join(map(str, arguments))} ended with {result.returncode}:\n"
                                 f"{result.stdout}{result.stderr}")
        return result

    def podman(self, *arguments, **options):
        return self.command("podman", *arguments, **options).stdout.strip()

    def build(self, name, directory, file="Containerfile"):
        self.command("buildah", "bud", "--isolation", "chroot", "-t", f"localhost/{name}", "-f", directory / file,
                     directory)

    def inspect(self, name):
        return json.loads(self.podman("inspect", name))[0]

    def pid(self, name):
        """The container's first process, as the machine counts."""
        return self.inspect(name)["State"]["Pid"]

    def logs(self, name):
        result = self.command("podman", "logs", name, check=False)
        return result.stdout + result.stderr

    def end(self):
        for pod in self.pods:
            self.command("podman", "pod", "rm", "--force", "--time", "1", pod, check=False)
        self.command("podman", "rm", "--all", "--force", "--time", "1", check=False)
        self.command("podman", "volume", "rm", "--all", "--force", check=False)
        self.command("podman", "system", "reset", "--force", check=False)
        for name in ("storage", "storage-run"):
            shutil.rmtree(self.place / name, ignore_errors=True)


def obstacle():
    """Why no container can run on this machine at all; None when they can."""
    if os.geteuid() != 0:
        return "containers of this test need root: their storage and network are the machine's"
    probe = subprocess.run(["unshare", "--mount", "--pid", "--net", "--fork", "true"], capture_output=True, text=True)
    if probe.returncode != 0:
        return f"this machine makes no namespaces: {probe.stderr.strip()}"
    if not any(line.split()[2] in ("cgroup", "cgroup2") for line in open("/proc/mounts")):
        return "no cgroup file system is mounted here"
    return None
