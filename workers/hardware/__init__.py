"""What machine this is: commands that ask the system, pure parsers of what they print, and a self-test for owners.

``detect.this_machine()`` is all that others need. See README.md for what lives
where and what was verified on which machine.
"""
