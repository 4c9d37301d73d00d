"""The OpenAPI document is true: what is generated from it, or against it, is answered as it says. Never a 5xx."""

from typing import Any

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi import checks as conformance

from tests.support.http_surface import surface


class HttpOnly:
    """The surface behind a lifespan that does nothing, under whatever name it is called."""

    def __init__(self) -> None:
        self.surface = surface()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            headers = [(name, value) for name, value in scope["headers"] if name != b"host"]
            await self.surface.app({**scope, "headers": headers}, receive, send)
            return
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return


app = HttpOnly()
# A body that breaks the schema by its length may be too large before anybody reads it: 413 refuses it, too.
REFUSALS = ["400", "401", "403", "404", "405", "406", "409", "413", "415", "422", "428", "429", "5xx"]
CONFIG = SchemathesisConfig.from_dict({"checks": {"negative_data_rejection": {"expected-statuses": REFUSALS}}})
schema = schemathesis.openapi.from_asgi("/openapi.json", app, config=CONFIG)

# Without positive_data_acceptance: rules between two fields, and that 1.0 is no whole number, are not in the schema.
CHECKS = [
    schemathesis.checks.not_a_server_error,
    conformance.status_code_conformance,
    conformance.content_type_conformance,
    conformance.response_schema_conformance,
    conformance.negative_data_rejection,
    conformance.unsupported_method,
]


@schema.parametrize()
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_operation_answers_as_the_document_says(case: schemathesis.Case) -> None:
    """No 5xx, no undocumented status, no undocumented shape, nothing left running."""
    case.call_and_validate(checks=CHECKS)
    assert not app.surface.pipeline.running
