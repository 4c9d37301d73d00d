"""OpenAI's Responses API: items in, items out, kept for a time so that the next call may go on from them."""
