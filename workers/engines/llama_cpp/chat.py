"""The chat template that comes in the GGUF, rendered in a sandbox."""

from llama_cpp.llama_chat_format import Jinja2ChatFormatter

from protos.contract.request import ChatMessage
from protos.contract.stream import RefusalCode
from workers.engines.base import Refused
from workers.engines.llama_cpp.native import NativeModel

DEFAULT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""ChatML, for files without a template."""


class ChatTemplate:
    """Turns messages into the text the model was trained on."""

    def __init__(self, model: NativeModel) -> None:
        self._formatter = Jinja2ChatFormatter(
            template=model.meta("tokenizer.chat_template") or DEFAULT_TEMPLATE,
            eos_token=model.marker(model.end_token),
            bos_token=model.marker(model.start_token),
        )

    def render(self, messages: tuple[ChatMessage, ...]) -> str:
        """The prompt's text; raises Refused when the template does not accept the messages."""
        import jinja2

        plain = [{"role": m.role, "content": m.content, **({"name": m.name} if m.name else {})} for m in messages]
        try:
            return str(self._formatter(messages=plain).prompt)
        except (jinja2.TemplateError, ValueError, TypeError) as error:
            reason = f"the model's chat template does not accept these messages: {error}"
            raise Refused(RefusalCode.INVALID, reason, parameter="messages") from error
