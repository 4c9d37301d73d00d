"""OpenAI's Responses API, stateless: nothing is stored, and every request brings its whole history."""
