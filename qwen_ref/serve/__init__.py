"""A server for many clients at once: OpenAI's API, Ollama's, and a page to chat on."""
