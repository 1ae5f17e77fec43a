from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import tempfile

from twisted.application.service import IServiceMaker
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ProcessDone
from twisted.internet.protocol import ProcessProtocol, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.scripts.twistd import ServerOptions  # type: ignore[attr-defined] # not in its __all__
from twisted.trial.unittest import SynchronousTestCase, TestCase

import taky_twisted
from taky_twisted.cli.taky import ForegroundOptions, main

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(taky_twisted.__file__)))
PING = (
    b'<event version="2.0" uid="a-ping" type="t-x-c-t" how="m-g" time="2026-03-01T10:00:00Z"'
    b' start="2026-03-01T10:00:00Z" stale="2026-03-01T10:00:10Z">'
    b'<point lat="0" lon="0" hae="0" ce="9999999" le="9999999"/><detail/></event>'
)


def refuse(options: ServerOptions) -> None:
    """Stand where the server would run, in tests that must not get that far."""
    raise AssertionError("the server ran")


class MainTests(SynchronousTestCase):
    def output(self, *arguments: str) -> str:
        """Run a command line that ends by itself with success, and return what it printed."""
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), self.assertRaises(SystemExit) as end:
            main(arguments, refuse)
        self.assertIn(end.exception.code, (None, 0))
        return printed.getvalue()

    def test_version(self) -> None:
        """``--version`` says which version of this server it is, not of Twisted."""
        self.assertIn(taky_twisted.__version__, self.output("--version"))

    def test_help(self) -> None:
        """``--help`` shows the server's options and none of twistd's."""
        text = self.output("--help")
        self.assertRegex(text, r"^Usage: taky \[options\]\n")
        self.assertIn("--cot-endpoint=", text)
        self.assertNotIn("--rundir", text)

    def test_takys_debugger(self) -> None:
        """The ``-d`` of taky is taken, with a note that it does nothing."""
        ran: list[ServerOptions] = []
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            main(["-d", "--cot-endpoint=tcp:0:interface=127.0.0.1", "--data-dir=here"], ran.append)
        self.assertEqual(len(ran), 1)
        self.assertIn("-d is taken and does nothing", said.getvalue())

    def test_in_the_foreground(self) -> None:
        """The server stays in the foreground, writes no pid file, and gets the options as given."""
        ran: list[ServerOptions] = []
        main(["--cot-endpoint=tcp:0:interface=127.0.0.1", "--data-dir=here"], ran.append)
        (options,) = ran
        self.assertTrue(options["nodaemon"])
        self.assertFalse(options["pidfile"])
        self.assertEqual(options.subCommand, "taky")
        self.assertEqual(options.subOptions["data-dir"], "here")

    def test_workers(self) -> None:
        """Each of several processes is started by the same command, and its log says which it is."""
        ran: list[ServerOptions] = []
        arguments = ["--bus=redis:tcp:localhost:6379", "--workers=2", "--cot-endpoint=tcp:8087"]
        main(arguments, ran.append)
        main([*arguments, "--worker=2"], ran.append)
        command = [sys.executable, "-m", "taky_twisted.cli.taky", *arguments]
        self.assertEqual(ran[0].subOptions.worker_command, command)
        self.assertEqual(ran[0]["logger"], None)
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            ran[1]["logger"]()({"log_format": "hello", "log_time": 0.0})
        self.assertIn("[worker 2, ", out.getvalue())
        main([*arguments, "--worker=2", "--log-format=json"], ran.append)
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            ran[2]["logger"]()({"log_format": "hello", "log_time": 0.0})
        self.assertIn('"system": "worker 2, ', out.getvalue())

    def test_workers_cannot_start(self) -> None:
        """If they cannot be started the command ends as a failure; the worker has said why."""

        def run(options: ServerOptions) -> None:
            options.subOptions.exit_status = 1

        with self.assertRaises(SystemExit) as end:
            main(["--cot-endpoint=tcp:8087"], run)
        self.assertEqual(end.exception.code, 1)

    def test_workers_of_a_script(self) -> None:
        """They are started as this was: `python -m` would run what lies about in the working directory first."""
        self.patch(sys, "argv", ["/opt/taky/bin/taky", "--workers=2", "-d", "--bus=redis:tcp:localhost:6379"])
        self.patch(sys, "orig_argv", ["python3", "-X", "dev", *sys.argv])
        ran: list[ServerOptions] = []
        with contextlib.redirect_stderr(io.StringIO()):
            main(run=ran.append)
        expected = [sys.executable, "-X", "dev", "/opt/taky/bin/taky", "--workers=2", "--bus=redis:tcp:localhost:6379"]
        self.assertEqual(ran[0].subOptions.worker_command, expected)

    def test_process_arguments(self) -> None:
        """Without arguments of its own it takes those of the process."""
        ran: list[ServerOptions] = []
        self.patch(sys, "argv", ["taky", "--data-dir=there"])
        main(run=ran.append)
        self.assertEqual(ran[0].subOptions["data-dir"], "there")

    def test_wrong_option(self) -> None:
        """A wrong option is one line on standard error and exit status 1, without a traceback."""
        with self.assertRaises(SystemExit) as end:
            main(["--no-such-option"], refuse)
        self.assertRegex(str(end.exception.code), r"^taky: .*no-such-option.*$")
        self.assertNotIn("\n", str(end.exception.code))

    def test_only_ours(self) -> None:
        """Plugins of other programs are not even looked for."""
        self.assertEqual([maker.tapname for maker in ForegroundOptions._getPlugins(IServiceMaker)], ["taky"])


class Script(ProcessProtocol):
    """Collect what a process prints, until it ends."""

    def __init__(self) -> None:
        self.output = ""
        self.port: Deferred[int] = Deferred()
        self.ended: Deferred[BaseException | None] = Deferred()

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        self.output += data.decode()
        found = re.search(r"open on 127\.0\.0\.1 port (\d+)\n", self.output)
        if found and not self.port.called:
            self.port.callback(int(found[1]))

    def processEnded(self, reason: Failure) -> None:
        if not self.port.called:
            self.port.errback(AssertionError(self.output))
        self.ended.callback(reason.value)


class Ping(Protocol):
    """Ping once and keep the connection open."""

    def __init__(self) -> None:
        self.answered: Deferred[None] = Deferred()
        self._heard = b""
        self.closed: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(PING)

    def dataReceived(self, data: bytes) -> None:
        self._heard += data
        if b"t-x-c-t-r" in self._heard and not self.answered.called:
            self.answered.callback(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.closed.callback(None)


class ScriptTests(TestCase):
    timeout = 60

    async def test_serves_until_it_is_stopped(self) -> None:
        """The script serves in the foreground, logs to the terminal, ends well on SIGTERM and leaves no pid file."""
        folder = tempfile.mkdtemp(dir=os.getcwd())
        options = ["--cot-endpoint=tcp:0:interface=127.0.0.1", "--data-dir=data"]
        script = Script()
        process = reactor.spawnProcess(
            script,
            sys.executable,
            [sys.executable, "-m", "taky_twisted.cli.taky", *options],
            env={**os.environ, "PYTHONPATH": ROOT},
            path=folder,
        )

        def kill() -> None:
            if process.pid:
                process.signalProcess("KILL")

        self.addCleanup(kill)
        ping = Ping()
        await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", await script.port), ping)
        await ping.answered
        process.signalProcess("TERM")
        self.assertIsInstance(await script.ended, ProcessDone, script.output)
        await ping.closed
        self.assertNotIn("Traceback", script.output)
        self.assertNotIn("twistd.pid", os.listdir(folder))
