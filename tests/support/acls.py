"""POSIX access control lists as the kernel keeps them, in extended attributes (acl(5), acl_ea.h)."""

import struct

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
USER_OBJ, USER, GROUP_OBJ, MASK, OTHER, NO_ID = 0x01, 0x02, 0x04, 0x10, 0x20, 0xFFFF_FFFF


def acl(user: int, *, user_may: int = 7, group: int = 5, mask: int = 7) -> bytes:
    """The list `user::rwx, user:USER:…, group::…, mask::…, other::---`, as setfacl writes it."""
    entries = [
        (USER_OBJ, 7, NO_ID),
        (USER, user_may, user),
        (GROUP_OBJ, group, NO_ID),
        (MASK, mask, NO_ID),
        (OTHER, 0, NO_ID),
    ]
    return struct.pack("<L", 2) + b"".join(struct.pack("<HHL", *entry) for entry in entries)
