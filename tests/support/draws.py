"""What Hypothesis draws is the same for a test alone and for a whole suite."""


def draws_do_not_depend_on_imports() -> None:
    """Hypothesis mixes constants of the project's modules into what it draws, of those that happen to be loaded: a test
    that is derandomized failed in one order of tests and passed in another. Here no module counts as the project's.
    """
    from hypothesis.internal.conjecture import providers

    assert hasattr(providers, "is_local_module_file"), "Hypothesis collects constants in another way; see draws.py"
    providers.is_local_module_file = lambda path: False
