"""Engines behind one interface: llama.cpp, vLLM, servers that already run, simulated ones."""
