"""Models' files of one worker, as routers see them: what is here, what comes, what is sent and what is taken away."""
