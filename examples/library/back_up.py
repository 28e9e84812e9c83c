"""Back the device up into a file, look at what a restore would change, and restore it.

    python back_up.py /etc/edge-backup/config.json /media/usb/device.zip.age

The password comes from standard input. No agent may run on the device's storage meanwhile.
"""

import sys

from agent.library import BackupError, backup_info, create_backup, unpack_backup


def main(config: str, file: str) -> None:
    password = sys.stdin.readline().rstrip("\n")
    info = backup_info(config=config)
    print(f"to save: {info.files} files, {info.content_bytes} bytes")
    for each in info.unexportable:
        print(f"cannot be saved: {each.name} ({each.reason})")

    made = create_backup(password, file, config=config)
    print(f"saved as {made.file}, history id {made.history_id}")

    with unpack_backup(password, file, config=config) as preview:
        print(f"a restore would add {preview.added}, change {preview.changed}, keep {preview.kept}")
        preview.finalize()
    print("restored")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except BackupError as error:
        sys.exit(f"{error} ({error.code})")
