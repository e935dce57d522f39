"""Models as data: the sizes of a decoder, by name, from a TOML file or from a Hugging Face config.json."""
