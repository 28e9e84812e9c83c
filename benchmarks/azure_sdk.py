"""The Azure SDK as a command of its own, with its defaults: what the agent's `azure` is compared with.

`python -m benchmarks.azure_sdk upload|download FILE`, the blob's URL with its SAS in $BLOB_URL.
"""

import os
import sys

from azure.storage.blob import BlobClient


def main(direction: str, path: str) -> None:
    with BlobClient.from_blob_url(os.environ["BLOB_URL"]) as blob:
        if direction == "upload":
            with open(path, "rb") as source:
                blob.upload_blob(source, overwrite=True)
        else:
            with open(path, "wb") as sink:
                blob.download_blob().readinto(sink)


if __name__ == "__main__":
    main(*sys.argv[1:])
