"""Who may come in: the pool's authority, join tokens, enrolment, authorizers, audit."""
