"""OpenAI's chat, completions, embeddings and models, with what vLLM and llama.cpp's server add to them."""
