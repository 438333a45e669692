"""Third-party copies (HTTP-TPC): pulled from or pushed to a registered storage, with markers."""
