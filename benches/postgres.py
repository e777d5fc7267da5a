"""A PostgreSQL of the bench's own, in a folder of its own, until the bench ends."""

import glob
import os
import shutil
import socket
import subprocess
import tempfile
import time

AS_NOBODY = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.geteuid() == 0 else []


class Server:
    """Listens on loopback and at a Unix socket in its folder."""

    def __enter__(self):
        self.programs = max(glob.glob("/usr/lib/postgresql/*/bin"))
        self._folder = tempfile.mkdtemp()
        if AS_NOBODY:
            shutil.chown(self._folder, "nobody", "nogroup")
        data = f"{self._folder}/data"
        initdb = [*AS_NOBODY, f"{self.programs}/initdb", "-D", data, "-U", "postgres", "-A", "trust", "--no-sync"]
        subprocess.run(initdb, check=True, cwd="/", stdout=subprocess.DEVNULL)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        settings = ["listen_addresses=127.0.0.1", f"port={self._port}", f"unix_socket_directories={self._folder}", "fsync=off"]
        words = [word for setting in settings for word in ("-c", setting)]
        self._process = subprocess.Popen([*AS_NOBODY, f"{self.programs}/postgres", "-D", data, *words], cwd="/",
                                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while subprocess.run([f"{self.programs}/pg_isready", "-q", *self.where()]).returncode != 0:
            time.sleep(0.1)
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def where(self):
        """As the flags of PostgreSQL's own programs."""
        return ["-h", "127.0.0.1", "-p", str(self._port), "-U", "postgres", "-d", "postgres"]

    def tcp(self):
        """As a connection string."""
        return f"host=127.0.0.1 port={self._port} user=postgres dbname=postgres sslmode=disable"

    def unix(self):
        """As a connection string."""
        return f"host={self._folder} port={self._port} user=postgres dbname=postgres"
