from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.config import ConfigError, Settings
from taky_twisted.config.workers import as_worker, check_workers, worker_folders

DATA = Path("/var/taky")
SITE = Settings(data_dir=DATA, bus_endpoint="tcp:localhost:6379", log_cot=Path("/log"), admin_endpoints=("unix:/a",))


class WorkersTests(SynchronousTestCase):
    def test_first(self) -> None:
        """The first worker has what a server of one process has: one that grows, or shrinks again, loses nothing."""
        worker = as_worker(SITE, 1)
        self.assertEqual((worker.data_dir, worker.shared_dir, worker.worker), (DATA, DATA, 1))
        self.assertEqual((worker.log_cot, worker.admin_endpoints), (SITE.log_cot, SITE.admin_endpoints))
        self.assertEqual(worker.upload_path, DATA / "dp-user")

    def test_others(self) -> None:
        """The others have folders of their own; what is shared stays where it is."""
        worker = as_worker(SITE, 12)
        self.assertEqual((worker.data_dir, worker.shared_dir), (DATA / "worker-12", DATA))
        self.assertEqual((worker.log_cot, worker.admin_endpoints), (Path("/log/worker-12"), ()))
        self.assertEqual(worker.upload_path, DATA / "dp-user")
        elsewhere = Settings(data_dir=DATA, upload_path=Path("/up"))
        self.assertEqual((as_worker(elsewhere, 2).upload_path, as_worker(elsewhere, 2).log_cot), (Path("/up"), None))

    def test_alone(self) -> None:
        """One process shares with nobody and needs nothing."""
        self.assertEqual(SITE.shared_dir, DATA)
        check_workers(Settings(store="sqlite:/x"))

    def test_impossible(self) -> None:
        """Processes that would not be one server, or would spoil each other's files, are refused."""
        for settings, why in (
            (Settings(workers=2), "workers = 2 needs a bus"),
            (Settings(worker=1), "worker 1 needs a bus"),
            (Settings(workers=2, bus_endpoint="tcp:h:1", store="sqlite:/x"), "each process needs its own"),
            (Settings(workers=2, bus_endpoint="tcp:h:1", worker=3), "worker 3 is one too many: workers = 2"),
        ):
            self.assertIn(why, str(self.assertRaises(ConfigError, check_workers, settings)))
        for settings in (
            Settings(workers=2, bus_endpoint="tcp:h:1"),
            Settings(workers=2, bus_endpoint="tcp:h:1", worker=2, store="redis:tcp:h:1"),
            Settings(bus_endpoint="tcp:h:1", worker=3),
        ):
            check_workers(settings)

    def test_folders(self) -> None:
        """The folders of the further workers are found, in order; other folders are not taken for one."""
        site = Path(self.mktemp())
        self.assertEqual(worker_folders(site), [])
        for name in ("worker-10", "worker-2", "worker-x", "worker-", "dp-user"):
            (site / name).mkdir(parents=True)
        self.assertEqual([path.name for path in worker_folders(site)], ["worker-2", "worker-10"])
