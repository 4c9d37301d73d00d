"""The ``allsorts`` command: composes everything else, and only here may the router print."""
