"""The router of Allsorts: one OpenAI-compatible endpoint that places every request on the best worker."""
