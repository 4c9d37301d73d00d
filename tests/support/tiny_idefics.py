"""A model that sees, of random weights: Idefics3's shape around the packaged model's tokenizer. Says nonsense.

Run in vLLM's environment: it needs transformers and torch.
"""

from pathlib import Path

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for p in m['content'] %}{% if p['type'] == 'image' %}<image>{% else %}{{ p['text'] }}{% endif %}{% endfor %}"
    "{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
IMAGE_SIDE, PATCH_SIDE, SCALE = 32, 8, 2
SEEN_TOKENS = (IMAGE_SIDE // PATCH_SIDE) ** 2 // SCALE**2
IMAGE_TOKENS = SEEN_TOKENS + 3
"""What one image takes of the context: what is seen, and three marks around it."""

MARKS = ("<fake_token_around_image>", "<image>", "<global-img>", "<end_of_utterance>")


def make(tokenizer_folder: Path, out: Path) -> Path:
    """Writes the model into ``out``; the same weights every time."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(str(tokenizer_folder))
    tokenizer.add_special_tokens({"additional_special_tokens": list(MARKS)})
    tokenizer.chat_template = TEMPLATE
    vision = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
        "image_size": IMAGE_SIDE, "patch_size": PATCH_SIDE, "model_type": "idefics3_vision",
    }  # fmt: skip
    text = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=1024, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    config = transformers.Idefics3Config(
        vision_config=vision,
        text_config=text,
        scale_factor=SCALE,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(0)
    transformers.Idefics3ForConditionalGeneration(config).to(torch.bfloat16).save_pretrained(out)
    images = transformers.Idefics3ImageProcessor(
        size={"longest_edge": IMAGE_SIDE}, max_image_size={"longest_edge": IMAGE_SIDE}, do_image_splitting=False
    )
    transformers.Idefics3Processor(
        image_processor=images, tokenizer=tokenizer, image_seq_len=SEEN_TOKENS, chat_template=TEMPLATE
    ).save_pretrained(out)
    return out
