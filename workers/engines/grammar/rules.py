"""What a job's answer is kept to, compiled; or why it cannot be, as a refusal."""

from protos.contract.grammar import Grammar, GrammarKind
from protos.contract.request import Job
from protos.contract.stream import RefusalCode
from workers.engines.base import Refused
from workers.engines.grammar.compiler import GrammarCompiler
from workers.engines.grammar.constraint import Constraint
from workers.engines.grammar.source import BadGrammar
from workers.engines.templates.dialogue import Dialogue


def kept_to(job: Job, dialogue: Dialogue | None, compiler: GrammarCompiler) -> tuple[Grammar, Constraint] | None:
    """None for an answer that is free. Raises Refused."""
    kind = None if job.grammar is None else job.grammar.kind
    what, parameter = "grammar", "response_format"
    if kind is None:
        what, parameter = "tools' parameters", "tools"
    elif kind is GrammarKind.JSON_SCHEMA:
        what = "schema"
    try:
        grammar = job.grammar if dialogue is None else dialogue.grammar(job, compiler.schema)
        return None if grammar is None else (grammar, compiler.constraint(grammar))
    except BadGrammar as error:
        raise Refused(RefusalCode.INVALID, f"the {what} cannot be compiled: {error}", parameter=parameter) from None
