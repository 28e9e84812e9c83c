"""The parts of the agent that the API's handlers use."""

from dataclasses import dataclass

from agent.faces.http.api.event_log import EventLog
from agent.faces.http.engine_gate import EngineGate
from agent.jobs.engine import Engine
from agent.jobs.queries.destinations import Destinations
from agent.journal import Journal
from agent.settings import Settings


@dataclass(frozen=True, slots=True)
class Api:
    """Handlers run in threads of their own: engine and journal are used by way of the gate only."""

    settings: Settings
    gate: EngineGate
    engine: Engine
    journal: Journal
    events: EventLog
    destinations: Destinations
