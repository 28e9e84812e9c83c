"""For all tests. With rich, structlog's tracebacks would show every local variable, which takes minutes
for those that tests of hostile input have; it looks for rich when it is imported."""

import sys
from types import ModuleType
from typing import cast

sys.modules["rich"] = cast(ModuleType, None)
import structlog  # noqa: E402, F401

del sys.modules["rich"]
