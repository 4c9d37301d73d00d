"""The shape of a model: what its weights, its KV cache and its speed follow from."""

from dataclasses import dataclass

from protos.contract.worker import SamplingDefaults


@dataclass(frozen=True, slots=True, kw_only=True)
class KvLayers:
    """Layers that keep the same of every token."""

    layers: int
    keys: int  # numbers that one token adds to each of them
    values: int
    window: int = 0  # tokens they look back; 0: all


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """A decoder-only transformer. Zero: not known, or not so."""

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int  # the most that a layer has, as the two after it
    head_dim_k: int
    head_dim_v: int
    feed_forward: int  # of one expert in a mixture of experts
    vocabulary: int
    context_tokens: int  # the longest it was trained for
    tied_embeddings: bool = False
    experts: int = 0
    experts_used: int = 0
    shared_experts: int = 0  # always active, beside those routed
    dense_layers: int = 0  # of a mixture of experts: leading layers without experts
    dense_feed_forward: int = 0  # the width of those
    kv_layers: tuple[KvLayers, ...] = ()  # where layers differ; empty: all keep kv_heads times their dimensions
    state_bytes: int = 0  # that one sequence takes whatever its length: layers with a state instead of keys and values
    attention_parameters: int = 0  # of one layer, where attention is not the plain one (multi-head latent attention)
    stated_parameters: int = 0  # as counted in a file, or as its size says; 0: worked out of the shape
    weights_bytes: int = 0  # of the file this was read from
    quantization: str = ""  # of that file, canonical; one that no table knows: as the file calls it
    lineage: str = ""  # of that file: what it was made from, where it says so
    note: str = ""  # what was assumed, for people
    sampling: SamplingDefaults | None = None  # as that file says it should be sampled

    @property
    def parameters(self) -> int:
        """All weights."""
        return self.stated_parameters or self._shared + self._experts_of(self.experts + self.shared_experts)

    @property
    def active_parameters(self) -> int:
        """Weights one token's decoding reads; equals ``parameters`` but for a mixture of experts."""
        if not self.experts:
            return self.parameters
        whole = self._shared + self._experts_of(self.experts + self.shared_experts)
        active = self._shared + self._experts_of(self.experts_used + self.shared_experts)
        return round(self.parameters * active / whole) if whole else self.parameters

    @property
    def embedding_parameters(self) -> int:
        """Embeddings and head: what formats that quantize layers only leave at 16 bits."""
        return min(self.vocabulary * self.hidden * (1 if self.tied_embeddings else 2), self.parameters)

    @property
    def bits_per_weight(self) -> float:
        """Of the whole file, scales and embeddings included; 0: there is none."""
        return 8.0 * self.weights_bytes / self.parameters if self.parameters else 0.0

    @property
    def _shared(self) -> int:
        """Embeddings, attention, norms, routers and the leading dense layers."""
        head_dim = self.head_dim_v or self.head_dim_k
        attention = self.attention_parameters or self.hidden * (
            self.heads * self.head_dim_k + self.kv_heads * (self.head_dim_k + self.head_dim_v) + self.heads * head_dim
        )
        layer = attention + 2 * self.hidden
        if self.experts:
            dense = 3 * self.hidden * (self.dense_feed_forward or self.feed_forward) * self.dense_layers
            routers = self.hidden * self.experts * (self.layers - self.dense_layers)
        else:
            dense, routers = 3 * self.hidden * self.feed_forward * self.layers, 0
        embeddings = self.vocabulary * self.hidden * (1 if self.tied_embeddings else 2)
        return embeddings + self.layers * layer + self.hidden + dense + routers

    def _experts_of(self, count: int) -> int:
        if not self.experts:
            return 0
        return 3 * self.hidden * self.feed_forward * count * (self.layers - self.dense_layers)
