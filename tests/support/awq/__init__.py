"""Makes a small AWQ model for vLLM from the packaged SmolLM2: ``python -m tests.support.awq --out build/models``.

Runs in the environment of vLLM workers (torch, transformers). Method: Lin et al., AWQ: Activation-aware Weight
Quantization, 2023 (arXiv 2306.00978); file layout: AutoAWQ's GEMM version, the one vLLM loads.
"""
