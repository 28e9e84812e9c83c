"""The question `info`: what would be saved now, what cannot be, and where to. Nothing is made.

Walking over the device's data takes its time: a thread does it, one at a time, and the answer comes when it
is done, or when time is up with what was counted so far. Belongs to the main thread.
"""

from collections.abc import Callable, Mapping
from typing import Any

from agent.backup.cancel import CancelToken
from agent.backup.context import Context
from agent.backup.stock import Inventory, Stock, take_stock, total
from agent.fitting import shortened
from agent.mailbox import Mailbox
from agent.messaging.ditto import EXECUTION_FAILED, CommandError
from agent.monitor import Monitor
from agent.operations import Tell
from agent.parameters import BACKUP_DATA_TYPES, BACKUP_PATHS, Parameters
from agent.selecting import Selecting
from agent.settings import Settings
from agent.worker import Outcome, Task, Workers
from providers.api import Target

ANSWER_WITHIN_S = 25.0
"""`edge-backup send` waits for half a minute, and backends hardly longer."""
_CHOICES = ("backup.dir", BACKUP_DATA_TYPES, BACKUP_PATHS)
_CUT_FIRST = ("leftOut", "stores", "targets", "dataSets", "reasons")


class Info:
    def __init__(
        self,
        settings: Settings,
        mailbox: Mailbox,
        workers: Workers,
        monitor: Monitor,
        *,
        within_s: float = ANSWER_WITHIN_S,
    ) -> None:
        self._settings, self._mailbox, self._workers, self._monitor = settings, mailbox, workers, monitor
        self._selecting = Selecting(settings)
        self._running, self._within_s = False, within_s

    def info(self, parameters: Parameters, room_bytes: int, tell: Tell) -> None:
        """Tell what a backup with these options would save; without any, all that the settings name.

        Raises `CommandError` 400 for a choice that cannot be, and 409 while an earlier answer is looked for.
        """
        if self._running:
            message = "the device is being looked at for an earlier 'info': ask again in a minute"
            raise CommandError(409, EXECUTION_FAILED, message)
        inventory = Inventory(self._stocks(parameters))
        tools = self._workers.tools()

        def answer(*, complete: bool) -> None:
            timer.cancel()
            if not told:
                told.append(True)
                tell(self._value(inventory, room_bytes, complete=complete))

        def time_out() -> None:
            self._workers.cancel(tools, "time is up", "deadline-exceeded")
            answer(complete=False)

        def ended(outcome: Outcome[bool]) -> None:
            self._running = False
            answer(complete=outcome.result is not None)

        told: list[bool] = []
        timer = self._mailbox.call_later(self._within_s, time_out)
        self._running = True
        self._workers.start(
            Task(
                owner="info",
                correlation_id=parameters.correlationid,
                tools=tools,
                place=None,
                work=self._work(inventory, tools.token),
                ended=ended,
                moved=lambda _bytes_done: None,
            )
        )

    def _work(self, inventory: Inventory, token: CancelToken) -> Callable[[Context], bool]:
        targets = {name: Target(each.path, each.mount) for name, each in self._settings.targets.items()}

        def work(_context: Context) -> bool:
            take_stock(inventory, targets, self._settings.storage, token.check)
            return True

        return work

    def _stocks(self, parameters: Parameters) -> dict[str, Stock]:
        """What is to be counted, by data set; that of a directory has the name ""."""
        if any(option in parameters.options for option in _CHOICES):
            stocks: dict[str, Stock] = {}
            for part in self._selecting.for_backup(parameters):
                stock = stocks.setdefault(part.root.prefix.partition("/")[0], Stock())
                stock.parts += (part,)
            return stocks
        data_sets = self._settings.data_sets
        named = {name: self._stock(parameters, {BACKUP_DATA_TYPES: name}) for name in data_sets}
        return {"": self._directory(parameters), **named} if self._settings.dir else named

    def _directory(self, parameters: Parameters) -> Stock:
        if self._settings.backup_cmd:
            return Stock(problem="backupCmd collects what is saved, at the time of a backup")
        return self._stock(parameters, {})

    def _stock(self, parameters: Parameters, options: Mapping[str, str]) -> Stock:
        chosen = parameters.model_copy(update={"options": {**parameters.options, **options}})
        try:
            return Stock(self._selecting.for_backup(chosen))
        except CommandError as error:
            return Stock(problem=error.message)

    def _value(self, inventory: Inventory, room_bytes: int, *, complete: bool) -> Mapping[str, Any]:
        stocks = inventory.stocks
        value = {
            "complete": complete,
            **total(stocks.values()),
            "dataSets": {name: _told(stock) for name, stock in stocks.items() if name},
            "targets": dict(inventory.targets),
            "stores": sorted(self._settings.stores),
            "job": self._monitor.value(),
            "leftOut": [
                {"name": name, "reason": reason}
                for stock in stocks.values()
                for name, reason in list(stock.report.unexportable)
            ],
        }
        if "" in stocks:
            value["directory"] = _told(stocks[""])
        return shortened(value, _CUT_FIRST, room_bytes)


def _told(stock: Stock) -> dict[str, Any]:
    counts = total([stock])
    del counts["reasons"]
    return counts | ({"problem": stock.problem} if stock.problem else {})
