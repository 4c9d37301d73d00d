"""What every engine keeps, whatever runs inside. A test is skipped only where the engine says that it cannot."""

import asyncio
from dataclasses import replace

import psutil
import pytest

from protos.contract.request import ContinueFrom, EmbeddingInputs, Sampling
from protos.contract.stream import FinishReason, RefusalCode
from tests.contract.engines.rigs import CONTEXT_TOKENS, GREEDY, SLOTS, Rig, ended_well
from workers.engines.base import LoadError, Refused

pytestmark = pytest.mark.asyncio(loop_scope="module")  # an engine that takes long to start lives from test to test

GONE_WITHIN_S = 60.0


def needs(rig: Rig, capability: str) -> None:
    if not getattr(rig.loaded.capabilities, capability):
        pytest.skip(f"declares no {capability}")


async def test_output_streams_in_order_and_adds_up(rig: Rig) -> None:
    """Many deltas, positions without gap, counts that agree with the usage, nothing after the final one."""
    run = await rig.run(rig.job())
    assert len(run.deltas) > 3
    position = 0
    for delta in run.deltas:
        assert delta.position == position
        position += delta.token_count
        assert delta.text_tokens <= position
    assert run.final is run.deltas[-1]
    assert run.final.usage is not None
    assert run.final.usage.completion_tokens == position <= 24
    assert run.final.usage.prompt_tokens > 0
    assert run.text


async def test_the_token_limit_ends_a_job_with_length(rig: Rig) -> None:
    """Exactly so many tokens, and finish reason length."""
    run = await rig.run(rig.job(sampling=replace(GREEDY, max_tokens=7, ignore_eos=True)))
    assert run.final.finish_reason is FinishReason.LENGTH
    assert run.final.usage is not None
    assert run.final.usage.completion_tokens == 7


async def test_chat_and_text_prompts_both_answer(rig: Rig) -> None:
    """A chat goes through the model's template, a text does not."""
    chat, text = await asyncio.gather(rig.run(rig.chat()), rig.run(rig.job()))
    assert ended_well(chat)
    assert ended_well(text)
    assert chat.text


async def test_a_stop_string_ends_the_text_before_it(rig: Rig) -> None:
    """Also when it straddles tokens; nothing of it is released."""
    whole = (await rig.run(rig.job(sampling=replace(GREEDY, ignore_eos=True)))).text
    middle = len(whole) // 2
    stop = whole[middle - 3 : middle + 4]
    run = await rig.run(rig.job(sampling=replace(GREEDY, ignore_eos=True, stop=("never this", stop))))
    assert run.final.finish_reason is FinishReason.STOP
    assert run.text == whole[: whole.index(stop)]


async def test_a_seed_makes_sampling_repeatable(rig: Rig) -> None:
    """The same seed gives the same text; seeds differ."""
    needs(rig, "seed")
    sampling = Sampling(temperature=1.0, max_tokens=16, ignore_eos=True)
    texts = [(await rig.run(rig.job(sampling=replace(sampling, seed=seed)))).text for seed in (7, 7, 8, 9)]
    assert texts[0] == texts[1]
    assert len(set(texts)) > 1


async def test_greedy_output_repeats(rig: Rig) -> None:
    """Temperature 0 leaves nothing to chance."""
    first, second = await rig.run(rig.job()), await rig.run(rig.job())
    assert first.text == second.text


async def test_an_abort_ends_the_job_and_spares_its_neighbours(rig: Rig) -> None:
    """The last delta says aborted and carries the counts so far; the others run to their end."""
    long = await rig.submit(rig.job(sampling=replace(GREEDY, max_tokens=400, ignore_eos=True)))
    neighbour = await rig.submit(rig.job("The weather in spring is"))
    await long.until(lambda run: run.deltas)
    rig.engine.abort(long.job.request_id, long.job.attempt)
    await long.end()
    assert long.final.finish_reason is FinishReason.ABORTED
    assert long.final.usage is not None
    assert long.final.usage.completion_tokens == sum(delta.token_count for delta in long.deltas) < 400
    assert ended_well(await neighbour.end())


async def test_a_waiting_job_can_be_aborted(rig: Rig) -> None:
    """More jobs than slots: the one that has not begun ends too."""
    busy = [
        await rig.submit(rig.job(f"Story number {n}:", sampling=replace(GREEDY, max_tokens=100))) for n in range(SLOTS)
    ]
    waiting = await rig.submit(rig.job("I wait"))
    rig.engine.abort(waiting.job.request_id, waiting.job.attempt)
    await waiting.end()
    assert waiting.final.finish_reason in (FinishReason.ABORTED, FinishReason.STOP, FinishReason.LENGTH)
    for run in busy:
        rig.engine.abort(run.job.request_id, run.job.attempt)
        await run.end()


async def test_an_abort_of_an_unknown_job_is_ignored(rig: Rig) -> None:
    """Aborts cross with ends; that harms nothing."""
    rig.engine.abort("nobody", 1)
    assert ended_well(await rig.run(rig.job()))


async def test_log_probabilities_come_with_every_token(rig: Rig) -> None:
    """One entry a token, none above zero, rivals best first; greedy takes the best."""
    needs(rig, "logprobs")
    run = await rig.run(rig.job(sampling=replace(GREEDY, max_tokens=8, ignore_eos=True, logprobs=True, top_logprobs=3)))
    entries = [entry for delta in run.deltas for entry in delta.logprobs]
    assert len(entries) == 8
    for entry in entries:
        assert entry.logprob <= 1e-6
        values = [one.logprob for one in entry.top]
        assert len(values) == 3
        assert values == sorted(values, reverse=True)
        assert entry.logprob == pytest.approx(values[0], abs=1e-4)
    assert b"".join(entry.token for entry in entries).decode(errors="ignore").startswith(run.text[:1])


async def test_a_prompt_is_repeated_with_what_its_tokens_are_worth(rig: Rig) -> None:
    """Evaluators ask for it: the text again, an entry a token of which the first is worth nothing, and no answer where
    none is wanted; the figures are those of scoring.
    """
    needs(rig, "prompt_logprobs")
    text = "The cat sat on the mat and slept all day long in the warm sun."
    asked = replace(GREEDY, echo=True, logprobs=True, top_logprobs=2, max_tokens=0)
    for _ in range(2):  # the second finds the prompt in the cache, and computes it all the same
        run = await rig.run(rig.job(text, sampling=asked))
        (last,) = [delta for delta in run.deltas if delta.echo]
        assert (last.echo, run.text, last.finish_reason) == (text, "", FinishReason.LENGTH)
        assert last.usage is not None
        assert last.usage.completion_tokens == 0
        assert b"".join(one.token for one in last.echo_logprobs).decode() == text
        assert last.echo_logprobs[0].logprob == 0.0
    if rig.loaded.capabilities.can_score:
        scored = await rig.engine.score(rig.loaded.model, rig.loaded.quantization, text)
        values = [one.logprob for one in last.echo_logprobs]
        assert values[-len(scored.logprobs) :] == pytest.approx(scored.logprobs, abs=1e-3)
    going_on = await rig.run(rig.job(text, sampling=replace(asked, max_tokens=4, logprobs=False, ignore_eos=True)))
    assert "".join(delta.echo for delta in going_on.deltas) == text
    assert going_on.text
    assert (going_on.deltas[0].echo, going_on.deltas[0].echo_logprobs) == (text, ())


async def test_too_long_a_prompt_is_refused_before_any_work(rig: Rig) -> None:
    """Context overflow is the client's fault, told with the counts; nothing ran."""
    before = rig.engine.load_figures().prefill_progress
    with pytest.raises(Refused) as refused:
        await rig.submit(rig.job("word and " * CONTEXT_TOKENS))
    assert refused.value.code is RefusalCode.CONTEXT_LENGTH
    assert refused.value.context_tokens == CONTEXT_TOKENS
    assert refused.value.prompt_tokens > CONTEXT_TOKENS
    figures = await rig.idle()
    assert figures.prefill_progress == before


async def test_a_job_without_a_limit_ends_at_the_context(rig: Rig) -> None:
    """No limit means as many tokens as the context leaves."""
    run = await rig.run(rig.job("a b c d " * 100, sampling=Sampling(temperature=0.0, ignore_eos=True)))
    assert run.final.finish_reason is FinishReason.LENGTH
    assert run.final.usage is not None
    assert run.final.usage.prompt_tokens + run.final.usage.completion_tokens <= CONTEXT_TOKENS


async def test_an_unknown_model_is_refused(rig: Rig) -> None:
    """With its own code, so that the router tries elsewhere."""
    with pytest.raises(Refused) as refused:
        await rig.engine.submit(replace(rig.job(), model="no-such-model"))
    assert refused.value.code is RefusalCode.MODEL_NOT_LOADED


async def test_seeds_and_prompts_read_in_parts_go_together(rig: Rig) -> None:
    """Longer than a step, several at once, twice: all are answered, and nobody's engine ends."""
    needs(rig, "seed")
    sampling = Sampling(temperature=1.0, seed=11, max_tokens=6, ignore_eos=True)
    texts = [f"Letter {number}: " + "the tide came in. " * 60 for number in range(3)]
    for _ in range(2):
        for run in await asyncio.gather(*(rig.run(rig.job(one, sampling=sampling)) for one in texts)):
            assert ended_well(run)
            assert run.final.usage is not None
            assert run.final.usage.completion_tokens == 6


async def test_load_figures_show_work_and_return_to_zero(rig: Rig) -> None:
    """More jobs than slots: some run, some wait; afterwards nothing does, and counters have grown."""
    before = rig.engine.load_figures()
    jobs = [rig.job(f"Chapter {n} begins with", sampling=replace(GREEDY, ignore_eos=True)) for n in range(2 * SLOTS)]
    runs = [await rig.submit(job) for job in jobs]
    busy = rig.engine.load_figures()
    assert busy.running + busy.waiting > 0
    for run in runs:
        assert ended_well(await run.end())
    after = await rig.idle()
    assert (after.running, after.waiting, after.prefill_tokens_pending) == (0, 0, 0)
    assert (after.context_tokens, after.expected_remaining_tokens) == (0, 0)
    assert after.step_sequence > before.step_sequence
    assert after.prefill_progress > before.prefill_progress


async def test_every_job_has_exactly_one_final_delta(rig: Rig) -> None:
    """Whatever happens to it: ended, aborted early, aborted late."""
    runs = [await rig.submit(rig.job(f"Number {n} is", sampling=replace(GREEDY, max_tokens=4 + n))) for n in range(12)]
    for run in runs[::3]:
        rig.engine.abort(run.job.request_id, run.job.attempt)
    for run in runs:
        await run.end()
    for run in runs[1::3]:
        rig.engine.abort(run.job.request_id, run.job.attempt)
    await rig.idle()
    assert ended_well(await rig.run(rig.job()))
    assert [len(run.finals) for run in runs] == [1] * 12


async def test_a_continuation_goes_on_where_the_text_stopped(rig: Rig) -> None:
    """Prompt plus text already sent, then the rest of the same greedy answer; its own positions start at zero."""
    needs(rig, "can_continue")
    sampling = replace(GREEDY, ignore_eos=True)
    whole = await rig.run(rig.job(sampling=sampling, return_token_ids=True))
    cut = 0
    sent, ids = "", []
    for delta in whole.deltas:
        if cut >= 10 and delta.text.startswith(" "):
            break  # between words every tokenizer agrees
        sent, cut = sent + delta.text, cut + delta.token_count
        ids += delta.token_ids
    known = {"token_ids": tuple(ids), "tokenizer_fingerprint": rig.loaded.tokenizer_fingerprint} if ids else {}
    rest = await rig.run(
        rig.job(
            sampling=replace(sampling, max_tokens=24 - cut),
            continue_from=ContinueFrom(text=sent, output_tokens=cut, **known),
        )
    )
    assert rest.deltas[0].position == 0
    assert sent + rest.text == whole.text


async def test_a_continuation_of_a_chat_goes_on_in_the_same_answer(rig: Rig) -> None:
    """The template is applied to the question, and the answer so far stands open behind it."""
    needs(rig, "can_continue")
    whole = await rig.run(rig.chat())
    sent = whole.text[: whole.text.rindex(" ")]
    rest = await rig.run(rig.chat(continue_from=ContinueFrom(text=sent, output_tokens=5)))
    assert (sent + rest.text).startswith(whole.text[: len(sent) + 4])


async def test_a_prompt_seen_before_is_held_published_and_not_computed_again(rig: Rig) -> None:
    """The engine tells which of the router's text blocks it holds; the same prompt finds its tokens there."""
    needs(rig, "publishes_cache")
    text = "The lighthouse keeper counted the ships that passed, and wrote their names into a long grey book. " * 18
    blocks = (901, 902, 903)
    first = await rig.run(rig.job(text, block_hashes=blocks))
    await rig.holds(blocks)
    again = await rig.run(rig.job(text, block_hashes=blocks))
    assert first.final.usage is not None
    assert again.final.usage is not None
    assert first.final.usage.cached_tokens == 0
    assert again.final.usage.cached_tokens >= 128
    assert ended_well(again)


async def test_scores_prefer_sense_to_nonsense(rig: Rig) -> None:
    """One log-probability a token after the first; a plain sentence is likelier than its words shuffled."""
    needs(rig, "can_score")
    sense = await rig.engine.score(rig.loaded.model, rig.loaded.quantization, "The cat sat on the mat and slept.")
    nonsense = await rig.engine.score(rig.loaded.model, rig.loaded.quantization, "mat The slept on. sat cat and the")
    for scored in (sense, nonsense):
        assert len(scored.logprobs) == len(scored.token_ids) > 4
        assert max(scored.logprobs) <= 1e-6
    assert sum(sense.logprobs) / len(sense.logprobs) > sum(nonsense.logprobs) / len(nonsense.logprobs)


async def test_scoring_and_embedding_without_the_capability_are_refused(rig: Rig) -> None:
    """What is not declared is refused, not attempted."""
    name, quantization = rig.loaded.model, rig.loaded.quantization
    for able, ask in (
        (rig.loaded.capabilities.can_score, lambda: rig.engine.score(name, quantization, "text")),
        (
            rig.loaded.capabilities.can_embed,
            lambda: rig.engine.embed(name, quantization, EmbeddingInputs(inputs=("text",)), print),
        ),
    ):
        if not able:
            with pytest.raises(Refused) as refused:
                await ask()
            assert refused.value.code is RefusalCode.UNSUPPORTED


async def test_unload_ends_what_runs_and_frees_the_memory(rig: Rig) -> None:
    """Running jobs end aborted, the model is gone, loading again and again does not grow the process, and no process
    that holds weights beside it (vLLM's core) outlives its model.
    """
    process = psutil.Process()
    run = await rig.submit(rig.job(sampling=replace(GREEDY, max_tokens=400, ignore_eos=True)))
    await run.until(lambda one: one.deltas)
    await rig.engine.unload(rig.loaded.model, rig.loaded.quantization)
    assert (await run.end()).final.finish_reason is FinishReason.ABORTED
    assert rig.engine.models == ()
    with pytest.raises(Refused):
        await rig.engine.submit(rig.job())
    held = []
    for _ in range(4):
        before = set(process.children(recursive=True))
        rig.loaded = await rig.engine.load(rig.spec, lambda _fraction, _message: None)
        started = set(process.children(recursive=True)) - before
        assert bool(started) == (rig.name == "vllm"), "vLLM computes in a process of its own, the others in this one"
        assert ended_well(await rig.run(rig.job()))
        await rig.engine.unload(rig.loaded.model, rig.loaded.quantization)
        _, left = await asyncio.to_thread(psutil.wait_procs, started, GONE_WITHIN_S)
        assert left == []
        held.append(process.memory_full_info().uss)
    grown = held[-1] - held[0]  # the first of them fills the allocator's arenas: once, 44 MB with vLLM
    assert grown < 48 * 2**20, f"{grown / 2**20:.0f} MiB more after three loads: {[one // 2**20 for one in held]}"


async def test_what_cannot_be_loaded_says_why_and_leaves_the_rest_alone(rig: Rig) -> None:
    """A wrong path is a LoadError of one line that names it; the loaded model goes on."""
    wrong = "http://127.0.0.1:9/v1" if rig.name == "openai" else "/no/such/model"
    with pytest.raises(LoadError) as error:
        await rig.engine.load(replace(rig.spec, name="other", path=wrong), lambda _fraction, _message: None)
    assert wrong in str(error.value)
    assert "\n" not in str(error.value)
    assert ended_well(await rig.run(rig.job()))


async def test_who_speculates_says_how(rig: Rig) -> None:
    """llama.cpp does unless told not to: this suite is its suite with speculation on. vLLM does where it is told to."""
    by_itself = {"llama.cpp": "own text"}.get(rig.name, "")
    assert rig.loaded.speculates == str(rig.spec.options.get("speculate", by_itself))


async def test_close_may_be_called_twice_and_ends_everything(rig: Rig) -> None:
    """Idempotent; a job under way ends."""
    run = await rig.run(rig.job())
    assert run.finals
    await rig.engine.close()
    await rig.engine.close()
