"""The contract of stores as pytest classes: a subclass runs every test of the contract.

    class TestMemoryStore(StoreContract):
        def make(self, clock: Clock, *, name: str = "", keep_runs: int = 1_000) -> Store:
            return MemoryStore(clock, StoreOptions(name=name, keep_runs=keep_runs))

`StoreContract` contains the promises to one process. `SharedStoreContract` adds the promises among
processes; its `make` returns stores that share their storage.
"""

from __future__ import annotations

from tests.contracts.suite.store_accounts import (
    AccountContract,
    FleetAccountContract,
    WhyContract,
)
from tests.contracts.suite.store_claims import ClaimContract
from tests.contracts.suite.store_deploys import DeployContract
from tests.contracts.suite.store_done import DoneContract
from tests.contracts.suite.store_fleet import FleetContract
from tests.contracts.suite.store_foreground import (
    BeginContract,
    ClientRunContract,
    DeletedRunsContract,
)
from tests.contracts.suite.store_history import HistoryContract
from tests.contracts.suite.store_leases import LeaseContract
from tests.contracts.suite.store_posted_waits import PostedEndContract, PostedWaitContract
from tests.contracts.suite.store_posting import PostContract
from tests.contracts.suite.store_reads import HistoryReadsContract
from tests.contracts.suite.store_retries import RetryContract
from tests.contracts.suite.store_returned import GiveBackContract
from tests.contracts.suite.store_runtime import RuntimeContract
from tests.contracts.suite.store_runtime_fleet import FleetRuntimeContract
from tests.contracts.suite.store_schedules import ScheduleContract
from tests.contracts.suite.store_steering import (
    AuditContract,
    FleetPauseContract,
    OverdueContract,
    PauseContract,
    PauseOfAllContract,
)
from tests.contracts.suite.store_stops import FleetStopContract, StopContract
from tests.contracts.suite.store_tasks import TaskContract
from tests.contracts.suite.store_waits import FleetWaitContract, WaitContract
from tests.contracts.suite.store_workers import WorkerContract


class StoreContract(
    ClaimContract,
    ScheduleContract,
    LeaseContract,
    RetryContract,
    WaitContract,
    TaskContract,
    RuntimeContract,
    HistoryContract,
    HistoryReadsContract,
    PauseContract,
    PauseOfAllContract,
    OverdueContract,
    StopContract,
    AuditContract,
    BeginContract,
    DeletedRunsContract,
    DoneContract,
    AccountContract,
    WhyContract,
):
    """What every store promises to one process."""


class SharedStoreContract(
    StoreContract,
    FleetContract,
    DeployContract,
    FleetWaitContract,
    FleetRuntimeContract,
    FleetPauseContract,
    FleetStopContract,
    ClientRunContract,
    FleetAccountContract,
    PostContract,
    PostedWaitContract,
    PostedEndContract,
    GiveBackContract,
    WorkerContract,
):
    """What a shared store promises to several processes in addition."""
