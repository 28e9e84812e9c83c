"""The parts of the agent that the API's handlers use."""

from dataclasses import dataclass

from agent.faces.http.api.event_log import EventLog
from agent.faces.http.api.handles import Handles
from agent.faces.http.api.reading import Reads
from agent.faces.http.engine_gate import EngineGate
from agent.jobs.engine import Engine
from agent.jobs.queries.destinations import Destinations
from agent.settings import Settings


@dataclass(frozen=True, slots=True)
class Api:
    """Handlers run in threads of their own: the engine is used by way of the gate only."""

    settings: Settings
    gate: EngineGate
    engine: Engine
    events: EventLog
    destinations: Destinations
    reads: Reads
    handles: Handles
