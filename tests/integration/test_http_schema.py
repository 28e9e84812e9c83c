"""Requests that schemathesis makes up from the API's description, right and wrong ones, at a real agent."""

import json
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import CHECKS
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation, BaseSchema

from tests.integration.conftest import Started
from tests.support.agent_process import AgentProcess
from tests.support.http_network import BEARER, TOKEN, Network
from tests.support.settings_files import private_file

pytestmark = pytest.mark.slow

DESCRIPTION = json.loads((Path(__file__).parents[2] / "docs" / "openapi.json").read_text("utf-8"))
EXAMPLES = 20
EXCLUDED = [
    "ignored_auth",  # wrong tokens would make all others wait
    "positive_data_acceptance",  # which options go together is not a matter of the schema
]


@pytest.fixture
def described(started: Started, tmp_path: Path) -> BaseSchema:
    """The API of a running agent, whose commands lead to no other host."""
    token = tmp_path / "token"
    private_file(token, TOKEN)
    network = Network(started(http_listen="127.0.0.1:0", http_tokenFile=str(token), allow_hosts=""))
    schema = schemathesis.openapi.from_dict(DESCRIPTION)
    schema.config.update(base_url=f"http://{network.host}/api/v1")
    return schema


@pytest.mark.parametrize("mode", list(GenerationMode), ids=str)
def test_every_answer_is_one_that_the_description_has(
    described: BaseSchema, device: AgentProcess, mode: GenerationMode
) -> None:
    operations = [found.ok() for found in described.get_all_operations() if isinstance(found, Ok)]
    assert len(operations) == sum(map(len, DESCRIPTION["paths"].values()))
    # A stream has no end.
    tried = [each.label for each in operations if "/events" not in each.path and ask(each, mode)]
    assert len(tried) >= 10
    assert device.count_log("internal error") == 0


def ask(operation: APIOperation[Any, Any, Any, Any], mode: GenerationMode) -> bool:
    """Return False when no request of this kind exists: without arguments, none is wrong."""

    excluded = CHECKS.get_by_names(EXCLUDED)

    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: Case[Any]) -> None:
        response = case.call(headers=BEARER, timeout=60)
        case.validate_response(response, excluded_checks=excluded)  # type: ignore[arg-type]

    try:
        check()
    except Unsatisfiable:
        return False
    return True
