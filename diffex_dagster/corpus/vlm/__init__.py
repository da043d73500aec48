"""The vision-language model: client, proposals, prompts and answers."""
