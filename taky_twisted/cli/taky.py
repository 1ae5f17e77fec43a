"""``taky``: the server of ``twistd taky`` in the foreground, with the same options; as several processes, if wanted."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial

from twisted.application.service import IServiceMaker, ServiceMaker
from twisted.plugins.taky_plugin import taky as service_maker
from twisted.scripts.twistd import ServerOptions, runApp  # type: ignore[attr-defined] # public, but not in its __all__

from taky_twisted.logs import worker_observer


class ForegroundOptions(ServerOptions):
    """twistd's options with one command, ours, so that no other plugin is searched, loaded or listed."""

    # The command's own synopsis, " taky [options]", follows it in --help.
    synopsis = "Usage:"

    @staticmethod
    def _getPlugins(  # type: ignore[override] # asked for this one interface only
        interface: type[IServiceMaker],
    ) -> list[ServiceMaker]:
        """Stand in for twistd's search for plugins."""
        return [service_maker]


def main(arguments: Sequence[str] | None = None, run: Callable[[ServerOptions], object] = runApp) -> None:
    """Run the server until it is told to stop.

    Args:
        arguments: what ``twistd taky`` takes; those of the process by default.
        run: what runs a parsed command line.

    Raises:
        SystemExit: with one line for the operator if the command line or what it leads to cannot be used.
    """
    # As this process was started: `python -m` looks into the working directory first, whoever can write there.
    again = ["-m", "taky_twisted.cli.taky"] if arguments is not None else sys.orig_argv[1 : 1 - len(sys.argv) or None]
    given = list(sys.argv[1:] if arguments is None else arguments)
    if "-d" in given:
        given.remove("-d")
        print(
            "taky: -d is taken and does nothing, there is no debugger to attach to; -l debug logs more", file=sys.stderr
        )
    options = ForegroundOptions()
    # No pid file: nothing here goes to the background, and one left in the working directory stops the next start.
    options.parseOptions(["--nodaemon", "--pidfile=", service_maker.tapname, *given])
    server = options.subOptions
    server.worker_command = [sys.executable, *again, *given]
    if server.settings.worker is not None:
        options["logger"] = partial(worker_observer, server.settings.worker, options["logger"])
    run(options)
    if server.exit_status:
        raise SystemExit(server.exit_status)


if __name__ == "__main__":
    main()
