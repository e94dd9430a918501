"""The contract of stores as pytest classes: subclass one, and every promise is tested.

    class TestMemoryStore(StoreContract):
        def make(self, clock: Clock, *, name: str = "", keep_runs: int = 1_000) -> Store:
            return MemoryStore(clock, name=name, keep_runs=keep_runs)

`StoreContract` holds what one process can see. A keeper whose stores share their storage, which
is all that `make` has to see to, takes `SharedStoreContract`: the same and the promises among
processes.
"""

from __future__ import annotations

from pulse.testing.store_claims import ClaimContract
from pulse.testing.store_deploys import DeployContract
from pulse.testing.store_fleet import FleetContract
from pulse.testing.store_history import HistoryContract
from pulse.testing.store_leases import LeaseContract
from pulse.testing.store_retries import RetryContract
from pulse.testing.store_runtime import RuntimeContract
from pulse.testing.store_runtime_fleet import FleetRuntimeContract
from pulse.testing.store_schedules import ScheduleContract
from pulse.testing.store_tasks import TaskContract
from pulse.testing.store_waits import FleetWaitContract, WaitContract


class StoreContract(
    ClaimContract,
    ScheduleContract,
    LeaseContract,
    RetryContract,
    WaitContract,
    TaskContract,
    RuntimeContract,
    HistoryContract,
):
    """What every keeper promises to one process."""


class SharedStoreContract(
    StoreContract, FleetContract, DeployContract, FleetWaitContract, FleetRuntimeContract
):
    """What a keeper promises to several processes besides."""
