"""Which route a method and path lead to, as lenient as other servers are: slashes at the end, no /v1, HEAD for GET."""

from collections.abc import Iterator, Mapping
from typing import Generic, NamedTuple, TypeVar

from router.errors import MethodNotAllowed, NotFound

R = TypeVar("R")

Methods = Mapping[str, R]
PREFIX = "/v1"


class Found(NamedTuple, Generic[R]):
    """``rest``: what follows a prefix route. OPTIONS, which every path answers, has no ``route``, and ``methods``."""

    route: R | None
    rest: str
    methods: tuple[str, ...]


class Routes(Generic[R]):
    """``exact`` paths, and ``prefixed`` ones that an identifier follows."""

    def __init__(self, exact: Mapping[str, Methods[R]], prefixed: Mapping[str, Methods[R]]) -> None:
        self._exact = exact
        self._prefixed = prefixed

    def all(self) -> Iterator[tuple[str, str]]:
        """Every path (or prefix, with its slash at the end) and method there is."""
        for table in (self._exact, self._prefixed):
            for path, methods in table.items():
                yield from ((path, method) for method in methods)

    def find(self, method: str, path: str) -> Found[R]:
        """Raises NotFound or MethodNotAllowed."""
        methods, rest = self._lookup(path)
        if methods is None:
            raise NotFound(f"Unknown request URL: {method} {path[:200]}. GET /openapi.json lists what there is.")
        route = methods.get("GET" if method == "HEAD" else method)
        if route is not None:
            return Found(route, rest, ())
        allowed = tuple(sorted({*methods, *(["HEAD"] if "GET" in methods else []), "OPTIONS"}))
        if method != "OPTIONS":
            raise MethodNotAllowed(
                f"Not allowed to {method} on {path[:200]}; allowed: {', '.join(allowed)}", allowed=allowed
            )
        return Found(None, rest, allowed)

    def _lookup(self, path: str) -> tuple[Methods[R] | None, str]:
        """As it stands; without slashes at the end; with the /v1 that a base URL lacked."""
        methods = self._exact.get(path)
        if methods is not None:
            return methods, ""
        bare = path.rstrip("/") or "/"
        for candidate in (bare, PREFIX + bare, bare.removeprefix(PREFIX)):
            methods = self._exact.get(candidate)
            if methods is not None:
                return methods, ""
            for prefix, those in self._prefixed.items():
                if candidate.startswith(prefix) and len(candidate) > len(prefix):
                    return those, candidate[len(prefix) :]
        return None, ""
