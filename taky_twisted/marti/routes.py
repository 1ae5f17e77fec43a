"""Which method of which area answers which path, who may call it, and how its body is taken.

One table, made of the `route` decorators: dispatch, access and the size of bodies all read it, so a route without a
rule for who may call it cannot exist.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from inspect import getmembers, ismethod
from typing import TYPE_CHECKING, Any, TypeVar, Union

from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import BaseConverter, Map, Rule

from taky_twisted.marti.errors import NoSuchThing, WrongMethod

if TYPE_CHECKING:
    from taky_twisted.marti.replies import Envelope, Reply
    from taky_twisted.marti.request import BodySink, MartiRequest

SMALL_BODY = 1 << 20
"""Bytes of a body that is taken in memory."""

Answer = Union["Reply", "Envelope"]
Handler = Callable[..., Union[Answer, Awaitable[Answer]]]
H = TypeVar("H", bound=Handler)
Receiver = Callable[["MartiRequest"], "BodySink"]
"""Makes, once the headers are read, where the body goes; raises a `MartiError` to refuse it unread."""


class Access(Enum):
    """Who may call a route."""

    EVERYBODY = "everybody"
    """Also who has no identity on a door that asks for one."""
    CALLER = "caller"
    """Who has an identity; anonymous where the door lets anonymous callers in."""
    ENROLLING = "enrolling"
    """Who shows a password or an invite; a certificate is no reason for another one, which would outlive it."""
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Route:
    """What is known of a handler before its request's body is read."""

    path: str
    """Werkzeug's spelling, ``/Marti/api/cot/xml/<path:uid>``."""
    methods: frozenset[str]
    access: Access = Access.CALLER
    body: int | str = SMALL_BODY
    """The largest body that is taken in memory, in bytes; or the name of the area's `Receiver` that takes it."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A route with the area that it belongs to."""

    route: Route
    handler: Handler
    receiver: Receiver | None


class HashConverter(BaseConverter):
    """``<hash:name>``: a SHA-256 in hexadecimal digits of any case; the handler gets lower case."""

    regex = "[0-9A-Fa-f]{64}"

    def to_python(self, value: str) -> str:
        return value.lower()


def route(path: str, *methods: str, access: Access = Access.CALLER, body: int | str = SMALL_BODY) -> Callable[[H], H]:
    """Mark a method of an area as the one that answers a path; may be repeated. Without methods: GET and HEAD."""

    def mark(handler: H) -> H:
        marked = Route(path, frozenset(methods or ("GET",)), access, body)
        routes: list[Route] = handler.__dict__.setdefault("__routes__", [])
        routes.insert(0, marked)
        return handler

    return mark


def routes_of(areas: Iterable[object]) -> Iterator[Bound]:
    """List the routes of areas."""
    for area in areas:
        for _, handler in getmembers(area, ismethod):
            for marked in getattr(handler, "__routes__", ()):
                receiver = getattr(area, marked.body) if isinstance(marked.body, str) else None
                yield Bound(marked, handler, receiver)


class Table:
    """All routes, to be asked before Klein is: at the end of a request's headers."""

    def __init__(self, areas: Iterable[object]) -> None:
        self.bound = list(routes_of(areas))
        self._map = Map(
            [
                Rule(bound.route.path, endpoint=str(number), methods=sorted(bound.route.methods))
                for number, bound in enumerate(self.bound)
            ],
            strict_slashes=False,
            merge_slashes=False,
            redirect_defaults=False,
            converters={"hash": HashConverter},
        ).bind("")

    def find(self, method: str, path: str) -> Bound:
        """Find who answers.

        Raises:
            NoSuchThing: nobody, whatever the method.
            WrongMethod: nobody with this method.
        """
        try:
            number, _ = self._map.match(path, method)
        except MethodNotAllowed as error:
            raise WrongMethod(method, error.valid_methods or ()) from error
        except HTTPException as error:
            raise NoSuchThing("there is nothing here") from error
        return self.bound[int(number)]

    def klein(self, wrap: Callable[[Bound], Callable[..., Any]]) -> Any:
        """Make the Klein that dispatches to the handlers, each wrapped."""
        from klein import Klein

        app = Klein()
        app.url_map.strict_slashes = False
        app.url_map.merge_slashes = False
        app.url_map.redirect_defaults = False
        app.url_map.converters["hash"] = HashConverter
        for number, bound in enumerate(self.bound):
            app.route(bound.route.path, methods=sorted(bound.route.methods), endpoint=str(number))(wrap(bound))
        return app
