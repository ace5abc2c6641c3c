"""The commands of each tool, configured as its documentation recommends for a local repository. What is measured, and when, is run's."""

import json
import os
import shutil
import subprocess

from measure import Failed, stored_bytes

PASSWORD = "a password for a measurement"


class Tool:
    """One tool with one fresh repository in `place`. Methods return commands: lists of arguments, to be run in `self.folder`."""

    name = None

    def __init__(self, program, place):
        self.program = program
        self.place = place
        self.repository = os.path.join(place, "repository")
        self.folder = place
        self.dataset = None
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": os.path.join(place, "home"),
            "TMPDIR": os.path.join(place, "tmp"),
            "LC_ALL": "C.UTF-8",
        }
        for folder in (self.env["HOME"], self.env["TMPDIR"]):
            os.makedirs(folder)

    @classmethod
    def find(cls, program=None):
        """Returns the path of the program, or None where it is not installed."""
        return shutil.which(program or cls.command)

    @classmethod
    def version(cls, program):
        return subprocess.run([program, *cls.version_arguments], capture_output=True, text=True, check=True).stdout.split("\n")[0]

    def stored(self):
        """Returns the stored bytes by what they are for; `repository` is what counts."""
        return {"repository": stored_bytes(self.repository)}

    def figures(self, work, stdout):
        """Returns what more a command's output tells. Raises Failed if that is not as it should be."""
        return {}


class Restic(Tool):
    name, command, version_arguments = "restic", "restic", ["version"]
    configuration = "repository version and compression (auto) by default"

    def __init__(self, program, place):
        super().__init__(program, place)
        self.env |= {
            "RESTIC_REPOSITORY": self.repository,
            "RESTIC_PASSWORD": PASSWORD,
            "RESTIC_CACHE_DIR": os.path.join(place, "cache"),
        }

    def setup(self):
        return [[self.program, "init", "--quiet"]]

    def store(self):
        return [self.program, "backup", "--quiet", self.dataset]

    def retrieve(self, target):
        return [self.program, "restore", "--quiet", "latest", "--target", target]

    def retrieve_one(self, path, target):
        return [self.program, "restore", "--quiet", "latest", "--include", path, "--target", target]


class Rustic(Tool):
    name, command, version_arguments = "rustic", "rustic", ["--version"]
    configuration = "defaults"

    def __init__(self, program, place):
        super().__init__(program, place)
        self.env |= {
            "RUSTIC_REPOSITORY": self.repository,
            "RUSTIC_PASSWORD": PASSWORD,
            "RUSTIC_CACHE_DIR": os.path.join(place, "cache"),
            "RUSTIC_NO_PROGRESS": "true",
        }

    def setup(self):
        return [[self.program, "init"]]

    def store(self):
        return [self.program, "backup", self.dataset]

    def retrieve(self, target):
        return [self.program, "restore", "latest", target]

    def retrieve_one(self, path, target):
        # A file is restored to the name given, not into a folder of that name.
        return [self.program, "restore", f"latest:{path}", os.path.join(target, os.path.basename(path))]


class Borg(Tool):
    command, version_arguments = "borg", ["--version"]
    compression = None

    def __init__(self, program, place):
        super().__init__(program, place)
        self.archives = 0
        self.env |= {
            "BORG_REPO": self.repository,
            "BORG_PASSPHRASE": PASSWORD,
            "BORG_BASE_DIR": os.path.join(place, "borg"),
        }

    @staticmethod
    def encryption():
        """What borg's documentation calls the quicker mode: SHA-256 where the processor has instructions for it, else BLAKE2."""
        try:
            with open("/proc/cpuinfo", encoding="utf-8") as file:
                return "repokey" if "sha_ni" in file.read() else "repokey-blake2"
        except OSError:
            return "repokey-blake2"

    def setup(self):
        return [[self.program, "init", "--encryption", self.encryption()]]

    def store(self):
        self.archives += 1
        return [self.program, "create", "--compression", self.compression, f"::run-{self.archives}", self.dataset]

    # borg extracts into the folder that it is run in.

    def retrieve(self, target):
        self.folder = target
        return [self.program, "extract", f"::run-{self.archives}"]

    def retrieve_one(self, path, target):
        self.folder = target
        return [self.program, "extract", f"::run-{self.archives}", path.lstrip("/")]


class BorgLz4(Borg):
    name, compression = "borg lz4", "lz4"
    configuration = f"--compression lz4 (the default), --encryption {Borg.encryption()}"


class BorgZstd1(Borg):
    name, compression = "borg zstd,1", "zstd,1"
    configuration = f"--compression zstd,1, --encryption {Borg.encryption()}"


class Maimo(Tool):
    name, command, version_arguments = "maimo", "maimo", ["--version"]
    configuration = "a folder as the provider, defaults; stored bytes are the provider's folder, all of it"

    def __init__(self, program, place):
        super().__init__(program, place)
        self.home = os.path.join(place, "node")
        self.env["MAIMO_HOME"] = self.home

    @classmethod
    def find(cls, program=None):
        """The program just built, before one that is installed."""
        root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        target = os.environ.get("CARGO_TARGET_DIR") or os.path.join(root, "target")
        built = os.path.join(root, target, "release", "maimo")
        return shutil.which(program or (built if os.path.exists(built) else cls.command))

    def command_line(self, *arguments):
        return [self.program, "--json", *arguments]

    def setup(self):
        os.makedirs(self.repository)
        return [self.command_line("init", "--source", "bench"), self.command_line("channel", "open", self.repository, "--name", "bench")]

    def store(self):
        return self.command_line("store", self.dataset)

    def retrieve(self, target):
        return self.command_line("retrieve", self.dataset, "--to", target)

    def retrieve_one(self, path, target):
        return self.command_line("retrieve", path, "--to", target)

    def audit(self, slices):
        return self.command_line("verify", "--slices", str(slices))

    def stored(self):
        return {"repository": stored_bytes(self.repository), "home": stored_bytes(self.home)}

    def figures(self, work, stdout):
        summaries = [line for line in map(parse, stdout.splitlines()) if line.get("message_type") == "summary"]
        if not summaries:
            raise Failed(f"maimo told no summary of `{work}`: {stdout[-500:]!r}")
        summary = summaries[-1]
        if work == "audit":
            if summary.get("result") != "intact":
                raise Failed(f"the audit of what was just stored says {summary.get('result')!r}")
            slices = {stratum["class"]: stratum["slices"] for stratum in summary["strata"]}
            if set(slices) != {"data", "vital"}:
                raise Failed(f"the audit drew from {sorted(slices)} and not from both strata")
            return {"slices": sum(slices.values()), "bytes_received": summary["bytes_received"]}
        errors = summary.get("errors", 0)
        if errors not in (0, [], None):
            raise Failed(f"maimo told errors of `{work}`: {errors}")
        return {key: summary[key] for key in ("bytes_read", "bytes_stored", "bytes_sent", "bytes_received") if key in summary}


def parse(line):
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


TOOLS = {tool.name.replace(" ", "-").replace(",", "-"): tool for tool in (Maimo, Restic, Rustic, BorgLz4, BorgZstd1)}
