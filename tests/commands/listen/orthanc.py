"""A real Orthanc on loopback, with DICOMweb and a user."""

import json
import shutil
import socket
import subprocess
import time
from pathlib import Path

import requests

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
PROGRAM = shutil.which("Orthanc") or "/usr/sbin/Orthanc"
MISSING = not (Path(PROGRAM).exists() and PLUGIN.exists())
WHY_MISSING = "no Orthanc on this machine; Debian's packages are orthanc and orthanc-dicomweb"
USER, PASSWORD = "clinic", "secret of the test"


class Orthanc:
    """A server whose store survives that it ends."""

    def __init__(self, folder):
        self.folder, self.process = folder, None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        settings = {
            "StorageDirectory": str(folder / "store"),
            "IndexDirectory": str(folder / "store"),
            "HttpServerEnabled": True,
            "HttpBindAddresses": ["127.0.0.1"],
            "HttpPort": self.port,
            "RemoteAccessAllowed": False,
            "DicomServerEnabled": False,
            "AuthenticationEnabled": True,
            "RegisteredUsers": {USER: PASSWORD},
            "Plugins": [str(PLUGIN)],
            "OverwriteInstances": False,
        }
        (folder / "orthanc.json").write_text(json.dumps(settings))

    def start(self):
        with (self.folder / "orthanc.log").open("a") as log:
            command = [PROGRAM, str(self.folder / "orthanc.json")]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        for _ in range(600):
            try:
                if self.get("/system"):
                    return self
            except requests.ConnectionError:
                time.sleep(0.1)
        raise RuntimeError((self.folder / "orthanc.log").read_text()[-2000:])

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def get(self, path):
        return requests.get(self.url + path, auth=(USER, PASSWORD), timeout=30).json()

    def upload(self, file):
        answer = requests.post(f"{self.url}/instances", file.read_bytes(), auth=(USER, PASSWORD), timeout=30)
        return answer.status_code == 200

    def delete(self, uid):
        """Delete a series, if it is still there."""
        auth = (USER, PASSWORD)
        for one in requests.post(f"{self.url}/tools/lookup", uid, auth=auth, timeout=30).json():
            requests.delete(f"{self.url}/series/{one['ID']}", auth=auth, timeout=30)

    def results(self):
        """List every instance that is ours: study, series, kind and SOPInstanceUID."""
        query = {"Level": "Series", "Query": {"SeriesDescription": "Research use only*"}, "Expand": True}
        found = requests.post(f"{self.url}/tools/find", json=query, auth=(USER, PASSWORD), timeout=30).json()
        return [
            (self.get(f"/series/{one['ID']}/study")["MainDicomTags"]["StudyInstanceUID"], one["MainDicomTags"], uid)
            for one in found
            for uid in one["Instances"]
        ]
