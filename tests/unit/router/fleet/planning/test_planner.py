"""The planner's steps, one case at a time. What always holds is in ``tests/property/test_fleet_planner.py``."""

from dataclasses import replace

from router.fleet.planning.foresight import Doing, foresee
from router.fleet.planning.planner import plan
from router.fleet.planning.steps import Load, Plan, Unload
from tests.support.planned import CPU, GIB, copy_of, file_of, node_of, observed, state_of, takes, wanted

ADA, BEA = file_of("ada", gib=2), file_of("bea", gib=2)
ADA_SMALL = file_of("ada", "q4_k_m", gib=1)
ONE_FITS = 1.5 * takes(ADA)


def said(ahead: Plan) -> list[tuple[str, str, str]]:
    """Steps in short."""
    return [(type(one).__name__, one.model, one.node) for one in ahead.steps if isinstance(one, (Load, Unload))]


def test_what_must_be_there_is_loaded_where_it_fits() -> None:
    """With its context and slots, from the file by the name under which the worker told of it."""
    ahead = plan(state_of(wanted("ada")), observed(node_of("box", [ADA])))
    (step,) = ahead.steps
    assert isinstance(step, Load)
    assert (step.node, step.model, step.quantization, step.file) == ("box", "ada", "q8_0", "ada-q8_0.gguf")
    assert (step.context_tokens, step.slots, step.urgent) == (2048, 2, False)
    assert step.needs_bytes == takes(ADA) > ADA.weights_bytes


def test_the_best_quantization_that_fits_is_taken() -> None:
    """Where the best does not fit, the next of the file's list."""
    model = wanted("ada", quantizations=("q8_0", "q4_k_m"))
    big, small = (node_of(name, [ADA, ADA_SMALL], usable_bytes=size) for name, size in (("big", 9e9), ("small", 1.6e9)))
    assert [(one.node, one.quantization) for one in plan(state_of(model), observed(big, small)).steps] == [  # type: ignore[union-attr]
        ("big", "q8_0")
    ]
    (step,) = plan(state_of(model), observed(small)).steps
    assert isinstance(step, Load)
    assert step.quantization == "q4_k_m"


def test_what_does_not_fit_is_said_with_figures() -> None:
    """By capacity's arithmetic; and what else is wrong with each node."""
    state = state_of(wanted("ada", where="CUDA"))
    ahead = plan(state, observed(node_of("box", [ADA])))
    assert ahead.blocked == {"ada": "box: is not what is wished for: CUDA"}
    ahead = plan(state_of(wanted("ada")), observed(node_of("box", [ADA], usable_bytes=1 * GIB), node_of("bare")))
    assert ahead.blocked["ada"].startswith("box: q8_0 needs 2.")
    assert "of 1.00; bare: has no file of it" in ahead.blocked["ada"]
    assert not ahead.steps


def test_a_machine_whose_owner_chose_is_left_alone_and_counted() -> None:
    """It serves the model, and that is enough; its own choice is never unloaded."""
    owned = node_of("mac", [ADA], [copy_of(ADA)], takes_models=False)
    assert plan(state_of(wanted("ada")), observed(owned, node_of("box", [ADA]))).settled
    assert plan(state_of(), observed(owned)).settled
    mixed = node_of("box", [ADA, BEA], [copy_of(ADA)], usable_bytes=ONE_FITS)
    ahead = plan(state_of(wanted("bea")), observed(mixed))
    assert not ahead.steps
    assert "ada@q8_0 was chosen by its owner" in ahead.blocked["bea"]


def test_what_the_file_names_no_more_goes() -> None:
    """Only what a router ordered."""
    node = node_of("box", [ADA], [copy_of(ADA, model=wanted("ada"))])
    assert said(plan(state_of(), observed(node))) == [("Unload", "ada", "box")]


def test_one_change_per_node_at_a_time() -> None:
    """Two models for one machine come one after the other."""
    state = state_of(wanted("ada"), wanted("bea"))
    node = node_of("box", [ADA, BEA])
    ahead = plan(state, observed(node))
    assert said(ahead) == [("Load", "ada", "box")]
    assert ahead.waiting == {"bea": "box: it is changing something else"}
    loading = replace(node, copies=(copy_of(ADA, model=wanted("ada"), state="loading"),))
    assert not plan(state, observed(loading)).steps


def test_a_load_that_failed_is_tried_again_later_and_later() -> None:
    """5 s, 10 s, 20 s, … five minutes."""
    state, model = state_of(wanted("ada")), wanted("ada")

    def tried(failures: int, ago_s: float) -> bool:
        failed = copy_of(ADA, model=model, state="failed", failures=failures, failed_s=ago_s)
        return bool(plan(state, observed(node_of("box", [ADA], [failed]))).steps)

    assert [tried(1, 4.9), tried(1, 5.1), tried(3, 19.0), tried(3, 21.0)] == [False, True, False, True]
    assert [tried(40, 299.0), tried(40, 301.0)] == [False, True]


def test_a_model_loaded_otherwise_than_the_file_says_is_loaded_anew_without_a_gap() -> None:
    """First another copy, then the old one goes; where there is no room for two, it stays, and why is said."""
    state, before = state_of(wanted("ada")), wanted("ada", tensor_parallel=2)
    old = copy_of(ADA, model=before)
    two = observed(node_of("one", [ADA], [old]), node_of("two", [ADA]))
    assert said(plan(state, two)) == [("Load", "ada", "two")]
    both = observed(node_of("one", [ADA], [old]), node_of("two", [ADA], [copy_of(ADA, model=wanted("ada"))]))
    assert said(plan(state, both)) == [("Unload", "ada", "one")]
    alone = plan(state, observed(node_of("one", [ADA], [old], usable_bytes=ONE_FITS)))
    assert not alone.steps
    assert alone.blocked["ada"].endswith("so the copies there are stay as they were loaded")


def test_a_model_that_nobody_must_have_is_restarted_where_it_is() -> None:
    """``min`` 0: it goes, and comes back as wanted when somebody asks."""
    old = copy_of(ADA, model=wanted("ada", tensor_parallel=2))
    assert said(plan(state_of(wanted("ada", 0)), observed(node_of("one", [ADA], [old])))) == [("Unload", "ada", "one")]


def test_somebody_who_waits_brings_a_model_up() -> None:
    """And nobody does without."""
    state, node = state_of(wanted("ada", 0)), node_of("box", [ADA])
    assert plan(state, observed(node)).settled
    (step,) = plan(state, observed(node, demand={"ada": (1, 0.1)})).steps
    assert isinstance(step, Load)
    assert step.urgent
    assert step.why == "1 request waits for it"


def test_the_least_recently_used_makes_room() -> None:
    """Only when the memory is short, and never what is pinned."""
    names = {"ada": wanted("ada", 0), "bea": wanted("bea", 0), "cleo": wanted("cleo", 0)}
    cleo = file_of("cleo", gib=2)
    held = [copy_of(ADA, model=names["ada"], unused_s=300), copy_of(BEA, model=names["bea"], unused_s=100)]
    node = node_of("box", [ADA, BEA, cleo], held, usable_bytes=2.5 * takes(ADA))
    waits = observed(node, demand={"cleo": (1, 0.1)})
    assert said(plan(state_of(*names.values()), waits)) == [("Unload", "ada", "box")]
    pinned = state_of(replace_model(names["ada"], pin=True), names["bea"], names["cleo"])
    assert said(plan(pinned, waits)) == [("Unload", "bea", "box")]
    roomy = observed(replace(node, usable_bytes=64.0 * GIB), demand={"cleo": (1, 0.1)})
    assert said(plan(state_of(*names.values()), roomy)) == [("Load", "cleo", "box")]


def test_a_copy_stays_for_its_residence_and_a_busy_one_for_its_turn() -> None:
    """So that two models that fit one at a time take turns, and swap no more often than the rules say."""
    state = state_of(wanted("ada", 0), wanted("bea", 0), residence_s=10, turn_s=30)

    def goes(resident_s: float, *, running: int, waited_s: float) -> bool:
        copy = copy_of(ADA, model=wanted("ada", 0), resident_s=resident_s, running=running)
        node = node_of("box", [ADA, BEA], [copy], usable_bytes=ONE_FITS)
        ahead = plan(state, observed(node, demand={"bea": (1, waited_s)}))
        assert ahead.steps or ahead.waiting["bea"], "it passes by itself"
        return bool(ahead.steps)

    assert [goes(9, running=0, waited_s=60), goes(11, running=0, waited_s=0.1)] == [False, True]
    assert [goes(29, running=1, waited_s=60), goes(60, running=1, waited_s=29)] == [False, False]
    assert goes(60, running=1, waited_s=31)


def test_idle_copies_go_and_surplus_ones() -> None:
    """Above ``min`` after the idle time; what a client asked for by keep-alive counts in its place."""
    model = wanted("ada", 0, 1, idle_s=60)
    node = node_of("box", [ADA], [copy_of(ADA, model=model, unused_s=61)])
    assert said(plan(state_of(model), observed(node))) == [("Unload", "ada", "box")]
    assert not plan(state_of(model), observed(node, keep_alive={"ada": 600.0})).steps
    assert not plan(state_of(wanted("ada", 1, idle_s=60)), observed(node)).steps
    assert not plan(state_of(replace_model(model, pin=True)), observed(node)).steps
    both = [node_of(name, [ADA], [copy_of(ADA, model=model)]) for name in ("one", "two")]
    assert len(plan(state_of(model), observed(*both)).steps) == 1


def test_a_crowd_brings_up_one_more_copy() -> None:
    """As far as ``max`` goes, once somebody has waited for a while."""
    model = wanted("ada", 1, 2)
    one, two = node_of("one", [ADA], [copy_of(ADA, model=model, running=2)]), node_of("two", [ADA])
    assert said(plan(state_of(model), observed(one, two, demand={"ada": (3, 6.0)}))) == [("Load", "ada", "two")]
    assert not plan(state_of(model), observed(one, two, demand={"ada": (3, 1.0)})).steps
    assert not plan(state_of(wanted("ada", 1, 1)), observed(one, two, demand={"ada": (3, 6.0)})).steps


def test_the_difference_tells_moves_and_restarts() -> None:
    """What ``allsorts apply`` shows before anything is done."""
    state, before = state_of(wanted("ada", labels={"site": "lab"})), wanted("ada")
    old = copy_of(ADA, model=before)
    home, lab = node_of("home", [ADA], [old]), node_of("lab", [ADA], labels={"site": "lab"})
    (moved,) = foresee(state, observed(home, lab)).changes
    assert (moved.doing, moved.was, moved.node) == (Doing.MOVE, "home@q8_0", "lab")
    other = wanted("ada", quantizations=("q4_k_m",))
    (anew,) = foresee(state_of(other), observed(replace(home, files=(ADA, ADA_SMALL)))).changes
    assert (anew.doing, anew.quantization, anew.was, anew.node) == (Doing.RESTART, "q4_k_m", "home@q8_0", "home")
    (gone,) = foresee(state_of(), observed(home)).changes
    assert (gone.doing, gone.node, gone.why) == (Doing.UNLOAD, "home", "is not in the file")
    blocked = foresee(state_of(wanted("bea")), observed(home)).blocked
    assert blocked == {"bea": "home: has no file of it"}


def replace_model(model, **changes):  # type: ignore[no-untyped-def]
    """With other values."""
    return wanted(
        model.name, model.copies.min, model.copies.max, **{"idle_s": model.idle_s, "pin": model.pin, **changes}
    )


def test_what_a_file_takes_depends_on_the_machine_and_not_on_who_asked_before() -> None:
    """Answers are remembered; another machine, context or file is another question."""
    gpu = replace(CPU, kind="nvidia", name="NVIDIA GeForce RTX 4090", usable_memory_bytes=24 * GIB)
    first = takes(ADA)
    assert takes(ADA, gpu) != first
    assert takes(BEA) == first
    assert takes(file_of("ada", gib=3)) > first
    assert takes(ADA) == first
