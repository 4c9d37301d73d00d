"""Who may take a request at all, and the reason of everyone who may not.

*Static* filters depend only on the request's rules and on facts that rarely change; their result is kept per rules.
*Dynamic* filters depend on load and time: columns compared with what the request demands. What lasts is asked before
what load or time will cure, so that a worker that could never serve the request does not read as one worth waiting
for.

To add one: a member of ``FilterName``, and one line in ``STATIC_FILTERS`` or ``DYNAMIC_FILTERS`` with its predicate.
"""
