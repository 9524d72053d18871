"""A conversation with a model: what was said, and what comes next.

conversation.py  messages, asked and answered, taken back, asked anew
saved.py         to a JSON file and back
"""

from qwen_ref.conversation.conversation import Conversation

__all__ = ["Conversation"]
