"""What is ready together travels together, in order and within bounds."""

from protos.allsorts.v1 import fleet_pb2 as pb
from protos.contract.codec.commands import MOST_TOGETHER, TOGETHER_BYTES, add_following, decode_command, encode_command
from protos.contract.codec.events import decode_event, encode_event
from protos.contract.commands import Abort, Generate
from protos.contract.ids import RequestId
from protos.contract.request import Job
from protos.contract.stream import Accepted
from router.sessions.reading.parts import parts_of
from tests.unit.protos.contract.codec.strategies import over_the_wire


def aborts(count: int) -> list[tuple[int, Abort]]:
    return [(number, Abort(request_id=RequestId(f"r{number}"), attempt=1)) for number in range(1, count + 1)]


def test_commands_that_wait_go_out_in_one_message_as_far_as_it_holds() -> None:
    """Each with its own number; what does not fit waits for the next."""
    waiting = aborts(MOST_TOGETHER + 3)
    commands = iter(waiting[1:])
    message = encode_command(waiting[0][1], 1)
    add_following(message, commands)
    read = [(one.sequence, decode_command(one)) for one in (message, *message.following)]
    assert read == waiting[: MOST_TOGETHER + 1]
    assert list(commands) == waiting[MOST_TOGETHER + 1 :]


def test_a_large_command_is_followed_by_none() -> None:
    """A message stays about as large as one command makes it."""
    job = Job(request_id=RequestId("r"), attempt=1, model="m", quantization="q", prompt="x" * TOGETHER_BYTES)
    message = encode_command(Generate(job=job), 1)
    commands = iter(aborts(2))
    add_following(message, commands)
    assert not message.following
    assert len(list(commands)) == 2


def test_acceptances_in_one_message_are_each_heard() -> None:
    """In order; one that follows is followed by none."""
    events = [Accepted(request_id=RequestId(f"r{number}"), attempt=1, prompt_tokens=number) for number in range(5)]
    message: pb.WorkerEvent = over_the_wire(encode_event(events[0], events[1:]))
    message.following[0].following.add().pong.sequence = 1  # what no worker of ours says
    assert [decode_event(one, 0.0) for one in parts_of(message)] == events
