"""The face through which a peer comes in: on the Unix socket everything is offered."""

from agent.base.operations import Face
from agent.faces.http.message import Peer


def face_of(peer: Peer) -> Face:
    """Return the face of a peer; `mode` and `allow.*` hold over TCP as over MQTT."""
    return Face.LOCAL if peer.is_local else Face.HTTP
