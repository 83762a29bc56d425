"""LiteLLM's providers: where each is served for OpenAI's or Anthropic's API, and whose key it takes."""

from dataclasses import dataclass

from handler.flow import Protocol


@dataclass(frozen=True, slots=True)
class Provider:
    base_url: str = ""
    """"" where a configuration must say it."""
    variable: str = ""
    """What LiteLLM reads its key from; "" where it needs none."""
    catalogue: str = ""
    """Its name there."""
    protocols: tuple[Protocol, ...] = (Protocol.CHAT,)
    path: str = ""
    """How the URL ends, which LiteLLM adds to an `api_base` by itself."""
    prefix: str = ""
    """How its models' ids begin, which LiteLLM's need not."""


CHAT, MESSAGES, RESPONSES = Protocol.CHAT, Protocol.MESSAGES, Protocol.RESPONSES

_ANTHROPIC = Provider("https://api.anthropic.com/v1", "ANTHROPIC_API_KEY", "anthropic", (CHAT, MESSAGES), path="/v1")
_GEMINI = Provider(
    "https://generativelanguage.googleapis.com/v1beta/openai", "GEMINI_API_KEY", "google", path="/v1beta/openai"
)
_OPENROUTER = Provider("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY", "openrouter", (CHAT, MESSAGES, RESPONSES))
_FIREWORKS = Provider(
    "https://api.fireworks.ai/inference/v1", "FIREWORKS_AI_API_KEY", "fireworks", prefix="accounts/fireworks/models/"
)
_COHERE = Provider("https://api.cohere.ai/compatibility/v1", "COHERE_API_KEY", "cohere")
_OLLAMA = Provider("http://127.0.0.1:11434/v1", path="/v1")
_SELF_HOSTED = Provider()

PROVIDERS = {
    "openai": Provider("https://api.openai.com/v1", "OPENAI_API_KEY", "openai", (CHAT, RESPONSES)),
    "anthropic": _ANTHROPIC,
    "gemini": _GEMINI,
    "mistral": Provider("https://api.mistral.ai/v1", "MISTRAL_API_KEY", "mistral"),
    "groq": Provider("https://api.groq.com/openai/v1", "GROQ_API_KEY", "groq"),
    "deepseek": Provider("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY", "deepseek"),
    "xai": Provider("https://api.x.ai/v1", "XAI_API_KEY", "x-ai", (CHAT, RESPONSES)),
    "openrouter": _OPENROUTER,
    "together_ai": Provider("https://api.together.xyz/v1", "TOGETHERAI_API_KEY", "together"),
    "fireworks_ai": _FIREWORKS,
    "cerebras": Provider("https://api.cerebras.ai/v1", "CEREBRAS_API_KEY", "cerebras"),
    "perplexity": Provider("https://api.perplexity.ai", "PERPLEXITYAI_API_KEY", "perplexity"),
    "moonshot": Provider("https://api.moonshot.ai/v1", "MOONSHOT_API_KEY", "moonshotai"),
    "cohere": _COHERE,
    "cohere_chat": _COHERE,
    "minimax": Provider("https://api.minimax.io/v1", "MINIMAX_API_KEY", "minimax"),
    "zai": Provider("https://api.z.ai/api/paas/v4", "ZAI_API_KEY", "zai"),
    "deepinfra": Provider("https://api.deepinfra.com/v1/openai", "DEEPINFRA_API_KEY"),
    "nvidia_nim": Provider("https://integrate.api.nvidia.com/v1", "NVIDIA_NIM_API_KEY"),
    "ollama": _OLLAMA,
    "ollama_chat": _OLLAMA,
    "hosted_vllm": _SELF_HOSTED,
    "openai_like": _SELF_HOSTED,
    "custom_openai": _SELF_HOSTED,
    "lm_studio": _SELF_HOSTED,
    "litellm_proxy": _SELF_HOSTED,
}

_SIGNED = "its requests are signed with a cloud's credentials, not with a key"
REFUSED = {
    "azure": "its deployments and API versions are part of each URL",
    "azure_ai": "its keys are sent in a header of Azure's",
    "bedrock": _SIGNED,
    "bedrock_converse": _SIGNED,
    "sagemaker": _SIGNED,
    "sagemaker_chat": _SIGNED,
    "vertex_ai": _SIGNED,
    "vertex_ai_beta": _SIGNED,
    "watsonx": _SIGNED,
}
