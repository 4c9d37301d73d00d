"""llama.cpp models that propose tokens: to targets elsewhere, and to one in the same process."""
